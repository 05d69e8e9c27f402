package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

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
	left = cmp.Or(left, "nothing")
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
