package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rfc6902 "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
)

const (
	operator = "system:serviceaccount:raytls-system:raytls-controller"
	someone  = "system:serviceaccount:ml:default"
	uid      = "9f0c"
)

func reader(t testing.TB, objects ...client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func covering(change ...func(*v1alpha1.RayTLSPolicy)) *v1alpha1.RayTLSPolicy {
	p := &v1alpha1.RayTLSPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "default", CreationTimestamp: metav1.NewTime(time.Unix(1, 0))},
		Spec:       v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

// record is the cluster's RayClusterTLS: injected on record, unless it is changed.
func record(change ...func(*v1alpha1.RayClusterTLS)) *v1alpha1.RayClusterTLS {
	r := &v1alpha1.RayClusterTLS{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "train", OwnerReferences: []metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: "train", UID: uid}}},
		Status:     v1alpha1.RayClusterTLSStatus{PolicyRef: v1alpha1.PolicyReference{Name: "default"}, Injection: v1alpha1.InjectionStatus{Revision: 1}},
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func notInjected(r *v1alpha1.RayClusterTLS) { r.Status.Injection = v1alpha1.InjectionStatus{} }

func underWay(r *v1alpha1.RayClusterTLS) {
	r.Status.Rollout = &v1alpha1.RolloutProgress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseCanary}
}

func ofAnother(r *v1alpha1.RayClusterTLS) { r.OwnerReferences[0].UID = "another" }

// injector knows the objects; what is not in its cache, it finds live.
func injector(t testing.TB, cached []client.Object, live ...client.Object) *Injector {
	t.Helper()
	return &Injector{
		Cached: reader(t, cached...), Live: reader(t, append(slices.Clone(cached), live...)...),
		Namespace: "raytls-system", Username: operator,
	}
}

type object = map[string]any

func pod(container string) object {
	return object{"spec": object{"containers": []any{object{"name": container, "image": "ray:1", "fromTheFuture": object{"kept": []any{json.Number("12345678901234567890")}}}}}}
}

