package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// RevokedBefore is the number below which every generation of the authority is revoked, by the record or by the authority's Secret: a
// backup may have brought an older one of either back. It is 0 if none is revoked.
func (f *Facts) RevokedBefore() int64 { return max(f.Record().RevokedBefore, f.Keys.RevokedBefore) }

// revocation is what the policy asks of the authority. What is on record is not asked for again.
func (f *Facts) revocation() rollout.Revocation {
	if f.Keys.RevokedBefore < f.Record().RevokedBefore {
		return rollout.Revocation{}
	}
	out := rollout.Revocation{
		Asked:      f.Keys.RevocationAsked(f.KeySettings(), f.Now),
		Generation: f.Keys.NextGeneration(f.KeyPods()),
		Now:        f.Policy.CertificateAuthority.RevokeNow,
	}
	if unusable := f.Parent().Unusable; unusable != nil {
		out.Unusable = unusable.Message
	}
	return out
}

// mountsOther says which other CA Secret than the cluster's the pod mounts; empty if it mounts that one.
func (f *Facts) mountsOther(pod *Pod) string {
	want := keys.IssuerSecretName(f.Key, f.RevokedBefore())
	if !pod.Injected || pod.CASecret == "" || pod.CASecret == want {
		return ""
	}
	return fmt.Sprintf("it mounts Secret %s, and the cluster's CA Secret is %s", pod.CASecret, want)
}

// OwnIssuer reports whether a Secret is a CA Secret of this cluster. A cluster with a dot in its name, which KubeRay would not run,
// could have one of the same name.
func (f *Facts) OwnIssuer(secret *corev1.Secret) bool {
	of := slices.IndexFunc(secret.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == f.Object.GetKind() })
	return secret.Labels[v1alpha1.LabelComponent] == v1alpha1.ComponentIssuer && (of < 0 || secret.OwnerReferences[of].Name == f.Key.Name)
}

// revoked finds the CA Secrets of revoked authorities.
func (g *Gatherer) revoked(ctx context.Context, f *Facts, number int64) error {
	if number == 0 {
		return nil
	}
	var list corev1.SecretList
	if err := g.Cached.List(ctx, &list, client.InNamespace(f.Key.Namespace), client.MatchingLabels(kube.Labels(v1alpha1.ComponentIssuer)), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing CA Secrets: %w", err)
	}
	for i := range list.Items {
		of, ours := keys.ParseIssuerSecretName(f.Key, list.Items[i].Name)
		if ours && of < number && f.OwnIssuer(&list.Items[i]) {
			f.Revoked = append(f.Revoked, list.Items[i])
		}
	}
	return nil
}

// retires reports whether nothing may use CA Secrets of revoked authorities any more: no restart because of the revocation is under way
// after this step, or it has only to wait for new pods. Pods of another template then wait, which is better than a revoked certificate.
func (f *Facts) retires(progress *rollout.Progress) bool {
	if len(f.Revoked) == 0 || f.Keys.RevokedBefore < f.RevokedBefore() {
		return false
	}
	if progress == nil || progress.Phase != v1alpha1.PhaseRevoke {
		return true
	}
	return f.pod(func(p *Pod) bool { return f.mountsOther(p) != "" }) == nil && !slices.ContainsFunc(f.Templates, func(t injection.Template) bool {
		return t.Parameters != nil && t.Parameters.RevokedBefore != f.RevokedBefore()
	})
}

// wanted are the parameters that the policy asks for.
func (f *Facts) wanted() injection.Parameters {
	out := policy.Parameters(f.Policy)
	out.RevokedBefore = f.RevokedBefore()
	return out
}
