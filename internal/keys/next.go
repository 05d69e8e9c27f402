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
	// Authorities are the ids of the authorities whose certificates live pods have; empty ids stand for pods that do not say.
	Authorities []string
	// Generation is the newest that was ever on record; 0 where nothing is.
	Generation int64
}

// Next is what the cluster's Secrets should hold by those settings. parent signs a new authority; nil for a self-signed one. why is
// empty unless a new issuer was made; renewAt is when to ask next. If a user has to act, it returns a *kube.Outcome, upon which
// nothing may be written.
func Next(store Store, settings Settings, parent *pki.Parent, pods Pods, now time.Time) (next Store, why string, renewAt time.Time, err error) {
	next = store
	next.Settings = settings
	if store.Authority == nil {
		if next, err = newAuthority(next, parent, pods, now); err != nil {
			return store, "", time.Time{}, err
		}
	}
	if err := restored(next, pods); err != nil {
		return store, "", time.Time{}, err
	}
	if why = next.issuerDue(now); why != "" {
		next.Issuer, err = next.Authority.NewIssuer(pki.IssuerOptions{KeyAlgorithm: settings.AuthorityKey, Validity: 2 * settings.leafValidity(), Now: now})
		if err != nil {
			return store, "", time.Time{}, fmt.Errorf("making the issuer: %w", err)
		}
		next.altered = false
		if err := pki.Publishable(next.Issuer, next.Issuer.CertificatePEM(), next.Authority.CertificatePEM(), now); err != nil {
			return store, "", time.Time{}, fmt.Errorf("checking the issuer before it is published: %w", err)
		}
	}
	return next, why, next.issuerRenewal(), nil
}

// AuthorityOutdated reports whether the authority was made by other settings than those.
func (s Store) AuthorityOutdated(settings Settings) bool {
	return s.Authority != nil && s.made != settings.made()
}

func newAuthority(store Store, parent *pki.Parent, pods Pods, now time.Time) (Store, error) {
	if len(pods.Authorities) > 0 {
		return store, kube.UserMustActf(v1alpha1.ReasonAuthorityLost,
			"Secret %s with the cluster's authority is gone from the operator's namespace while pods that trust it run, and pods of a new authority could not talk to them; restore it from a backup, or suspend the cluster until its pods are gone", AuthoritySecretName(store.Cluster))
	}
	by := store.Settings.made()
	authority, err := pki.NewAuthority(pki.AuthorityOptions{
		Name: store.Cluster.String(), KeyAlgorithm: by.Key, Validity: v1alpha1.Days(by.ValidityDays), Now: now, Parent: parent,
	})
	if err != nil {
		return store, fmt.Errorf("making the authority: %w", err)
	}
	store.Authority, store.Issuer, store.Generation, store.made = authority, nil, pods.Generation+1, by
	return store, nil
}

// restored refuses an authority that is older than one that the cluster has used: its Secret comes from a backup. The generation
// in the CA Secret proves nothing, since anybody in the cluster's namespace may have written it.
func restored(store Store, pods Pods) error {
	name := AuthoritySecretName(store.Cluster)
	if store.Generation < pods.Generation {
		return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds generation %d of the cluster's authority, and generation %d was in use; restore the newest backup of it, or suspend the cluster until its pods are gone and delete the Secret to have a new authority made", name, store.Generation, pods.Generation)
	}
	for _, id := range pods.Authorities {
		if id != "" && id != store.Authority.ID() {
			return kube.UserMustActf(v1alpha1.ReasonAuthorityRestored, "Secret %s in the operator's namespace holds authority %s, and a pod that runs has a certificate of authority %s, so the Secret was replaced; restore the newest backup of it, or suspend the cluster until its pods are gone", name, store.Authority.ID(), id)
		}
	}
	return nil
}

// IssuerDue reports whether Next makes a new issuer for those settings.
func (s Store) IssuerDue(settings Settings, now time.Time) bool {
	s.Settings = settings
	return s.Authority == nil || s.issuerDue(now) != ""
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
