package keys

import (
	"slices"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

// Leaf is what is known of a certificate that a pod presents.
type Leaf struct {
	// Authority and Issuer are the ids of the CAs above it; empty where unknown.
	Authority, Issuer string
	// IssuedAt and NotAfter are the ends of its life; zero where unknown.
	IssuedAt, NotAfter time.Time
}

// Signers are the CAs that a cluster's pods have their certificates of now. The zero value stands for unknown ones.
type Signers struct {
	// Authority and Issuer are their ids; empty where there is none.
	Authority, Issuer string
	// AuthorityEnd and IssuerEnd are when they end; zero where unknown.
	AuthorityEnd, IssuerEnd time.Time
	// Earlier are the authorities before whose pods the others still accept.
	Earlier []Earlier
}

// Earlier is an authority that was replaced, as long as pods may have certificates of it.
type Earlier struct {
	Generation int64
	ID         string
	// End is when others cease to accept its pods.
	End time.Time
}

// earlier is the earlier authority with that ID; the zero value if there is none.
func (s Signers) earlier(id string) Earlier {
	if i := slices.IndexFunc(s.Earlier, func(e Earlier) bool { return e.ID == id }); i >= 0 {
		return s.Earlier[i]
	}
	return Earlier{}
}

// Judgement is what peers think of a leaf.
type Judgement struct {
	// Reason is CertificateExpired, OutdatedAuthority or CertificateEnding; empty for a leaf without a fault.
	Reason string
	// End is when peers begin to refuse the leaf; zero where unknown.
	End time.Time
	// Next is when the judgement changes by itself; zero for never.
	Next time.Time
	// Generation is that of the earlier authority which the leaf is of; 0 for the present one, and for an unknown one.
	Generation int64
}

// Usable reports whether peers of the cluster accept the leaf, of whichever generation.
func (j Judgement) Usable() bool {
	return j.Reason == "" || j.Reason == v1alpha1.ReasonCertificateEnding
}

// Present reports whether the leaf is of the present authority, as far as it says.
func (j Judgement) Present() bool {
	return j.Generation == 0 && j.Reason != v1alpha1.ReasonOutdatedAuthority
}

// endingPart is the part of a leaf's life at its end in which the operator warns.
const endingPart = 12

// Judge judges a leaf at a time. A leaf ends with its issuer and its authority at the latest.
func Judge(leaf Leaf, by Signers, now time.Time) Judgement {
	before := by.earlier(leaf.Authority)
	outdated := leaf.Authority != "" && by.Authority != "" && leaf.Authority != by.Authority && before.Generation == 0
	end := leaf.NotAfter
	switch {
	case before.Generation != 0:
		end = kube.Earlier(end, before.End)
	case !outdated:
		end = kube.Earlier(end, by.AuthorityEnd)
	}
	// The ends of earlier issuers are not known. A leaf says itself that it does not outlive them.
	if leaf.Issuer == by.Issuer || leaf.Issuer == "" && leaf.NotAfter.IsZero() {
		end = kube.Earlier(end, by.IssuerEnd)
	}
	out := Judgement{End: end, Generation: before.Generation}
	warnAt := end
	if !leaf.IssuedAt.IsZero() && end.After(leaf.IssuedAt) {
		warnAt = end.Add(-end.Sub(leaf.IssuedAt) / endingPart)
	}
	switch {
	case !end.IsZero() && !now.Before(end):
		out.Reason = v1alpha1.ReasonCertificateExpired
		return out
	case outdated:
		out.Reason, out.Next = v1alpha1.ReasonOutdatedAuthority, end
		return out
	case !end.IsZero() && !now.Before(warnAt):
		out.Reason, out.Next = v1alpha1.ReasonCertificateEnding, end
		return out
	}
	out.Next = warnAt
	return out
}

// Signers are the authority and the issuer of the store, and the authorities before.
func (s Store) Signers() Signers {
	var out Signers
	if s.Authority != nil {
		out.Authority, out.AuthorityEnd = s.Authority.ID(), s.Authority.NotAfter()
	}
	if s.Issuer != nil {
		out.Issuer, out.IssuerEnd = s.Issuer.ID(), s.Issuer.NotAfter()
	}
	for i := range s.earlier {
		out.Earlier = append(out.Earlier, Earlier{Generation: s.earlier[i].generation, ID: s.earlier[i].id(), End: s.earlier[i].until})
	}
	return out
}

// Assumed is the leaf of a pod whose report cannot be read: it counts as certified when the pod was created. A head whose leaf lasts
// as long as its issuer has a longer one, but how much longer is not known: the issuer may have been halfway through its life.
func (s Settings) Assumed(created time.Time) Leaf {
	return Leaf{IssuedAt: created, NotAfter: created.Add(s.leafValidity())}
}
