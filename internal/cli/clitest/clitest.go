// Package clitest runs commands against an API server that is in memory. Only tests use it.
package clitest

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/api/v1alpha1/applyconfiguration"
	"github.com/raytls/raytls/internal/cli/connect"
	"github.com/raytls/raytls/internal/golden"
	"github.com/raytls/raytls/internal/kuberay"
)

// Now is the time of all tests.
func Now() time.Time { return time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC) }

// Ago is a time before Now.
func Ago(before time.Duration) *metav1.Time { return &metav1.Time{Time: Now().Add(-before)} }

// In is a time after Now.
func In(after time.Duration) *metav1.Time { return Ago(-after) }

// Client is a client for copies of those objects, so tests that run at a time may share them: the fake writes their resource versions.
// It applies as an API server does that has the CRDs.
func Client(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme, err := connect.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	// KubeRay's kinds are known without their Go types, as they are to the commands.
	for _, kind := range []v1alpha1.TargetKind{v1alpha1.TargetRayCluster, v1alpha1.TargetRayJob, v1alpha1.TargetRayService} {
		gvk := kuberay.GroupVersionKind(kind)
		scheme.AddKnownTypeWithName(gvk, &unstructured.Unstructured{})
		scheme.AddKnownTypeWithName(gvk.GroupVersion().WithKind(gvk.Kind+"List"), &unstructured.UnstructuredList{})
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithTypeConverters(applyconfiguration.NewTypeConverter(scheme)).WithReturnManagedFields()
	for _, object := range objects {
		builder.WithObjects(object.DeepCopyObject().(client.Object)) //nolint:errcheck // A copy has its original's type.
	}
	return builder.Build()
}

// Open opens sessions in namespace ml with that client. sleep is what happens while a command waits.
func Open(c client.Client, sleep func(context.Context, time.Duration) error) connect.Opener {
	return func(*connect.Flags) (*connect.Session, error) {
		return &connect.Session{Client: c, Namespace: "ml", Now: Now, Sleep: sleep}, nil
	}
}

// Policy is a policy of namespace ml for every RayCluster.
func Policy(name string, edits ...func(*v1alpha1.RayTLSPolicy)) *v1alpha1.RayTLSPolicy {
	p := &v1alpha1.RayTLSPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "RayTLSPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name, UID: types.UID("policy-" + name), Generation: 1},
		Spec:       v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}},
	}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

// RayCluster is a RayCluster of namespace ml.
func RayCluster(name string) *unstructured.Unstructured {
	c := kuberay.NewRayCluster()
	c.SetNamespace("ml")
	c.SetName(name)
	c.SetUID(types.UID("cluster-" + name))
	c.SetGeneration(1)
	return c
}

// Record is what the operator reports of a RayCluster that policy default covers and whose three pods have certificates of generation 3.
func Record(cluster string, edits ...func(*v1alpha1.RayClusterTLSStatus)) *v1alpha1.RayClusterTLS {
	yes := true
	out := &v1alpha1.RayClusterTLS{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ml", Name: cluster,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: cluster, UID: types.UID("cluster-" + cluster), Controller: &yes}},
		},
		Status: v1alpha1.RayClusterTLSStatus{
			ObservedGeneration: 1, PolicyRef: v1alpha1.PolicyReference{Name: "default", Generation: 1},
			Injection: v1alpha1.InjectionStatus{Revision: 1},
			Authority: v1alpha1.AuthorityStatus{Generation: 3, ID: "c3c3c3c3c3c3c3c3", IssuedTime: Ago(24 * time.Hour), ExpiryTime: In(87600 * time.Hour)},
			Issuer:    v1alpha1.IssuerStatus{ID: "1551551551551551", ExpiryTime: In(17520 * time.Hour)},
			Pods:      v1alpha1.PodCounts{Total: 3, Certified: 3},
			Conditions: []metav1.Condition{
				Condition(v1alpha1.ConditionEncrypted, metav1.ConditionTrue, v1alpha1.ReasonEncrypted, "all pods speak TLS"),
				Condition(v1alpha1.ConditionCertified, metav1.ConditionTrue, v1alpha1.ReasonCertified, "3 of 3 pods have a valid certificate of the current authority"),
				Condition(v1alpha1.ConditionUpToDate, metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "the cluster runs with the policy's present values"),
				Condition(v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNothingToDo, "no user needs to act"),
			},
		},
	}
	for _, edit := range edits {
		edit(&out.Status)
	}
	return out
}

// Condition is a condition of a RayClusterTLS.
func Condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: 1, LastTransitionTime: *Ago(time.Hour)}
}

// Set replaces a condition.
func Set(status *v1alpha1.RayClusterTLSStatus, to metav1.Condition) {
	for i := range status.Conditions {
		if status.Conditions[i].Type == to.Type {
			status.Conditions[i] = to
		}
	}
}

// Run runs a command below a root named raytls, and returns what it printed and noted.
func Run(ctx context.Context, command *cobra.Command, in string, args ...string) (out, notes string, err error) {
	var to, beside bytes.Buffer
	root := &cobra.Command{Use: "raytls", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(command)
	root.SetArgs(append([]string{command.Name()}, args...))
	root.SetIn(bytes.NewBufferString(in))
	root.SetOut(&to)
	root.SetErr(&beside)
	err = root.ExecuteContext(ctx)
	return to.String(), beside.String(), err
}

// Golden compares a text with a file in testdata, which it writes first if update is set.
func Golden(t *testing.T, update bool, name, got string) {
	t.Helper()
	if diff := golden.Diff(t, update, filepath.Join("testdata", name), got); diff != "" {
		t.Errorf("%s (-want +got; run with -update to accept):\n%s", name, diff)
	}
}

// Steps is a sleep of a command in which the operator reports the next of the statuses of RayCluster ml/train. After the last one, the
// time of the command is up.
func Steps(on client.Client, statuses ...func(*v1alpha1.RayClusterTLSStatus)) (sleep func(context.Context, time.Duration) error, left func() int) {
	return func(ctx context.Context, _ time.Duration) error {
		if len(statuses) == 0 {
			return context.DeadlineExceeded
		}
		var tls v1alpha1.RayClusterTLS
		if err := on.Get(ctx, client.ObjectKey{Namespace: "ml", Name: "train"}, &tls); err != nil {
			return err
		}
		statuses[0](&tls.Status)
		statuses = statuses[1:]
		return on.Update(ctx, &tls)
	}, func() int { return len(statuses) }
}
