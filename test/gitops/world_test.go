package gitops_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	patience = 60 * time.Second
	// calm is for how long the operator must write nothing to be at rest. It coalesces status writes for less.
	calm = 900 * time.Millisecond
	// fluxManager is what kustomize-controller calls itself.
	fluxManager = "kustomize-controller"
)

var (
	clusterKind = schema.GroupVersionKind{Group: "ray.io", Version: "v1", Kind: "RayCluster"}
	serviceKind = schema.GroupVersionKind{Group: "ray.io", Version: "v1", Kind: "RayService"}
	policyKind  = schema.GroupVersionKind{Group: "raytls.io", Version: "v1alpha1", Kind: "RayTLSPolicy"}
	tlsKind     = schema.GroupVersionKind{Group: "raytls.io", Version: "v1alpha1", Kind: "RayClusterTLS"}
	worlds      atomic.Int64
)

// world is a namespace with KubeRay in it, and a Flux that applies to it.
type world struct {
	t    *testing.T
	ctx  context.Context
	ns   string
	c    client.WithWatch
	flux *ssa.ResourceManager
	ray  kubeRay
	from int64
}

// newWorld runs the test beside others, with a stand-in for KubeRay that moves whenever the test waits for something.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldAlone(t)
}

// newWorldAlone is newWorld for a test beside which no other runs.
func newWorldAlone(t *testing.T) *world {
	t.Helper()
	if env == nil {
		t.Skip("KUBEBUILDER_ASSETS is not set; hack/gitops sets it")
	}
	w := &world{t: t, ctx: t.Context(), ns: fmt.Sprintf("git-%d", worlds.Add(1)), c: env.admin}
	w.ray = kubeRay{c: w.c, namespace: w.ns}
	w.must(w.c.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns}}))
	poller := polling.NewStatusPoller(w.c, w.c.RESTMapper(), polling.Options{})
	w.flux = ssa.NewResourceManager(w.c, poller, ssa.Owner{Field: fluxManager, Group: "kustomize.toolkit.fluxcd.io"})
	w.flux.SetConcurrency(4)
	w.mark()
	t.Cleanup(func() {
		if t.Failed() {
			writes, _, _ := env.writes(w.ns, 0)
			t.Log("the operator's writes: " + strings.Join(writes, ", "))
		}
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// eventually moves KubeRay step by step until the check has nothing to object to.
func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		w.must(w.ray.step(w.ctx))
		if err = check(); err == nil {
			return
		}
	}
	w.t.Fatalf("%s: %v", what, err)
}

// mark forgets what the operator wrote so far.
func (w *world) mark() {
	w.t.Helper()
	_, end, err := env.writes(w.ns, w.from)
	w.must(err)
	w.from = end
}

// writes are the operator's since mark.
func (w *world) writes() []string {
	w.t.Helper()
	out, _, err := env.writes(w.ns, w.from)
	w.must(err)
	return out
}

// settles waits until the operator has looked at every policy, and rests.
func (w *world) settles() {
	w.t.Helper()
	count, since := len(w.writes()), time.Now()
	w.eventually("the operator comes to rest", func() error {
		if now := len(w.writes()); now != count {
			count, since = now, time.Now()
		}
		if time.Since(since) < calm {
			return errors.New("it writes: " + strings.Join(w.writes(), ", "))
		}
		policies := &unstructured.UnstructuredList{}
		policies.SetGroupVersionKind(policyKind)
		if err := w.c.List(w.ctx, policies, client.InNamespace(w.ns)); err != nil {
			return err
		}
		for i := range policies.Items {
			if p := &policies.Items[i]; at(p, "status", "observedGeneration") != p.GetGeneration() || condition(p, "Ready") == "Unknown/Reconciling" {
				return fmt.Errorf("it has yet to look at policy %s", p.GetName())
			}
		}
		return nil
	})
	w.mark()
}

