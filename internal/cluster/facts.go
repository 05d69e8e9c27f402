// Package cluster gathers the facts of one RayCluster, decides its next step from them, and builds its status. The controller and
// the command line tool use it alike.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/probe"
	"github.com/raytls/raytls/internal/rollout"
	"github.com/raytls/raytls/internal/timescale"
)

// Indexes of the caches that a Gatherer reads: pods and RayJobs by the RayCluster that they name.
const (
	IndexPodCluster = "raytls.cluster"
	IndexJobCluster = "raytls.cluster"
)

// Facts are everything that is known of one RayCluster when its next step is decided. Nothing changes them afterwards.
type Facts struct {
	Key types.NamespacedName
	Now time.Time

	// Object is the RayCluster with all fields, unknown ones included, and Spec its spec.
	Object *unstructured.Unstructured
	Spec   map[string]any
	// Ray is what KubeRay is asked for and reports, and Templates describes the pod templates, head first. It is empty
	// for a cluster without a policy, a RayClusterTLS, an authority and a piece of the injection.
	Ray       kuberay.Cluster
	Templates []injection.Template

	// TLS is the cluster's RayClusterTLS; nil if there is none. Foreign is one of that name that belongs to another RayCluster.
	TLS, Foreign *v1alpha1.RayClusterTLS
	// Siblings are the other RayClusterTLSes of the namespace.
	Siblings []v1alpha1.RayClusterTLS

	// Policies are those of the namespace, and Decision is which of them covers the cluster.
	Policies []*v1alpha1.RayTLSPolicy
	Decision policy.Decision
	// Policy is the spec of the cluster's policy with its defaults; nil without a policy.
	Policy *v1alpha1.RayTLSPolicySpec
	// EnvFrom holds the ConfigMaps that containers take their environment from, if the cluster may have to be injected.
	EnvFrom policy.EnvFrom

	// Pods run or may run. Ended pods do not: with restartPolicy Never they show which init containers failed.
	Pods, Ended []Pod
	// Jobs are the RayJobs that run on the cluster, and the one that it was made for.
	Jobs []unstructured.Unstructured
	// Service is the RayService that made the cluster; nil if there is none. HeadNames are further names of the head.
	Service   *kuberay.Service
	HeadNames []string

	// Keys are what the cluster's Secrets hold. KeysError is why they cannot be used.
	Keys      keys.Store
	KeysError error
	// AuthoritySecret, IssuerSecret and Scripts are the operator's own; nil where there is none.
	AuthoritySecret, IssuerSecret *corev1.Secret
	Scripts                       *corev1.ConfigMap
	// Revoked are CA Secrets of the cluster that hold issuers of revoked authorities.
	Revoked []corev1.Secret
	// BroughtCA is the Secret of the CA that the policy names; nil if it does not exist.
	BroughtCA *corev1.Secret

	// Orphaned reports whether the cluster carries the injection, and neither a policy nor keys exist for it.
	Orphaned bool

	// Wire is what a handshake with the head showed.
	Wire Wire

	// Scale is how long days are.
	Scale timescale.Scale

	// ClockSkew is how the operator's clock and an API server's differ, if that is more than is tolerated; empty otherwise.
	ClockSkew string

	// AdmissionEnd is until when changes of templates wait for pending admission; zero if admission is not pending.
	AdmissionEnd time.Time
}

// Gatherer reads the facts of RayClusters.
type Gatherer struct {
	// Cached reads from caches, and Live past them.
	Cached, Live client.Reader
	// Namespace is the operator's own, where authorities are kept.
	Namespace string
	// NoSecrets reads as a user: no Secret and no scripts. What is judged by keys is then judged by those on record.
	NoSecrets bool
	// ClusterDomain is the Kubernetes cluster's DNS domain.
	ClusterDomain string
	// Served reports whether the API server serves a kind.
	Served func(v1alpha1.TargetKind) bool
	// Admission gives the reason of the condition AdmissionActive for a namespace.
	Admission func(namespace string) string
	// Finding gives what a handshake with a head showed; nil if there was none.
	Finding func(probe.Target) *probe.Finding
	// ClockSkew says how the operator's clock and an API server's differ, if that is more than is tolerated, and is empty otherwise. nil
	// is for a reader that makes no keys.
	ClockSkew func() string
	// Scale is how long days are.
	Scale timescale.Scale
	// Started is when the operator started.
	Started time.Time
}

