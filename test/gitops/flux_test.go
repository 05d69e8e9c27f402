package gitops_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/ssa"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Flux applies kinds in the order of their names, so in one go the RayCluster is there before its policy is.
func TestFluxAppliesPolicyAndCluster(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason, file string
		goes         func(w *world, policy, cluster *unstructured.Unstructured)
	}{
		"in one go": {"a folder holds both", "config/samples/raycluster.yaml", func(w *world, policy, cluster *unstructured.Unstructured) {
			w.does(ssa.CreatedAction, policy, cluster)
		}},
		"in one go, an awkward cluster": {"not every manifest is tidy", "awkward.yaml", func(w *world, policy, cluster *unstructured.Unstructured) {
			w.does(ssa.CreatedAction, policy, cluster)
		}},
		"the policy first": {"a platform engineer has set the namespace up", "config/samples/raycluster.yaml", func(w *world, policy, cluster *unstructured.Unstructured) {
			w.does(ssa.CreatedAction, policy)
			w.admitted()
			w.does(ssa.CreatedAction, cluster)
			w.complete("sample") // from its very creation
		}},
		"the policy first, an awkward cluster": {"as above", "awkward.yaml", func(w *world, policy, cluster *unstructured.Unstructured) {
			w.does(ssa.CreatedAction, policy)
			w.admitted()
			w.does(ssa.CreatedAction, cluster)
			w.complete("sample")
		}},
		"the cluster first": {"the policy comes before the cluster's pods do", "config/samples/raycluster.yaml", func(w *world, policy, cluster *unstructured.Unstructured) {
			w.ray.away = true
			w.does(ssa.CreatedAction, cluster)
			w.does(ssa.CreatedAction, policy)
			w.says("sample", "Ready", "False/NoPods")
			w.complete("sample")
			w.ray.away = false
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			policy, cluster := w.policy(), w.manifest(c.file)
			seen := w.watchStatus()
			c.goes(w, policy, cluster)
			configured := 0
			w.eventually(c.reason, func() error {
				got := w.applies(policy, cluster)
				if got["RayTLSPolicy"] != ssa.UnchangedAction {
					t.Errorf("%s: the policy is %s", c.reason, got["RayTLSPolicy"])
				}
				if got["RayCluster"] == ssa.ConfiguredAction {
					configured++
				}
				if got := condition(w.get(policyKind, "sample"), "Ready"); got != "True/Encrypted" {
					return errors.New(got)
				}
				return w.ray.up(w.ctx, "sample")
			})
			w.racedAtMost(configured)
			w.encrypted("sample", "sample")
			w.unchanged(policy, cluster)
			w.ownedByFlux("sample")
			w.complete("sample")
			seen()
		})
	}
}