// rests sees that the operator has written nothing since mark, nor writes anything for a while.
func (w *world) rests() {
	w.t.Helper()
	for end := time.Now().Add(calm); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		w.must(w.ray.step(w.ctx))
		if writes := w.writes(); len(writes) > 0 {
			w.t.Fatalf("at rest the operator writes nothing: %v", writes)
		}
	}
}

// deletesNoPod sees that the operator has deleted no pod since mark.
func (w *world) deletesNoPod() {
	w.t.Helper()
	for _, write := range w.writes() {
		if strings.HasPrefix(write, "delete pods/") {
			w.t.Errorf("no pod is to be restarted: %s", write)
		}
	}
}

// manifest is what is committed: a file of config/samples or of testdata.
func (w *world) manifest(file string, edits ...edit) *unstructured.Unstructured {
	w.t.Helper()
	if filepath.Dir(file) == "." {
		file = filepath.Join("testdata", file)
	} else {
		file = filepath.Join(env.root, file)
	}
	objects, err := readObjects(file)
	w.must(err)
	if len(objects) != 1 {
		w.t.Fatalf("%s has %d objects", file, len(objects))
	}
	for _, e := range edits {
		e(objects[0])
	}
	return objects[0]
}

func (w *world) cluster(edits ...edit) *unstructured.Unstructured {
	w.t.Helper()
	return w.manifest("config/samples/raycluster.yaml", edits...)
}

// policy covers what is called sample, and is not waited for.
func (w *world) policy(edits ...edit) *unstructured.Unstructured {
	w.t.Helper()
	return w.manifest("config/samples/raytls_v1alpha1_raytlspolicy.yaml", edits...)
}

type edit func(*unstructured.Unstructured)

// set sets a field; numbers in the path are places in lists.
func set(value any, path ...any) edit {
	return func(o *unstructured.Unstructured) {
		var at any = o.Object
		for i, step := range path {
			last := i == len(path)-1
			switch step := step.(type) {
			case int:
				at = at.([]any)[step]
			case string:
				fields := at.(map[string]any)
				if last {
					fields[step] = value
					return
				}
				if fields[step] == nil {
					fields[step] = map[string]any{}
				}
				at = fields[step]
			}
		}
	}
}

// add appends to a list.
func add(value any, path ...any) edit {
	return func(o *unstructured.Unstructured) {
		have, _ := at(o, path...).([]any)
		set(append(slices.Clone(have), value), path...)(o)
	}
}

// at is a field, nil if it is not there.
func at(o *unstructured.Unstructured, path ...any) any {
	var at any = o.Object
	for _, step := range path {
		switch step := step.(type) {
		case int:
			list, _ := at.([]any)
			if step >= len(list) {
				return nil
			}
			at = list[step]
		case string:
			fields, _ := at.(map[string]any)
			at = fields[step]
		}
	}
	return at
}

