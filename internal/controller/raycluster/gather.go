package raycluster

import (
	"context"
	"fmt"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/coverage"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/rollout"
)

// Indexes of the caches.
const (
	IndexPodCluster = "raytls.cluster"
	IndexJobCluster = "raytls.cluster"
)

// state is what one reconcile found and decided.
type state struct {
	key types.NamespacedName
	now time.Time

	// object is the cached RayCluster as it is in the API server, fields unknown to this program included. It is
	// never changed. cluster is the same, for deciding; spec is the object's.
	object  *unstructured.Unstructured
	cluster *rayv1.RayCluster
	spec    map[string]any
	// described are the spec's templates, head first.
	described []injection.Template
	// unreadable says that the RayCluster is not what this program takes for one.
	unreadable error

	// owners are the KubeRay objects that the cluster was made for, the nearest first.
	owners   []v1alpha1.TargetReference
	decision coverage.Decision
	// policies are those of the namespace.
	policies []*v1alpha1.RayTLSPolicy
	// policy is the spec of the cluster's policy with its defaults; nil without a policy.
	policy *v1alpha1.RayTLSPolicySpec
	// ended pods run no more; with restartPolicy Never, they tell of init containers that failed.
	pods, ended []corev1.Pod
	jobs        []unstructured.Unstructured
	// service is the RayService that made the cluster; nil if none did, or it is gone.
	service *service
	// impostor says that a RayService of the owner's name exists and is another.
	impostor  bool
	authority *corev1.Secret
	issuer    *corev1.Secret
	scripts   *corev1.ConfigMap

	// parameters are what the templates are to be rendered with.
	parameters injection.Parameters
	snapshot   rollout.Snapshot
	planned    rollout.Plan
	// edit is the change that the plan asks for, and edited the spec that it gives; nil for no change.
	edit   injection.Edit
	edited map[string]any
	// written says that the plan's patch was written.
	written bool
	// authorityID and issued are known once keys are provided.
	authorityID string
	issued      *issuance

	status v1alpha1.ClusterStatus
	next   time.Time
}

// again asks for a further look, at that time at the latest.
func (st *state) again(at time.Time) {
	if !at.IsZero() && (st.next.IsZero() || at.Before(st.next)) {
		st.next = at
	}
}

// gather reads everything from the caches. The error is NotFound if the cluster is gone.
func (r *Reconciler) gather(ctx context.Context, key types.NamespacedName) (*state, error) {
	st := &state{key: key, now: r.Clock.Now(), object: &unstructured.Unstructured{}, cluster: &rayv1.RayCluster{}}
	st.object.SetGroupVersionKind(RayClusterKind())
	if err := r.Client.Get(ctx, key, st.object, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(st.object.Object, st.cluster); err != nil {
		st.unreadable = err
		st.cluster = &rayv1.RayCluster{ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, UID: st.object.GetUID(), DeletionTimestamp: st.object.GetDeletionTimestamp(),
			Labels: st.object.GetLabels(), Annotations: st.object.GetAnnotations(),
		}}
	}
	st.spec = jsonpatch.Map(st.object.Object["spec"])
	if _, large := st.spec[tooLarge]; large && st.unreadable == nil {
		st.unreadable = errTooLarge
	}
	st.described = injection.Inspect(st.spec, key.Name)
	st.status.Name = key.Name

	var err error
	if st.policies, err = coverage.Policies(ctx, r.Client, key.Namespace); err != nil {
		return nil, err
	}
	if st.owners, err = coverage.Owners(ctx, r.Client, st.object); err != nil {
		return nil, err
	}
	st.decision = coverage.Decide(coverage.Subject{Object: st.object, Owners: st.owners}, st.policies)
	if st.decision.Policy != nil {
		spec := st.decision.Policy.Spec.WithDefaults()
		st.policy = &spec
	}
	for _, read := range []step{r.gatherPods, r.gatherJobs, r.gatherService, r.gatherKeys} {
		if err := read(ctx, st); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func (r *Reconciler) gatherPods(ctx context.Context, st *state) error {
	var pods corev1.PodList
	if err := r.Client.List(ctx, &pods, client.InNamespace(st.key.Namespace), client.MatchingFields{IndexPodCluster: st.key.Name}); err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	for _, pod := range pods.Items {
		// Labels can be anybody's; the controller reference to this very cluster is KubeRay's.
		if !metav1.IsControlledBy(&pod, st.cluster) {
			continue
		}
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			st.ended = append(st.ended, pod)
			continue
		}
		st.pods = append(st.pods, pod)
	}
	return nil
}

// gatherJobs reads the RayJobs that run on the cluster, and the one that it was made for.
func (r *Reconciler) gatherJobs(ctx context.Context, st *state) error {
	if !r.Kinds.Served(v1alpha1.TargetRayJob) {
		return nil
	}
	jobs := unstructured.UnstructuredList{}
	jobs.SetGroupVersionKind(coverage.GroupVersionKind(v1alpha1.TargetRayJob))
	if err := r.Client.List(ctx, &jobs, client.InNamespace(st.key.Namespace), client.MatchingFields{IndexJobCluster: st.key.Name}); err != nil {
		return fmt.Errorf("listing RayJobs: %w", err)
	}
	st.jobs = jobs.Items
	owner, found := coverage.Owner(st.object)
	if !found || owner.Kind != v1alpha1.TargetRayJob {
		return nil
	}
	for i := range st.jobs {
		if st.jobs[i].GetName() == owner.Name {
			return nil
		}
	}
	job := ownerObject(owner.Kind)
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: st.key.Namespace, Name: owner.Name}, job)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading RayJob %s: %w", owner.Name, err)
	}
	st.jobs = append(st.jobs, *job)
	return nil
}

func (r *Reconciler) gatherKeys(ctx context.Context, st *state) error {
	authority, issuer, scripts := &corev1.Secret{}, &corev1.Secret{}, &corev1.ConfigMap{}
	name, err := gencert.ConfigMapName(injection.Revision)
	if err != nil {
		return err
	}
	for _, read := range []struct {
		key  types.NamespacedName
		into client.Object
		set  func()
	}{
		{types.NamespacedName{Namespace: r.Namespace, Name: AuthorityName(st.key)}, authority, func() { st.authority = authority }},
		{types.NamespacedName{Namespace: st.key.Namespace, Name: injection.SecretName(st.key.Name)}, issuer, func() {
			if issuer.Labels[v1alpha1.LabelComponent] == v1alpha1.ComponentIssuer {
				st.issuer = issuer
			}
		}},
		{types.NamespacedName{Namespace: st.key.Namespace, Name: name}, scripts, func() { st.scripts = scripts }},
	} {
		err := r.Client.Get(ctx, read.key, read.into)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", read.key, err)
		}
		read.set()
	}
	return nil
}
