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
	// Keep reports whether an authority that has not ended must stay: a pod may be making a certificate of it.
	Keep bool
	// Generation is the newest that was ever on record, and ID the id of its authority; 0 and empty where nothing is.
	Generation int64
	ID         string
}

// Due is what has to be made; the texts say why and are empty for what stays.
type Due struct{ Authority, Issuer string }

// Any reports whether anything has to be made.
func (d Due) Any() bool { return d != Due{} }

// Due is what Next makes. If a user has to act, it returns a *kube.Outcome, upon which nothing may be written.
func (s Store) Due(settings Settings, pods Pods, now time.Time) (Due, error) {
	s.Settings = settings
	if s.Authority == nil && len(pods.Authorities) > 0 {
		return Due{}, kube.UserMustActf(v1alpha1.ReasonAuthorityLost,
			"Secret %s with the cluster's authority is gone from the operator's namespace while pods that trust it run, and pods of a new authority could not talk to them; restore it from a backup, or suspend the cluster until its pods are gone", AuthoritySecretName(s.Cluster))
	}
	if s.Authority != nil {
		if err := restored(s, pods); err != nil {
			return Due{}, err
		}
	}
	if why := s.authorityDue(pods, now); why != "" {
		return Due{Authority: why, Issuer: "there was none of this authority"}, nil
	}
	return Due{Issuer: s.issuerDue(now)}, nil
}

// Next is what the cluster's Secrets should hold by those settings. parent signs a new authority; nil for a self-signed one. why is
// empty unless a new issuer was made; renewAt is when to ask next. If a user has to act, it returns a *kube.Outcome, upon which
// nothing may be written.
func Next(store Store, settings Settings, parent *pki.Parent, pods Pods, now time.Time) (next Store, why string, renewAt time.Time, err error) {
	due, err := store.Due(settings, pods, now)
	if err != nil {
		return store, "", time.Time{}, err
	}
	next = store
	next.Settings = settings
	if due.Authority != "" && !store.outlives(parent, now) {
		if next, err = newAuthority(next, parent, pods, now); err != nil {
			return store, "", time.Time{}, err
		}
	}
	if why = next.issuerDue(now); why != "" {
		next.Issuer, err = next.Authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: settings.AuthorityKey, Validity: settings.issuerValidity(), Now: now})
		if err != nil {
			return store, "", time.Time{}, fmt.Errorf("making the issuer: %w", err)
		}
		next.altered = false
		if err := pki.Publishable(next.Issuer, next.Issuer.CertificatePEM(), next.Authority.CertificatePEM(), nil, now); err != nil {
			return store, "", time.Time{}, fmt.Errorf("checking the issuer before it is published: %w", err)
		}
	}
	renewAt = next.issuerRenewal()
	if ending := next.endingFrom(); now.Before(ending) {
		renewAt = kube.Earlier(renewAt, ending)
	}
	return next, why, renewAt, nil
}

// AuthorityOutdated reports whether the authority was made by other settings than those.
func (s Store) AuthorityOutdated(settings Settings) bool {
	return s.Authority != nil && s.made != settings.made()
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

// authorityDue is why a new authority has to be made; empty if the present one stays. All certificates of one that has ended have
// ended too, so nothing is lost with it.
func (s Store) authorityDue(pods Pods, now time.Time) string {
	switch {
	case s.Authority == nil:
		return "there was none"
	case !now.Before(s.Authority.NotAfter()):
		return "the one before has ended"
	case !pods.Keep && len(pods.Authorities) == 0 && !now.Before(s.endingFrom()):
		return "no pod has a certificate of the one before, which is about to end"
	}
	return ""
}

// outlives reports whether the authority lasts as long as a new one of that parent would.
func (s Store) outlives(parent *pki.Parent, now time.Time) bool {
	return s.Authority != nil && parent != nil && now.Before(s.Authority.NotAfter()) && !parent.NotAfter().After(s.Authority.NotAfter())
}

func newAuthority(store Store, parent *pki.Parent, pods Pods, now time.Time) (Store, error) {
	by := store.Settings.made()
	authority, err := pki.NewAuthority(pki.AuthorityOptions{
		Name: store.Cluster.String(), KeyAlgorithm: by.Key, Validity: v1alpha1.Days(by.ValidityDays), Now: now, Parent: parent,
	})
	if err != nil {
		return store, fmt.Errorf("making the authority: %w", err)
	}
	generation := max(store.Generation, pods.Generation) + 1
	store.Authority, store.Issuer, store.altered, store.Generation, store.made = authority, nil, false, generation, by
	return store, nil
}

// restored refuses an authority that is older than one that the cluster has used, or another of the same generation: its Secret
// comes from a backup. The CA Secret proves nothing, since anybody in the cluster's namespace may have written it.
func restored(store Store, pods Pods) error {
	name, id := AuthoritySecretName(store.Cluster), store.Authority.ID()
	const remedy = "restore the newest backup of it, or suspend the cluster until its pods are gone and delete the Secret to have a new authority made"
	switch {
	case store.Generation < pods.Generation:
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds generation %d of the cluster's authority, and generation %d was in use; %s", name, store.Generation, pods.Generation, remedy)
	case store.Generation == pods.Generation && pods.ID != "" && pods.ID != id:
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds authority %s as generation %d, and authority %s was in use as that generation; %s", name, id, store.Generation, pods.ID, remedy)
	}
	for _, used := range pods.Authorities {
		if used != "" && used != id {
			return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds authority %s, and a pod that runs has a certificate of authority %s, so the Secret was replaced; %s", name, id, used, remedy)
		}
	}
	return nil
}

// issuerDue is why the issuer cannot stay; empty if it can.
func (s Store) issuerDue(now time.Time) string {
	switch {
	case s.altered:
		return "the Secret was altered"
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

// issuerRenewal is when the issuer is replaced: halfway, so that a leaf signed just before still ends before it. An issuer that ends
// with its authority stays, since a new one would not last longer.
func (s Store) issuerRenewal() time.Time {
	if !s.Issuer.NotAfter().Before(s.Authority.NotAfter()) {
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