var (
	headContainer   = []any{"spec", "headGroupSpec", "template", "spec", "containers", 0}
	workerContainer = []any{"spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0}
)

func below(path []any, more ...any) []any { return append(slices.Clone(path), more...) }

// commit is what Flux does with manifests before it applies them.
func (w *world) commit(manifests ...*unstructured.Unstructured) []*unstructured.Unstructured {
	w.t.Helper()
	var out []*unstructured.Unstructured
	for _, m := range manifests {
		o := m.DeepCopy()
		o.SetNamespace(w.ns)
		out = append(out, o)
	}
	w.must(normalize.UnstructuredList(out))
	w.flux.SetOwnerLabels(out, "apps", "flux-system")
	return out
}

// options are kustomize-controller's: what was applied with kubectl before becomes Flux's.
func options() ssa.ApplyOptions {
	o := ssa.DefaultApplyOptions()
	o.Cleanup.Annotations = []string{corev1.LastAppliedConfigAnnotation}
	o.Cleanup.FieldManagers = []ssa.FieldManager{
		{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationApply},
		{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationUpdate},
		{Name: "before-first-apply", OperationType: metav1.ManagedFieldsOperationUpdate},
		{Name: fluxManager, OperationType: metav1.ManagedFieldsOperationUpdate},
	}
	return o
}

// apply has Flux apply the manifests in one go.
func (w *world) apply(manifests ...*unstructured.Unstructured) []ssa.ChangeSetEntry {
	w.t.Helper()
	changes, err := w.flux.ApplyAllStaged(w.ctx, w.commit(manifests...), options())
	w.must(err)
	return changes.Entries
}

// applies is apply of one manifest of each kind. It returns what Flux did, by kind.
func (w *world) applies(manifests ...*unstructured.Unstructured) map[string]ssa.Action {
	w.t.Helper()
	out := map[string]ssa.Action{}
	for _, c := range w.apply(manifests...) {
		out[c.ObjMetadata.GroupKind.Kind] = c.Action
	}
	return out
}

// does has Flux apply the manifests, and sees that it does that to each of them.
func (w *world) does(action ssa.Action, manifests ...*unstructured.Unstructured) {
	w.t.Helper()
	for _, c := range w.apply(manifests...) {
		if c.Action != action {
			w.t.Errorf("%s is %s, not %s", c.Subject, c.Action, action)
		}
	}
}

// unchanged has Flux apply the manifests several times: it finds them unchanged, detects no drift, and the operator rests.
func (w *world) unchanged(manifests ...*unstructured.Unstructured) {
	w.t.Helper()
	w.settles()
	before := make([]int64, len(manifests))
	for i, m := range manifests {
		before[i] = w.get(m.GroupVersionKind(), m.GetName()).GetGeneration()
	}
	for range 3 {
		w.does(ssa.UnchangedAction, manifests...)
	}
	for i, o := range w.commit(manifests...) {
		change, live, merged, err := w.flux.Diff(w.ctx, o, ssa.DefaultDiffOptions())
		w.must(err)
		if change.Action != ssa.UnchangedAction {
			w.t.Errorf("drift of %s (-live +merged):\n%s", change.Subject, cmp.Diff(live.Object, merged.Object))
		}
		if now := w.get(o.GroupVersionKind(), o.GetName()).GetGeneration(); now != before[i] {
			w.t.Errorf("the generation of %s went from %d to %d", change.Subject, before[i], now)
		}
	}
	w.rests()
}

func (w *world) get(kind schema.GroupVersionKind, name string) *unstructured.Unstructured {
	w.t.Helper()
	o, err := w.find(kind, name)
	w.must(err)
	return o
}

func (w *world) find(kind schema.GroupVersionKind, name string) (*unstructured.Unstructured, error) {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	return o, w.c.Get(w.ctx, client.ObjectKey{Namespace: w.ns, Name: name}, o)
}

func (w *world) delete(kind schema.GroupVersionKind, name string) {
	w.t.Helper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	o.SetNamespace(w.ns)
	o.SetName(name)
	w.must(w.c.Delete(w.ctx, o))
	w.eventually("the "+kind.Kind+" goes", func() error {
		_, err := w.find(kind, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return cmpErr(err, "it is still there")
	})
}

func cmpErr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return errors.New(otherwise)
}

// condition is one of an object's, as status/reason; empty if it has none.
func condition(o *unstructured.Unstructured, kind string) string {
	conditions, _ := at(o, "status", "conditions").([]any)
	for _, c := range conditions {
		if fields := c.(map[string]any); fields["type"] == kind {
			return fmt.Sprintf("%v/%v", fields["status"], fields["reason"])
		}
	}
	return ""
}

// says waits until the policy has that condition.
func (w *world) says(policy, kind, want string) {
	w.t.Helper()
	w.eventually("the policy says "+kind+"="+want, func() error {
		p, err := w.find(policyKind, policy)
		if err != nil {
			return err
		}
		if got := condition(p, kind); got != want {
			return fmt.Errorf("it says %s of generation %d: %v", got, p.GetGeneration(), p.Object["status"])
		}
		return nil
	})
}

// reports waits until the RayClusterTLS of the cluster has that condition.
func (w *world) reports(cluster, kind, want string) {
	w.t.Helper()
	w.eventually("the RayClusterTLS says "+kind+"="+want, func() error {
		o, err := w.find(tlsKind, cluster)
		if err != nil {
			return err
		}
		if got := condition(o, kind); got != want {
			return fmt.Errorf("it says %s: %v", got, o.Object["status"])
		}
		return nil
	})
}

// approve adds to a policy's manifest the approval of the cluster's restart that waits.
func (w *world) approve(policy *unstructured.Unstructured, cluster string) {
	w.t.Helper()
	var id string
	w.eventually("a restart waits", func() error {
		o, err := w.find(tlsKind, cluster)
		if err != nil {
			return err
		}
		if id, _ = at(o, "status", "pendingRestart", "id").(string); id == "" {
			return fmt.Errorf("none does: %v", o.Object["status"])
		}
		return nil
	})
	add(map[string]any{"cluster": cluster, "restart": id}, "spec", "rollout", "approvals")(policy)
}

// encrypted waits until every pod of the one cluster runs, and is encrypted.
func (w *world) encrypted(policy, cluster string) {
	w.t.Helper()
	w.eventually("the cluster is encrypted", func() error {
		p, err := w.find(policyKind, policy)
		if err != nil {
			return err
		}
		one := at(p, "status", "clusters") == int64(1) && at(p, "status", "encryptedClusters") == int64(1)
		if got := condition(p, "Ready"); got != "True/Encrypted" || !one {
			return fmt.Errorf("the policy says %s: %v", got, p.Object["status"])
		}
		if err := w.ray.up(w.ctx, cluster); err != nil {
			return err
		}
		return w.ray.encrypted(w.ctx, cluster) // of a pod that KubeRay makes just then, the policy hears a moment later
	})
	w.complete(cluster)
	w.reports(cluster, "Certified", "True/Certified")
}

// complete sees that each template and each pod of the cluster carries the injection.
func (w *world) complete(cluster string) {
	w.t.Helper()
	c := w.get(clusterKind, cluster)
	templates := map[string]any{"the head": at(c, "spec", "headGroupSpec", "template", "spec")}
	groups, _ := at(c, "spec", "workerGroupSpecs").([]any)
	for i := range groups {
		templates[fmt.Sprintf("worker group %d", i)] = at(c, "spec", "workerGroupSpecs", i, "template", "spec")
	}
	for name, template := range templates {
		if missing := missingPieces(template); len(missing) > 0 {
			w.t.Errorf("%s lacks %v: %v", name, missing, template)
		}
	}
	if autoscaler, _ := at(c, "spec", "enableInTreeAutoscaling").(bool); autoscaler {
		if at(c, "spec", "autoscalerOptions", "env") == nil || at(c, "spec", "autoscalerOptions", "volumeMounts") == nil {
			w.t.Error("the autoscaler has no certificates")
		}
	}
	if err := w.ray.encrypted(w.ctx, cluster); err != nil {
		w.t.Error(err)
	}
}

// missingPieces are those of the injection that a pod's spec has not.
func missingPieces(spec any) []string {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	var missing []string
	if at(o, "spec", "initContainers", 0, "name") != "raytls-init" {
		missing = append(missing, "the init container")
	}
	for _, want := range []string{"RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"} {
		if !named(at(o, "spec", "containers", 0, "env"), want) {
			missing = append(missing, want)
		}
	}
	if !named(at(o, "spec", "volumes"), "raytls-certs") || !named(at(o, "spec", "containers", 0, "volumeMounts"), "raytls-certs") {
		missing = append(missing, "the volume")
	}
	return missing
}

func named(list any, name string) bool {
	entries, _ := list.([]any)
	return slices.ContainsFunc(entries, func(e any) bool {
		fields, _ := e.(map[string]any)
		return fields["name"] == name
	})
}
