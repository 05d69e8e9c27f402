package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
)

type object = map[string]any

// ray is a container that speaks Ray, with these fields besides.
func ray(name string, fields object) object {
	container := object{"name": name, "image": "ray:1"}
	for key, value := range fields {
		container[key] = value
	}
	return object{"spec": object{"containers": []any{container}}}
}

func cr(head object) object {
	return object{
		"headGroupSpec":    object{"rayStartParams": object{}, "template": ray("ray-head", head)},
		"workerGroupSpecs": []any{object{"groupName": "small", "rayStartParams": object{}, "template": ray("ray-worker", nil)}},
	}
}

func env(name string) object { return object{"env": []any{object{"name": name, "value": "1"}}} }

func fromConfigMap(names ...string) object {
	list := []any{}
	for _, name := range names {
		list = append(list, object{"configMapRef": object{"name": name}})
	}
	return object{"envFrom": list}
}

// question is what Inject is asked. Its zero value but for the spec is answered with yes.
type question struct {
	candidate  Candidate
	spec       v1alpha1.RayTLSPolicySpec
	verdict    Verdict
	parameters injection.Parameters
	envFrom    EnvFrom
}

func asked(change ...func(*question)) *question {
	q := &question{
		candidate: Candidate{Key: types.NamespacedName{Namespace: "ml", Name: "train"}, Spec: cr(nil), OperatorNamespace: "raytls-system"},
		verdict:   accepted(),
	}
	for _, c := range change {
		c(q)
	}
	return q
}

func (q *question) inject() (map[string]any, error) {
	return Inject(q.candidate, &q.spec, q.verdict, q.parameters, q.envFrom)
}

// TestInjectInOrder has everything in the way at once, and takes one after the other out: each is the first that is told.
func TestInjectInOrder(t *testing.T) {
	groups := []any{}
	for n := range injection.MaxWorkerGroups + 1 {
		groups = append(groups, object{"groupName": fmt.Sprint(n), "template": ray("a", nil)})
	}
	q := asked(func(q *question) {
		q.candidate.Key = types.NamespacedName{Namespace: "raytls-system", Name: strings.Repeat("x", 250)}
		q.candidate.ManagedBy = "kueue.x-k8s.io/multikueue"
		q.candidate.Spec = cr(object{
			"env": env("RAY_USE_TLS")["env"], "envFrom": fromConfigMap("tls")["envFrom"],
			"volumeMounts": []any{object{"name": "mine", "mountPath": "/mine"}},
		})
		q.candidate.Spec["workerGroupSpecs"] = groups
		q.verdict = Verdict{Reason: v1alpha1.ReasonImageNotAllowed, Message: "spec.issuance.initContainer.image: x"}
		q.spec.Paused = true
		q.parameters.AdditionalContainers = []string{"nobody"}
		q.envFrom = EnvFrom{keys: map[string][]string{"tls": {"RAY_USE_TLS"}}}
	})
	head := func() object {
		template := q.candidate.Spec["headGroupSpec"].(object)["template"].(object)
		return template["spec"].(object)["containers"].([]any)[0].(object)
	}
	for _, step := range []struct {
		what, reason, message string
		mend                  func()
	}{
		{"the operator's namespace", v1alpha1.ReasonInjectionConflict, "operator's own namespace raytls-system", func() { q.candidate.Key.Namespace = "ml" }},
		{"another controller", v1alpha1.ReasonBlocked, "spec.managedBy hands the RayCluster to kueue.x-k8s.io/multikueue", func() { q.candidate.ManagedBy = "" }},
		{"a policy that is not accepted", v1alpha1.ReasonNotAccepted, "spec.issuance.initContainer.image: x", func() { q.verdict = accepted() }},
		{"a paused policy", v1alpha1.ReasonPaused, "set it to false", func() { q.spec.Paused = false }},
		{"a long name", v1alpha1.ReasonInjectionConflict, "metadata.name: longer than 225 characters", func() { q.candidate.Key.Name = "train" }},
		{"many groups", v1alpha1.ReasonInjectionConflict, "has 257 worker groups", func() { q.candidate.Spec["workerGroupSpecs"] = nil }},
		{"its own TLS", v1alpha1.ReasonForeignTLS, "spec.headGroupSpec.template.spec.containers[0].env[RAY_USE_TLS] is set by somebody else", func() { delete(head(), "env") }},
		{"what cannot be rendered", v1alpha1.ReasonInjectionConflict, `no template has a container named "nobody"`, func() { q.parameters.AdditionalContainers = nil }},
		{"TLS from a ConfigMap", v1alpha1.ReasonForeignTLS, "the ConfigMap tls sets RAY_USE_TLS", func() { q.envFrom = EnvFrom{} }},
	} {
		spec, err := q.inject()
		outcome := kube.AsOutcome(err)
		if outcome == nil || spec != nil {
			t.Fatalf("%s: got %v, want an outcome", step.what, err)
		}
		if !outcome.UserMustAct || outcome.Reason != step.reason || !strings.Contains(outcome.Message, step.message) {
			t.Errorf("%s: got %+v", step.what, outcome)
		}
		if retried := outcome.After == kube.UnwatchedRetry; retried != (step.what == "TLS from a ConfigMap") {
			t.Errorf("%s: it is tried again after %s", step.what, outcome.After)
		}
		step.mend()
	}
	if _, err := q.inject(); err != nil {
		t.Errorf("nothing is in the way any more: %v", err)
	}
}

