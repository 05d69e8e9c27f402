package suite_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/raytls/raytls/internal/app"
)

const operatorNamespace = "raytls-system"

// environment is an API server with the CRDs, the operator's RBAC, and somebody who may do everything.
type environment struct {
	server *envtest.Environment
	// admin is the user, KubeRay and the kubelets.
	admin client.WithWatch
	// kubeconfig is the operator's.
	kubeconfig string
	// writes holds one line for each write of any operator; logFile what they logged.
	writes, logFile string
	namespaces      int
}

func newEnvironment(folder string) (*environment, error) {
	rays, err := rayCRDs("rayclusters", "rayjobs", "rayservices")
	if err != nil {
		return nil, err
	}
	e := &environment{
		server: &envtest.Environment{
			CRDs:                  rays,
			CRDDirectoryPaths:     []string{filepath.Join("..", "..", "..", "config", "crd", "bases")},
			ErrorIfCRDPathMissing: true,
			CRDInstallOptions:     envtest.CRDInstallOptions{MaxTime: time.Minute}, // KubeRay's are large
		},
		kubeconfig: filepath.Join(folder, "kubeconfig"), writes: filepath.Join(folder, "writes"), logFile: filepath.Join(folder, "log"),
	}
	// Some distributions have it; with it, owner references take permissions of their own.
	e.server.ControlPlane.GetAPIServer().Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	config, err := e.server.Start()
	if err != nil {
		return nil, fmt.Errorf("starting the API server: %w", err)
	}
	config.QPS = -1
	scheme, err := app.Scheme()
	if err != nil {
		return nil, err
	}
	if e.admin, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if err := e.installRBAC(); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	return e, nil
}

func (e *environment) stop() error { return e.server.Stop() }

// installRBAC applies config/rbac as it is, and makes a user that is the service account it is for.
func (e *environment) installRBAC() error {
	ctx := context.Background()
	if err := e.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}); err != nil {
		return err
	}
	for _, name := range []string{"role.yaml", "role_binding.yaml"} {
		file, err := os.Open(filepath.Join("..", "..", "..", "config", "rbac", name))
		if err != nil {
			return err
		}
		decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
		for {
			object := &unstructured.Unstructured{}
			err := decoder.Decode(&object.Object)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("reading %s: %w", name, err)
			}
			if len(object.Object) == 0 {
				continue
			}
			if err := e.admin.Create(ctx, object); err != nil {
				return fmt.Errorf("creating %s of %s: %w", object.GetKind(), name, err)
			}
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	user, err := e.server.AddUser(envtest.User{
		Name:   "system:serviceaccount:raytls-system:raytls-manager",
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:raytls-system", "system:authenticated"},
	}, nil)
	if err != nil {
		return err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return err
	}
	return os.WriteFile(e.kubeconfig, kubeconfig, 0o600)
}

// rayCRDs are KubeRay's of these names, but that RayClusters and RayServices keep fields which this version of KubeRay does
// not know, as a newer version's CRD would.
func rayCRDs(names ...string) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ray-project/kuberay/ray-operator").Output()
	if err != nil {
		return nil, fmt.Errorf("finding KubeRay's module: %w", err)
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "config", "crd", "bases", "ray.io_"+name+".yaml"))
		if err != nil {
			return nil, err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := sigsyaml.Unmarshal(text, crd); err != nil {
			return nil, fmt.Errorf("reading KubeRay's CRD %s: %w", name, err)
		}
		if name == "rayclusters" || name == "rayservices" {
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
