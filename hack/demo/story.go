package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
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

func (s *story) difference() error {
	now, err := s.spec(sample)
	if err != nil {
		return err
	}
	before, err := withFirstGroup(s.applied)
	if err != nil {
		return err
	}
	after, err := withFirstGroup(now)
	if err != nil {
		return err
	}
	diff, err := specDiff(before, after)
	if err != nil {
		return err
	}
	s.indented(diff)
	s.printf("\n   Every other worker group gets what the first one gets.\n")
	return nil
}

func (s *story) pods() error {
	pods, err := s.podsOf(sample)
	if err != nil {
		return err
	}
	rows := [][]string{{"POD", "IP", "INIT CONTAINERS", "CONTAINERS WITH TLS", "CERTIFICATE MADE IN"}}
	holders := [][]string{{"CERTIFICATE OF", "FOR", "UNTIL"}}
	var readers []string
	certified := true
	for _, p := range pods {
		rows = append(rows, []string{
			p.pod.Name, p.ip, names(p.pod.Spec.InitContainers), names(encrypted(p.pod)), fmt.Sprintf("%d ms", p.took.Milliseconds()),
		})
		id, err := readIdentity(p.tls())
		if err != nil {
			return fmt.Errorf("pod %s: %w", p.pod.Name, err)
		}
		leaf := id.certificate.Leaf
		holders = append(holders, []string{p.pod.Name, subjects(leaf), leaf.NotAfter.Format(time.DateOnly)})
		readers = append(readers, mounting(p.pod, injection.IssuerVolume)...)
		certified = certified && slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool { return ip.String() == p.ip })
	}
	s.indented(align(rows))
	s.printf("\n")
	s.indented(align(holders))
	s.printf("\n   The operator learns of them by the init containers' termination messages, such as the head's:\n\n   %s\n", pods[0].message)
	slices.Sort(readers)
	keyless := strings.Join(slices.Compact(readers), ", ")
	s.show(
		check{"each pod has a certificate for its own address", "yes", yesNo(certified), certified},
		check{"the containers that the CA Secret is mounted in", injection.InitContainerName, keyless, keyless == injection.InitContainerName},
	)
	return nil
}

func (s *story) handshakes() error {
	s.indented(`The certificates that the init containers made, over gRPC with the files and settings that Ray uses. The names and
addresses lead to servers on this machine; what is verified are the names and addresses themselves. gRPC for Go stands
in for Ray's gRPC, so errors read a little otherwise: Ray says "Peer name ... is not in peer certificate".

A second RayCluster in the same namespace, with a policy of its own, is the stranger.

`)
	if err := s.apply(clusterFile, other); err != nil {
		return err
	}
	// KubeRay waits long for pods that are deleted before it has seen them, and here no kubelet slows that down.
	if err := s.env.until("the second cluster is ready in plaintext", func() (string, error) { return s.provisioned(other) }); err != nil {
		return err
	}
	if err := s.apply(policyFile, other); err != nil {
		return err
	}
	if err := s.env.until("the second cluster is encrypted", func() (string, error) { return s.encrypted(other) }); err != nil {
		return err
	}
	cast, err := s.cast()
	if err != nil {
		return err
	}
	checks, err := cast.play(s.env.ctx)
	s.show(checks...)
	return err
}

