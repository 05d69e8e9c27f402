package raytlspolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestMetrics(t *testing.T) {
	good := record("train", 1, v1alpha1.PolicyReference{Name: "p", Generation: 1}, v1alpha1.ReasonEncrypted)
	good.Status.Pods = v1alpha1.PodCounts{Total: 7, Certified: 3, Plaintext: 1, Outdated: 1}
	good.Status.ObservedOnWire = v1alpha1.ObservedOnWire{Head: v1alpha1.WirePlaintext}
	good.Status.Issuer = v1alpha1.IssuerStatus{ID: "i", IssuedTime: &metav1.Time{Time: epoch().AddDate(0, 0, -1)}, ExpiryTime: &metav1.Time{Time: epoch()}}
	good.Status.ExpiryStage = v1alpha1.StageLastSixth
	good.Status.RestartBy = &metav1.Time{Time: epoch().AddDate(0, 0, -1)}
	good.Status.PendingRestart = &v1alpha1.PendingRestart{Action: v1alpha1.ActionRoll, Reason: v1alpha1.ReasonOnDelete}
	good.Status.EarliestExpiryTime = &metav1.Time{Time: epoch().AddDate(0, 0, -1)}
	bad := record("serve", 1, v1alpha1.PolicyReference{Name: "p", Generation: 1}, v1alpha1.ReasonPaused)
	bad.Status.Pods = v1alpha1.PodCounts{Total: 1, Certified: 1, Outdated: 1}
	good.Status.Authority = v1alpha1.AuthorityStatus{
		Generation: 4, IssuedTime: &metav1.Time{Time: epoch()}, ExpiryTime: &metav1.Time{Time: epoch().AddDate(1, 0, 0)},
		Earlier: []v1alpha1.EarlierAuthority{{Generation: 3, Pods: 1}, {Generation: 2}},
	}
	kept := record("kept", 1, v1alpha1.PolicyReference{}, v1alpha1.ReasonEncrypted)
	used, refused := metricsPolicy("p", v1alpha1.ReasonAccepted, metav1.ConditionTrue), metricsPolicy("q", v1alpha1.ReasonCASecretInvalid, metav1.ConditionFalse)
	want := []string{
		`raytls_cluster_authority_expiration_timestamp_seconds{train,ns,p} 1798761600`,
		`raytls_cluster_authority_issued_timestamp_seconds{train,ns,p} 1767225600`,
		`raytls_cluster_encrypted{kept,ns,} 1`,
		`raytls_cluster_encrypted{serve,ns,p} 0`,
		`raytls_cluster_encrypted{train,ns,p} 1`,
		`raytls_cluster_encrypted_reason{kept,ns,,Encrypted} 1`,
		`raytls_cluster_encrypted_reason{serve,ns,p,Paused} 1`,
		`raytls_cluster_encrypted_reason{train,ns,p,Encrypted} 1`,
		`raytls_cluster_expiry_stage{train,ns,p,LastSixth} 1`,
		`raytls_cluster_generation_pods{train,2,ns,p} 0`,
		`raytls_cluster_generation_pods{train,3,ns,p} 1`,
		`raytls_cluster_generation_pods{train,4,ns,p} 3`,
		`raytls_cluster_head_on_wire{train,ns,p,Plaintext} 1`,
		`raytls_cluster_issuer_expiration_timestamp_seconds{train,ns,p} 1767225600`,
		`raytls_cluster_issuer_issued_timestamp_seconds{train,ns,p} 1767139200`,
		`raytls_cluster_leaf_expiration_timestamp_seconds{train,ns,p} 1767139200`,
		`raytls_cluster_pending_restart{Roll,train,ns,p,OnDelete} 1`,
		`raytls_cluster_pods{kept,ns,,certified} 0`,
		`raytls_cluster_pods{kept,ns,,outdated} 0`,
		`raytls_cluster_pods{kept,ns,,plaintext} 0`,
		`raytls_cluster_pods{kept,ns,,starting} 0`,
		`raytls_cluster_pods{serve,ns,p,certified} 1`,
		`raytls_cluster_pods{serve,ns,p,outdated} 1`,
		`raytls_cluster_pods{serve,ns,p,plaintext} 0`,
		`raytls_cluster_pods{serve,ns,p,starting} 0`,
		`raytls_cluster_pods{train,ns,p,certified} 3`,
		`raytls_cluster_pods{train,ns,p,outdated} 1`,
		`raytls_cluster_pods{train,ns,p,plaintext} 1`,
		`raytls_cluster_pods{train,ns,p,starting} 3`,
		`raytls_cluster_restart_by_timestamp_seconds{train,ns,p} 1767139200`,
		`raytls_policy_accepted{ns,p} 1`,
		`raytls_policy_accepted{ns,q} 0`,
		`raytls_policy_accepted_reason{ns,p,Accepted} 1`,
		`raytls_policy_accepted_reason{ns,q,CASecretInvalid} 1`,
		`raytls_policy_admission_active{ns,p} 0`,
		`raytls_policy_admission_active{ns,q} 0`,
		`raytls_policy_brought_ca_expiration_timestamp_seconds{ns,p} 1767225600`,
	}
	r := &Reconciler{Client: newClient(t, good, bad, kept, used, refused)}
	r.noteBroughtCA(types.NamespacedName{Namespace: "ns", Name: "p"}, epoch())
	r.noteBroughtCA(types.NamespacedName{Namespace: "ns", Name: "q"}, epoch())
	r.noteBroughtCA(types.NamespacedName{Namespace: "ns", Name: "q"}, time.Time{})
	if diff := cmp.Diff(want, scrape(t, r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	silent := interceptor.NewClient(newClient(t), interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.New("not synced")
		},
	})
	if got := scrape(t, &Reconciler{Client: silent}); len(got) != 0 {
		t.Errorf("a cache that does not answer costs its metrics alone: got %v", got)
	}
}

// metricsPolicy is a policy whose admission is pending.
func metricsPolicy(name, reason string, accepted metav1.ConditionStatus) *v1alpha1.RayTLSPolicy {
	return &v1alpha1.RayTLSPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Status: v1alpha1.RayTLSPolicyStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAccepted, Status: accepted, Reason: reason},
			{Type: v1alpha1.ConditionAdmissionActive, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonAdmissionPending},
		}},
	}
}

// scrape returns the metrics with the values of their labels, whose names are sorted.
func scrape(t *testing.T, r *Reconciler) []string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.Metrics())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			out = append(out, fmt.Sprintf("%s{%s} %.0f", family.GetName(), strings.Join(labels, ","), metric.GetGauge().GetValue()))
		}
	}
	return out
}
