// Package gitops_test applies policies and RayClusters as GitOps tools and kubectl do, against a real API server on which
// the operator runs as it is deployed: its own binary, its own RBAC, its own admission webhook.
package gitops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fluxcd/pkg/ssa/utils"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/go-logr/logr"
)

const (
	operatorNamespace = "raytls-system"
	// operatorUser is the controller, the only one of the operator's two accounts that writes; webhookUser is the other.
	operatorUser = "system:serviceaccount:raytls-system:raytls-controller"
	webhookUser  = "system:serviceaccount:raytls-system:raytls-webhook"
)

// env is nil where there is no control plane to run against.
var env *environment

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv("KUBEBUILDER_ASSETS") == "" {
			return m.Run()
		}
		ctrl.SetLogger(logr.Discard())
		folder, err := os.MkdirTemp("", "raytls-gitops-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		env = &environment{root: filepath.Join("..", ".."), folder: folder}
		if err := env.start(); err != nil {
			fmt.Fprintln(os.Stderr, errors.Join(err, env.stop()))
			return 1
		}
		code := m.Run()
		if err := env.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// environment is an API server with KubeRay's CRDs and an operator.
type environment struct {
	// root is the repository's folder, folder one for files that do not stay.
	root, folder string
	server       *envtest.Environment
	config       *rest.Config
	admin        client.WithWatch
	// operator is its processes, controller and webhook. Each tells ended how it ended.
	operator []*exec.Cmd
	ended    chan error
	// webhook is where the operator serves admission.
	webhook string
}

func (e *environment) log() string   { return filepath.Join(e.folder, "log") }
func (e *environment) audit() string { return filepath.Join(e.folder, "audit") }

// kubeconfig is that of one of the operator's processes, personal that of somebody with kubectl.
func (e *environment) kubeconfig(process string) string {
	return filepath.Join(e.folder, process+".kubeconfig")
}
func (e *environment) personal() string { return filepath.Join(e.folder, "personal") }

// authority is where the webhook finds its authority.
func (e *environment) authority() string { return filepath.Join(e.folder, "authority") }

func (e *environment) start() error {
	kuberay, err := e.kuberay()
	if err != nil {
		return err
	}
	policy := filepath.Join(e.folder, "audit.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	built := make(chan error, 1)
	go func() { built <- e.build() }()
	e.server = &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(kuberay, "config", "crd", "bases"), filepath.Join(e.root, "charts", "raytls", "files", "crds")},
		ErrorIfCRDPathMissing: true,
		// A busy machine takes longer than the defaults.
		ControlPlaneStartTimeout: 2 * time.Minute,
		CRDInstallOptions:        envtest.CRDInstallOptions{MaxTime: 2 * time.Minute},
	}
	e.server.ControlPlane.GetAPIServer().Configure().Append("audit-policy-file", policy).Append("audit-log-path", e.audit())
	if e.config, err = e.server.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting the API server: %w", err), <-built)
	}
	e.config.QPS = -1
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if e.admin, err = client.NewWithWatch(e.config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	return errors.Join(e.install(), <-built, e.run())
}

// kuberay is the folder of KubeRay's module, of the version that the operator is built with.
func (e *environment) kuberay() (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/ray-project/kuberay/ray-operator")
	cmd.Dir = e.root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("finding KubeRay's module: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", fmt.Errorf("finding KubeRay's module: %w", err)
	}
	return module.Dir, nil
}

func (e *environment) build() error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", e.folder, "./cmd/manager")
	cmd.Dir = e.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the operator: %w: %s", err, out)
	}
	return nil
}