func TestFluxAppliesAChange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason string
		change edit
		check  func(*world, *unstructured.Unstructured) error
	}{
		"image": {
			"a new image of every container", func(o *unstructured.Unstructured) {
				set("rayproject/ray:2.53.0", below(headContainer, "image")...)(o)
				set("rayproject/ray:2.53.0", below(workerContainer, "image")...)(o)
			},
			func(_ *world, c *unstructured.Unstructured) error {
				for _, path := range [][]any{below(headContainer, "image"), below(workerContainer, "image"), {"spec", "headGroupSpec", "template", "spec", "initContainers", 0, "image"}} {
					if got := at(c, path...); got != "rayproject/ray:2.53.0" {
						return fmt.Errorf("%v is %v", path, got)
					}
				}
				return nil
			},
		},
		"replicas": {
			"more workers", set(int64(3), "spec", "workerGroupSpecs", 0, "replicas"),
			func(w *world, _ *unstructured.Unstructured) error { return w.ray.up(w.ctx, "sample") },
		},
		"worker group": {
			"a further group", func(o *unstructured.Unstructured) {
				groups := at(o, "spec", "workerGroupSpecs").([]any)
				more := (&unstructured.Unstructured{Object: groups[0].(map[string]any)}).DeepCopy().Object
				more["groupName"] = "more"
				set(slices.Insert(slices.Clone(groups), 0, any(more)), "spec", "workerGroupSpecs")(o)
			},
			func(_ *world, c *unstructured.Unstructured) error {
				if got := at(c, "spec", "workerGroupSpecs", 0, "groupName"); got != "more" {
					return fmt.Errorf("the first group is %v", got)
				}
				return nil
			},
		},
		"environment": {
			"a variable of the user's", func(o *unstructured.Unstructured) {
				add(map[string]any{"name": "MINE", "value": "1"}, below(headContainer, "env")...)(o)
				add(map[string]any{"name": "MINE", "value": "1"}, below(workerContainer, "env")...)(o)
			},
			func(_ *world, c *unstructured.Unstructured) error {
				if !named(at(c, below(headContainer, "env")...), "MINE") || !named(at(c, below(workerContainer, "env")...), "MINE") {
					return errors.New("the variable is not there")
				}
				return nil
			},
		},
		"volume": {
			"a volume of the user's in front", func(o *unstructured.Unstructured) {
				set([]any{map[string]any{"name": "logs", "emptyDir": map[string]any{}}}, "spec", "headGroupSpec", "template", "spec", "volumes")(o)
				set([]any{map[string]any{"name": "logs", "mountPath": "/tmp/ray"}}, below(headContainer, "volumeMounts")...)(o)
			},
			func(_ *world, c *unstructured.Unstructured) error {
				if !named(at(c, below(headContainer, "volumeMounts")...), "logs") {
					return errors.New("the volume is not mounted")
				}
				return nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			policy, cluster := w.policy(), w.cluster()
			w.start(policy, cluster)
			w.mark()
			changed := cluster.DeepCopy()
			c.change(changed)
			if got := w.applies(policy, changed); got["RayCluster"] != ssa.ConfiguredAction || got["RayTLSPolicy"] != ssa.UnchangedAction {
				t.Errorf("%s: got %v", c.reason, got)
			}
			w.complete("sample") // in the very request
			w.eventually(c.reason, func() error { return c.check(w, w.get(clusterKind, "sample")) })
			w.deletesNoPod()
			w.unchanged(policy, changed)
			w.ownedByFlux("sample")
			w.encrypted("sample", "sample")
			// And back again, as a revert in Git does.
			if got := w.applies(policy, cluster); got["RayCluster"] != ssa.ConfiguredAction {
				t.Errorf("the revert: got %v", got)
			}
			w.unchanged(policy, cluster)
			w.complete("sample")
		})
	}
}

func TestFluxAppliesAFieldThatIsLeftOut(t *testing.T) {
	w := newWorld(t)
	policy := w.policy()
	with := w.cluster(add(map[string]any{"name": "MINE", "value": "1"}, below(headContainer, "env")...))
	w.start(policy, with)
	without := w.cluster()
	w.applies(policy, without)
	c := w.get(clusterKind, "sample")
	if named(at(c, below(headContainer, "env")...), "MINE") {
		t.Error("what Git no longer has stays, so Flux has lost its ownership")
	}
	w.unchanged(policy, without)
	w.complete("sample")
}

