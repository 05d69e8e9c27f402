package raycluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/rollout"
)

// service is what is looked at of a RayService.
type service struct {
	name   string
	uid    types.UID
	object *unstructured.Unstructured
	// active and pending are the RayClusters that serve and that are to take over; shifting says that requests go to both.
	active, pending string
	shifting        bool
	asked           ask
}

// ask is what a RayService was asked for last. It is the value of an annotation on its head's pod template.
type ask struct {
	// For is what was asked for: the same thing has the same text.
	For string `json:"for"`
	// Goal is what the new cluster was to be.
	Goal rollout.Goal `json:"goal"`
	// At is when.
	At time.Time `json:"at"`
	// Approved is a hash of the approval that was used, since the new cluster does not know of it.
	Approved string `json:"approved,omitempty"`
}

func parseAsk(text string) ask {
	var q ask
	if json.Unmarshal([]byte(text), &q) != nil || q.For == "" || q.At.IsZero() {
		return ask{} // somebody else's, which asks for nothing
	}
	return q
}

// String is the ask as JSON, for parseAsk.
func (q ask) String() string {
	text, err := json.Marshal(q)
	if err != nil { // no field of it can fail to encode
		panic(err)
	}
	return string(text)
}

// earlier keeps a time that anybody can write from being one that never comes.
func earlier(at, now time.Time) time.Time {
	if at.After(now) {
		return now
	}
	return at
}

// askFor names what a RayService is asked for: that this very cluster is replaced by one of that kind.
func askFor(goal rollout.Goal, cluster types.UID) string {
	return digest(string(goal) + "/" + string(cluster))
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// pathRestartedFor is where the annotation is in a RayService. KubeRay compares pod templates with their metadata.
func pathRestartedFor() []string {
	return []string{"spec", "rayClusterConfig", "headGroupSpec", "template", "metadata", "annotations", v1alpha1.AnnotationRestartedFor}
}

func readService(object *unstructured.Unstructured) *service {
	text := func(path ...string) string {
		value, _, _ := unstructured.NestedString(object.Object, path...)
		return value
	}
	percent, _, _ := unstructured.NestedInt64(object.Object, "status", "pendingServiceStatus", "trafficRoutedPercent")
	return &service{
		name: object.GetName(), uid: object.GetUID(), object: object,
		active: text("status", "activeServiceStatus", "rayClusterName"), pending: text("status", "pendingServiceStatus", "rayClusterName"),
		shifting: percent > 0, asked: parseAsk(text(pathRestartedFor()...)),
	}
}

// gatherService reads the RayService that made the cluster, if one did.
func (r *Reconciler) gatherService(ctx context.Context, st *state) error {
	owner, found := coverage.Owner(st.object)
	if !found || owner.Kind != v1alpha1.TargetRayService || !r.Kinds.Served(owner.Kind) {
		return nil
	}
	object := ownerObject(owner.Kind)
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: st.key.Namespace, Name: owner.Name}, object)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading RayService %s: %w", owner.Name, err)
	}
	if by := metav1.GetControllerOf(st.object); by != nil && by.UID != object.GetUID() {
		st.impostor = true
		return nil
	}
	st.service = readService(object)
	return nil
}

// describeService tells the planner of the RayService; nil for a cluster that has none.
func (st *state) describeService() *rollout.Service {
	v := st.service
	if v == nil {
		return nil
	}
	out := &rollout.Service{
		Name: v.name, Ask: askFor(st.decision.Goal, st.cluster.UID), Asked: v.asked.For, AskedAt: earlier(v.asked.At, st.now), Refuses: st.refusal(),
	}
	made, _, _ := unstructured.NestedString(st.spec, pathRestartedFor()[2:]...)
	out.Missed = v.asked.For != "" && v.asked.Goal == st.decision.Goal && parseAsk(made).For == v.asked.For
	switch st.key.Name {
	case v.active:
		out.Serving, out.Next = true, v.pending
	case v.pending:
		out.Serving = v.shifting
	default:
		out.Next = v.active
	}
	return out
}