func rayCluster(change ...func(object)) object {
	c := object{
		"apiVersion": "ray.io/v1", "kind": "RayCluster",
		"metadata": object{"name": "train", "namespace": "ml", "uid": uid},
		"spec": object{
			"headGroupSpec":    object{"rayStartParams": object{}, "template": pod("ray-head")},
			"workerGroupSpecs": []any{object{"groupName": "small", "replicas": 1, "rayStartParams": object{}, "template": pod("ray-worker")}},
			"fromTheFuture":    object{"kept": true},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func meta(key string, value any) func(object) {
	return func(c object) { c["metadata"].(object)[key] = value }
}

func spec(key string, value any) func(object) {
	return func(c object) { c["spec"].(object)[key] = value }
}

func annotated(annotations object) func(object) { return meta("annotations", annotations) }

func raw(t testing.TB, o object) []byte {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func request(t testing.TB, user string, old, updated object) admission.Request {
	t.Helper()
	r := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "ml", UserInfo: authenticationv1.UserInfo{Username: user},
		Object: runtime.RawExtension{Raw: raw(t, updated)},
	}}
	r.Namespace, _ = updated["metadata"].(object)["namespace"].(string)
	if old != nil {
		r.Operation, r.OldObject.Raw = admissionv1.Update, raw(t, old)
	}
	return r
}

// admitted is the object that the API server stores, and what the user is told.
func admitted(t testing.TB, i *Injector, user string, old, updated object) (object, admission.Response) {
	t.Helper()
	r := request(t, user, old, updated)
	response := i.Handle(t.Context(), r)
	text := r.Object.Raw
	if response.Patch != nil {
		patch, err := rfc6902.DecodePatch(response.Patch)
		if err != nil {
			t.Fatal(err)
		}
		if text, err = patch.Apply(text); err != nil {
			t.Fatalf("the API server could not apply the patch: %v\n%s", err, response.Patch)
		}
	}
	return decoded(t, text), response
}

func normal(t testing.TB, o object) object {
	t.Helper()
	return decoded(t, raw(t, o))
}

func decoded(t testing.TB, text []byte) object {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var out object
	if err := decoder.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// born is the cluster as it is stored when the policy covers it.
func born(t testing.TB, change ...func(object)) object {
	t.Helper()
	c := normal(t, rayCluster(change...))
	injected, err := injection.Apply(c["spec"].(object), injection.Options{ClusterName: "train"}, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	c["spec"] = injected
	return normal(t, c)
}

func TestCreate(t *testing.T) {
	late := metav1.NewTime(time.Unix(2, 0))
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "tls"}, Data: map[string]string{"RAY_USE_TLS": "1"}}
	envFrom := func(c object) {
		template := c["spec"].(object)["headGroupSpec"].(object)["template"].(object)
		template["spec"].(object)["containers"].([]any)[0].(object)["envFrom"] = []any{object{"configMapRef": object{"name": "tls"}}}
	}
	foreign := func(c object) {
		template := c["spec"].(object)["headGroupSpec"].(object)["template"].(object)
		template["spec"].(object)["containers"].([]any)[0].(object)["env"] = []any{object{"name": "RAY_USE_TLS", "value": "1"}}
	}
	for name, c := range map[string]struct {
		reason  string
		cached  []client.Object
		live    []client.Object
		cluster object
		covered bool
		warning string
	}{
		"a policy covers it":  {reason: "it is born with TLS", cached: []client.Object{covering()}, cluster: rayCluster(), covered: true},
		"the policy is new":   {reason: "the cache does not have it yet, the API server does", live: []client.Object{covering()}, cluster: rayCluster(), covered: true},
		"no policy":           {reason: "an injected cluster is why the namespace is here", cluster: rayCluster()},
		"a policy for others": {reason: "its selector does not fit", cached: []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.Selector.MatchLabels = map[string]string{"a": "b"} })}, cluster: rayCluster()},
		"the policy is being deleted": {reason: "it takes on nothing new", cached: []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) {
			p.DeletionTimestamp, p.Finalizers = &late, []string{"raytls.io/policy"}
		})}, cluster: rayCluster()},
		"the policy is paused":         {reason: "nothing is written on its behalf, and the user is told", cached: []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = true })}, cluster: rayCluster(), warning: "all the same: spec.paused"},
		"excluded":                     {reason: "its label says so", cached: []client.Object{covering()}, cluster: rayCluster(meta("labels", object{v1alpha1.LabelExclude: "true"}))},
		"excluded, misspelt":           {reason: "one value excludes, and the user is told", cached: []client.Object{covering()}, cluster: rayCluster(meta("labels", object{v1alpha1.LabelExclude: "yes"})), covered: true, warning: "label raytls.io/exclude of RayCluster train is \"yes\", which excludes nothing"},
		"managed elsewhere":            {reason: "another cluster's KubeRay runs it", cached: []client.Object{covering()}, cluster: rayCluster(spec("managedBy", "kueue.x-k8s.io/multikueue"))},
		"in the operator's namespace":  {reason: "its Secret could take an authority's name", cached: []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) { p.Namespace = "raytls-system" })}, cluster: rayCluster(meta("namespace", "raytls-system"))},
		"TLS of its own":               {reason: "it is left alone, and the user is told", cached: []client.Object{covering()}, cluster: rayCluster(foreign), warning: "starts in plaintext all the same: spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS]"},
		"TLS from a ConfigMap":         {reason: "what envFrom names is read", cached: []client.Object{covering()}, live: []client.Object{configMap}, cluster: rayCluster(envFrom), warning: "the ConfigMap tls sets RAY_USE_TLS"},
		"an image that is not allowed": {reason: "the policy is not accepted", cached: []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.Issuance.InitContainer.Image = "x" })}, cluster: rayCluster(), warning: "all the same: spec.issuance.initContainer.image"},
		"a name that is too long":      {reason: "its Secret could not be named", cached: []client.Object{covering()}, cluster: rayCluster(meta("name", strings.Repeat("x", 250))), warning: "metadata.name: longer than 225 characters"},
		"no head":                      {reason: "KubeRay says so better", cached: []client.Object{covering()}, cluster: rayCluster(func(c object) { delete(c["spec"].(object), "headGroupSpec") }), warning: "spec.headGroupSpec: is missing"},
		"a suspended one of a queue":   {reason: "Kueue starts it later", cached: []client.Object{covering()}, cluster: rayCluster(spec("suspend", true)), covered: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, response := admitted(t, injector(t, c.cached, c.live...), someone, nil, c.cluster)
			if !response.Allowed {
				t.Fatalf("refused: %v", response.Result)
			}
			if said := strings.Join(response.Warnings, "\n"); !strings.Contains(said, c.warning) || (c.warning == "") != (said == "") {
				t.Errorf("warnings %q, want %q", said, c.warning)
			}
			want := normal(t, c.cluster)
			if c.covered {
				want = born(t, func(o object) { o["spec"], o["metadata"] = c.cluster["spec"], c.cluster["metadata"] })
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if second, _ := admitted(t, injector(t, c.cached, c.live...), someone, nil, got); !cmp.Equal(got, second) {
				t.Errorf("asked again after another webhook, it changes the object:\n%s", cmp.Diff(got, second))
			}
		})
	}
}