func TestInject(t *testing.T) {
	for name, c := range map[string]struct {
		reason  string
		change  func(*question)
		refusal string
		by      string
	}{
		"plain":               {reason: "nothing is in the way", change: func(*question) {}},
		"no operator's":       {reason: "the command line tool does not know the operator's namespace", change: func(q *question) { q.candidate.OperatorNamespace, q.candidate.Key.Namespace = "", "" }},
		"managed elsewhere":   {reason: "what is in the way is named", change: func(q *question) { q.candidate.ManagedBy = "x.io/y" }, refusal: v1alpha1.ReasonBlocked, by: "x.io/y"},
		"longest name":        {reason: "after revocations, its Secret's name has 253 characters at most", change: func(q *question) { q.candidate.Key.Name = strings.Repeat("x", 225) }},
		"no head":             {reason: "KubeRay says so too", change: func(q *question) { delete(q.candidate.Spec, "headGroupSpec") }, refusal: v1alpha1.ReasonInjectionConflict},
		"KubeRay's own TLS":   {reason: "it has TLS", change: func(q *question) { q.candidate.Spec["tlsOptions"] = object{"enabled": true} }, refusal: v1alpha1.ReasonForeignTLS},
		"too many ConfigMaps": {reason: "what is not read could hold anything", change: func(q *question) { q.envFrom.tooMany = 17 }, refusal: v1alpha1.ReasonInjectionConflict},
		"other ConfigMaps": {reason: "their keys are not Ray's", change: func(q *question) {
			q.candidate.Spec, q.envFrom = cr(fromConfigMap("a")), EnvFrom{keys: map[string][]string{"a": {"HOME"}}}
		}},
		"a ConfigMap that does not exist": {reason: "it holds nothing", change: func(q *question) {
			q.candidate.Spec, q.envFrom = cr(fromConfigMap("a")), EnvFrom{keys: map[string][]string{"a": nil}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := asked(c.change)
			before := fmt.Sprint(q.candidate.Spec)
			spec, err := q.inject()
			if fmt.Sprint(q.candidate.Spec) != before {
				t.Error("the spec that was passed in is changed")
			}
			if c.refusal != "" {
				if outcome := kube.AsOutcome(err); outcome == nil || outcome.Reason != c.refusal || outcome.BlockedBy != c.by {
					t.Errorf("%s: got %v", c.reason, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			for _, found := range injection.Inspect(spec, q.candidate.Key.Name) {
				if found.State != injection.Injected {
					t.Errorf("%s: %s is %s", c.reason, found.Path, found.State)
				}
			}
			q.candidate.Spec = spec
			if second, err := q.inject(); err != nil || !cmp.Equal(second, spec) {
				t.Errorf("a manifest that is injected already becomes another: %v", err)
			}
		})
	}
}

// configMaps are what an API server has, by name. A nil one is forbidden to read.
type configMaps struct {
	client.Reader
	found map[string]map[string]string
	err   error
	reads *int
}

func (c configMaps) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	*c.reads++
	configMap, only := into.(*corev1.ConfigMap)
	if !only || key.Namespace != "ml" {
		return fmt.Errorf("read of %T %s", into, key)
	}
	data, found := c.found[key.Name]
	switch {
	case c.err != nil:
		return c.err
	case !found:
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	case data == nil:
		return apierrors.NewForbidden(schema.GroupResource{}, key.Name, nil)
	}
	configMap.Data = data
	return nil
}

func TestReadEnvFrom(t *testing.T) {
	many := []string{}
	for n := range maxEnvFrom + 1 {
		many = append(many, fmt.Sprint("c", n))
	}
	secret := object{"envFrom": []any{object{"secretRef": object{"name": "tls"}}}}
	for name, c := range map[string]struct {
		reason string
		head   object
		reads  int
		want   EnvFrom
	}{
		"none":      {reason: "most name none", want: EnvFrom{}},
		"Secrets":   {reason: "they have no effect, so nobody needs to be allowed to read them", head: secret},
		"there":     {reason: "its keys are what matters", head: fromConfigMap("tls"), reads: 1, want: EnvFrom{keys: map[string][]string{"tls": {"RAY_USE_TLS"}}}},
		"missing":   {reason: "it sets nothing", head: fromConfigMap("no"), reads: 1, want: EnvFrom{keys: map[string][]string{"no": nil}}},
		"forbidden": {reason: "nor does one that may not be read", head: fromConfigMap("secret"), reads: 1, want: EnvFrom{keys: map[string][]string{"secret": nil}}},
		"too many":  {reason: "each takes a request, and users decide how many there are", head: fromConfigMap(many...), want: EnvFrom{tooMany: maxEnvFrom + 1}},
		"twice":     {reason: "one read is enough", head: fromConfigMap("tls", "tls"), reads: 1, want: EnvFrom{keys: map[string][]string{"tls": {"RAY_USE_TLS"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			live := configMaps{found: map[string]map[string]string{"tls": {"RAY_USE_TLS": "1"}, "secret": nil}, reads: &reads}
			got, err := ReadEnvFrom(t.Context(), live, "ml", cr(c.head), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(EnvFrom{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if reads != c.reads {
				t.Errorf("%s: %d reads", c.reason, reads)
			}
		})
	}
	reads := 0
	if _, err := ReadEnvFrom(t.Context(), configMaps{err: errors.New("down"), reads: &reads}, "ml", cr(fromConfigMap("a")), nil); err == nil || kube.AsOutcome(err) != nil {
		t.Errorf("what could not be read says nothing, so the request is to be tried again: got %v", err)
	}
}
