package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestValidator(t *testing.T) {
	wrong := func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
	}
	named := func(name string) func(*v1alpha1.RayTLSPolicy) {
		return func(p *v1alpha1.RayTLSPolicy) { p.Name = name }
	}
	target := func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.Selector, p.Spec.TargetRef = nil, &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: "x"}
	}
	image := func(p *v1alpha1.RayTLSPolicy) { p.Spec.Issuance.InitContainer.Image = "elsewhere/openssl:1" }
	resources := func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.Issuance.InitContainer.Resources = &corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}, Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")},
		}
	}
	for name, c := range map[string]struct {
		reason          string
		cached          []client.Object
		old, policy     *v1alpha1.RayTLSPolicy
		refused, warned string
	}{
		"sound":                     {reason: "nothing is said", policy: covering()},
		"a selector":                {reason: "the schema cannot parse it", policy: covering(wrong), refused: `RayTLSPolicy default is not accepted: spec.selector: "Near" is not a valid label selector operator`},
		"an image":                  {reason: "the list is the administrator's", policy: covering(image), refused: "spec.issuance.initContainer.image: elsewhere/openssl:1 is not among the images"},
		"resources":                 {reason: "no pod could be created", policy: covering(resources), refused: "the request of cpu, 1, is more than its limit, 500m"},
		"resources become wrong":    {reason: "the change is refused", old: covering(), policy: covering(resources), refused: "is more than its limit"},
		"resources were wrong":      {reason: "its finalizer has to go through", old: covering(resources), policy: covering(resources, func(p *v1alpha1.RayTLSPolicy) { p.Finalizers = []string{"x"} })},
		"it becomes wrong":          {reason: "the change is refused", old: covering(), policy: covering(image), refused: "is not among the images"},
		"it was wrong before":       {reason: "its finalizer has to go through", old: covering(image), policy: covering(image, func(p *v1alpha1.RayTLSPolicy) { p.Finalizers = []string{"x"} })},
		"another covers everything": {reason: "one of them will lose", cached: []client.Object{covering(named("first"))}, policy: covering(), warned: "RayTLSPolicy first covers every RayCluster of the namespace too"},
		"another has the target":    {reason: "one of them will lose", cached: []client.Object{covering(target, named("first"))}, policy: covering(target), warned: "RayTLSPolicy first covers RayCluster x too"},
		"singling out":              {reason: "that is what targetRef is for", cached: []client.Object{covering(named("first"))}, policy: covering(target)},
		"itself":                    {reason: "an update is no overlap", cached: []client.Object{covering()}, old: covering(), policy: covering(func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = true })},
	} {
		t.Run(name, func(t *testing.T) {
			v := &Validator{Cached: reader(t, c.cached...)}
			encode := func(p *v1alpha1.RayTLSPolicy) runtime.RawExtension {
				text, err := json.Marshal(p)
				if err != nil {
					t.Fatal(err)
				}
				return runtime.RawExtension{Raw: text}
			}
			r := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Namespace: "ml", Object: encode(c.policy)}}
			if c.old != nil {
				r.Operation, r.OldObject = admissionv1.Update, encode(c.old)
			}
			response := v.Handle(t.Context(), r)
			if response.Allowed != (c.refused == "") || !response.Allowed && !strings.Contains(response.Result.Message, c.refused) {
				t.Errorf("%s: %+v", c.reason, response.Result)
			}
			if said := strings.Join(response.Warnings, "\n"); !strings.Contains(said, c.warned) || (c.warned == "") != (said == "") {
				t.Errorf("%s: warnings %q, want %q", c.reason, said, c.warned)
			}
		})
	}
}

// The API server asks the webhook before it checks the schema.
func TestOnlyWhatTheSchemaAcceptsIsParsedAsAQuantity(t *testing.T) {
	for amount, parsed := range map[string]bool{
		`"1e-9999999"`: false, `"1E9"`: false, `1e300`: false, `1000000000000000`: false, `-1`: false, `null`: false, `{}`: false, `"1\n"`: false,
		`"` + strings.Repeat("1", 1_000_000) + `"`: false,
		`1`: true, `0.5`: true, `"250m"`: true, `"0.5Gi"`: true,
	} {
		for _, list := range []string{"requests", "limits"} {
			text := fmt.Sprintf(`{"spec":{"issuance":{"initContainer":{"image":"x","resources":{%q:{"memory":"1Gi","cpu":%s}}}}}}`, list, amount)
			got, err := decodePolicy([]byte(text))
			if err != nil {
				t.Fatalf("%.80s: %v", amount, err)
			}
			if has := got.Spec.Issuance.InitContainer.Resources != nil; has != parsed || got.Spec.Issuance.InitContainer.Image != "x" {
				t.Errorf("%s of %.80s: read: %t, want %t", list, amount, has, parsed)
			}
		}
	}
}
