package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/app"
)

const (
	namespace         = "ray-demo"
	operatorNamespace = "raytls-system"
	operatorAccount   = "raytls-controller"
)

// environment is a control plane with both operators.
type environment struct {
	ctx    context.Context //nolint:containedctx // ends with the demo, and with each process that ends by itself
	cancel context.CancelCauseFunc

	work         string
	controlPlane *envtest.Environment
	processes    []*process

	client client.Client
	rest   rest.Interface
}

// startEnvironment starts everything. What it returns is to be stopped even where it fails.
func startEnvironment(ctx context.Context, o options, s *screen) (*environment, error) {
	e := &environment{work: o.work}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	s.title("Starting")
	for _, step := range []struct {
		what string
		do   func(options) error
	}{
		{"etcd and kube-apiserver, with the CRDs of KubeRay and of raytls", e.startControlPlane},
		{"the KubeRay operator", e.startKubeRay},
		{"the raytls controller, with the roles of its own and no more", e.startOperator},
	} {
		began := time.Now()
		if err := step.do(o); err != nil {
			return e, fmt.Errorf("starting %s: %w", step.what, e.cause(err))
		}
		s.printf("   %-66s %4.1f s\n", step.what, time.Since(began).Seconds())
	}
	return e, nil
}

// cause gives the reason why the demo's context ended, if it did, for what failed because of that.
func (e *environment) cause(err error) error {
	if err != nil && e.ctx.Err() != nil {
		return context.Cause(e.ctx)
	}
	return err
}

func (e *environment) startControlPlane(o options) error {
	logs, err := os.Create(filepath.Join(e.work, "logs", "control-plane.log"))
	if err != nil {
		return err
	}
	log.SetLogger(zap.New(zap.WriteTo(logs)))
	existing := false
	e.controlPlane = &envtest.Environment{
		// Never whatever cluster the user's kubeconfig names.
		UseExistingCluster:    &existing,
		BinaryAssetsDirectory: o.assets,
		CRDDirectoryPaths:     []string{o.kuberayCRDs, "charts/raytls/files/crds"},
		ErrorIfCRDPathMissing: true,
	}
	server := e.controlPlane.ControlPlane.GetAPIServer()
	server.Out, server.Err = logs, logs
	e.controlPlane.ControlPlane.Etcd = &envtest.Etcd{Out: logs, Err: logs}
	config, err := e.controlPlane.Start()
	if err != nil {
		return err
	}
	scheme, err := app.Scheme()
	if err != nil {
		return err
	}
	if e.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	e.rest = clients.CoreV1().RESTClient()
	return e.client.Create(e.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
}

func (e *environment) startKubeRay(o options) error {
	return e.startAs(envtest.User{Name: "kuberay", Groups: []string{"system:masters"}}, "kuberay", o.kuberay,
		"-enable-leader-election=false", "-metrics-addr=0", "-health-probe-bind-address=0")
}

// startOperator starts the controller with the rights that it has in a cluster, so that a role that lacks something is found.
// The webhook does not run: without it, the controller writes templates itself.
func (e *environment) startOperator(o options) error {
	if err := e.apply("dist/install.yaml", func(object *unstructured.Unstructured) bool {
		return slices.Contains([]string{"Namespace", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}, object.GetKind())
	}); err != nil {
		return err
	}
	account := envtest.User{
		Name:   "system:serviceaccount:" + operatorNamespace + ":" + operatorAccount,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace},
	}
	return e.startAs(account, "raytls", o.manager,
		"controller", "--namespace="+operatorNamespace, "--metrics-bind-address=0", "--health-probe-bind-address=0")
}

// startAs starts a program that finds the API server, and itself as the user, by KUBECONFIG.
func (e *environment) startAs(user envtest.User, name, path string, args ...string) error {
	authenticated, err := e.controlPlane.AddUser(user, nil)
	if err != nil {
		return err
	}
	config, err := authenticated.KubeConfig()
	if err != nil {
		return err
	}
	file := filepath.Join(e.work, name+".kubeconfig")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	p, err := startProcess(filepath.Join(e.work, "logs", name+".log"), []string{"KUBECONFIG=" + file}, path, args...)
	if err != nil {
		return err
	}
	e.processes = append(e.processes, p)
	go func() {
		<-p.done
		e.cancel(fmt.Errorf("%s ended by itself: %w", name, p.err))
	}()
	return nil
}

// stop ends everything that was started, in the reverse order.
func (e *environment) stop() error {
	e.cancel(nil)
	var errs []error
	for i := len(e.processes) - 1; i >= 0; i-- {
		errs = append(errs, e.processes[i].stop())
	}
	if e.controlPlane != nil {
		errs = append(errs, e.controlPlane.Stop())
	}
	return errors.Join(errs...)
}

// objects reads the objects of a YAML file.
func objects(file string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var found []*unstructured.Unstructured
	for document := range strings.SplitSeq("\n"+string(text), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		if len(object.Object) > 0 {
			found = append(found, object)
		}
	}
	return found, nil
}

// apply creates the objects of a file that are chosen; all of them if choose is nil.
func (e *environment) apply(file string, choose func(*unstructured.Unstructured) bool) error {
	found, err := objects(file)
	if err != nil {
		return err
	}
	for _, object := range found {
		if choose != nil && !choose(object) {
			continue
		}
		if err := e.client.Create(e.ctx, object); err != nil {
			return fmt.Errorf("creating what %s holds: %w", file, err)
		}
	}
	return nil
}

// get returns an object or a list of the demo's namespace, as the API server sends it.
func (e *environment) get(group, resource string) ([]byte, error) {
	return e.rest.Get().AbsPath(path(group, resource)).DoRaw(e.ctx)
}

// table returns a list of the demo's namespace, as `kubectl get` prints it.
func (e *environment) table(group, resource string) (string, error) {
	raw, err := e.rest.Get().AbsPath(path(group, resource)).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(e.ctx)
	if err != nil {
		return "", err
	}
	return formatTable(raw)
}

// path is a URL's, of a group and version such as ray.io/v1, or v1 for the core group.
func path(group, resource string) string {
	root := "/apis/"
	if group == "v1" {
		root = "/api/"
	}
	return root + group + "/namespaces/" + namespace + "/" + resource
}

// until waits for what is described. done says why it is not done yet.
func (e *environment) until(what string, done func() (why string, err error)) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(90 * time.Second)
	for {
		why, err := done()
		if err != nil {
			return fmt.Errorf("waiting until %s: %w", what, e.cause(err))
		}
		if why == "" {
			return nil
		}
		select {
		case <-e.ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, context.Cause(e.ctx))
		case <-limit:
			return fmt.Errorf("waiting until %s took too long: %s", what, why)
		case <-ticker.C:
		}
	}
}
