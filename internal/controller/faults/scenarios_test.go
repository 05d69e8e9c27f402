package faults_test

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kuberay"
)

// scenario is one thing that a user asks of the operator.
type scenario struct {
	// encrypted reports whether the cluster is encrypted from its start, and unborn whether there is none yet.
	encrypted, unborn bool
	// admitted has the webhook edit the templates.
	admitted bool
	// ask is what the user does, and done reports whether it is done.
	ask  func(testing.TB, *world)
	done func(testing.TB, *world) bool
	// restarts is how often each pod is restarted by it.
	restarts int
}

// scenarios are all that restart pods or change keys. Another one needs an entry here and nothing else.
func scenarios() map[string]scenario {
	out := map[string]scenario{
		"create": {
			unborn: true, restarts: 1, // KubeRay makes pods before the operator has injected
			ask:  func(t testing.TB, w *world) { create(t, w, rayCluster(nil)) },
			done: encryptedBy(1),
		},
		"enable": {
			ask: func(t testing.TB, w *world) {
				create(t, w, policyNamed("p", func(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.EnablePolicy = v1alpha1.EnableImmediate }))
			},
			done: encryptedBy(1), restarts: 1,
		},
		"disable": {
			encrypted: true, restarts: 1,
			ask: func(t testing.TB, w *world) {
				patch(t, w, &v1alpha1.RayTLSPolicy{}, "p", `{"spec":{"deletionPolicy":"Disable"}}`)
				patch(t, w, kuberay.NewRayCluster(), "train", `{"metadata":{"labels":{"raytls.io/exclude":"true"}}}`)
			},
			done: plaintext,
		},
		"remove": {
			encrypted: true, restarts: 1,
			ask: func(t testing.TB, w *world) {
				patch(t, w, &v1alpha1.RayTLSPolicy{}, "p", `{"spec":{"deletionPolicy":"Disable"}}`)
				if err := w.api.Delete(t.Context(), policyNamed("p")); err != nil {
					t.Fatal(err)
				}
			},
			done: func(t testing.TB, w *world) bool { return plaintext(t, w) && !w.get(t, "p", &v1alpha1.RayTLSPolicy{}) },
		},
		"roll": {
			encrypted: true, restarts: 1,
			ask: func(t testing.TB, w *world) {
				patch(t, w, &v1alpha1.RayTLSPolicy{}, "p", `{"spec":{"podCertificate":{"validityDays":300}}}`)
			},
			done: func(t testing.TB, w *world) bool {
				since := w.status(t).PodCertificate.WorkerSince
				return encryptedBy(1)(t, w) && since != nil && w.now().Sub(since.Time) > 10*time.Minute
			},
		},
		"replace": {
			encrypted: true, restarts: 1,
			ask: func(t testing.TB, w *world) {
				patch(t, w, &v1alpha1.RayTLSPolicy{}, "p", `{"spec":{"certificateAuthority":{"replaceIssuedBefore":"`+w.now().UTC().Format(time.RFC3339)+`"}}}`)
			},
			done: func(t testing.TB, w *world) bool { // the bridges go too
				return encryptedBy(2)(t, w) && len(w.status(t).Authority.Earlier) == 0
			},
		},
		"reissue": {
			encrypted: true,
			ask: func(t testing.TB, w *world) {
				secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: injection.SecretName("train")}}
				if err := w.api.Delete(t.Context(), secret); err != nil {
					t.Fatal(err)
				}
			},
			done: func(t testing.TB, w *world) bool {
				return encryptedBy(1)(t, w) && w.get(t, injection.SecretName("train"), &corev1.Secret{})
			},
		},
	}
	for _, name := range []string{"enable", "remove"} {
		admitted := out[name]
		admitted.admitted = true
		out[name+"-admitted"] = admitted
	}
	return out
}

func policyNamed(name string, change ...func(*v1alpha1.RayTLSPolicySpec)) *v1alpha1.RayTLSPolicy {
	p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.Selector = &metav1.LabelSelector{}
	p.Spec.Rollout.EnablePolicy = v1alpha1.EnableImmediate
	for _, c := range change {
		c(&p.Spec)
	}
	return p
}

func create(t testing.TB, w *world, object client.Object) {
	t.Helper()
	if err := w.api.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func patch(t testing.TB, w *world, object client.Object, name, text string) {
	t.Helper()
	object.SetNamespace(namespace)
	object.SetName(name)
	if err := w.api.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(text))); err != nil {
		t.Fatal(err)
	}
}

// encryptedBy reports whether the cluster is encrypted by that generation of its authority, as asked.
func encryptedBy(generation int64) func(testing.TB, *world) bool {
	return func(t testing.TB, w *world) bool {
		t.Helper()
		s := w.status(t)
		is := func(kind string) bool { return meta.IsStatusConditionTrue(s.Conditions, kind) }
		return is(v1alpha1.ConditionEncrypted) && is(v1alpha1.ConditionUpToDate) && is(v1alpha1.ConditionCertified) &&
			s.Rollout == nil && s.Authority.Generation == generation && s.Pods == v1alpha1.PodCounts{Total: 3, Certified: 3}
	}
}

// plaintext reports whether nothing is left of the injection, of keys and of pods with TLS.
func plaintext(t testing.TB, w *world) bool {
	t.Helper()
	if len(list[*corev1.Secret](t, w.api, &corev1.SecretList{})) > 0 {
		return false
	}
	for _, pod := range list[*corev1.Pod](t, w.api, &corev1.PodList{}) {
		if isInjected(pod) || !isReady(pod) {
			return false
		}
	}
	return w.status(t).Rollout == nil
}

// begin is the world in which the user asks: the cluster is up.
func (s scenario) begin(t testing.TB) *world {
	t.Helper()
	w := newWorld(epoch())
	w.api.admits = s.admitted
	if s.unborn {
		create(t, w, policyNamed("p"))
		return w
	}
	create(t, w, rayCluster(map[string]string{"ray.io/ft-enabled": "true"}))
	up := func() bool {
		for _, pod := range list[*corev1.Pod](t, w.api, &corev1.PodList{}) {
			if !isReady(pod) {
				return false
			}
		}
		return true
	}
	if s.encrypted {
		create(t, w, policyNamed("p"))
		up = func() bool { return encryptedBy(1)(t, w) }
	}
	if err := w.settle(t.Context(), up, newOperator(w, fault{})); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour) // the cluster is not new any more
	return w
}
