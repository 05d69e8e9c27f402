package keys

import (
	"fmt"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/pki"
)

// Pods is what the cluster's pods and its record say of its keys.
type Pods struct {
	// Authorities are the ids of the authorities of the usable certificates that live pods have; empty ids stand for pods that do
	// not say.
	Authorities []string
	// Reporters are the names of the pods that say which authority they have a certificate of, by its id.
	Reporters map[string][]string
	// InUse are those of all pods, terminating ones included.
	InUse []string
	// Settled is since when no pod has been without a certificate, InUse has been the same, and nobody has written the CA
	// Secret. The zero time means that something changes, or that nobody knows.
	Settled time.Time
	// Generation is the newest that was ever on record, and ID the id of its authority; 0 and empty where nothing is.
	Generation int64
	ID         string
	// RevokedBefore is the number below which every generation is revoked, as the record has it; 0 if none is.
	RevokedBefore int64
	// Newer names the CA Secret that a certified pod mounts, if a revocation made it that is not known, and NewerPod the pod; empty for
	// none.
	Newer, NewerPod string
	// Revoking reports whether a revocation is restarting all pods. Their reports count for nothing then. Otherwise anyone who may
	// create pods could keep the stolen key in use.
	Revoking bool
}

// Parent is the brought CA that signs new authorities. The zero value is for authorities that sign themselves.
type Parent struct {
	CA *pki.Parent
	// Unusable is why a CA that is asked for cannot be used.
	Unusable *kube.Outcome
}

// Due lists the keys that the operator makes and the bridges that it drops. Each text is the cause; it is empty for a key that stays.
type Due struct {
	Authority, Issuer string
	// Held is why an authority that is asked for is not made yet, while the present one works; nil otherwise.
	Held *kube.Outcome
	// Unused are the generations that no pod needs bridges to any more.
	Unused []int64
}

// Makes reports whether the operator makes a key.
func (d Due) Makes() bool { return d.Authority != "" || d.Issuer != "" }

// Due is what Next makes. If a user has to act, it returns a *kube.Outcome, upon which nothing may be written.
func (s Store) Due(settings Settings, parent Parent, pods Pods, now time.Time) (Due, error) {
	s.Settings = settings
	if s.Authority == nil && len(pods.Authorities) > 0 && !s.revoking(pods) {
		return Due{}, kube.UserMustActf(v1alpha1.ReasonAuthorityLost,
			"Secret %s with the cluster's authority is gone from the operator's namespace while pods that trust it run, and pods of a new authority could not talk to them; restore it from a backup, or suspend the cluster until its pods are gone", AuthoritySecretName(s.Cluster))
	}
	if s.Authority == nil {
		return Due{Authority: "there was none", Issuer: "there was none"}.under(parent)
	}
	if err := restored(s, pods); err != nil && !s.revoking(pods) {
		return Due{}, err
	}
	if s.RevokedBefore < pods.RevokedBefore {
		return Due{Authority: causeRevoked, Issuer: causeRevoked}.under(parent)
	}
	due := Due{Issuer: s.issuerDue(now), Unused: s.unused(pods, now)}
	if !now.Before(s.Authority.NotAfter()) {
		due.Authority, due.Issuer = "the one before has ended", causeReplaced
		return due.under(parent)
	}
	asked := s.asked(parent.CA, now)
	switch next := s.without(due.Unused, now); {
	case parent.Unusable != nil:
		due.Held = parent.Unusable
	case asked != "" && next.Generation+1-next.oldest() >= maxGenerations:
		due.Held = kube.UserMustActf(v1alpha1.ReasonTooManyGenerations,
			"a new authority is due (%s), but pods may still have certificates of generation %d, and at most %d generations work together; recreate the oldest pods, and the operator makes the authority", asked, next.oldest(), maxGenerations)
	case asked != "":
		due.Authority, due.Issuer = asked, causeReplaced
	}
	return due, nil
}

// under is what is due where nothing works without a new authority.
func (d Due) under(parent Parent) (Due, error) {
	if parent.Unusable != nil {
		return Due{}, parent.Unusable
	}
	return d, nil
}

// causeReplaced is why an issuer of an earlier authority is replaced.
const causeReplaced = "the authority was replaced"

