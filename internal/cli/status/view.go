package status

import (
	"cmp"
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/fleet"
	"github.com/raytls/raytls/internal/cluster"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/policy"
)

// report is what -o json and -o yaml print. Later versions may add fields, and change none.
type report struct {
	// Clusters are in the order of their namespaces and names.
	Clusters []clusterReport `json:"clusters"`
	// Unread are the kinds that the user may not read, so that what follows from them is missing.
	Unread []string `json:"unread,omitempty"`
}

// clusterReport is one RayCluster.
type clusterReport struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Policy is the RayTLSPolicy that has the RayCluster encrypted; empty if none does.
	Policy string `json:"policy,omitempty"`
	// Current reports whether the operator has seen the RayCluster, its policy and its pods as they are now.
	Current bool `json:"current"`
	// Status is what the operator reports; absent if it reports nothing.
	Status *v1alpha1.RayClusterTLSStatus `json:"status,omitempty"`
	// Computed is what this command computes from the same objects while Status is not current.
	Computed *computed `json:"computed,omitempty"`
	// Pods are those that run or may run, the head first. They are absent unless they were asked for.
	Pods []podReport `json:"pods,omitempty"`
}

// computed is the part of a status that can be computed without the cluster's keys.
type computed struct {
	Conditions []metav1.Condition `json:"conditions"`
	Pods       v1alpha1.PodCounts `json:"pods"`
}

// podReport is what a pod runs with. Of the certificate it has what the pod's init container reported.
type podReport struct {
	Name        string   `json:"name"`
	Role        string   `json:"role"`
	Group       string   `json:"group,omitempty"`
	Node        string   `json:"node,omitempty"`
	State       podState `json:"state"`
	Terminating bool     `json:"terminating,omitempty"`
	// Generation is that of the authority that the certificate is of; absent where it is not known.
	Generation int64        `json:"generation,omitempty"`
	Authority  string       `json:"authority,omitempty"`
	Issuer     string       `json:"issuer,omitempty"`
	Serial     string       `json:"serial,omitempty"`
	Issued     *metav1.Time `json:"issued,omitempty"`
	// End is when other pods begin to refuse the certificate. It can be earlier than the certificate's own end.
	End *metav1.Time `json:"end,omitempty"`
	// Note says what is wrong with the pod.
	Note string `json:"note,omitempty"`
}

// podState is how a pod speaks Ray's gRPC.
type podState string

const (
	// stateTLS: with a certificate as the policy asks for it now.
	stateTLS podState = "TLS"
	// stateOutdated: with one of an earlier authority or podCertificate, which others accept.
	stateOutdated podState = "Outdated"
	// stateForeign: with one of an authority that others do not accept.
	stateForeign podState = "Foreign"
	// stateExpired: with one that has ended.
	stateExpired podState = "Expired"
	// stateWaiting: not yet, because the pod has no certificate yet.
	stateWaiting podState = "Waiting"
	// stateFailed: not, because the pod cannot make a certificate.
	stateFailed podState = "Failed"
	// statePlaintext: without TLS.
	statePlaintext podState = "Plaintext"
)

// role is a pod's in its cluster.
func role(pod *cluster.Pod) string {
	if pod.Group == "" {
		return kuberay.NodeTypeHead
	}
	return "worker"
}

// source reads what reports are made of.
type source struct {
	*reader
	gatherer cluster.Gatherer
	now      func() time.Time
}

func newSource(c client.Client, now func() time.Time) *source {
	s := &source{reader: newReader(c), now: now}
	served := func(kind v1alpha1.TargetKind) bool {
		gvk := kuberay.GroupVersionKind(kind)
		_, err := c.RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
		return err == nil
	}
	s.gatherer = cluster.Gatherer{
		Cached: s.reader, Live: s.reader, NoSecrets: true, Served: served,
		Admission: func(string) string { return v1alpha1.ReasonAdmissionActive },
	}
	return s
}

// read reports on the named cluster, or on all clusters of the namespace if there is no name.
func (s *source) read(ctx context.Context, key types.NamespacedName, pods bool) (*report, error) {
	if key.Name == "" {
		return s.all(ctx, key.Namespace, pods)
	}
	// The first answer of the API server tells its time, by which certificates are judged.
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kuberay.RayClusterGVK())
	if err := s.Get(ctx, key, object); err != nil {
		return nil, err
	}
	one, err := s.one(ctx, key)
	if err != nil {
		return nil, err
	}
	return &report{Clusters: []clusterReport{one}, Unread: s.missing()}, nil
}

