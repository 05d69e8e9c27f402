package faults_test

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/gencert/gencerttest"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/pki"
)

// labelPlace is the place of a pod in its cluster. A pod that replaces another one takes its place.
const labelPlace = "place"

// identity is what a pod presents and trusts.
type identity struct{ chain, bundle []*x509.Certificate }

// rayCluster is a head and two workers.
func rayCluster(annotations map[string]string) *unstructured.Unstructured {
	template := func(container string) map[string]any {
		return map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": container, "image": "ray:1"}}}}
	}
	out := kuberay.NewRayCluster()
	out.Object["spec"] = map[string]any{
		"headGroupSpec": map[string]any{"rayStartParams": map[string]any{}, "template": template("ray-head")},
		"workerGroupSpecs": []any{map[string]any{
			"groupName": "small", "replicas": int64(2), "minReplicas": int64(0), "maxReplicas": int64(4),
			"rayStartParams": map[string]any{}, "template": template("ray-worker"),
		}},
	}
	out.SetNamespace(namespace)
	out.SetName("train")
	out.SetAnnotations(annotations)
	return out
}

// kubeRay makes the pods that are missing, and says when all are ready.
func (w *world) kubeRay(ctx context.Context) error {
	object := kuberay.NewRayCluster()
	if err := w.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "train"}, object); err != nil {
		return client.IgnoreNotFound(err)
	}
	pods, err := w.pods(ctx)
	if err != nil {
		return err
	}
	head, _, _ := unstructured.NestedMap(object.Object, "spec", "headGroupSpec", "template", "spec")
	groups, _, _ := unstructured.NestedSlice(object.Object, "spec", "workerGroupSpecs")
	worker, _, _ := unstructured.NestedMap(groups[0].(map[string]any), "template", "spec")
	w.ready = 0
	for _, want := range []struct {
		place, group, kind string
		spec               map[string]any
	}{{"head", "headgroup", "head", head}, {"small-0", "small", "worker", worker}, {"small-1", "small", "worker", worker}} {
		at := slices.IndexFunc(pods, func(p *corev1.Pod) bool { return p.Labels[labelPlace] == want.place })
		if at >= 0 {
			if isReady(pods[at]) {
				w.ready++
			}
			continue
		}
		w.serial++
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: fmt.Sprintf("%s-%d", want.place, w.serial),
			Labels:          map[string]string{kuberay.LabelCluster: "train", kuberay.LabelGroup: want.group, kuberay.LabelNodeType: want.kind, labelPlace: want.place},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(object, kuberay.RayClusterGVK())},
		}}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(want.spec, &pod.Spec); err != nil {
			return err
		}
		pod.Spec.NodeName, pod.Status.Phase = "node", corev1.PodPending
		if err := w.api.Create(ctx, pod); err != nil {
			return err
		}
	}
	if state, _, _ := unstructured.NestedString(object.Object, "status", "state"); w.ready < 3 || state == "ready" {
		return nil
	}
	object.Object["status"] = map[string]any{
		"state": "ready", "observedGeneration": object.GetGeneration(),
		"conditions": []any{map[string]any{"type": "RayClusterProvisioned", "status": "True", "reason": "AllPodRunningAndReadyFirstTime"}},
	}
	return w.api.Update(ctx, object)
}

// pods are the cluster's pods.
func (w *world) pods(ctx context.Context) ([]*corev1.Pod, error) {
	var pods corev1.PodList
	if err := w.api.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for i := range pods.Items {
		out = append(out, &pods.Items[i])
	}
	return out, nil
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func isInjected(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == injection.InitContainerName })
}

// kubelet moves every pod on: a certificate after two seconds, if there is a CA Secret, and Ray after four.
func (w *world) kubelet(ctx context.Context) error {
	pods, err := w.pods(ctx)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		age := w.now().Sub(pod.CreationTimestamp.Time)
		switch {
		case isReady(pod):
			continue
		case isInjected(pod) && w.identities[string(pod.UID)] == nil && age >= 2*time.Second:
			if err := w.certify(ctx, pod); err != nil {
				return err
			}
		case age >= 4*time.Second && (!isInjected(pod) || w.identities[string(pod.UID)] != nil):
			pod.Status.Phase = corev1.PodRunning
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now())}}
			if err := w.api.Status().Update(ctx, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// certify does what the init container does.
func (w *world) certify(ctx context.Context, pod *corev1.Pod) error {
	var secret corev1.Secret
	if err := w.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: injection.SecretName("train")}, &secret); err != nil {
		return client.IgnoreNotFound(err) // it waits
	}
	profile, err := gencerttest.ParseProfile(secret.Data["profile"])
	if err != nil {
		return err
	}
	issuer, err := pki.ParseIssuer(secret.Data["issuer.crt"], secret.Data["ca.key"])
	if err != nil {
		return err
	}
	if !w.now().Add(5 * time.Minute).Before(issuer.NotAfter()) {
		return nil // as above
	}
	leafPEM, _, err := issuer.NewLeaf(pki.LeafOptions{
		CommonName: pod.Name, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, KeyAlgorithm: pki.KeyAlgorithm(profile.KeyAlgorithm),
		Validity: time.Duration(profile.ValidityDays) * 24 * time.Hour, Now: w.now(),
	})
	if err != nil {
		return err
	}
	leaf, err := pki.ParseBundle(leafPEM)
	behind, chainErr := pki.ParseBundle(secret.Data["chain.pem"])
	bundle, bundleErr := pki.ParseBundle(secret.Data["ca.crt"])
	if err := errors.Join(err, chainErr, bundleErr); err != nil {
		return err
	}
	w.identities[string(pod.UID)] = &identity{chain: slices.Concat(leaf, behind), bundle: bundle}
	message, err := gencert.Report{
		Authority: profile.Authority, Issuer: profile.Issuer, Serial: hex.EncodeToString(leaf[0].SerialNumber.Bytes()),
		IssuedAt: w.now(), NotAfter: leaf[0].NotAfter,
	}.Message()
	if err != nil {
		return err
	}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: injection.InitContainerName, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", Message: message}},
	}}
	return w.api.Status().Update(ctx, pod)
}

// pairs verifies that every pod with a certificate accepts every other one.
func (w *world) pairs(ctx context.Context) error {
	pods, err := w.pods(ctx)
	if err != nil {
		return err
	}
	for _, a := range pods {
		for _, b := range pods {
			from, to := w.identities[string(a.UID)], w.identities[string(b.UID)]
			pair := [2]string{string(a.UID), string(b.UID)}
			if from == nil || to == nil || w.verified[pair] {
				continue
			}
			for _, at := range []time.Time{w.now(), from.chain[0].NotAfter.Add(-time.Second)} {
				if err := pki.VerifyPair(from.chain, to.bundle, at); err != nil {
					return fmt.Errorf("pod %s refuses pod %s at %s: %w", b.Name, a.Name, at, err)
				}
			}
			w.verified[pair] = true
		}
	}
	return nil
}
