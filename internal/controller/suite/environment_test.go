package suite_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/app"
)

const (
	operatorNamespace = "raytls-system"
	startTimeout      = 2 * time.Minute
	// root is the repository's folder.
	root = "../../.."
	// installation is what users apply.
	installation = "dist/install.yaml"
)

// environment is an API server with the CRDs, the operator's RBAC and guards, and somebody who may do everything.
type environment struct {
	server *envtest.Environment
	// admin is the user, KubeRay and the kubelets.
	admin client.WithWatch
	// kubeconfig is the controller's, webhookKubeconfig the webhook's.
	kubeconfig, webhookKubeconfig string
	// mounted is the folder where the webhook finds its authority.
	mounted string
	// heads is the folder that says what listens for which head.
	heads string
	// writes holds one line for each write of any operator; logFile what they logged.
	writes, logFile string
	namespaces      int
	// webhook is the webhook's address for admission requests.
	webhook string
	// rays are KubeRay's CRDs.
	rays []*apiextensionsv1.CustomResourceDefinition
}

// newEnvironment prepares an environment, of which nothing runs yet, with its files in folder.
func newEnvironment(folder string) (*environment, error) {
	rays, err := rayCRDs()
	if err != nil {
		return nil, err
	}
	e := &environment{
		server: &envtest.Environment{
			CRDs:                  rays,
			CRDDirectoryPaths:     []string{filepath.Join(root, "charts", "raytls", "files", "crds")},
			ErrorIfCRDPathMissing: true,
			// Several processes start at the same time, beside whatever else the machine does.
			CRDInstallOptions:        envtest.CRDInstallOptions{MaxTime: startTimeout},
			ControlPlaneStartTimeout: startTimeout, ControlPlaneStopTimeout: startTimeout,
		},
		rays:       rays,
		kubeconfig: filepath.Join(folder, "kubeconfig"), webhookKubeconfig: filepath.Join(folder, "webhook.kubeconfig"),
		mounted: filepath.Join(folder, "mounted"), heads: filepath.Join(folder, "heads"), writes: filepath.Join(folder, "writes"), logFile: filepath.Join(folder, "log"),
	}
	if err := os.MkdirAll(e.heads, 0o700); err != nil {
		return nil, err
	}
	// Some distributions have it; with it, owner references take permissions of their own.
	e.server.ControlPlane.GetAPIServer().Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	return e, nil
}

// start starts the API server and installs what the operator needs. Also after an error, the caller calls stop.
func (e *environment) start() error {
	config, err := e.server.Start()
	if err != nil {
		return fmt.Errorf("starting the API server: %w", err)
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{} // the stand-in for KubeRay writes fields that older versions lack
	scheme, err := app.Scheme()
	if err != nil {
		return err
	}
	if e.admin, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if e.webhook, err = freeAddress(); err != nil {
		return err
	}
	return errors.Join(e.installRBAC(), e.installGuards())
}

func (e *environment) stop() error { return e.server.Stop() }

// installRBAC applies the roles as they are, and makes a user for each of the service accounts that they are for.
func (e *environment) installRBAC() error {
	ctx := context.Background()
	if err := e.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}); err != nil {
		return err
	}
	if err := e.apply(installation, "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"); err != nil {
		return err
	}
	return errors.Join(e.addAccount("raytls-controller", e.kubeconfig), e.addAccount("raytls-webhook", e.webhookKubeconfig))
}

// apply creates what a file of the repository holds of these kinds, or everything without a kind.
func (e *environment) apply(name string, kinds ...string) error {
	file, err := os.Open(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if len(object.Object) == 0 || len(kinds) > 0 && !slices.Contains(kinds, object.GetKind()) {
			continue
		}
		if err := e.admin.Create(context.Background(), object); err != nil {
			return fmt.Errorf("creating %s of %s: %w", object.GetKind(), name, err)
		}
	}
}

// addAccount writes a kubeconfig with which one is the service account.
func (e *environment) addAccount(name, file string) error {
	return e.addUser(envtest.User{
		Name:   "system:serviceaccount:" + operatorNamespace + ":" + name,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}, file)
}

// addUser writes a kubeconfig with which one is the user.
func (e *environment) addUser(as envtest.User, file string) error {
	user, err := e.server.AddUser(as, nil)
	if err != nil {
		return err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return err
	}
	return os.WriteFile(file, kubeconfig, 0o600)
}

// rayCRDs are all that the version of KubeRay has. In go.mod's version a RayCluster or RayService keeps fields which it does not know, as
// a newer version's CRD would; the older ones are as they are.
func rayCRDs() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	folder, err := rayCRDFolder()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(folder, "ray.io_*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no CRDs of KubeRay's in %s", folder))
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := sigsyaml.Unmarshal(text, crd); err != nil {
			return nil, fmt.Errorf("reading KubeRay's CRD %s: %w", name, err)
		}
		if kind := crd.Spec.Names.Kind; newestKubeRay() && (kind == "RayCluster" || kind == "RayService") {
			for i := range crd.Spec.Versions {
				spec := crd.Spec.Versions[i].Schema.OpenAPIV3Schema.Properties["spec"]
				keepUnknown(&spec, 9)
				crd.Spec.Versions[i].Schema.OpenAPIV3Schema.Properties["spec"] = spec
			}
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

// keepUnknown marks the objects of a schema down to that depth.
func keepUnknown(schema *apiextensionsv1.JSONSchemaProps, depth int) {
	if depth == 0 {
		return
	}
	if schema.Type == "object" && schema.Properties != nil {
		keep := true
		schema.XPreserveUnknownFields = &keep
		for name, property := range schema.Properties {
			keepUnknown(&property, depth-1)
			schema.Properties[name] = property
		}
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		keepUnknown(schema.Items.Schema, depth-1)
	}
}
