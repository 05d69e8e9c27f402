package keys

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Grace is how long a pod may wait for its certificate before its cluster, which was encrypted, no longer counts as such. Every
// added worker waits for some seconds.
const Grace = time.Minute

// Holder is a pod with TLS, as far as its certificate goes.
type Holder struct {
	Name    string
	Created time.Time
	// Certified reports whether it has a certificate: Leaf, by its own account if it Reports.
	Certified, Reports bool
	Leaf               Leaf
	// Altered pods do not run as the injection has it, so they do not count as certified.
	Altered bool
	// Terminating pods are counted, and have no faults.
	Terminating bool
}

// End is the end of a pod's certificate.
type End struct {
	Pod string
	At  time.Time
}

// Ends are the pods that share a fault of their certificates, in the order of their names.
type Ends []End

// Census is what the certificates of a cluster's pods come to.
type Census struct {
	// Certified and Outdated are how many pods have a usable certificate of the present authority, and one of another.
	Certified, Outdated int32
	// Earlier is how many of the outdated ones have a usable certificate of each earlier generation.
	Earlier map[int64]int32
	// First is the first end that a pod reports; zero if none does.
	First time.Time
	// Next is when the census changes by itself; zero for never.
	Next time.Time
	// Expired, Foreign and Ending are the pods whose certificates have ended, are of an authority that others do not accept, and
	// end soon.
	Expired, Foreign, Ending Ends
	// Waiting is how many pods have no certificate. Overdue names the first that has waited for longer than the grace.
	Waiting int
	Overdue string
}

// Count judges the certificates of pods at a time.
func Count(pods []Holder, by Signers, now time.Time) Census {
	var out Census
	for _, pod := range pods {
		switch {
		case pod.Certified:
			out.judge(pod, Judge(pod.Leaf, by, now))
		case !pod.Terminating:
			out.wait(pod, now)
		}
	}
	return out
}

func (c *Census) judge(pod Holder, judged Judgement) {
	switch {
	case judged.Usable() && judged.Generation != 0:
		if c.Earlier == nil {
			c.Earlier = map[int64]int32{}
		}
		c.Earlier[judged.Generation]++
		c.Outdated++
	case judged.Usable() && !pod.Altered:
		c.Certified++
	case judged.Reason == v1alpha1.ReasonOutdatedAuthority:
		c.Outdated++
	}
	if pod.Terminating {
		return
	}
	if pod.Reports {
		c.First = kube.Earlier(c.First, judged.End)
	}
	c.Next = kube.Earlier(c.Next, judged.Next)
	end := End{pod.Name, judged.End}
	switch judged.Reason {
	case v1alpha1.ReasonCertificateExpired:
		c.Expired = append(c.Expired, end)
	case v1alpha1.ReasonOutdatedAuthority:
		c.Foreign = append(c.Foreign, end)
	case v1alpha1.ReasonCertificateEnding:
		c.Ending = append(c.Ending, end)
	}
}

func (c *Census) wait(pod Holder, now time.Time) {
	c.Waiting++
	switch until := pod.Created.Add(Grace); {
	case now.Before(until):
		c.Next = kube.Earlier(c.Next, until)
	case c.Overdue == "":
		c.Overdue = pod.Name
	}
}

// Ended says when the first of the certificates ended, and how many did besides.
func (e Ends) Ended() string {
	text := fmt.Sprintf("the certificate of pod %s ended at %s", e[0].Pod, kube.FormatTime(e[0].At))
	if len(e) == 1 {
		return text
	}
	return fmt.Sprintf("%s, as did those of %d more", text, len(e)-1)
}

// Generations says how many pods have certificates of earlier generations; empty if none has.
func (c *Census) Generations() string {
	var parts []string
	for _, generation := range slices.Sorted(maps.Keys(c.Earlier)) {
		parts = append(parts, fmt.Sprintf("%d of generation %d", c.Earlier[generation], generation))
	}
	return strings.Join(parts, ", ")
}

// These refers to pods that were named.
func (e Ends) These() string {
	if len(e) == 1 {
		return "the pod"
	}
	return fmt.Sprintf("these %d pods", len(e))
}
