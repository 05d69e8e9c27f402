package cluster

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// orphan finds a cluster that carries the injection while nobody makes keys for it: its policy was gone before the operator saw the
// cluster. All is read past the caches, which may lag behind a policy or keys.
func (g *Gatherer) orphan(ctx context.Context, f *Facts) error {
	if g.NoSecrets || f.Key.Namespace == g.Namespace || f.Deleting() || !f.mayBeOrphaned() {
		return nil
	}
	policies, err := policy.List(ctx, g.Live, f.Key.Namespace)
	if err != nil {
		return err
	}
	owners, err := kuberay.Owners(ctx, g.Cached, f.Object)
	if err != nil {
		return err
	}
	if policy.Decide(Subject(f.Object, owners, f.TLS), policies).Policy != nil {
		return kube.ErrStale
	}
	for _, key := range []types.NamespacedName{
		{Namespace: g.Namespace, Name: keys.AuthoritySecretName(f.Key)},
		{Namespace: f.Key.Namespace, Name: keys.IssuerSecretName(f.Key, f.RevokedBefore())},
	} {
		secret, err := kube.ReadSecret(ctx, g.Live, key)
		if err != nil || secret != nil {
			return err
		}
	}
	f.Orphaned = true
	return nil
}

// mayBeOrphaned reports whether no policy, no record and no key is known of a cluster with the injection. A pod with a certificate
// proves that somebody made keys.
func (f *Facts) mayBeOrphaned() bool {
	record := f.Record()
	switch {
	case f.Policy != nil || f.AuthoritySecret != nil || kept.LeftOut(f.Spec) != "":
		return false
	case record.Enabled || record.FailedAttempt != "" || record.Progress != nil && record.Progress.Goal != v1alpha1.GoalPlaintext:
		return false
	case f.pod(func(p *Pod) bool { return p.Certified }) != nil:
		return false
	}
	return injection.AnyPiece(f.Spec) || f.pod(func(p *Pod) bool { return p.Injected && !p.Terminating }) != nil
}

// orphanPatience is how long a cluster may exist before its policy: tools apply and restore objects one after another.
const orphanPatience = 30 * time.Second

// release takes the injection out of an orphaned cluster, whose pods have done no work yet. It gives way to another writer that puts
// it back again and again.
func (d *Decision) release(f *Facts) {
	if until := f.Object.GetCreationTimestamp().Add(orphanPatience); f.Now.Before(until) {
		d.Plan.RequeueAt = until
		return
	}
	s := rollout.Snapshot{Now: f.Now, Goal: v1alpha1.GoalPlaintext, Record: d.Plan.Record, Suspended: f.Ray.Suspended, New: true}
	for i := range f.Pods {
		s.Pods = append(s.Pods, f.Pods[i].Pod)
	}
	for _, t := range f.Templates {
		s.Templates = append(s.Templates, rollout.Template{Group: t.Group, Pieces: t.State != injection.None})
	}
	rounds := slices.DeleteFunc(slices.Clone(s.Restored), func(at time.Time) bool { return !f.Now.Before(at.Add(rollout.RestoreWindow)) })
	if s.Progress == nil && len(rounds) >= rollout.RestoreLimit {
		d.Plan.RequeueAt = slices.MinFunc(rounds, time.Time.Compare).Add(rollout.RestoreWindow)
		return
	}
	d.Snapshot, d.Plan = s, rollout.Make(&s)
	if s.Progress == nil {
		rounds = append(rounds, f.Now.UTC().Truncate(time.Second))
	}
	d.Plan.Restored = rounds
	d.Plan.Message = "no policy covers the cluster, and nobody made keys for it, so its pods would wait for ever; taking the injection out"
	if d.Plan.Event != nil {
		d.Plan.Event.Message = d.Plan.Message
	}
	d.render(f)
}
