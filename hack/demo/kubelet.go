package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/gencert/gencerttest"
	"github.com/raytls/raytls/internal/injection"
)

// initPatience is how long an init container may take; it takes a tenth of a second.
const initPatience = 30 * time.Second

// kubelet stands in for the kubelets of a cluster: it gives each pod an address, runs our init container's command for
// real, with the volumes laid out as a kubelet does, and reports the Ray containers as running though nothing runs.
type kubelet struct {
	client client.Client
	dir    string

	mu      sync.Mutex
	started map[types.UID]*startedPod
	next    int
}

// startedPod is a pod that the kubelet has brought up.
type startedPod struct {
	pod *corev1.Pod
	ip  string
	// mounts are the directories that stand for the init container's mount paths.
	mounts map[string]string
	// message is what the init container left as its termination message; empty in a pod without ours.
	message string
	took    time.Duration
}

// tls is the directory with tls.crt, tls.key and ca.crt.
func (p *startedPod) tls() string { return p.mounts[injection.MountPath] }

// withKubelet runs body while a kubelet serves the environment's pods.
func (e *environment) withKubelet(body func(*kubelet) error) error {
	k := &kubelet{client: e.client, dir: filepath.Join(e.work, "pods"), started: map[types.UID]*startedPod{}}
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := k.run(ctx); err != nil && ctx.Err() == nil {
			e.cancel(fmt.Errorf("standing in for the kubelet: %w", err))
		}
	}()
	defer func() {
		cancel()
		<-done
	}()
	return e.cause(body(k))
}

func (k *kubelet) run(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		var pods corev1.PodList
		if err := k.client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return fmt.Errorf("listing pods: %w", err)
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			if !pod.DeletionTimestamp.IsZero() || k.find(pod.UID) != nil {
				continue
			}
			if err := k.start(ctx, pod); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("pod %s: %w", pod.Name, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (k *kubelet) find(uid types.UID) *startedPod {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.started[uid]
}

// start brings a pod up. While a volume's Secret or ConfigMap is missing, it does nothing, and the pod's turn comes again.
func (k *kubelet) start(ctx context.Context, pod *corev1.Pod) error {
	p := &startedPod{pod: pod, ip: k.address(pod)}
	pod.Status.PodIP, pod.Status.PodIPs = p.ip, []corev1.PodIP{{IP: p.ip}}
	if i := slices.IndexFunc(pod.Spec.InitContainers, isOurs); i >= 0 {
		err := k.runInit(ctx, p, &pod.Spec.InitContainers[i])
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	setRunning(pod, p.message, metav1.Now())
	if err := k.client.Status().Update(ctx, pod); err != nil {
		if apierrors.IsConflict(err) {
			return nil
		}
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.started[pod.UID] = p
	return nil
}

// address is the pod's, and a new one the first time. A loopback address, which every pod has, would prove nothing in a
// certificate. The operator does not dial link-local addresses to see what a head serves: nothing of Ray runs here, and some
// other machine or proxy may answer at any other address.
func (k *kubelet) address(pod *corev1.Pod) string {
	if pod.Status.PodIP != "" {
		return pod.Status.PodIP
	}
	k.next++
	return fmt.Sprintf("169.254.%d.%d", k.next/250, k.next%250+1)
}

func isOurs(c corev1.Container) bool { return c.Name == injection.InitContainerName }

// runInit runs the command that KubeRay's pod has for the container, with its mount paths replaced by directories.
func (k *kubelet) runInit(ctx context.Context, p *startedPod, container *corev1.Container) error {
	dir, err := os.MkdirTemp(k.dir, p.pod.Name+"-")
	if err != nil {
		return err
	}
	if p.mounts, err = k.mount(ctx, dir, p.pod, container); err != nil {
		return err
	}
	env, err := environ(container.Env, p.pod)
	if err != nil {
		return err
	}
	messageFile := filepath.Join(dir, "termination-log")
	env = append(env, "PATH="+os.Getenv("PATH"), "HOSTNAME="+p.pod.Name,
		"RAYTLS_ISSUER_DIR="+p.mounts[injection.IssuerMountPath], "RAYTLS_OUTPUT_DIR="+p.tls(), "RAYTLS_TERMINATION_LOG="+messageFile)
	argv := words(container, env, p.mounts)

	ctx, cancel := context.WithTimeout(ctx, initPatience)
	defer cancel()
	command := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // this is what a kubelet does
	command.Env, command.Dir = env, dir
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	var stderr bytes.Buffer
	command.Stderr = &stderr
	began := time.Now()
	if err := command.Run(); err != nil {
		return fmt.Errorf("init container %s: %w; it said: %s", container.Name, err, stderr.String())
	}
	p.took = time.Since(began)
	message, err := os.ReadFile(messageFile)
	p.message = string(message)
	return err
}

// mount lays the container's volumes out below dir and says which directory stands for which mount path.
func (k *kubelet) mount(ctx context.Context, dir string, pod *corev1.Pod, container *corev1.Container) (map[string]string, error) {
	mounts := map[string]string{}
	for _, m := range container.VolumeMounts {
		i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			return nil, fmt.Errorf("there is no volume %s", m.Name)
		}
		volume := pod.Spec.Volumes[i]
		target := filepath.Join(dir, m.Name)
		if err := os.Mkdir(target, 0o700); err != nil {
			return nil, err
		}
		mounts[m.MountPath] = target
		switch {
		case volume.EmptyDir != nil:
		case volume.Secret != nil:
			var secret corev1.Secret
			if err := k.client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: volume.Secret.SecretName}, &secret); err != nil {
				return nil, err
			}
			if err := publish(target, secret.Data); err != nil {
				return nil, err
			}
		case volume.ConfigMap != nil:
			var configMap corev1.ConfigMap
			if err := k.client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: volume.ConfigMap.Name}, &configMap); err != nil {
				return nil, err
			}
			if err := publish(target, content(&configMap)); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("volume %s is of a kind that this demo does not know", m.Name)
		}
	}
	return mounts, nil
}

