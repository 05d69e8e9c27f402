package revoke

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	applyv1alpha1 "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/clitest"
	"github.com/raytls/raytls/internal/cli/fleet"
)

var update = flag.Bool("update", false, "write the golden files")

func world(t *testing.T, edits ...func(*v1alpha1.RayTLSPolicy)) client.WithWatch {
	t.Helper()
	return clitest.Client(t, clitest.Policy("default", edits...), clitest.RayCluster("train"), clitest.Record("train"))
}

func asked(t *testing.T, c client.Reader) (at string, now bool) {
	t.Helper()
	var p v1alpha1.RayTLSPolicy
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: "default"}, &p); err != nil {
		t.Fatal(err)
	}
	if before := p.Spec.CertificateAuthority.RevokeIssuedBefore; before != nil {
		at = before.UTC().Format(time.RFC3339)
	}
	return at, p.Spec.CertificateAuthority.RevokeNow
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	const at = "2026-11-27T10:00:00Z"
	for name, c := range map[string]struct {
		reason string
		edit   func(*v1alpha1.RayTLSPolicy)
		args   []string
		at     string
		now    bool
		fails  string
	}{
		"asks":  {"it restarts clusters, and nobody can answer", nil, []string{"train"}, "", false, "restarts all 3 pods of ml/train; run the command with --yes"},
		"yes":   {"the user has said so", nil, []string{"train", "--yes"}, at, false, ""},
		"now":   {"a restart that waits for nothing", nil, []string{"--all", "--now", "--yes"}, at, true, ""},
		"dry":   {"printing asks nothing", nil, []string{"train", "--dry-run"}, "", false, ""},
		"later": {"a time to come is kept", func(p *v1alpha1.RayTLSPolicy) { p.Spec.CertificateAuthority.RevokeIssuedBefore = clitest.In(time.Hour) }, []string{"train", "--yes"}, "2026-11-27T11:00:00Z", false, "would take back"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := world(t, func(p *v1alpha1.RayTLSPolicy) {
				if c.edit != nil {
					c.edit(p)
				}
			})
			out, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", c.args...)
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: error %v", c.reason, err)
			}
			if gotAt, gotNow := asked(t, fake); gotAt != c.at || gotNow != c.now {
				t.Errorf("%s: the policy asks for %q, now %t", c.reason, gotAt, gotNow)
			}
			if name == "dry" {
				clitest.Golden(t, *update, "dry-run.yaml", out)
			}
		})
	}
}

// A revokeNow that is left from another time would let this restart begin at once.
func TestRevokeTakesItsNowBack(t *testing.T) {
	t.Parallel()
	fake := world(t)
	for _, c := range []struct {
		args []string
		now  bool
	}{{[]string{"train", "--yes", "--now"}, true}, {[]string{"train", "--yes"}, false}} {
		if _, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", c.args...); err != nil {
			t.Fatal(err)
		}
		if _, now := asked(t, fake); now != c.now {
			t.Errorf("%v: revokeNow is %t", c.args, now)
		}
	}
}

func TestRevokeBesideOtherWriters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason string
		theirs *applyv1alpha1.CertificateAuthorityApplyConfiguration
		args   []string
		fails  string
		now    bool
	}{
		"default": {"whoever creates a policy owns the defaults too", applyv1alpha1.CertificateAuthority().WithRevokeNow(false), []string{"--now"}, "", true},
		"theirs": {
			"the restart would begin at once, though nobody said so here", applyv1alpha1.CertificateAuthority().WithRevokeNow(true).WithRevokeIssuedBefore(*clitest.Ago(time.Hour)), nil,
			"kustomize-controller", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := world(t)
			config := applyv1alpha1.RayTLSPolicy("default", "ml").WithSpec(applyv1alpha1.RayTLSPolicySpec().WithCertificateAuthority(c.theirs))
			if err := fake.Apply(t.Context(), config, client.FieldOwner("kustomize-controller")); err != nil {
				t.Fatal(err)
			}
			_, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", append([]string{"train", "--yes"}, c.args...)...)
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: error %v", c.reason, err)
			}
			if _, now := asked(t, fake); now != c.now {
				t.Errorf("%s: revokeNow is %t", c.reason, now)
			}
		})
	}
}

func TestRevokeWait(t *testing.T) {
	t.Parallel()
	fake := world(t)
	step, left := clitest.Steps(fake,
		func(s *v1alpha1.RayClusterTLSStatus) {
			clitest.Set(s, clitest.Condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonRevocationPending, "every pod trusts the revoked authority"))
			s.PendingRestart = &v1alpha1.PendingRestart{ID: "3f2a9c", Action: v1alpha1.ActionRevoke, Reason: v1alpha1.ReasonAwaitingApproval, Message: "the cluster runs; to approve it, run: kubectl"}
		},
		// Somebody replaces the authority in the meantime. Its pods accept those of the stolen one.
		func(s *v1alpha1.RayClusterTLSStatus) {
			s.PendingRestart = nil
			s.Authority.Generation, s.Authority.IssuedTime = 4, clitest.In(time.Minute)
		},
		func(s *v1alpha1.RayClusterTLSStatus) { s.Authority.RevokedBeforeGeneration = 5 },
		func(s *v1alpha1.RayClusterTLSStatus) {
			s.Authority.Generation, s.Pods = 5, v1alpha1.PodCounts{Total: 3, Certified: 1}
		},
		func(s *v1alpha1.RayClusterTLSStatus) {
			s.Pods.Certified = 3
			clitest.Set(s, clitest.Condition(v1alpha1.ConditionUpToDate, metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "all"))
		},
	)
	out, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, step)), "", "train", "--yes", "--wait")
	if err != nil || left() > 0 {
		t.Errorf("%d steps are left: %v", left(), err)
	}
	clitest.Golden(t, *update, "wait.txt", out)
}

func TestAsk(t *testing.T) {
	t.Parallel()
	for answer, goes := range map[string]bool{"yes\n": true, " yes \n": true, "y\n": false, "\n": false, "": false, "no\n": false, "yes": true} {
		var out bytes.Buffer
		if err := ask(strings.NewReader(answer), &out); (err == nil) != goes {
			t.Errorf("%q: %v", answer, err)
		}
		if !strings.Contains(out.String(), "Type yes") {
			t.Errorf("the question is %q", out.String())
		}
	}
}

func TestConfirmNeedsSomebody(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "answers"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	clusters := []fleet.Cluster{{TLS: clitest.Record("train")}}
	var out bytes.Buffer
	if err := confirm(file, &out, clusters, false); err == nil || !strings.Contains(err.Error(), "--yes") || out.Len() > 0 {
		t.Errorf("a file is not somebody: %v, asked %q", err, out.String())
	}
	device, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = device.Close() })
	if err := confirm(device, &out, clusters, true); err == nil || !strings.Contains(out.String(), "at once, and running jobs fail") {
		t.Errorf("no answer is no: %v, asked %q", err, out.String())
	}
}