// A cluster that was in plaintext, and in use, before there was a policy. Its approval is committed like everything else.
func TestFluxKeepsWhatIsEncryptedLater(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"tidy": "config/samples/raycluster.yaml", "awkward": "awkward.yaml"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			policy, cluster := w.manifest("selector.yaml"), w.manifest(file)
			w.does(ssa.CreatedAction, cluster)
			w.eventually("the cluster runs in plaintext", func() error { return w.ray.up(w.ctx, "sample") })
			time.Sleep(1100 * time.Millisecond) // a pod of this very second could be taken for one that is made from now on
			plain := w.get(clusterKind, "sample").Object["spec"]
			seen := w.watchStatus()
			w.applies(policy, cluster)
			w.says("sample", "Ready", "False/AwaitingApproval")
			w.unchanged(policy, cluster)

			// Nobody but the operator may have the templates changed by the annotation that it uses for that.
			w.forge("sample")
			if got := w.get(clusterKind, "sample").Object["spec"]; !cmp.Equal(plain, got) {
				t.Errorf("an order of somebody else was heeded (-before +after):\n%s", cmp.Diff(plain, got))
			}

			approved := policy.DeepCopy()
			w.approve(approved, "sample")
			if got := w.applies(approved, cluster); got["RayTLSPolicy"] != ssa.ConfiguredAction || got["RayCluster"] != ssa.UnchangedAction {
				t.Errorf("the approval: got %v", got)
			}
			// Flux goes on meanwhile, as it does in a rollout that takes long.
			configured := 0
			w.eventually("the cluster is encrypted, canary by canary", func() error {
				if w.applies(approved, cluster)["RayCluster"] == ssa.ConfiguredAction {
					configured++
				}
				if got := condition(w.get(policyKind, "sample"), "Ready"); got != "True/Encrypted" {
					return errors.New(got)
				}
				return w.ray.up(w.ctx, "sample")
			})
			w.racedAtMost(configured)
			w.encrypted("sample", "sample")
			w.unchanged(approved, cluster)
			w.ownedByFlux("sample")
			seen()

			// An apply of Flux's without force would not be refused either.
			for _, o := range w.commit(cluster) {
				w.must(w.c.Patch(w.ctx, o, client.Apply, client.FieldOwner(fluxManager))) //nolint:staticcheck // as Flux does it
			}
			w.complete("sample")
		})
	}
}

func TestDisabledTheClusterIsAsCommitted(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"tidy": "config/samples/raycluster.yaml", "awkward": "awkward.yaml"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cluster := w.manifest(file)
			w.ray.away = true
			w.does(ssa.CreatedAction, cluster)
			plain := w.get(clusterKind, "sample").Object["spec"]
			w.delete(clusterKind, "sample")
			w.ray.away = false

			policy := w.policy() // its deletionPolicy is Disable
			w.start(policy, cluster)
			w.delete(policyKind, "sample")
			if got := w.get(clusterKind, "sample").Object["spec"]; !cmp.Equal(plain, got) {
				t.Errorf("the spec is not the manifest's own (-manifest +got):\n%s", cmp.Diff(plain, got))
			}
			for key := range w.get(clusterKind, "sample").GetAnnotations() {
				if strings.HasPrefix(key, "raytls.io/") {
					t.Errorf("the annotation %s stays", key)
				}
			}
			w.unchanged(cluster)
			w.ownedByFlux("sample")
		})
	}
}

func TestPruningAPolicyThatRetainsIsNoOutage(t *testing.T) {
	w := newWorld(t)
	policy := w.policy(set("Retain", "spec", "deletionPolicy"))
	cluster := w.cluster()
	w.start(policy, cluster)
	w.mark()
	before := w.get(clusterKind, "sample")
	w.delete(policyKind, "sample")
	w.deletesNoPod()
	w.unchanged(cluster)
	w.complete("sample")
	after := w.get(clusterKind, "sample")
	if after.GetGeneration() != before.GetGeneration() {
		t.Error("the RayCluster was changed")
	}
	w.does(ssa.CreatedAction, policy)
	w.encrypted("sample", "sample")
	w.deletesNoPod()
	w.unchanged(policy, cluster)
}

