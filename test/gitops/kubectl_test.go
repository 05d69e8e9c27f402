package gitops_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// folder is one of manifests, for kubectl.
type folder struct {
	w    *world
	path string
}

func (w *world) folder() *folder {
	w.t.Helper()
	if os.Getenv("KUBECTL") == "" {
		w.t.Skip("KUBECTL is not set; hack/gitops sets it")
	}
	return &folder{w: w, path: w.t.TempDir()}
}

func (f *folder) write(manifest *unstructured.Unstructured) {
	f.w.t.Helper()
	text, err := yaml.Marshal(manifest.Object)
	f.w.must(err)
	f.w.must(os.WriteFile(filepath.Join(f.path, manifest.GetKind()+".yaml"), text, 0o600))
}

// kubectl runs it on the folder, and returns what it prints and its exit code.
func (f *folder) kubectl(args ...string) (string, int) {
	f.w.t.Helper()
	cmd := exec.CommandContext(f.w.ctx, os.Getenv("KUBECTL"), append(args, "-f", f.path)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.personal(), "HOME="+env.folder)
	cmd.Args = append(cmd.Args, "--namespace="+f.w.ns)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.w.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (f *folder) apply(flags ...string) string {
	f.w.t.Helper()
	out, code := f.kubectl(append([]string{"apply"}, flags...)...)
	if code != 0 {
		f.w.t.Fatalf("kubectl apply: exit code %d: %s", code, out)
	}
	return out
}

// clean sees that applying the folder again changes nothing, and that kubectl diff finds nothing.
func (f *folder) clean(flags ...string) {
	f.w.t.Helper()
	f.w.settles()
	kinds := []schema.GroupVersionKind{clusterKind, policyKind}
	before := make([]int64, len(kinds))
	for i, kind := range kinds {
		before[i] = f.w.get(kind, "sample").GetGeneration()
	}
	for range 2 {
		out := f.apply(flags...)
		if flags == nil && (!strings.Contains(out, "sample configured") || !strings.Contains(out, "raytlspolicy.raytls.io/sample unchanged")) {
			f.w.t.Errorf("kubectl apply prints something else than is documented: %s", out)
		}
	}
	for i, kind := range kinds {
		if after := f.w.get(kind, "sample").GetGeneration(); before[i] != after {
			f.w.t.Errorf("applied again, the generation of the %s goes from %d to %d", kind.Kind, before[i], after)
		}
	}
	if out, code := f.kubectl(append([]string{"diff"}, flags...)...); code != 0 {
		f.w.t.Errorf("kubectl diff: exit code %d: %s", code, out)
	}
	f.w.rests()
}

func TestKubectlAppliesAndDiffs(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"client-side": nil, "server-side": {"--server-side"}} {
		for _, file := range []string{"config/samples/raycluster.yaml", "awkward.yaml"} {
			t.Run(name+" "+filepath.Base(file), func(t *testing.T) {
				w := newWorld(t)
				f := w.folder()
				cluster := w.manifest(file)
				f.write(cluster)
				f.write(w.policy())
				f.apply(flags...)
				w.encrypted("sample", "sample")
				f.clean(flags...)

				w.mark()
				set("rayproject/ray:2.53.0", below(workerContainer, "image")...)(cluster)
				f.write(cluster)
				out, code := f.kubectl(append([]string{"diff"}, flags...)...)
				if code != 1 || !strings.Contains(out, "ray:2.53.0") || strings.Contains(out, "\n-        - name: RAY_USE_TLS") {
					t.Errorf("kubectl diff of a change: exit code %d: %s", code, out)
				}
				f.apply(flags...)
				w.complete("sample")
				w.deletesNoPod()
				f.clean(flags...)
			})
		}
	}
}

// The operator must not take the worker groups from whoever applied them, or the next apply would be refused.
func TestKubectlKeepsWhatIsEncryptedLater(t *testing.T) {
	w := newWorld(t)
	f := w.folder()
	f.write(w.cluster())
	f.apply("--server-side")
	w.eventually("the cluster runs in plaintext", func() error { return w.ray.up(w.ctx, "sample") })
	time.Sleep(1100 * time.Millisecond) // a pod of this very second could be taken for one that is made from now on
	f.write(w.policy())
	f.apply("--server-side")
	w.encrypted("sample", "sample")
	f.clean("--server-side")
}

// The command in the message approves the restart. Flux takes the approval back, as everything that was done with kubectl and
// is not in Git, but the restart has begun by then.
func TestFluxTakesBackAnApprovalOfKubectls(t *testing.T) {
	w := newWorld(t)
	policy, cluster := w.manifest("selector.yaml"), w.cluster()
	w.folder() // skips without kubectl
	w.does(ssa.CreatedAction, cluster)
	w.eventually("the cluster runs in plaintext", func() error { return w.ray.up(w.ctx, "sample") })
	time.Sleep(1100 * time.Millisecond) // a pod of this very second could be taken for one that is made from now on
	w.applies(policy)
	w.says("sample", "Ready", "False/AwaitingApproval")
	w.settles()
	message, _ := at(w.get(tlsKind, "sample"), "status", "pendingRestart", "message").(string)
	_, command, found := strings.Cut(message, "to approve it, run: kubectl ")
	if !found {
		t.Fatalf("the message has no command: %s", message)
	}
	cmd := exec.CommandContext(w.ctx, "sh", "-c", `exec "$KUBECTL" `+command)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.personal(), "HOME="+env.folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	w.eventually("the restart begins", func() error {
		if o := w.get(tlsKind, "sample"); at(o, "status", "rollout") == nil && condition(o, "Encrypted") != "True/Encrypted" {
			return fmt.Errorf("it has not: %v", o.Object["status"])
		}
		return nil
	})
	if got := w.applies(policy, cluster)["RayTLSPolicy"]; got != ssa.ConfiguredAction {
		t.Errorf("Flux leaves an approval that is not in Git: %s", got)
	}
	if got := at(w.get(policyKind, "sample"), "spec", "rollout", "approvals"); got != nil {
		t.Errorf("the approvals are %v", got)
	}
	w.encrypted("sample", "sample")
	w.unchanged(policy, cluster)
}

// A cluster that was made with kubectl is put under Flux.
func TestFluxTakesOverFromKubectl(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"client-side": nil, "server-side": {"--server-side"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			f := w.folder()
			policy, cluster := w.policy(), w.cluster()
			f.write(policy)
			f.write(cluster)
			f.apply(flags...)
			w.encrypted("sample", "sample")
			w.mark()
			w.applies(policy, cluster) // it labels them
			w.complete("sample")
			w.deletesNoPod()
			w.unchanged(policy, cluster)
			w.ownedByFlux("sample")
		})
	}
}