// refusal says why the RayService would not make a cluster that is as asked, and what to do.
func (st *state) refusal() string {
	v, object := st.service, st.service.object.Object
	if by, _, _ := unstructured.NestedString(object, "spec", "managedBy"); by != "" && by != managedByKubeRay {
		return fmt.Sprintf("spec.managedBy of RayService %s hands it to %s, so it is left alone", v.name, by)
	}
	if !v.object.GetDeletionTimestamp().IsZero() {
		return fmt.Sprintf("RayService %s is being deleted, and its clusters are deleted with it", v.name)
	}
	if kind, _, _ := unstructured.NestedString(object, "spec", "upgradeStrategy", "type"); kind == string(rayv1.RayServiceUpgradeNone) {
		return fmt.Sprintf("spec.upgradeStrategy.type of RayService %s is None, so KubeRay makes no new cluster for it; set it to NewCluster, or delete the RayCluster, which interrupts the service until KubeRay has made a new one", v.name)
	}
	next := coverage.Decide(st.successor(), st.policies)
	encrypted := next.Policy != nil && next.Goal == rollout.Encrypted
	switch {
	case st.decision.Goal == rollout.Encrypted && !encrypted:
		return fmt.Sprintf("RayTLSPolicy %s covers this RayCluster and would not cover the one that RayService %s replaces it by; use targetRef: {kind: RayService, name: %s}, or a selector that fits the RayService's labels", st.decision.Policy.Name, v.name, v.name)
	case st.decision.Goal == rollout.Plaintext && encrypted:
		return fmt.Sprintf("RayTLSPolicy %s would encrypt the RayCluster that RayService %s replaces this one by; label the RayService %s too, from which the new cluster has its labels", next.Policy.Name, v.name, v1alpha1.LabelExclude)
	}
	return ""
}

// successor is the next RayCluster of the RayService, as far as policies look at it: KubeRay gives it a name of its own,
// and the RayService's labels and annotations.
func (st *state) successor() coverage.Subject {
	return coverage.Subject{
		Object: &metav1.ObjectMeta{
			Namespace: st.key.Namespace, Labels: st.service.object.GetLabels(), Annotations: st.service.object.GetAnnotations(),
		},
		Owners: []v1alpha1.TargetReference{{Kind: v1alpha1.TargetRayService, Name: st.service.name}},
	}
}

// upgradeService asks the RayService for a new cluster, once: it is read past the cache, and what it was asked for already is
// not asked again.
func (r *Reconciler) upgradeService(ctx context.Context, st *state) error {
	if st.planned.Upgrade == "" || st.paused() {
		return nil
	}
	object := ownerObject(v1alpha1.TargetRayService)
	if err := r.Live.Get(ctx, types.NamespacedName{Namespace: st.key.Namespace, Name: st.service.name}, object); err != nil {
		if apierrors.IsNotFound(err) {
			return errStale
		}
		return fmt.Errorf("reading RayService %s: %w", st.service.name, err)
	}
	now := readService(object)
	if now.asked.For == st.planned.Upgrade {
		return nil
	}
	if now.uid != st.service.uid || now.active != st.service.active || now.pending != st.service.pending {
		return errStale // the cluster may not be the one that serves any more
	}
	next := ask{For: st.planned.Upgrade, Goal: st.decision.Goal, At: st.planned.Progress.Since, Approved: now.asked.Approved}
	if st.planned.Approval != "" {
		next.Approved = digest(st.planned.Approval)
	}
	patch, err := jsonpatch.Patch(annotateHead(object, next.String()), object.GetResourceVersion())
	if err != nil {
		return fmt.Errorf("encoding the patch of the RayService: %w", err)
	}
	log.FromContext(ctx).Info("Patching RayService", "rayService", now.name, "goal", st.decision.Goal, "message", st.planned.Message)
	err = r.Client.Patch(ctx, object, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(v1alpha1.ManagedBy))
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
		p := problemf(v1alpha1.ReasonBlocked, "the API server refuses the changed RayService %s: %v", now.name, err)
		p.again = later // a webhook or a permission may be in the way
		return p
	}
	if err != nil {
		return fmt.Errorf("asking RayService %s for a new cluster: %w", now.name, err)
	}
	return nil
}

// annotateHead changes nothing in the RayService but the annotation, in the raw object, so that fields unknown to this
// program survive. What is missing on the way to it is added.
func annotateHead(object *unstructured.Unstructured, value string) []jsonpatch.Operation {
	path := pathRestartedFor()
	at, parent := "", any(object.Object)
	for i, key := range path {
		at += "/" + strings.ReplaceAll(key, "/", "~1")
		fields, _ := parent.(map[string]any)
		child, exists := fields[key]
		if !exists || child == nil {
			return []jsonpatch.Operation{{Op: "add", Path: at, Value: nest(path[i+1:], value)}}
		}
		parent = child
	}
	return []jsonpatch.Operation{{Op: "replace", Path: at, Value: value}}
}

// nest is the value under these keys.
func nest(path []string, value any) any {
	for i := len(path) - 1; i >= 0; i-- {
		value = map[string]any{path[i]: value}
	}
	return value
}