// Next is what the cluster's Secrets should hold by those settings. parent signs a new authority. due is what was made or dropped,
// with the cause of a new issuer whatever it was; renewAt is when to ask next. If a user has to act, it returns a *kube.Outcome,
// upon which nothing may be written.
func Next(store Store, settings Settings, parent Parent, pods Pods, now time.Time) (next Store, due Due, renewAt time.Time, err error) {
	due, err = store.Due(settings, parent, pods, now)
	if err != nil {
		return store, Due{}, time.Time{}, err
	}
	next = store.without(due.Unused, now)
	next.Settings = settings
	if due.Authority != "" {
		if next, err = next.replace(parent.CA, pods, now); err != nil {
			return store, Due{}, time.Time{}, err
		}
	}
	if due.Issuer != "" {
		next.Issuer, err = next.Authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: settings.AuthorityKey, Validity: next.issuerLife(now), Now: now})
		if err != nil {
			return store, Due{}, time.Time{}, fmt.Errorf("making the issuer: %w", err)
		}
		next.fault = ""
		if end := next.Issuer.NotAfter(); end.After(next.leavesEnd) {
			next.leavesEnd = end
		}
	}
	if due.Makes() || len(next.forward) != len(store.forward) || len(next.earlier) != len(store.earlier) {
		if err := pki.Publishable(next.Issuer, next.chain(next.Issuer), next.Bundle(), next.peers(), now); err != nil {
			return store, Due{}, time.Time{}, fmt.Errorf("checking the issuer and its bridges before they are published: %w", err)
		}
	}
	return next, due, next.askAgain(pods, now), nil
}

// askAgain is when something may be due that is not now.
func (s Store) askAgain(pods Pods, now time.Time) time.Time {
	at := s.issuerRenewal()
	for _, later := range []time.Time{s.endingFrom(), s.Settings.ReplaceIssuedBefore, s.Settings.RevokeIssuedBefore} {
		if now.Before(later) {
			at = kube.Earlier(at, later)
		}
	}
	for i := range s.earlier {
		at = kube.Earlier(at, s.earlier[i].until)
	}
	if last := len(s.forward); last > 0 {
		at = kube.Earlier(at, s.forward[last-1].NotAfter)
	}
	if !pods.Settled.IsZero() && now.Before(pods.Settled.Add(s.Settings.settles())) && len(s.unclaimed(pods)) > 0 {
		at = kube.Earlier(at, pods.Settled.Add(s.Settings.settles()))
	}
	return at
}

// AuthorityOutdated reports whether the authority has another key algorithm or validity than those settings ask for.
func (s Store) AuthorityOutdated(settings Settings) bool {
	return s.Authority != nil && (s.made.Key != settings.AuthorityKey || s.made.ValidityDays != settings.AuthorityValidityDays)
}

// AuthorityEnding reports whether the authority is in the last part of its life, in which it should be replaced.
func (s Store) AuthorityEnding(settings Settings, now time.Time) bool {
	s.Settings = settings
	return s.Authority != nil && !now.Before(s.endingFrom())
}

// endingLives is how many lives of an issuer before its end an authority is due.
const endingLives = 3

// endingFrom is when the authority becomes due: in the second half of its life, so that one that lives for a few issuers only is
// not due from its first day.
func (s Store) endingFrom() time.Time {
	issued, end := s.Authority.IssuedAt(), s.Authority.NotAfter()
	from, half := end.Add(-endingLives*s.Settings.issuerValidity()), issued.Add(end.Sub(issued)/2)
	if from.Before(half) {
		return half
	}
	return from
}

// asked is why the authority is replaced though it works; empty if it stays.
func (s Store) asked(ca *pki.Parent, now time.Time) string {
	before := s.Settings.ReplaceIssuedBefore
	switch {
	case !before.IsZero() && !now.Before(before) && s.Authority.IssuedAt().Before(before):
		return "the one before was issued before " + before.Format(time.RFC3339)
	case !s.Authority.SignedBy(ca):
		return "another CA signs authorities now"
	case !now.Before(s.endingFrom()) && s.newEnd(ca, now).After(s.Authority.NotAfter()):
		return "the one before is about to end"
	}
	return ""
}

// newEnd is when an authority would end that is made now.
func (s Store) newEnd(ca *pki.Parent, now time.Time) time.Time {
	end := now.Add(s.Settings.Scale.Days(s.Settings.AuthorityValidityDays))
	if ca != nil {
		end = kube.Earlier(end, ca.NotAfter())
	}
	return end
}

// replace makes the next authority, and all bridges between it and those before it. There is none to a revoked one.
func (s Store) replace(ca *pki.Parent, pods Pods, now time.Time) (Store, error) {
	next, by := s, s.Settings.made()
	authority, err := pki.NewAuthority(pki.AuthorityOptions{
		Name: s.Cluster.String(), KeyAlgorithm: by.Key, Validity: s.Settings.Scale.Days(by.ValidityDays), Now: now, Parent: ca,
	})
	if err != nil {
		return s, fmt.Errorf("making the authority: %w", err)
	}
	next.Authority, next.Generation, next.made = authority, s.NextGeneration(pods), by
	next.Issuer, next.leavesEnd, next.fault, next.successor = nil, time.Time{}, "", ""
	if s.RevokedBefore < pods.RevokedBefore {
		next.RevokedBefore = next.Generation
		return next.bridge(Store{}, now)
	}
	return next.bridge(s, now)
}