// install applies the roles and the webhook's configuration, and makes a user for each service account. Only where the
// webhook is served differs: there is no Service here.
func (e *environment) install() error {
	ctx := context.Background()
	if err := e.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}); err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	e.webhook = address
	objects, err := e.installation("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "MutatingWebhookConfiguration")
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := e.redirect(object); err != nil {
			return err
		}
		if err := e.admin.Create(ctx, object); err != nil {
			return fmt.Errorf("creating %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	for process, name := range map[string]string{"controller": operatorUser, "webhook": webhookUser} {
		user, err := e.server.AddUser(envtest.User{
			Name: name, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
		}, nil)
		if err != nil {
			return err
		}
		kubeconfig, err := user.KubeConfig()
		if err != nil {
			return err
		}
		if err := os.WriteFile(e.kubeconfig(process), kubeconfig, 0o600); err != nil {
			return err
		}
	}
	person, err := e.server.AddUser(envtest.User{Name: "person", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return err
	}
	kubeconfig, err := person.KubeConfig()
	if err != nil {
		return err
	}
	return os.WriteFile(e.personal(), kubeconfig, 0o600)
}

// readObjects reads the objects of a file.
func readObjects(file string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	objects, err := utils.ReadObjects(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return objects, nil
}

// installation is what users apply, of these kinds.
func (e *environment) installation(kinds ...string) ([]*unstructured.Unstructured, error) {
	objects, err := readObjects(filepath.Join(e.root, "dist", "install.yaml"))
	return slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return !slices.Contains(kinds, o.GetKind()) }), err
}

// redirect turns a webhook's Service into the operator's address on this machine.
func (e *environment) redirect(object *unstructured.Unstructured) error {
	webhooks, _, _ := unstructured.NestedSlice(object.Object, "webhooks")
	for _, w := range webhooks {
		config := w.(map[string]any)["clientConfig"].(map[string]any)
		path, _, _ := unstructured.NestedString(config, "service", "path")
		delete(config, "service")
		config["url"] = "https://" + e.webhook + path
	}
	if webhooks == nil {
		return nil
	}
	return unstructured.SetNestedSlice(object.Object, webhooks, "webhooks")
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// run starts the operator, and waits until its webhook serves.
func (e *environment) run() error {
	e.ended = make(chan error, 2)
	if err := e.launch("controller", "--leader-elect=false"); err != nil {
		return err
	}
	if err := e.await("made the webhook's authority", e.mount); err != nil {
		return err
	}
	if err := e.launch("webhook", "--webhook-bind-address="+e.webhook, "--webhook-dns-name=127.0.0.1", "--webhook-ca-dir="+e.authority()); err != nil {
		return err
	}
	return e.await("begun to answer admission requests", func() bool {
		connection, err := net.DialTimeout("tcp", e.webhook, time.Second)
		return err == nil && connection.Close() == nil
	})
}

// launch starts one of the operator's processes.
func (e *environment) launch(process string, args ...string) error {
	log, err := os.OpenFile(e.log(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args = append([]string{process, "--namespace=" + operatorNamespace, "--metrics-bind-address=0", "--health-probe-bind-address=0"}, args...)
	command := exec.Command(filepath.Join(e.folder, "manager"), args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+e.kubeconfig(process))
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return err
	}
	e.operator = append(e.operator, command)
	go func() { e.ended <- command.Wait() }()
	return nil
}

// await waits until the operator has done something.
func (e *environment) await(what string, done func() bool) error {
	for range 600 {
		if done() {
			return nil
		}
		select {
		case err := <-e.ended:
			e.operator = e.operator[:len(e.operator)-1]
			return errors.Join(fmt.Errorf("a process of the operator ended: %w", err), e.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.Join(errors.New("the operator has not "+what), e.tail())
}

// mount writes the webhook's authority where the kubelet would; false while there is none.
func (e *environment) mount() bool {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: operatorNamespace, Name: "raytls-webhook-ca"}
	if e.admin.Get(context.Background(), key, secret) != nil || os.MkdirAll(e.authority(), 0o700) != nil {
		return false
	}
	for name, content := range secret.Data {
		if os.WriteFile(filepath.Join(e.authority(), name), content, 0o600) != nil {
			return false
		}
	}
	return true
}

// tail is the end of the operator's log.
func (e *environment) tail() error {
	text, err := os.ReadFile(e.log())
	if err != nil {
		return err
	}
	return errors.New("its log ends with:\n" + string(text[max(0, len(text)-4096):]))
}

// stop ends everything, and says what in the operator's log should not be there.
func (e *environment) stop() error {
	var failures []error
	for _, process := range e.operator {
		failures = append(failures, process.Process.Signal(syscall.SIGTERM))
	}
	for range e.operator {
		if err := <-e.ended; err != nil {
			failures = append(failures, fmt.Errorf("a process of the operator did not end well: %w", err))
		}
	}
	if e.operator != nil {
		text, err := os.ReadFile(e.log())
		failures = append(failures, err)
		for line := range strings.Lines(string(text)) {
			for _, never := range []string{"is forbidden", "PRIVATE KEY", "panic"} {
				if strings.Contains(line, never) {
					failures = append(failures, errors.New("the operator logged: "+line))
				}
			}
		}
	}
	if e.server != nil {
		failures = append(failures, e.server.Stop())
	}
	return errors.Join(failures...)
}

// auditPolicy has the API server note every write.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [get, list, watch]
- level: None
  resources: [{group: events.k8s.io}, {group: coordination.k8s.io}, {group: "", resources: [events]}]
- level: Metadata
`

// write is one of the API server's notes.
type write struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	RequestURI string `json:"requestURI"`
}

func (w *write) String() string {
	return fmt.Sprintf("%s %s/%s %s: %d", w.Verb, w.ObjectRef.Resource, w.ObjectRef.Subresource, w.ObjectRef.Name, w.ResponseStatus.Code)
}

// writes are the operator's to that namespace, those in the audit log from that byte on. The second value is where the log ends.
func (e *environment) writes(namespace string, from int64) ([]string, int64, error) {
	file, err := os.Open(e.audit())
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return nil, 0, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, 0, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may be half written
	var out []string
	for line := range bytes.Lines(text) {
		var w write
		if err := json.Unmarshal(line, &w); err != nil {
			return nil, 0, fmt.Errorf("reading the audit log: %w", err)
		}
		if w.User.Username == operatorUser && w.ObjectRef.Namespace == namespace {
			out = append(out, w.String())
		}
	}
	return out, from + int64(len(text)), nil
}
