package approve

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	applyv1alpha1 "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/clitest"
)

var update = flag.Bool("update", false, "write the golden files")

const command = "; to approve it, run: kubectl patch raytlspolicy default -n ml"

// waiting has a restart wait.
func waiting(action v1alpha1.RestartAction, reason, by, message string) func(*v1alpha1.RayClusterTLSStatus) {
	return func(s *v1alpha1.RayClusterTLSStatus) {
		s.PendingRestart = &v1alpha1.PendingRestart{ID: "3f2a9c", Action: action, Reason: reason, BlockedBy: by, Message: message}
	}
}

func approvals(t *testing.T, c client.Reader) map[string]string {
	t.Helper()
	var p v1alpha1.RayTLSPolicy
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: "default"}, &p); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, a := range p.Spec.Rollout.Approvals {
		out[a.Cluster] = a.Restart
	}
	return out
}

func code(err error) int {
	if err == nil {
		return 0
	}
	if coded, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		return coded.ExitCode()
	}
	return 1
}

func TestApprove(t *testing.T) {
	t.Parallel()
	approves := func(a ...v1alpha1.Approval) *v1alpha1.RayTLSPolicy {
		return clitest.Policy("default", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Rollout.Approvals = a })
	}
	enable := waiting(v1alpha1.ActionEnable, v1alpha1.ReasonAwaitingApproval, "", "the cluster runs; suspend it, or approve"+command)
	for name, c := range map[string]struct {
		reason string
		policy *v1alpha1.RayTLSPolicy
		record *v1alpha1.RayClusterTLS
		args   []string
		code   int
		wants  map[string]string
		says   []string
	}{
		"enable": {
			"what is restarted, and why, is shown", approves(), clitest.Record("train", enable), nil, 0,
			map[string]string{"train": "3f2a9c"},
			[]string{"restart      3f2a9c, Enable", "all 3 pods, with TLS", "AwaitingApproval: the cluster runs; suspend it, or approve\n", "approved     in RayTLSPolicy ml/default"},
		},
		"others": {
			"the approvals of other clusters stay", approves(v1alpha1.Approval{Cluster: "serve", Restart: "aaaaaa"}), clitest.Record("train", enable), nil, 0,
			map[string]string{"serve": "aaaaaa", "train": "3f2a9c"},
			nil,
		},
		"again": {
			"an approval is not given twice", approves(v1alpha1.Approval{Cluster: "train", Restart: "3f2a9c"}), clitest.Record("train", enable), nil, 0,
			map[string]string{"train": "3f2a9c"},
			[]string{"approved     before"},
		},
		"by id": {"the user saw this restart", approves(), clitest.Record("train", enable), []string{"--restart", "3f2a9c"}, 0, map[string]string{"train": "3f2a9c"}, nil},
		"other id": {
			"the user saw another restart", approves(), clitest.Record("train", enable),
			[]string{"--restart", "bbbbbb"},
			exitNothing,
			map[string]string{},
			[]string{"waits for restart 3f2a9c (Enable) and no longer for bbbbbb"},
		},
		"blocked": {
			"an approval may come before the end of a job", approves(), clitest.Record("train", waiting(v1alpha1.ActionEnable, v1alpha1.ReasonBlocked, "RayJob/nightly", "RayJob nightly runs on the cluster")), nil, 0,
			map[string]string{"train": "3f2a9c"},
			[]string{"Blocked by RayJob/nightly", "does not lift this"},
		},
		"roll": {
			"the head alone needs it", approves(), clitest.Record("train", waiting(v1alpha1.ActionRoll, v1alpha1.ReasonAwaitingApproval, "", "the cluster loses its state"+command)), nil, 0,
			map[string]string{"train": "3f2a9c"},
			[]string{"the head, for a new certificate"},
		},
		"on delete": {
			"no approval lifts the strategy", approves(), clitest.Record("train", waiting(v1alpha1.ActionRoll, v1alpha1.ReasonOnDelete, "", "delete the pods, the head last")), nil, exitNothing,
			map[string]string{},
			[]string{"leaves the restart of RayCluster ml/train to you: delete the pods, the head last"},
		},
		"never": {
			"nor headRestart", approves(), clitest.Record("train", waiting(v1alpha1.ActionRoll, v1alpha1.ReasonBlocked, "rollout.headRestart", "delete the pod")), nil, exitNothing,
			map[string]string{},
			[]string{"to you: delete the pod"},
		},
		"nothing":   {"no restart waits", approves(), clitest.Record("train"), nil, exitNothing, map[string]string{}, []string{"no restart of RayCluster ml/train waits"}},
		"no record": {"the operator does not run", approves(), nil, nil, exitNothing, map[string]string{}, []string{"the operator reports nothing of RayCluster ml/train"}},
		"hostile": {
			"what others wrote steers no terminal", approves(), clitest.Record("train", waiting(v1alpha1.ActionEnable, v1alpha1.ReasonAwaitingApproval, "", "a\x1b[2J\u009bb"+command)), nil, 0,
			map[string]string{"train": "3f2a9c"},
			[]string{"a\ufffd[2J\ufffdb"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := []client.Object{c.policy, clitest.RayCluster("train")}
			if c.record != nil {
				objects = append(objects, c.record)
			}
			fake := clitest.Client(t, objects...)
			out, notes, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", append([]string{"train"}, c.args...)...)
			if code(err) != c.code {
				t.Errorf("%s: exit code %d, want %d: %v", c.reason, code(err), c.code, err)
			}
			if err != nil {
				notes += err.Error()
			}
			for _, part := range c.says {
				if !strings.Contains(out+notes, part) {
					t.Errorf("%s: %q is missing in\n%s%s", c.reason, part, out, notes)
				}
			}
			if diff := cmp.Diff(c.wants, approvals(t, fake)); diff != "" {
				t.Errorf("%s: approvals (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestApproveKeepsItsOwnEntries(t *testing.T) {
	t.Parallel()
	enable := waiting(v1alpha1.ActionEnable, v1alpha1.ReasonAwaitingApproval, "", "the cluster runs"+command)
	fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train", enable), clitest.RayCluster("serve"), clitest.Record("serve", enable))
	for _, cluster := range []string{"train", "serve", "train"} {
		if _, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", cluster); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]string{"train": "3f2a9c", "serve": "3f2a9c"}, approvals(t, fake)); diff != "" {
		t.Errorf("an apply takes back what it leaves out (-want +got):\n%s", diff)
	}
}

// Two users approve at the same moment: the second sees that its policy is old, and begins anew.
func TestApproveBesideAnother(t *testing.T) {
	t.Parallel()
	enable := waiting(v1alpha1.ActionEnable, v1alpha1.ReasonAwaitingApproval, "", "the cluster runs"+command)
	fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train", enable), clitest.RayCluster("serve"), clitest.Record("serve", enable))
	raced := false
	racing := interceptor.NewClient(fake, interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, config runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			if !raced {
				raced = true
				if _, _, err := clitest.Run(ctx, New(clitest.Open(fake, nil)), "", "serve"); err != nil {
					return err
				}
			}
			return c.Apply(ctx, config, options...)
		},
	})
	if _, _, err := clitest.Run(t.Context(), New(clitest.Open(racing, nil)), "", "train"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"train": "3f2a9c", "serve": "3f2a9c"}, approvals(t, fake)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestApproveRefusesWhatGitWouldTakeBack(t *testing.T) {
	t.Parallel()
	fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train", waiting(v1alpha1.ActionEnable, v1alpha1.ReasonAwaitingApproval, "", "the cluster runs"+command)))
	config := applyv1alpha1.RayTLSPolicy("default", "ml").WithSpec(applyv1alpha1.RayTLSPolicySpec().WithRollout(
		applyv1alpha1.Rollout().WithApprovals(applyv1alpha1.Approval().WithCluster("train").WithRestart("aaaaaa"))))
	if err := fake.Apply(t.Context(), config, client.FieldOwner("kustomize-controller")); err != nil {
		t.Fatal(err)
	}
	_, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", "train")
	if code(err) != 1 || !strings.Contains(err.Error(), "kustomize-controller") {
		t.Errorf("the other writer is named: %v", err)
	}
	out, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", "train", "--dry-run")
	if err != nil {
		t.Fatal(err)
	}
	clitest.Golden(t, *update, "dry-run.yaml", out)
	if diff := cmp.Diff(map[string]string{"train": "aaaaaa"}, approvals(t, fake)); diff != "" {
		t.Errorf("a dry run writes nothing (-want +got):\n%s", diff)
	}
	if _, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", "train", "--force-conflicts"); err != nil || approvals(t, fake)["train"] != "3f2a9c" {
		t.Errorf("forced: %v", err)
	}
}

func TestApproveWait(t *testing.T) {
	t.Parallel()
	encrypted := func(status metav1.ConditionStatus, reason, message string) func(*v1alpha1.RayClusterTLSStatus) {
		return func(s *v1alpha1.RayClusterTLSStatus) {
			clitest.Set(s, clitest.Condition(v1alpha1.ConditionEncrypted, status, reason, message))
		}
	}
	begun := func(phase v1alpha1.RolloutPhase) func(*v1alpha1.RayClusterTLSStatus) {
		return func(s *v1alpha1.RayClusterTLSStatus) {
			s.PendingRestart, s.Rollout = nil, &v1alpha1.RolloutProgress{Goal: v1alpha1.GoalEncrypted, Phase: phase, PhaseStartTime: *clitest.Ago(0)}
			encrypted(metav1.ConditionFalse, v1alpha1.ReasonEnabling, "restarting")(s)
		}
	}
	ended := func(s *v1alpha1.RayClusterTLSStatus) { s.Rollout = nil }
	slot := waiting(v1alpha1.ActionEnable, v1alpha1.ReasonWaitingForSlot, "", "RayCluster serve is restarted"+command)
	for name, c := range map[string]struct {
		steps []func(*v1alpha1.RayClusterTLSStatus)
		fails string
	}{
		"wait.txt": {[]func(*v1alpha1.RayClusterTLSStatus){slot, begun(v1alpha1.PhaseCanary), begun(v1alpha1.PhaseHead), func(s *v1alpha1.RayClusterTLSStatus) {
			ended(s)
			encrypted(metav1.ConditionTrue, v1alpha1.ReasonEncrypted, "all pods speak TLS")(s)
		}}, ""},
		"wait-failed.txt": {[]func(*v1alpha1.RayClusterTLSStatus){begun(v1alpha1.PhaseCanary), func(s *v1alpha1.RayClusterTLSStatus) {
			ended(s)
			s.PendingRestart = &v1alpha1.PendingRestart{ID: "bbbbbb", Action: v1alpha1.ActionEnable, Reason: v1alpha1.ReasonEnableFailed}
			encrypted(metav1.ConditionFalse, v1alpha1.ReasonEnableFailed, "no openssl in this image")(s)
		}}, "the restart failed and was taken back"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record := clitest.Record("train", waiting(v1alpha1.ActionEnable, v1alpha1.ReasonAwaitingApproval, "", "the cluster runs"+command), encrypted(metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval, "the cluster runs"))
			fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), record)
			step := func(ctx context.Context, _ time.Duration) error {
				if len(c.steps) == 0 {
					return context.DeadlineExceeded
				}
				var tls v1alpha1.RayClusterTLS
				if err := fake.Get(ctx, client.ObjectKey{Namespace: "ml", Name: "train"}, &tls); err != nil {
					return err
				}
				c.steps[0](&tls.Status)
				c.steps = c.steps[1:]
				return fake.Update(ctx, &tls)
			}
			out, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, step)), "", "train", "--wait")
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("error %v", err)
			}
			if len(c.steps) > 0 {
				t.Errorf("it ended %d steps early", len(c.steps))
			}
			clitest.Golden(t, *update, name, out)
		})
	}
}