// restored refuses an authority that is older than one that the cluster has used, or another of the same generation: its Secret
// comes from a backup. Of the CA Secret, which anybody in the cluster's namespace may have written, only a signature of the authority's
// own key proves anything.
func restored(store Store, pods Pods) error {
	name, id := AuthoritySecretName(store.Cluster), store.Authority.ID()
	const remedy = "restore the newest backup of it, or suspend the cluster until its pods are gone and delete the Secret to have a new authority made"
	switch {
	case store.Generation < pods.RevokedBefore:
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds generation %d of the cluster's authority, and every generation below %d was revoked; %s", name, store.Generation, pods.RevokedBefore, remedy)
	case store.Generation < pods.Generation:
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds generation %d of the cluster's authority, and generation %d was in use; %s", name, store.Generation, pods.Generation, remedy)
	case store.Generation == pods.Generation && pods.ID != "" && pods.ID != id:
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds authority %s as generation %d, and authority %s was in use as that generation; %s", name, id, store.Generation, pods.ID, remedy)
	}
	if pods.Newer != "" && !pods.Revoking {
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds authority %s, and pod %s mounts Secret %s, which is of a later revocation: either the first Secret was replaced, or somebody forged the pod; in the first case, %s; in the second, delete the pod",
			name, id, pods.NewerPod, pods.Newer, remedy)
	}
	if store.successor != "" {
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds authority %s, and the CA Secret proves that authority %s replaced it; %s", name, id, store.successor, remedy)
	}
	for _, used := range pods.Authorities {
		if used != "" && store.GenerationOf(used) == 0 && !pods.Revoking {
			return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds authority %s, and %s a certificate of authority %s, which the operator does not know: either the Secret was replaced, or the report is forged or wrong; in the first case, %s; in the second, delete what reports it",
				name, id, pods.reporting(used), used, remedy)
		}
	}
	return nil
}

// reporting names who reports a certificate of the authority, and how many pods report another.
func (p Pods) reporting(authority string) string {
	names, others := p.Reporters[authority], 0
	for id, of := range p.Reporters {
		if id != authority {
			others += len(of)
		}
	}
	switch len(names) {
	case 0:
		return "a pod reports"
	case 1:
		return fmt.Sprintf("pod %s reports (%d others report other authorities)", names[0], others)
	}
	return fmt.Sprintf("pod %s and %d more report (%d others report other authorities)", names[0], len(names)-1, others)
}

// Works reports whether pods can get certificates of what the CA Secret holds.
func (s Store) Works(now time.Time) bool {
	return s.Issuer != nil && s.Authority.CheckIssuer(s.Issuer, now) == nil
}

// issuerDue is why the issuer cannot stay; empty if it can.
func (s Store) issuerDue(now time.Time) string {
	switch {
	case s.fault != "":
		return s.fault
	case s.Issuer == nil:
		return "there was none"
	}
	if err := s.Authority.CheckIssuer(s.Issuer, now); err != nil {
		return fmt.Sprintf("the one that was there is not usable: %v", err)
	}
	if !now.Before(s.issuerRenewal()) {
		return "it was due"
	}
	return ""
}

// issuerLife is how long a new issuer lasts. No leaf may last to the authority's very end, at which clocks differ.
func (s Store) issuerLife(now time.Time) time.Duration {
	life := s.Settings.issuerValidity()
	if most := s.lastLeaf().Sub(now.Truncate(time.Second)); most > 0 && most < life {
		return most
	}
	return life
}

// lastLeaf is when the last leaf of the authority can end.
func (s Store) lastLeaf() time.Time { return s.Authority.NotAfter().Add(-s.Settings.tolerance()) }

// issuerRenewal is when the issuer is replaced: halfway, so that a leaf signed just before still ends before it. An issuer that ends
// with its authority stays, since a new one would not last longer.
func (s Store) issuerRenewal() time.Time {
	if !s.Issuer.NotAfter().Before(s.lastLeaf()) {
		return s.Issuer.NotAfter()
	}
	validity := s.Settings.leafValidity()
	due := s.Issuer.IssuedAt().Add(validity)
	if last := s.Issuer.NotAfter().Add(-validity); last.Before(due) {
		due = last
	}
	// Up to a fiftieth earlier, so that clusters enabled together do not renew together.
	spread := validity / 50 / 256 * time.Duration(s.Issuer.Certificate().SerialNumber.Bytes()[0])
	return due.Add(-spread)
}
