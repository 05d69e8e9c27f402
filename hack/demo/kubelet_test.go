package main

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/internal/probe"
)

func rayPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "sample-head", Namespace: "ns", Labels: map[string]string{"ray.io/node-type": "head"}},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "raytls-init"}, {Name: "wait-gcs-ready"}},
			Containers:     []corev1.Container{{Name: "ray-head", Env: []corev1.EnvVar{{Name: "RAY_USE_TLS", Value: "1"}}}, {Name: "logger"}},
		},
		Status: corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
	}
}

func fieldVar(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func TestEnviron(t *testing.T) {
	t.Parallel()
	got, err := environ([]corev1.EnvVar{
		{Name: "FQ_RAY_IP", Value: "head.ns.svc"},
		fieldVar("IPS", "status.podIPs"), fieldVar("IP", "status.podIP"),
		fieldVar("TYPE", "metadata.labels['ray.io/node-type']"), fieldVar("NAME", "metadata.name"), fieldVar("NS", "metadata.namespace"),
		fieldVar("NONE", "metadata.labels['no']"),
	}, rayPod())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"FQ_RAY_IP=head.ns.svc", "IPS=10.0.0.1,fd00::1", "IP=10.0.0.1", "TYPE=head", "NAME=sample-head", "NS=ns", "NONE="}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as a kubelet resolves them (-want +got):\n%s", diff)
	}
	for reason, v := range map[string]corev1.EnvVar{
		"an unknown field must not become an empty value": fieldVar("X", "spec.nodeName"),
		"nor must what a Secret holds":                    {Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k"}}},
	} {
		if got, err := environ([]corev1.EnvVar{v}, rayPod()); err == nil {
			t.Errorf("%s: got %v", reason, got)
		}
	}
}

func TestRelocate(t *testing.T) {
	t.Parallel()
	mounts := map[string]string{"/etc/raytls/scripts": "/tmp/s", "/etc/raytls/issuer": "/tmp/i"}
	for argument, want := range map[string]string{
		"/etc/raytls/scripts/head.sh": "/tmp/s/head.sh",
		"/etc/raytls/scripts2/x":      "/etc/raytls/scripts2/x",
		"cat /etc/raytls/issuer/x":    "cat /etc/raytls/issuer/x",
		"-c":                          "-c",
	} {
		if got := relocate(argument, mounts); got != want {
			t.Errorf("%q became %q, want %q", argument, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	container := &corev1.Container{Command: []string{"sh", "-c", `echo $(cat "$1")`, "/etc/in/x"}, Args: []string{"$(TYPE)", "$(NONE)"}}
	got := words(container, []string{"TYPE=head", "HOME=/"}, map[string]string{"/etc/in": "/tmp/in"})
	if diff := cmp.Diff([]string{"sh", "-c", `echo $(cat "$1")`, "/tmp/in/x", "head", "$(NONE)"}, got); diff != "" {
		t.Errorf("as a kubelet hands them on (-want +got):\n%s", diff)
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	got := content(&corev1.ConfigMap{Data: map[string]string{"a": "1"}, BinaryData: map[string][]byte{"b": {2}}})
	if diff := cmp.Diff(map[string][]byte{"a": []byte("1"), "b": {2}}, got); diff != "" {
		t.Errorf("a kubelet writes both as files (-want +got):\n%s", diff)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := publish(dir, map[string][]byte{"ca.crt": []byte("text")}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"ca.crt", "..data/ca.crt"} {
		if text, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(text) != "text" {
			t.Errorf("%s holds %q, %v", path, text, err)
		}
	}
	for link, want := range map[string]string{"ca.crt": "..data/ca.crt", "..data": "..version"} {
		if got, err := os.Readlink(filepath.Join(dir, link)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; a kubelet's leads to %q", link, got, err, want)
		}
	}
}

func TestSetRunning(t *testing.T) {
	t.Parallel()
	pod := rayPod()
	setRunning(pod, "message", metav1.NewTime(time.Unix(1, 0)))
	if pod.Status.Phase != corev1.PodRunning || len(pod.Status.ContainerStatuses) != 2 || pod.Status.PodIP != "10.0.0.1" {
		t.Errorf("the pod does not run: %+v", pod.Status)
	}
	got := map[string]string{}
	for _, s := range pod.Status.InitContainerStatuses {
		got[s.Name] = s.State.Terminated.Message
	}
	if diff := cmp.Diff(map[string]string{"raytls-init": "message", "wait-gcs-ready": ""}, got); diff != "" {
		t.Errorf("the message is of the container that left it (-want +got):\n%s", diff)
	}
}

func TestContainers(t *testing.T) {
	t.Parallel()
	pod := rayPod()
	pod.Spec.InitContainers[0].VolumeMounts = []corev1.VolumeMount{{Name: "key"}}
	pod.Spec.Containers[1].VolumeMounts = []corev1.VolumeMount{{Name: "key"}}
	if got := names(encrypted(pod)); got != "ray-head" {
		t.Errorf("%q are encrypted, want ray-head", got)
	}
	if diff := cmp.Diff([]string{"raytls-init", "logger"}, mounting(pod, "key")); diff != "" {
		t.Errorf("who can read the volume (-want +got):\n%s", diff)
	}
	if len(pod.Spec.Containers) != 2 {
		t.Error("looking at a pod changed it")
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file.yaml")
	text := "---\n# nothing\n---\nkind: RayTLSPolicy\nmetadata: {name: sample}\nspec: {targetRef: {name: sample}}\n---\nkind: RayCluster\nmetadata: {name: sample}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := objects(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, object := range found {
		rename(object, "other")
		target, _, _ := unstructured.NestedString(object.Object, "spec", "targetRef", "name")
		got = append(got, object.GetKind()+" "+object.GetName()+" "+target)
	}
	if diff := cmp.Diff([]string{"RayTLSPolicy other other", "RayCluster other "}, got); diff != "" {
		t.Errorf("empty documents are left out, a policy follows its cluster's name (-want +got):\n%s", diff)
	}
}

func TestProcess_stopEndsTheGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// The child writes to the pipe as well, so that the pipe ends when nobody of the group lives.
	p, err := startProcess(filepath.Join(dir, "log"), nil, "/bin/sh", "-c", `exec >"$0"; sleep 600 & echo up; wait`, pipe)
	if err != nil {
		t.Fatal(err)
	}
	read, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if _, err := io.ReadFull(read, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is gone can be stopped, too
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	}
	if rest, err := io.ReadAll(read); err != nil || len(rest) > 0 {
		t.Errorf("the group wrote %q, %v", rest, err)
	}
}

func TestNobodyDialsPodsOfTheDemo(t *testing.T) {
	k := &kubelet{}
	for range 300 {
		pod := &corev1.Pod{}
		pod.Status.PodIPs = []corev1.PodIP{{IP: k.address(pod)}}
		if address, err := probe.Address(pod); err == nil {
			t.Fatalf("the operator would look for a head at %s, where anybody may answer", address)
		}
	}
}