// The cache shows a policy for a moment after it is gone. A cluster that is injected on its behalf waits for keys that nobody makes.
func TestCreateAsksWhetherThePolicyStillExists(t *testing.T) {
	stored := func(change ...func(*v1alpha1.RayTLSPolicy)) client.Object {
		return covering(append(change, func(p *v1alpha1.RayTLSPolicy) { p.UID, p.Generation = "1", 1 })...)
	}
	narrower := stored(func(p *v1alpha1.RayTLSPolicy) { p.Spec.Selector.MatchLabels = map[string]string{"a": "b"} })
	narrower.SetGeneration(2)
	again := stored()
	again.SetUID("2")
	for name, c := range map[string]struct {
		reason  string
		live    []client.Object
		covered bool
	}{
		"unchanged":     {"it covers the cluster", []client.Object{stored()}, true},
		"gone":          {"nothing covers the cluster", nil, false},
		"changed":       {"the stored one counts", []client.Object{narrower}, false},
		"created again": {"and so it does if its spec is the same", []client.Object{again}, true},
	} {
		t.Run(name, func(t *testing.T) {
			i := &Injector{Cached: reader(t, stored()), Live: reader(t, c.live...), Namespace: "raytls-system", Username: operator}
			got, response := admitted(t, i, someone, nil, rayCluster())
			if injected := injection.AnyPiece(got["spec"].(object)); injected != c.covered || len(response.Warnings) > 0 {
				t.Errorf("%s: injected is %t, %v", c.reason, injected, response.Warnings)
			}
		})
	}
}