// all reports on every cluster of a namespace; the empty one stands for all.
func (s *source) all(ctx context.Context, namespace string, pods bool) (*report, error) {
	found, err := fleet.Read(ctx, s.reader, namespace)
	if err != nil {
		return nil, err
	}
	out := &report{Clusters: []clusterReport{}}
	for _, c := range found.Clusters {
		one := clusterReport{Namespace: c.Namespace, Name: c.Name}
		if c.TLS != nil {
			one.Status = &c.TLS.Status
		}
		one.Current = c.TLS != nil && seen(c.Status(), c.Generation, c.Policy)
		if c.Policy != nil {
			one.Policy = c.Policy.Name
		}
		if pods {
			if one, err = s.one(ctx, c.NamespacedName); client.IgnoreNotFound(err) != nil {
				return nil, err
			}
			if err != nil {
				continue // it was deleted in the meantime
			}
		}
		out.Clusters = append(out.Clusters, one)
	}
	out.Unread = s.missing()
	return out, nil
}

// seen reports whether the operator has made a status from these objects.
func seen(status *v1alpha1.RayClusterTLSStatus, generation int64, p *v1alpha1.RayTLSPolicy) bool {
	if p != nil && (status.PolicyRef.Name != p.Name || status.PolicyRef.Generation < p.Generation) {
		return false
	}
	return status.ObservedGeneration >= generation
}

// one reports on one cluster and its pods, by the facts and the decision that the operator makes.
func (s *source) one(ctx context.Context, key types.NamespacedName) (clusterReport, error) {
	facts, err := s.gatherer.Gather(ctx, key, s.now())
	if err != nil {
		return clusterReport{}, err
	}
	out := clusterReport{Namespace: key.Namespace, Name: key.Name}
	if facts.Decision.Goal == v1alpha1.GoalEncrypted {
		out.Policy = facts.Decision.Policy.Name
	}
	decision := cluster.Decide(facts, cluster.Settings{Images: policy.Allowlist{"*"}, Served: s.gatherer.Served})
	now := cluster.Status(facts, &decision, cluster.Done{Keys: facts.Keys})
	if facts.TLS != nil {
		out.Status = &facts.TLS.Status
		out.Current = seen(out.Status, facts.Object.GetGeneration(), facts.Decision.Policy) && (s.unread["Pod"] || out.Status.Pods == now.Pods)
	}
	// Without a policy the settings of certificates are beside the keys.
	if !out.Current && facts.Policy != nil && s.exact() {
		out.Computed = &computed{Pods: now.Pods}
		for _, c := range now.Conditions {
			if c.Type == v1alpha1.ConditionEncrypted || c.Type == v1alpha1.ConditionCertified {
				out.Computed.Conditions = append(out.Computed.Conditions, c)
			}
		}
	}
	for i := range facts.Pods {
		out.Pods = append(out.Pods, podOf(facts, &decision, &facts.Pods[i]))
	}
	slices.SortStableFunc(out.Pods, func(a, b podReport) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// exact reports whether what could not be read changes no condition that is computed. It would look as if it were missing.
func (s *source) exact() bool {
	return !slices.ContainsFunc(s.missing(), func(kind string) bool { return kind != "PodDisruptionBudget" })
}

func podOf(facts *cluster.Facts, decision *cluster.Decision, pod *cluster.Pod) podReport {
	out := podReport{Name: pod.Name, Role: role(pod), Group: pod.Group, Node: pod.Node, Terminating: pod.Terminating}
	switch {
	case !pod.Injected && pod.Pieces:
		out.State, out.Note = statePlaintext, "not as its template: "+pod.Differs
		return out
	case !pod.Injected:
		out.State = statePlaintext
		return out
	case !pod.Certified && pod.Failure != "":
		out.State, out.Note = stateFailed, pod.Failure
		return out
	case !pod.Certified:
		out.State = stateWaiting
		return out
	}
	out.State = stateTLS
	if r := pod.Report; r != nil {
		out.Authority, out.Issuer, out.Serial = r.Authority, r.Issuer, r.Serial
		out.Issued = &metav1.Time{Time: r.IssuedAt}
	} else {
		out.Note = "does not report its certificate"
		if facts.Policy == nil {
			return out // nor is it known how long its certificate lasts
		}
	}
	judged, generation := facts.Judge(pod)
	out.Generation = generation
	if !judged.End.IsZero() {
		out.End = &metav1.Time{Time: judged.End.UTC()}
	}
	switch {
	case judged.Reason == v1alpha1.ReasonCertificateExpired:
		out.State = stateExpired
	case judged.Reason == v1alpha1.ReasonOutdatedAuthority:
		out.State = stateForeign
	case judged.Generation != 0:
		out.State = stateOutdated
	case decision.Snapshot.Unlike(pod.Pod):
		out.State, out.Note = stateOutdated, "has a certificate of an earlier podCertificate"
	case pod.Differs != "":
		out.Note = "not as its template: " + pod.Differs
	}
	return out
}