// Gather reads everything about one RayCluster. The error is NotFound if it does not exist.
func (g *Gatherer) Gather(ctx context.Context, key types.NamespacedName, now time.Time) (*Facts, error) {
	f := &Facts{Key: key, Now: now, Object: kuberay.NewRayCluster(), Scale: g.Scale}
	if err := g.Cached.Get(ctx, key, f.Object, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	f.read()
	for _, read := range []func(context.Context, *Facts) error{
		g.tls, g.policies, g.authority, g.whole, g.coverage, g.templates, g.pods, g.budgets, g.jobs, g.owner, g.keys, g.orphan, g.wire, g.envFrom,
	} {
		if err := read(ctx, f); err != nil {
			return nil, err
		}
	}
	if g.ClockSkew != nil {
		f.ClockSkew = g.ClockSkew()
	}
	if p := f.Decision.Policy; p != nil && g.Admission(key.Namespace) == v1alpha1.ReasonAdmissionPending {
		f.AdmissionEnd = slices.MaxFunc([]time.Time{p.CreationTimestamp.Time, g.Started}, time.Time.Compare).Add(admissionPatience)
	}
	return f, nil
}

func (f *Facts) read() {
	f.Spec = jsonpatch.Map(f.Object.Object["spec"])
	f.Ray = kuberay.ReadCluster(f.Object)
	f.Ray.PodsMissing = kube.Steady(f.Ray.PodsMissing)
}

// whole reads a RayCluster past the cache that the cache did not keep, if the operator may have to do with it.
func (g *Gatherer) whole(ctx context.Context, f *Facts) error {
	if kept.LeftOut(f.Spec) != kept.ReadLive || len(f.Policies) == 0 && f.TLS == nil && f.AuthoritySecret == nil {
		return nil
	}
	object := kuberay.NewRayCluster()
	if err := g.Live.Get(ctx, f.Key, object); err != nil {
		return fmt.Errorf("reading the RayCluster past the cache: %w", err)
	}
	if object.GetUID() != f.Object.GetUID() {
		return kube.ErrStale
	}
	f.Object = kept.Whole(object)
	f.read()
	return nil
}

// status is the cluster's status as it was written last; empty if there is none.
func (f *Facts) status() *v1alpha1.RayClusterTLSStatus {
	if f.TLS == nil {
		return &v1alpha1.RayClusterTLSStatus{}
	}
	return &f.TLS.Status
}

// Record is what is on record of the cluster.
func (f *Facts) Record() rollout.Record { return readRecord(f.status()) }

// Deleting reports whether the RayCluster is being deleted.
func (f *Facts) Deleting() bool { return !f.Object.GetDeletionTimestamp().IsZero() }

// tls reads the RayClusterTLSes of the namespace. Only the operator writes them, so they are its memory.
func (g *Gatherer) tls(ctx context.Context, f *Facts) error {
	var list v1alpha1.RayClusterTLSList
	if err := g.Cached.List(ctx, &list, client.InNamespace(f.Key.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing RayClusterTLSes: %w", err)
	}
	for i := range list.Items {
		switch item := &list.Items[i]; {
		case item.Name != f.Key.Name:
			f.Siblings = append(f.Siblings, *item)
		case kube.OwnedBy(item, f.Object.GetUID()):
			f.TLS = item
		default:
			f.Foreign = item // of an earlier cluster of the name
		}
	}
	slices.SortFunc(f.Siblings, func(a, b v1alpha1.RayClusterTLS) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (g *Gatherer) policies(ctx context.Context, f *Facts) error {
	var err error
	f.Policies, err = policy.List(ctx, g.Cached, f.Key.Namespace)
	return err
}

func (g *Gatherer) coverage(ctx context.Context, f *Facts) error {
	owners, err := kuberay.Owners(ctx, g.Cached, f.Object)
	if err != nil {
		return err
	}
	f.Decision = policy.Decide(Subject(f.Object, owners, f.TLS), f.Policies)
	if f.Decision.Policy != nil {
		spec := f.Decision.Policy.Spec.WithDefaults()
		f.Policy = &spec
	}
	return nil
}

// Subject is a RayCluster as policies look at it. tls is its RayClusterTLS; nil for none.
func Subject(object metav1.Object, owners []v1alpha1.TargetReference, tls *v1alpha1.RayClusterTLS) policy.Subject {
	out := policy.Subject{Object: object, Owners: owners}
	if tls != nil && kube.OwnedBy(tls, object.GetUID()) {
		out.Bound, out.UnderWay = policy.Bound(&tls.Status), policy.UnderWay(&tls.Status)
	}
	return out
}

func (g *Gatherer) pods(ctx context.Context, f *Facts) error {
	var pods corev1.PodList
	if err := g.Cached.List(ctx, &pods, client.InNamespace(f.Key.Namespace), client.MatchingFields{IndexPodCluster: f.Key.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	containers := map[string]string{}
	for _, t := range f.Templates {
		containers[t.Group] = t.RayContainer
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		switch {
		case !metav1.IsControlledBy(pod, f.Object): // anybody can write the label
		case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
			f.Ended = append(f.Ended, readPod(pod, containers))
		default:
			f.Pods = append(f.Pods, readPod(pod, containers))
		}
	}
	byName := func(a, b Pod) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(f.Pods, byName)
	slices.SortFunc(f.Ended, byName)
	return nil
}

func (g *Gatherer) jobs(ctx context.Context, f *Facts) error {
	if !g.Served(v1alpha1.TargetRayJob) {
		return nil
	}
	jobs := unstructured.UnstructuredList{}
	jobs.SetGroupVersionKind(kuberay.GroupVersionKind(v1alpha1.TargetRayJob))
	if err := g.Cached.List(ctx, &jobs, client.InNamespace(f.Key.Namespace), client.MatchingFields{IndexJobCluster: f.Key.Name}); err != nil {
		return fmt.Errorf("listing RayJobs: %w", err)
	}
	f.Jobs = jobs.Items
	// A cache lists in any order, and the status names the first that blocks.
	slices.SortFunc(f.Jobs, func(a, b unstructured.Unstructured) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return nil
}

// owner reads the RayJob or RayService that the cluster was made for, and names the head by it.
func (g *Gatherer) owner(ctx context.Context, f *Facts) error {
	owner, found := kuberay.Owner(f.Object)
	if !found {
		return nil
	}
	object, err := kuberay.Read(ctx, g.Cached, f.Key.Namespace, owner)
	if err != nil {
		return err
	}
	short := f.Policy != nil && f.Policy.PodCertificate.HeadServiceShortName
	f.HeadNames = kuberay.HeadServiceNames(f.Object, object, g.ClusterDomain, short)
	switch by := metav1.GetControllerOf(f.Object); {
	case object == nil:
	case owner.Kind == v1alpha1.TargetRayJob:
		if !slices.ContainsFunc(f.Jobs, func(j unstructured.Unstructured) bool { return j.GetName() == owner.Name }) {
			f.Jobs = append(f.Jobs, *object)
		}
	case by == nil || by.UID == object.GetUID(): // otherwise it is another RayService of that name
		service := kuberay.ReadService(object)
		f.Service = &service
	}
	return nil
}

func (g *Gatherer) authority(ctx context.Context, f *Facts) error {
	if g.NoSecrets {
		return nil
	}
	var err error
	f.AuthoritySecret, err = kube.ReadSecret(ctx, g.Cached, types.NamespacedName{Namespace: g.Namespace, Name: keys.AuthoritySecretName(f.Key)})
	return err
}

func (g *Gatherer) keys(ctx context.Context, f *Facts) error {
	if g.NoSecrets {
		return nil
	}
	name, err := gencert.ConfigMapName(injection.Revision)
	if err != nil {
		return err
	}
	number := max(f.Record().RevokedBefore, keys.RevokedBefore(f.AuthoritySecret))
	issuer := types.NamespacedName{Namespace: f.Key.Namespace, Name: keys.IssuerSecretName(f.Key, number)}
	if f.IssuerSecret, err = kube.ReadSecret(ctx, g.Cached, issuer); err != nil {
		return err
	}
	if f.IssuerSecret != nil && !f.OwnIssuer(f.IssuerSecret) {
		f.IssuerSecret = nil
	}
	if err := g.revoked(ctx, f, number); err != nil {
		return err
	}
	var scripts corev1.ConfigMap
	switch err := g.Cached.Get(ctx, types.NamespacedName{Namespace: f.Key.Namespace, Name: name}, &scripts); {
	case err == nil:
		f.Scripts = &scripts
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading ConfigMap %s: %w", name, err)
	}
	f.Keys, f.KeysError = keys.Read(f.Key, f.AuthoritySecret, f.IssuerSecret)
	f.Keys.Settings.Scale = g.Scale
	if f.Policy != nil && f.Policy.CertificateAuthority.SecretRef != nil {
		brought := types.NamespacedName{Namespace: f.Key.Namespace, Name: f.Policy.CertificateAuthority.SecretRef.Name}
		f.BroughtCA, err = kube.ReadSecret(ctx, g.Live, brought)
	}
	return err
}

// templates describes the pod templates of a cluster that the operator has to do with, or that carries a piece of the injection.
// Anybody can create others.
func (g *Gatherer) templates(_ context.Context, f *Facts) error {
	if kept.LeftOut(f.Spec) == "" && (f.Policy != nil || f.TLS != nil || f.AuthoritySecret != nil || injection.AnyPiece(f.Spec)) {
		f.Templates = injection.Inspect(f.Spec, f.Key.Name)
	}
	return nil
}

// envFrom reads ConfigMaps only for a cluster that may have to be injected.
func (g *Gatherer) envFrom(ctx context.Context, f *Facts) error {
	record := f.Record()
	if f.Policy == nil || f.Decision.Goal != v1alpha1.GoalEncrypted || record.Enabled || record.Progress != nil || kept.LeftOut(f.Spec) != "" {
		return nil
	}
	var err error
	f.EnvFrom, err = policy.ReadEnvFrom(ctx, g.Live, f.Key.Namespace, f.Spec, f.Policy.AdditionalContainers)
	return err
}

// admissionPatience is how long admission may take to reach a namespace with a new policy, or an operator that has started.
const admissionPatience = 15 * time.Second