// content is what a ConfigMap's files hold.
func content(configMap *corev1.ConfigMap) map[string][]byte {
	data := maps.Clone(configMap.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for name, text := range configMap.Data {
		data[name] = []byte(text)
	}
	return data
}

// words are the container's command and arguments, with its variables expanded and its mount paths replaced.
func words(container *corev1.Container, env []string, mounts map[string]string) []string {
	variables := map[string]string{}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		variables[name] = value
	}
	argv := append(slices.Clone(container.Command), container.Args...)
	for i := range argv {
		argv[i] = relocate(gencerttest.Expand(argv[i], variables), mounts)
	}
	return argv
}

// publish writes files as a kubelet does: into a directory of one version, which the link ..data leads to, with a link
// per name.
func publish(dir string, data map[string][]byte) error {
	const version = "..version"
	if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
		return err
	}
	if err := os.Symlink(version, filepath.Join(dir, "..data")); err != nil {
		return err
	}
	for name, text := range data {
		if err := os.WriteFile(filepath.Join(dir, version, name), text, 0o400); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// relocate replaces a mount path at the beginning of an argument by the directory that stands for it.
func relocate(argument string, mounts map[string]string) string {
	for path, dir := range mounts {
		if rest, ok := strings.CutPrefix(argument, path+"/"); ok {
			return filepath.Join(dir, rest)
		}
	}
	return argument
}

// environ resolves a container's variables as far as init containers of a Ray pod have them.
func environ(variables []corev1.EnvVar, pod *corev1.Pod) ([]string, error) {
	var out []string
	for _, v := range variables {
		value := v.Value
		if v.ValueFrom != nil {
			if v.ValueFrom.FieldRef == nil {
				return nil, fmt.Errorf("variable %s has a source that this demo does not know", v.Name)
			}
			var err error
			if value, err = field(v.ValueFrom.FieldRef.FieldPath, pod); err != nil {
				return nil, fmt.Errorf("variable %s: %w", v.Name, err)
			}
		}
		out = append(out, v.Name+"="+value)
	}
	return out, nil
}

// field is what the downward API gives for a path.
func field(path string, pod *corev1.Pod) (string, error) {
	if label, ok := strings.CutPrefix(path, "metadata.labels['"); ok {
		return pod.Labels[strings.TrimSuffix(label, "']")], nil
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	case "status.podIPs":
		var ips []string
		for _, ip := range pod.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
		return strings.Join(ips, ","), nil
	}
	return "", errors.New("the demo does not know the field " + path)
}

// setRunning reports the pod as a kubelet would once everything in it runs.
func setRunning(pod *corev1.Pod, message string, now metav1.Time) {
	status := &pod.Status
	status.Phase, status.StartTime = corev1.PodRunning, &now
	status.Conditions = nil
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	status.InitContainerStatuses, status.ContainerStatuses = nil, nil
	for _, c := range pod.Spec.InitContainers {
		ended := &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}
		if isOurs(c) {
			ended.Message = message
		}
		status.InitContainerStatuses = append(status.InitContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, State: corev1.ContainerState{Terminated: ended},
		})
	}
	yes := true
	for _, c := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &yes,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
}
