package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/policy"
)

// KeySettings are the settings for new keys: those of the policy, or, without a policy, those kept beside the authority.
func (f *Facts) KeySettings() keys.Settings {
	if f.Policy == nil {
		return f.Keys.Settings
	}
	out := keys.SettingsOf(f.Policy, f.HeadNames, !f.headMayRestart())
	out.Scale = f.Scale
	return out
}

// Parent is the brought CA for new authorities.
func (f *Facts) Parent() keys.Parent {
	secret := f.KeySettings().CASecret
	switch {
	case secret == "":
		return keys.Parent{}
	case f.Policy == nil:
		return keys.Parent{Unusable: kube.UserMustActf(v1alpha1.ReasonAuthorityEnding, "the cluster's authority has ended, and the operator reads the CA in Secret %s, which signed it, for a policy alone; cover the cluster with a RayTLSPolicy that names this CA", secret)}
	}
	ca, verdict := policy.BroughtCA(f.Policy, f.BroughtCA, f.Scale, f.Now)
	if !verdict.Accepted {
		return keys.Parent{Unusable: kube.UserMustActf(v1alpha1.ReasonNotAccepted, "%s", verdict.Message)}
	}
	return keys.Parent{CA: ca}
}

// due is what the policy asks for of the keys and they do not have.
func (f *Facts) due(store keys.Store) keys.Due {
	if f.Policy == nil || store.Authority == nil {
		return keys.Due{}
	}
	due, err := store.Due(f.KeySettings(), f.Parent(), f.KeyPods(), f.Now)
	if err != nil {
		return keys.Due{} // the report says it
	}
	if f.ClockSkew != "" && due.Makes() {
		return keys.Due{Held: f.ClocksDiffer()}
	}
	return due
}

// ClocksDiffer is why no keys are made while the clocks of the operator and of an API server differ.
func (f *Facts) ClocksDiffer() *kube.Outcome {
	return kube.UserMustActf(v1alpha1.ReasonClockSkew, "%s", f.ClockSkew).RetryAfter(kube.UnwatchedRetry)
}

// KeyPods is the evidence that pods and record give of the keys in use. A certificate that has ended is none, since nobody accepts
// it.
func (f *Facts) KeyPods() keys.Pods {
	recorded := &f.status().Authority
	out := keys.Pods{
		Generation: recorded.Generation, ID: recorded.ID, RevokedBefore: recorded.RevokedBeforeGeneration, Reporters: map[string][]string{},
	}
	restart := f.status().Rollout
	out.Revoking = restart != nil && restart.Phase == v1alpha1.PhaseRevoke
	by := f.signers(f.Keys)
	for i := range f.Pods {
		pod := &f.Pods[i]
		if !pod.Certified || pod.Report != nil && keys.Judge(f.leaf(pod), by, f.Now).Reason == v1alpha1.ReasonCertificateExpired {
			continue
		}
		switch number, ours := keys.ParseIssuerSecretName(f.Key, pod.CASecret); {
		case ours && number < f.RevokedBefore():
			continue // it is about to go
		case ours && number > f.RevokedBefore() && !pod.Terminating:
			out.Newer, out.NewerPod = pod.CASecret, pod.Name
		}
		of := ""
		if pod.Report != nil {
			of = pod.Report.Authority
		}
		if !pod.Terminating {
			out.Authorities = append(out.Authorities, of)
			if of != "" {
				out.Reporters[of] = append(out.Reporters[of], pod.Name)
			}
		}
		if of == "" && f.Keys.Covers(pod.Created) {
			of = by.Authority
		}
		out.InUse = append(out.InUse, of)
	}
	return out
}

// KeyState tells one state of what keys are judged by from another: the CA Secret, and the authorities that pods have certificates
// of. It is empty while a pod may be making its certificate.
func (f *Facts) KeyState() string {
	if f.IssuerSecret == nil || f.pod(func(p *Pod) bool { return p.Injected && !p.Certified }) != nil {
		return ""
	}
	used := f.KeyPods().InUse
	slices.Sort(used)
	return fmt.Sprintf("%s/%s/%s", f.IssuerSecret.UID, f.IssuerSecret.ResourceVersion, strings.Join(slices.Compact(used), ","))
}

// describeKeys puts the keys into the status, with how many pods are of each earlier generation. It never takes an authority for
// newer than the one on record unless its generation is, since the record is what a restored Secret is recognised by.
func describeKeys(out *v1alpha1.RayClusterTLSStatus, store keys.Store, pods map[int64]int32) {
	recorded := &out.Authority
	if a := store.Authority; a != nil &&
		(store.Generation > recorded.Generation || store.Generation == recorded.Generation && (recorded.ID == "" || recorded.ID == a.ID())) {
		out.Authority = v1alpha1.AuthorityStatus{
			Generation: store.Generation, ID: a.ID(), IssuedTime: stamp(a.IssuedAt()), ExpiryTime: stamp(a.NotAfter()),
			RevokedBeforeGeneration: max(recorded.RevokedBeforeGeneration, store.RevokedBefore),
		}
		for _, e := range store.Signers().Earlier {
			out.Authority.Earlier = append(out.Authority.Earlier, v1alpha1.EarlierAuthority{
				Generation: e.Generation, ID: e.ID, Pods: pods[e.Generation], ExpiryTime: stamp(e.End),
			})
		}
	}
	out.Issuer = v1alpha1.IssuerStatus{}
	if i := store.Issuer; i != nil {
		out.Issuer = v1alpha1.IssuerStatus{ID: i.ID(), IssuedTime: stamp(i.IssuedAt()), ExpiryTime: stamp(i.NotAfter())}
	}
}