func (s *story) remove() error {
	s.printf("   $ kubectl delete -n %s raytlspolicy %s %s\n\n", namespace, sample, other)
	for _, name := range []string{sample, other} {
		policy := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if err := s.env.client.Delete(s.env.ctx, policy); err != nil {
			return err
		}
	}
	if err := s.env.until("the policies are gone", s.policiesGone); err != nil {
		return err
	}
	if err := s.env.until("all pods are plaintext again", func() (string, error) { return s.plaintext(sample) }); err != nil {
		return err
	}
	now, err := s.spec(sample)
	if err != nil {
		return err
	}
	// The keys go after the last pod that needed them.
	var left string
	err = s.env.until("nothing of the operator's is left", func() (string, error) {
		left, err = s.leftovers()
		return left, err
	})
	if err != nil && (left == "" || s.env.ctx.Err() != nil) {
		return err
	}
	if left == "" {
		left = "nothing"
	}
	if err := s.table(policyGroup, "rayclustertlses"); err != nil {
		return err
	}
	s.printf("\n   A RayClusterTLS stays as long as its RayCluster does.\n\n")
	same := bytes.Equal(s.applied, now)
	s.show(
		check{"the cluster's spec, byte for byte", "as it was applied", map[bool]string{true: "as it was applied", false: "changed"}[same], same},
		check{"the Secrets and ConfigMaps that the operator leaves", "nothing", left, left == "nothing"},
	)
	if !same {
		diff, err := specDiff(s.applied, now)
		if err != nil {
			return err
		}
		s.printf("\n")
		s.indented(diff)
	}
	return nil
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

func (s *story) policiesGone() (string, error) {
	var found v1alpha1.RayTLSPolicyList
	if err := s.env.client.List(s.env.ctx, &found, client.InNamespace(namespace)); err != nil {
		return "", err
	}
	if len(found.Items) > 0 {
		return fmt.Sprintf("%d are left", len(found.Items)), nil
	}
	return "", nil
}

func (s *story) plaintext(cluster string) (string, error) {
	pods, err := s.podsOf(cluster)
	if err != nil {
		return "", err
	}
	if len(pods) < samplePods {
		return fmt.Sprintf("there are %d of %d pods", len(pods), samplePods), nil
	}
	for _, p := range pods {
		if slices.ContainsFunc(p.pod.Spec.InitContainers, isOurs) {
			return "pod " + p.pod.Name + " is not", nil
		}
	}
	return "", nil
}

// leftovers names what the operator made for clusters and has not removed. Its webhook's authority is for itself.
func (s *story) leftovers() (string, error) {
	var found []string
	for _, ns := range []string{namespace, operatorNamespace} {
		for _, list := range []client.ObjectList{&corev1.SecretList{}, &corev1.ConfigMapList{}} {
			if err := s.env.client.List(s.env.ctx, list, client.InNamespace(ns)); err != nil {
				return "", err
			}
			err := meta.EachListItem(list, func(object runtime.Object) error {
				o, err := meta.Accessor(object)
				if err != nil {
					return err
				}
				if strings.HasPrefix(o.GetName(), "raytls-") && o.GetLabels()[v1alpha1.LabelComponent] != v1alpha1.ComponentWebhook {
					found = append(found, fmt.Sprintf("%T %s/%s", object, ns, o.GetName()))
				}
				return nil
			})
			if err != nil {
				return "", err
			}
		}
	}
	for _, name := range []string{sample, other} {
		var cluster rayv1.RayCluster
		if err := s.env.client.Get(s.env.ctx, types.NamespacedName{Namespace: namespace, Name: name}, &cluster); err != nil {
			return "", err
		}
		for key := range cluster.Annotations {
			if strings.HasPrefix(key, "raytls.io/") {
				found = append(found, "annotation "+key+" of RayCluster "+name)
			}
		}
	}
	return strings.Join(found, ", "), nil
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
		if apierrors.IsNotFound(err) {
			return nil
		}
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

// cast picks those who talk: heads and workers that have a certificate.
func (s *story) cast() (*cast, error) {
	c := &cast{}
	pods, err := s.podsOf(sample)
	if err != nil {
		return nil, err
	}
	strangers, err := s.podsOf(other)
	if err != nil {
		return nil, err
	}
	if len(pods) < samplePods || len(strangers) < samplePods {
		return nil, errors.New("pods went away that nobody deleted")
	}
	for _, role := range []struct {
		member *member
		pod    *startedPod
	}{{&c.head, pods[0]}, {&c.worker, pods[1]}, {&c.colleague, pods[2]}, {&c.stranger, strangers[1]}} {
		if *role.member, err = newMember(role.pod); err != nil {
			return nil, err
		}
	}
	return c, nil
}