// What the operator asks of a RayService is one annotation in the template of its head, by its own field manager.
func TestFluxLeavesARayServicesRestartAlone(t *testing.T) {
	w := newWorld(t)
	policy, service := w.manifest("selector.yaml"), w.manifest("rayservice.yaml")
	w.applies(policy, service)
	w.unchanged(policy, service)
	patch := `[{"op":"add","path":"/spec/rayClusterConfig/headGroupSpec/template/metadata","value":{"annotations":{"raytls.io/restarted-for":"1"}}}]`
	w.must(w.c.Patch(w.ctx, w.get(serviceKind, "sample"), client.RawPatch(types.JSONPatchType, []byte(patch)), client.FieldOwner("raytls")))
	w.unchanged(policy, service)

	w.applies(policy, w.manifest("rayservice.yaml", set("2.53.0", "spec", "rayClusterConfig", "rayVersion")))
	path := []any{"spec", "rayClusterConfig", "headGroupSpec", "template", "metadata", "annotations", "raytls.io/restarted-for"}
	if got := at(w.get(serviceKind, "sample"), path...); got != "1" {
		t.Errorf("a change in Git has taken the annotation away: %v", got)
	}
}

// racedAtMost sees that no more applies of the same manifest than that found the RayCluster changed: each edit of the operator's
// may fall once between Flux's look at the cluster and its dry run.
func (w *world) racedAtMost(configured int) {
	w.t.Helper()
	edits := 0
	for _, write := range w.writes() {
		if strings.HasPrefix(write, "patch rayclusters/ ") && strings.HasSuffix(write, ": 200") {
			edits++
		}
	}
	if configured > edits {
		w.t.Errorf("%d applies of the same manifest found the RayCluster changed, which the operator edited %d times", configured, edits)
	}
}

// start has Flux apply both, and waits until the cluster is up and encrypted.
func (w *world) start(policy, cluster *unstructured.Unstructured) {
	w.t.Helper()
	w.does(ssa.CreatedAction, policy)
	w.admitted()
	w.does(ssa.CreatedAction, cluster)
	w.encrypted(policy.GetName(), cluster.GetName())
}

// admitted waits until RayClusters of the namespace are admitted.
func (w *world) admitted() {
	w.t.Helper()
	probe := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "sample", "namespace": w.ns}, "spec": w.cluster().Object["spec"],
	}}
	probe.SetGroupVersionKind(clusterKind)
	w.eventually("RayClusters of the namespace are admitted", func() error {
		tried := probe.DeepCopy()
		if err := w.c.Create(w.ctx, tried, client.DryRunAll); err != nil {
			return err
		}
		if missing := missingPieces(at(tried, "spec", "headGroupSpec", "template", "spec")); len(missing) > 0 {
			return fmt.Errorf("a new one would lack %v", missing)
		}
		return nil
	})
}

// forge asks for an injection as the operator does, as somebody else.
func (w *world) forge(cluster string) {
	w.t.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"raytls.io/edit":"{\"head\":true,\"groups\":[\"small\"],\"revision\":1}"}}}`))
	w.must(w.c.Patch(w.ctx, w.get(clusterKind, cluster), patch, client.FieldOwner("raytls")))
	if got, stored := w.get(clusterKind, cluster).GetAnnotations()["raytls.io/edit"]; stored {
		w.t.Errorf("the order of somebody else was stored: %s", got)
	}
}

// ownedByFlux sees that the templates belong to Flux alone, which applied them.
func (w *world) ownedByFlux(cluster string) {
	w.t.Helper()
	var owners []string
	for _, entry := range w.get(clusterKind, cluster).GetManagedFields() {
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		w.must(json.Unmarshal(entry.FieldsV1.Raw, &fields))
		if entry.Manager == "raytls" && len(fields.Spec) > 0 {
			w.t.Errorf("the operator owns of the spec: %s", entry.FieldsV1.Raw)
		}
		if _, owns := fields.Spec["f:workerGroupSpecs"]; owns {
			owners = append(owners, entry.Manager+" by "+string(entry.Operation))
		}
	}
	if want := []string{fluxManager + " by " + string(metav1.ManagedFieldsOperationApply)}; !slices.Equal(want, owners) {
		w.t.Errorf("spec.workerGroupSpecs belongs to %v, and should to %v", owners, want)
	}
}
