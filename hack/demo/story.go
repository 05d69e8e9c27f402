package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

const (
	clusterFile = "config/samples/raycluster.yaml"
	policyFile  = "config/samples/raytls_v1alpha1_raytlspolicy.yaml"
	// sample is the name of both samples; other is the name of their copies.
	sample = "sample"
	other  = "other"
	// samplePods is how many pods the sample asks for: a head and two workers.
	samplePods = 3

	nodeType    = "ray.io/node-type" // head comes before worker
	rayGroup    = "ray.io/v1"
	policyGroup = "raytls.io/v1alpha1"
)

// story is the demo's text and what it has to remember from one chapter to the next.
type story struct {
	*screen
	env     *environment
	kubelet *kubelet
	applied []byte // the sample cluster's spec, before there was a policy
}

func (s *story) tell() error {
	for _, chapter := range []struct {
		title string
		tell  func() error
	}{
		{"A plain RayCluster", s.plain},
		{"One policy (enablePolicy: Immediate)", s.enable},
		{"What the policy changed in the RayCluster", s.difference},
		{"The pods that KubeRay made of it", s.pods},
		{"Who can talk to whom", s.handshakes},
		{"The policy is deleted (deletionPolicy: Disable)", s.remove},
	} {
		s.title(chapter.title)
		if err := chapter.tell(); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(s.checks, func(c check) bool { return !c.ok }) {
		return errVerdict
	}
	return nil
}

func (s *story) plain() error {
	s.indented(`There is no kubelet here. This program stands in for it: it gives pods their addresses, runs the raytls init
containers' commands for real, and reports Ray's containers as running though nothing of Ray runs.

`)
	s.printf("   $ kubectl apply -n %s -f %s\n\n", namespace, clusterFile)
	if err := s.apply(clusterFile, sample); err != nil {
		return err
	}
	if err := s.env.until("the cluster is ready in plaintext", func() (string, error) { return s.provisioned(sample) }); err != nil {
		return err
	}
	var err error
	if s.applied, err = s.spec(sample); err != nil {
		return err
	}
	return s.table("v1", "pods")
}

func (s *story) enable() error {
	s.printf("   $ kubectl apply -n %s -f %s\n\n", namespace, policyFile)
	began := time.Now()
	if err := s.apply(policyFile, sample); err != nil {
		return err
	}
	if err := s.env.until("the cluster is encrypted", func() (string, error) { return s.encrypted(sample) }); err != nil {
		return err
	}
	took := time.Since(began)
	s.printf("   $ kubectl get -n %s raytlspolicies,rayclustertlses\n\n", namespace)
	for i, resource := range []string{"raytlspolicies", "rayclustertlses"} {
		if i > 0 {
			s.printf("\n")
		}
		if err := s.table(policyGroup, resource); err != nil {
			return err
		}
	}
	s.printf("\n   Ready after %.1f s. What the operator told meanwhile (kubectl get events):\n\n", took.Seconds())
	return s.events()
}

// apply creates a sample's object under a name, in the demo's namespace.
func (s *story) apply(file, name string) error {
	return s.env.apply(file, func(object *unstructured.Unstructured) bool {
		object.SetNamespace(namespace)
		rename(object, name)
		return true
	})
}

// rename gives a sample another name, and a policy the cluster of that name as its target.
func rename(object *unstructured.Unstructured, name string) {
	object.SetName(name)
	if spec, ok := object.Object["spec"].(map[string]any); ok {
		if target, ok := spec["targetRef"].(map[string]any); ok {
			target["name"] = name
		}
	}
}

func (s *story) table(group, resource string) error {
	text, err := s.env.table(group, resource)
	if err != nil {
		return err
	}
	s.indented(text)
	return nil
}

// spec is a RayCluster's spec, in the API server's bytes.
func (s *story) spec(cluster string) ([]byte, error) {
	raw, err := s.env.get(rayGroup, "rayclusters/"+cluster)
	if err != nil {
		return nil, err
	}
	var object struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("reading RayCluster %s: %w", cluster, err)
	}
	return object.Spec, nil
}

func (s *story) provisioned(cluster string) (string, error) {
	var found rayv1.RayCluster
	if err := s.env.client.Get(s.env.ctx, types.NamespacedName{Namespace: namespace, Name: cluster}, &found); err != nil {
		return "", err
	}
	if !meta.IsStatusConditionTrue(found.Status.Conditions, string(rayv1.RayClusterProvisioned)) {
		return "KubeRay does not say that it is provisioned", nil
	}
	return "", nil
}

// encrypted says why the cluster, and the policy of its name, are not there yet: all of its pods, and Ready.
func (s *story) encrypted(cluster string) (string, error) {
	if why, err := s.provisioned(cluster); why != "" || err != nil {
		return why, err
	}
	pods, err := s.podsOf(cluster)
	if err != nil {
		return "", err
	}
	if made := slices.DeleteFunc(pods, func(p *startedPod) bool { return p.message == "" }); len(made) < samplePods {
		return fmt.Sprintf("%d of %d pods have a certificate", len(made), samplePods), nil
	}
	var found v1alpha1.RayTLSPolicy
	if err := s.env.client.Get(s.env.ctx, types.NamespacedName{Namespace: namespace, Name: cluster}, &found); err != nil {
		return "", err
	}
	condition := meta.FindStatusCondition(found.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case condition == nil:
		return "it has no condition Ready", nil
	case condition.Status != metav1.ConditionTrue || condition.ObservedGeneration != found.Generation:
		return condition.Reason + ": " + condition.Message, nil
	}
	return "", nil
}

// podsOf lists a cluster's pods that the kubelet has brought up, the head first.
func (s *story) podsOf(cluster string) ([]*startedPod, error) {
	var pods corev1.PodList
	if err := s.env.client.List(s.env.ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{"ray.io/cluster": cluster}); err != nil {
		return nil, err
	}
	var found []*startedPod
	for i := range pods.Items {
		if p := s.kubelet.find(pods.Items[i].UID); p != nil {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *startedPod) int {
		return cmp.Or(cmp.Compare(a.pod.Labels[nodeType], b.pod.Labels[nodeType]), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	return found, nil
}

// events prints what was told of the sample cluster and its policy, in order.
func (s *story) events() error {
	var list eventsv1.EventList
	if err := s.env.client.List(s.env.ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	list.Items = slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool { return e.ReportingController != v1alpha1.ManagedBy })
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	rows := make([][]string, 0, len(list.Items))
	for _, e := range list.Items {
		rows = append(rows, []string{e.Regarding.Kind + "/" + e.Regarding.Name, e.Reason, e.Note})
	}
	s.indented(align(rows))
	return nil
}