func TestCreateTakesNoOrders(t *testing.T) {
	ordered := rayCluster(annotated(object{"mine": "kept", v1alpha1.AnnotationEdit: `{"remove":true,"all":true}`}))
	got, _ := admitted(t, injector(t, []client.Object{covering()}), operator, nil, ordered)
	if diff := cmp.Diff(born(t, annotated(object{"mine": "kept"})), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, _ = admitted(t, injector(t, nil), someone, nil, ordered)
	if diff := cmp.Diff(normal(t, rayCluster(annotated(object{"mine": "kept"}))), got); diff != "" {
		t.Errorf("without a policy (-want +got):\n%s", diff)
	}
}

func TestCreateNamesWhatIsToBeNamed(t *testing.T) {
	unnamed := rayCluster(meta("generateName", strings.Repeat("x", 70)+"-"), func(c object) { delete(c["metadata"].(object), "name") })
	got, _ := admitted(t, injector(t, []client.Object{covering()}), someone, nil, unnamed)
	name, _ := got["metadata"].(object)["name"].(string)
	if len(name) != 63 || !strings.HasPrefix(name, strings.Repeat("x", 58)) {
		t.Errorf("name %q", name)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"secretName":"raytls-`+name+`"`) {
		t.Error("the templates do not name the cluster's Secret")
	}
	if got, _ = admitted(t, injector(t, nil), someone, nil, unnamed); got["metadata"].(object)["name"] != nil {
		t.Error("a cluster that is not covered is named all the same")
	}
}

func TestUpdateByOthers(t *testing.T) {
	encrypted, plain := born(t), normal(t, rayCluster())
	change := func(o object, edits ...func(object)) object {
		out := normal(t, o)
		for _, e := range edits {
			e(out)
		}
		return out
	}
	scaled := func(o object) {
		o["spec"].(object)["workerGroupSpecs"].([]any)[0].(object)["replicas"] = json.Number("7")
	}
	suspended := spec("suspend", true)
	evil := func(o object) object {
		text := strings.ReplaceAll(string(raw(t, o)), `{\"parameters\":{},`, `{\"parameters\":{\"image\":\"evil\"},`)
		return decoded(t, []byte(text))
	}
	const left = "left out what was injected into spec.headGroupSpec.template, spec.workerGroupSpecs[0].template"
	for name, c := range map[string]struct {
		reason             string
		cached, live       []client.Object
		old, updated, want object
		warning            string
	}{
		"the autoscaler scales": {
			reason: "only replicas change", cached: []client.Object{covering(), record()},
			old: encrypted, updated: change(encrypted, scaled), want: change(encrypted, scaled),
		},
		"RayService replaces its child": {
			reason: "the injection comes back", cached: []client.Object{covering(), record()},
			old: encrypted, updated: plain, want: encrypted,
		},
		"before there is a record": {
			reason: "a policy covers it", cached: []client.Object{covering()},
			old: encrypted, updated: plain, want: encrypted,
		},
		"the record is empty so far": {
			reason: "a policy covers it", cached: []client.Object{covering(), record(notInjected)},
			old: encrypted, updated: plain, want: encrypted,
		},
		"the policy is new, too": {
			reason: "the cache does not have it yet, the API server does", live: []client.Object{covering()},
			old: encrypted, updated: plain, want: encrypted,
		},
		"the policy is gone": {
			reason: "Retain leaves the cluster as it is", cached: []client.Object{record()},
			old: encrypted, updated: plain, want: encrypted,
		},
		"a restart that has begun": {
			reason: "half of the pods could not talk to the rest", cached: []client.Object{record(notInjected, underWay)},
			old: encrypted, updated: plain, want: encrypted,
		},
		"a policy that returns it to plaintext": {
			reason: "the record counts while there is one", cached: []client.Object{record(), covering(func(p *v1alpha1.RayTLSPolicy) {
				p.DeletionTimestamp, p.Finalizers, p.Spec.DeletionPolicy = &metav1.Time{Time: time.Unix(2, 0)}, []string{v1alpha1.Finalizer}, v1alpha1.DeletionDisable
			})},
			old: encrypted, updated: plain, want: encrypted,
		},
		"neither record nor policy": {
			reason: "whoever planted it was not the operator, so anybody may take it out",
			old:    evil(encrypted), updated: plain, want: plain,
		},
		"the record of an earlier cluster of the name": {
			reason: "it says nothing of this one", cached: []client.Object{record(ofAnother)},
			old: evil(encrypted), updated: plain, want: plain,
		},
		"a policy for others": {
			reason: "it does not cover this one", cached: []client.Object{covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.Selector.MatchLabels = map[string]string{"a": "b"} })},
			old: evil(encrypted), updated: plain, want: plain,
		},
		"a label": {
			reason: "it arrives", cached: []client.Object{covering(), record()},
			old: encrypted, updated: change(encrypted, meta("labels", object{"a": "b"})), want: change(encrypted, meta("labels", object{"a": "b"})),
		},
		"the exclusion": {
			reason: "the operator sees to it", cached: []client.Object{covering(), record()},
			old: encrypted, updated: change(encrypted, meta("labels", object{v1alpha1.LabelExclude: "true"})), want: change(encrypted, meta("labels", object{v1alpha1.LabelExclude: "true"})),
		},
		"the exclusion, misspelt": {
			reason: "the user is told", cached: []client.Object{covering(), record()},
			old: encrypted, updated: change(plain, meta("labels", object{v1alpha1.LabelExclude: "True"})), want: change(encrypted, meta("labels", object{v1alpha1.LabelExclude: "True"})),
			warning: "is \"True\", which excludes nothing",
		},
		"a finalizer": {
			reason: "nothing else changes", cached: []client.Object{covering(), record()},
			old: encrypted, updated: change(encrypted, meta("finalizers", []any{"ray.io/x"})), want: change(encrypted, meta("finalizers", []any{"ray.io/x"})),
		},
		"somebody orders to remove it": {
			reason: "only the operator gives orders", cached: []client.Object{covering(), record()},
			old: encrypted, updated: change(encrypted, annotated(object{v1alpha1.AnnotationEdit: `{"remove":true,"all":true}`})), want: change(encrypted, annotated(object{})),
		},
		"an injected manifest on a plain one": {
			reason: "it is not half-converted, and the user is told", cached: []client.Object{covering(), record(notInjected)},
			old: plain, updated: encrypted, want: plain, warning: left,
		},
		"an injected manifest on a suspended one": {
			reason: "it has no pods that could break", cached: []client.Object{covering(), record(notInjected)},
			old: change(plain, suspended), updated: change(encrypted, suspended), want: change(encrypted, suspended),
		},
		"stripped while admission was away": {
			reason: "the operator decides", cached: []client.Object{covering(), record()},
			old: plain, updated: change(plain, scaled), want: change(plain, scaled),
		},
		"put back after it was stripped": {
			reason: "it is what the record asks for", cached: []client.Object{covering(), record()},
			old: plain, updated: encrypted, want: encrypted,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, response := admitted(t, injector(t, c.cached, c.live...), someone, c.old, c.updated)
			if !response.Allowed {
				t.Fatalf("refused: %v", response.Result)
			}
			if said := strings.Join(response.Warnings, "\n"); !strings.Contains(said, c.warning) || (c.warning == "") != (said == "") {
				t.Errorf("warnings %q, want %q", said, c.warning)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestUpdateThatCannotCarryIsRefused(t *testing.T) {
	updated := normal(t, rayCluster())
	template := updated["spec"].(object)["headGroupSpec"].(object)["template"].(object)
	template["spec"].(object)["containers"].([]any)[0].(object)["env"] = []any{object{"name": "RAY_USE_TLS", "value": "0"}}
	_, response := admitted(t, injector(t, []client.Object{covering()}), someone, born(t), updated)
	if response.Allowed || !strings.Contains(response.Result.Message, "RayCluster train is encrypted by a RayTLSPolicy, and cannot stay so with this change: spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS]") {
		t.Errorf("%+v", response.Result)
	}
}

func TestARevisionThatNeverWasIsNotDefended(t *testing.T) {
	plain := normal(t, rayCluster())
	forged := decoded(t, []byte(strings.ReplaceAll(string(raw(t, born(t))), `\"revision\":1}`, `\"revision\":999}`)))
	got, response := admitted(t, injector(t, nil), someone, forged, plain)
	if !response.Allowed {
		t.Fatalf("its removal is refused: %v", response.Result)
	}
	if diff := cmp.Diff(plain, got); diff != "" {
		t.Errorf("it cannot be taken out (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeStoredIsNotLookedAt(t *testing.T) {
	r := request(t, someone, nil, rayCluster())
	r.Object.Raw = append([]byte(strings.Repeat(" ", maxBytes)), r.Object.Raw...)
	if response := injector(t, []client.Object{covering()}).Handle(t.Context(), r); !response.Allowed || response.Patch != nil {
		t.Errorf("%+v", response)
	}
}

func TestLargeObjects(t *testing.T) {
	large := rayCluster(func(c object) {
		groups := []any{}
		for n := range injection.MaxWorkerGroups + 1 {
			groups = append(groups, object{"groupName": fmt.Sprint(n), "template": pod("a")})
		}
		c["spec"].(object)["workerGroupSpecs"] = groups
	})
	i := injector(t, []client.Object{covering()})
	if _, response := admitted(t, i, someone, nil, large); !response.Allowed || response.Patch != nil || !strings.Contains(strings.Join(response.Warnings, ""), "has 257 worker groups") {
		t.Errorf("%+v", response)
	}
	if _, response := admitted(t, i, someone, normal(t, rayCluster()), large); !response.Allowed || response.Patch != nil {
		t.Errorf("a plain cluster may grow: %+v", response.Result)
	}
	if _, response := admitted(t, i, someone, born(t), large); response.Allowed {
		t.Error("an encrypted cluster grows beyond what can be injected")
	}
	different := born(t)
	changed := born(t)
	for _, o := range []object{different, changed} {
		groups := []any{}
		for n := range 20 {
			template := normal(t, object{"t": o["spec"].(object)["workerGroupSpecs"].([]any)[0].(object)["template"]})["t"]
			text := strings.ReplaceAll(string(raw(t, object{"t": template})), `{\"parameters\":{},`, fmt.Sprintf(`{\"parameters\":{\"scriptsPath\":\"/%d\"},`, n))
			parsed := decoded(t, []byte(text))
			groups = append(groups, object{"groupName": fmt.Sprint(n), "template": parsed["t"]})
		}
		o["spec"].(object)["workerGroupSpecs"] = groups
	}
	for _, g := range changed["spec"].(object)["workerGroupSpecs"].([]any) {
		g.(object)["template"].(object)["spec"].(object)["containers"].([]any)[0].(object)["image"] = "other"
	}
	if _, response := admitted(t, i, someone, different, changed); response.Allowed || !strings.Contains(response.Result.Message, "more than 8 different injections") {
		t.Errorf("each template with a record of its own: %+v", response.Result)
	}
}

func TestTheOperatorsOrders(t *testing.T) {
	encrypted, plain := born(t), normal(t, rayCluster())
	order := func(o object, e string) object {
		out := normal(t, o)
		annotations, _ := out["metadata"].(object)["annotations"].(object)
		if annotations == nil {
			annotations = object{}
			out["metadata"].(object)["annotations"] = annotations
		}
		annotations[v1alpha1.AnnotationEdit] = e
		return out
	}
	i := injector(t, nil)
	remove, inject := injection.Edit{Remove: true, Scope: injection.All()}.String(), injection.Edit{Scope: injection.All()}.String()

	got, _ := admitted(t, i, operator, plain, order(plain, inject))
	if diff := cmp.Diff(encrypted["spec"], got["spec"]); diff != "" {
		t.Errorf("injected by order (-want +got):\n%s", diff)
	}
	if got["metadata"].(object)["annotations"].(object)[v1alpha1.AnnotationEdit] != nil {
		t.Error("the order is stored")
	}
	got, _ = admitted(t, i, operator, encrypted, order(encrypted, remove))
	if diff := cmp.Diff(plain["spec"], got["spec"]); diff != "" {
		t.Errorf("removed by order (-want +got):\n%s", diff)
	}
	planted := order(encrypted, remove)
	if got, _ = admitted(t, i, operator, planted, planted); !cmp.Equal(got["spec"], encrypted["spec"]) {
		t.Error("an order that somebody stored earlier is obeyed")
	}
	if got, _ = admitted(t, i, operator, encrypted, plain); !cmp.Equal(got, plain) {
		t.Error("the operator's own writes are changed")
	}
	if _, response := admitted(t, i, operator, encrypted, order(encrypted, "{")); response.Allowed {
		t.Error("an order that cannot be read is let through")
	}
}

func TestAnEndingClusterIsLeftAlone(t *testing.T) {
	ending := normal(t, rayCluster(meta("deletionTimestamp", "2026-01-01T00:00:00Z")))
	if got, _ := admitted(t, injector(t, nil), someone, born(t), ending); !cmp.Equal(got, ending) {
		t.Error("it is changed")
	}
}

func TestWhatIsNoObjectIsRefused(t *testing.T) {
	r := request(t, someone, nil, rayCluster())
	r.Object.Raw = []byte("[")
	if response := injector(t, nil).Handle(t.Context(), r); response.Allowed {
		t.Error("it is let through")
	}
}
