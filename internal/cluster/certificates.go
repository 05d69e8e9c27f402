package cluster

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/rollout"
)

// certificateGrace is how long a pod may wait for its certificate before its cluster, which was encrypted, no longer counts as such.
// Every added worker waits for some seconds.
const certificateGrace = time.Minute

// ends is a pod whose certificate has an end.
type ends struct {
	pod string
	at  time.Time
}

// certificates are the certificates of the cluster's pods, judged. Only the counts include pods that terminate.
type certificates struct {
	counts v1alpha1.PodCounts
	// first is the first reported end; zero if none is known.
	first time.Time
	// next is when anything here changes by itself; zero for never.
	next time.Time
	// expired, outdated and ending are the pods whose certificates have these faults.
	expired, outdated, ending []ends
	// waiting are the pods without a certificate, and overdue the first that has waited for longer than the grace; nil for none.
	waiting []*Pod
	overdue *Pod
}

// certificates judges the pods' certificates by those keys.
func (f *Facts) certificates(store keys.Store) certificates {
	var out certificates
	by, settings := f.signers(store), f.KeySettings()
	for i := range f.Pods {
		pod := &f.Pods[i]
		out.counts.Total++
		switch {
		case !pod.Injected:
			out.counts.Plaintext++
		case pod.Certified:
			out.judge(pod, keys.Judge(pod.leaf(settings), by, f.Now))
		case !pod.Terminating:
			out.wait(pod, f.Now)
		}
	}
	return out
}

func (c *certificates) judge(pod *Pod, judged keys.Judgement) {
	switch {
	case judged.Usable() && pod.Differs == "":
		c.counts.Certified++
	case judged.Reason == v1alpha1.ReasonOutdatedAuthority:
		c.counts.Outdated++
	}
	if pod.Terminating {
		return
	}
	if pod.Report != nil {
		c.first = keys.Earlier(c.first, judged.End)
	}
	c.next = keys.Earlier(c.next, judged.Next)
	found := ends{pod.Name, judged.End}
	switch judged.Reason {
	case v1alpha1.ReasonCertificateExpired:
		c.expired = append(c.expired, found)
	case v1alpha1.ReasonOutdatedAuthority:
		c.outdated = append(c.outdated, found)
	case v1alpha1.ReasonCertificateEnding:
		c.ending = append(c.ending, found)
	}
}

func (c *certificates) wait(pod *Pod, now time.Time) {
	c.waiting = append(c.waiting, pod)
	switch until := pod.Created.Add(certificateGrace); {
	case now.Before(until):
		c.next = keys.Earlier(c.next, until)
	case c.overdue == nil:
		c.overdue = pod
	}
}

// leaf is what is known of the pod's certificate.
func (p *Pod) leaf(settings keys.Settings) keys.Leaf {
	if r := p.Report; r != nil {
		return keys.Leaf{Authority: r.Authority, Issuer: r.Issuer, IssuedAt: r.IssuedAt, NotAfter: r.NotAfter}
	}
	return settings.Assumed(p.Created, p.Group == "")
}

// signers are those of the keys. If the authority's Secret is gone, its pods are still those of the authority on record.
func (f *Facts) signers(store keys.Store) keys.Signers {
	out := store.Signers()
	if recorded := &f.status().Authority; out.Authority == "" {
		out.Authority, out.AuthorityEnd = recorded.ID, instant(recorded.ExpiryTime)
	}
	return out
}

// weaken gives the report of a cluster whose pods were all made with TLS, but whose certificates or pods show that it is not
// encrypted, or not wholly.
func (c *certificates) weaken(report rollout.Report, f *Facts) rollout.Report {
	if report.Reason != v1alpha1.ReasonEncrypted {
		return report
	}
	was := meta.IsStatusConditionTrue(f.status().Conditions, v1alpha1.ConditionEncrypted)
	missing := f.missing()
	switch {
	case len(c.expired) > 0:
		return rollout.Report{
			Reason: v1alpha1.ReasonCertificateExpired, UserMustAct: true,
			Message: fmt.Sprintf("the certificate of %s, and peers refuse new connections with it; delete %s", ended(c.expired), these(c.expired)),
		}
	case len(c.outdated) > 0:
		return rollout.Report{
			Reason: v1alpha1.ReasonOutdatedAuthority, UserMustAct: true,
			Message: fmt.Sprintf("pod %s has a certificate of another authority than the cluster's, so pods of the cluster's authority refuse it; delete %s", c.outdated[0].pod, these(c.outdated)),
		}
	case missing != "" && f.Ray.PodsMissing != "":
		return rollout.Report{Reason: v1alpha1.ReasonPodsStarting, Message: fmt.Sprintf("%s; KubeRay cannot create more: %s", missing, f.Ray.PodsMissing)}
	case c.overdue != nil:
		return rollout.Report{Reason: v1alpha1.ReasonPodsStarting, Message: c.pending() + "; " + c.overdue.waits()}
	case was:
		return report
	case len(c.waiting) > 0:
		return rollout.Report{Reason: v1alpha1.ReasonPodsStarting, Message: c.pending()}
	case missing != "":
		return rollout.Report{Reason: v1alpha1.ReasonPodsStarting, Message: missing}
	}
	return report
}

// missing names the first worker group that has fewer pods than replicas; empty if none has.
func (f *Facts) missing() string {
	if f.Ray.Suspended {
		return ""
	}
	have := map[string]int32{}
	for i := range f.Pods {
		if !f.Pods[i].Terminating {
			have[f.Pods[i].Group]++
		}
	}
	for _, t := range f.Templates {
		if wanted := f.Ray.Replicas[t.Group]; t.Group != "" && have[t.Group] < wanted {
			return fmt.Sprintf("worker group %s has %d pods for %d replicas", t.Group, have[t.Group], wanted)
		}
	}
	return ""
}

func (c *certificates) pending() string {
	return fmt.Sprintf("%d of %d pods have no certificate yet", len(c.waiting), c.counts.Total)
}

// waits says what the pod waits for, and where to look.
func (p *Pod) waits() string {
	if p.Node == "" {
		return fmt.Sprintf("pod %s has no node yet, as its events say", p.Name)
	}
	return fmt.Sprintf("init container %s of pod %s has not ended; see its log and the pod's events", injection.InitContainerName, p.Name)
}

func ended(pods []ends) string {
	return fmt.Sprintf("pod %s ended at %s%s", pods[0].pod, stampText(pods[0].at), more(pods))
}

// more says that the first of the pods is not the only one.
func more(pods []ends) string {
	if len(pods) == 1 {
		return ""
	}
	return fmt.Sprintf(", as did those of %d more", len(pods)-1)
}

func these(pods []ends) string {
	if len(pods) == 1 {
		return "the pod"
	}
	return fmt.Sprintf("these %d pods", len(pods))
}

func stampText(at time.Time) string { return at.UTC().Format(time.RFC3339) }
