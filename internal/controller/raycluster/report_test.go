package raycluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/pki"
)

// reporting is a covered cluster whose status is written to an API server that can fail, and the events of it.
func reporting(t *testing.T, fail *error) (*application, *events.FakeRecorder) {
	t.Helper()
	object := kuberay.NewRayCluster()
	object.SetNamespace("ml")
	object.SetName("train")
	tls := &v1alpha1.RayClusterTLS{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "train"}}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(tls).WithStatusSubresource(tls).WithInterceptorFuncs(interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			if *fail != nil {
				return *fail
			}
			return c.SubResource(sub).Patch(ctx, o, patch, options...)
		},
	}).Build()
	stored := &v1alpha1.RayClusterTLS{}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(tls), stored); err != nil {
		t.Fatal(err)
	}
	recorder := events.NewFakeRecorder(20)
	facts := &cluster.Facts{Key: types.NamespacedName{Namespace: "ml", Name: "train"}, Object: object, Now: epoch()}
	return &application{
		Reconciler: &Reconciler{Client: api, Recorder: recorder}, facts: facts, decision: &cluster.Decision{}, tls: stored,
	}, recorder
}

// told takes the events that there are.
func told(recorder *events.FakeRecorder) []string {
	all := []string{}
	for {
		select {
		case event := <-recorder.Events:
			all = append(all, event)
		default:
			return all
		}
	}
}

func TestRefusalIsAnEvent(t *testing.T) {
	conflict := kube.UserMustActf(v1alpha1.ReasonNameConflict, "Secret raytls-train in namespace ml exists and is not the operator's")
	foreign := kube.UserMustActf(v1alpha1.ReasonForeignTLS, "spec.headGroupSpec.template sets RAY_USE_TLS")
	newer := kube.UserMustActf(v1alpha1.ReasonNameConflict, "Secret raytls-train in namespace ml exists, still")
	steps := []struct {
		reason string
		err    error
		fail   error
		want   []string
	}{
		{"nothing is refused", nil, nil, nil},
		{"a status that was not written will be written again", conflict, apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("x").GroupResource(), "train", errors.New("changed")), nil},
		{"a refusal is told", conflict, nil, []string{"Warning NameConflict Secret raytls-train in namespace ml exists and is not the operator's"}},
		{"it is told once", conflict, nil, nil},
		{"nor is it told again in other words", newer, nil, nil},
		{"another refusal is told", foreign, nil, []string{"Warning ForeignTLS spec.headGroupSpec.template sets RAY_USE_TLS"}},
		{"an end is not a refusal", nil, nil, nil},
		{"a refusal that comes back is told", foreign, nil, []string{"Warning ForeignTLS spec.headGroupSpec.template sets RAY_USE_TLS"}},
		{"waiting needs nobody", kube.Waitf(v1alpha1.ReasonNameConflict, "Secret raytls-train is being deleted"), nil, nil},
		{"the step that puts a cluster back tells it", kube.UserMustActf(v1alpha1.ReasonEnableFailed, "enabling failed"), nil, nil},
	}
	var fail error
	a, recorder := reporting(t, &fail)
	for _, step := range steps {
		fail = step.fail
		if err := a.writeStatus(t.Context(), step.err); !errors.Is(err, step.fail) {
			t.Fatalf("%s: %v", step.reason, err)
		}
		if diff := cmp.Diff(append([]string{}, step.want...), told(recorder)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.reason, diff)
		}
	}
}

func TestARollThatWaitsIsTold(t *testing.T) {
	waits := func(action v1alpha1.RestartAction, reason, by string) *v1alpha1.RayClusterTLSStatus {
		return &v1alpha1.RayClusterTLSStatus{PendingRestart: &v1alpha1.PendingRestart{Action: action, Reason: reason, BlockedBy: by, Message: "it waits"}}
	}
	nothing, window := &v1alpha1.RayClusterTLSStatus{}, waits(v1alpha1.ActionRoll, v1alpha1.ReasonWaitingForWindow, "")
	late := waits(v1alpha1.ActionRoll, v1alpha1.ReasonWindowTooLate, "")
	for name, c := range map[string]struct {
		reason        string
		before, after *v1alpha1.RayClusterTLSStatus
		want          []string
	}{
		"for a window":         {"somebody may wonder", nothing, window, []string{"Normal WaitingForWindow it waits"}},
		"still":                {"once is enough", window, window, nil},
		"window too late":      {"the restart will come outside of windows", nothing, late, []string{"Warning WindowTooLate it waits"}},
		"window gone too late": {"the restart by has come near", window, late, []string{"Warning WindowTooLate it waits"}},
		"blocked":              {"who blocks it matters", waits(v1alpha1.ActionRoll, v1alpha1.ReasonBlocked, "a"), waits(v1alpha1.ActionRoll, v1alpha1.ReasonBlocked, "b"), []string{"Normal Blocked it waits"}},
		"revocation":           {"it is urgent", nothing, waits(v1alpha1.ActionRevoke, v1alpha1.ReasonBlocked, "a"), []string{"Normal Blocked it waits"}},
		"enabling":             {"its own steps are told", nothing, waits(v1alpha1.ActionEnable, v1alpha1.ReasonBlocked, "a"), nil},
		"over":                 {"nothing waits", late, nothing, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var fail error
			a, recorder := reporting(t, &fail)
			a.tellChanges(c.before, c.after)
			if diff := cmp.Diff(append([]string{}, c.want...), told(recorder)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

// TestIssuedIsLogged holds the controller's lines to the keys of the lines that init containers write.
func TestIssuedIsLogged(t *testing.T) {
	var fail error
	a, _ := reporting(t, &fail)
	authority, err := pki.NewAuthority(pki.AuthorityOptions{Name: "ml/train", KeyAlgorithm: pki.ECDSAP256, Validity: 1000 * 24 * time.Hour, Now: epoch()})
	if err != nil {
		t.Fatal(err)
	}
	store := keys.Store{Authority: authority, Generation: 3}
	var out bytes.Buffer
	ctx := log.IntoContext(t.Context(), zap.New(zap.WriteTo(&out), zap.UseDevMode(false)))
	a.logIssued(ctx, "Issued issuer", store, authority.Certificate(), "issuer", "4e5f")
	if strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("it is one line:\n%s", out.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "ts")
	certificate := authority.Certificate()
	want := map[string]any{
		"level": "info", "msg": "Issued issuer", "cluster": "ml/train", "serial": padded(certificate.SerialNumber.Text(16)), "issuer": "4e5f",
		"authority": authority.ID(), "generation": 3.0, "notAfter": certificate.NotAfter.UTC().Format(time.RFC3339),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func padded(serial string) string { return strings.Repeat("0", 32-len(serial)) + serial }
