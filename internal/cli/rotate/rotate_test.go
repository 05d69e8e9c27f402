package rotate

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	applyv1alpha1 "github.com/raytls/raytls/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/clitest"
	"github.com/raytls/raytls/internal/cli/exit"
)

var update = flag.Bool("update", false, "write the golden files")

func targeting(cluster string) func(*v1alpha1.RayTLSPolicy) {
	return func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.Selector, p.Spec.TargetRef = nil, &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: cluster}
	}
}

func bound(policy string) func(*v1alpha1.RayClusterTLSStatus) {
	return func(s *v1alpha1.RayClusterTLSStatus) { s.PolicyRef.Name = policy }
}

func asked(t *testing.T, c client.Reader, policy string) string {
	t.Helper()
	var p v1alpha1.RayTLSPolicy
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: policy}, &p); err != nil {
		t.Fatal(err)
	}
	if at := p.Spec.CertificateAuthority.ReplaceIssuedBefore; at != nil {
		return at.UTC().Format(time.RFC3339)
	}
	return ""
}

func TestRotate(t *testing.T) {
	t.Parallel()
	const now = "2026-11-27T10:00:00Z"
	none := func(s *v1alpha1.RayClusterTLSStatus) { s.Authority = v1alpha1.AuthorityStatus{} }
	for name, c := range map[string]struct {
		reason  string
		objects []client.Object
		args    []string
		// wants is the field of each policy afterwards.
		wants map[string]string
		// says is part of what is printed, and fails part of the error.
		says, fails []string
	}{
		"one": {
			"a policy with one cluster",
			[]client.Object{clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train")},
			[]string{"train"},
			map[string]string{"default": now},
			[]string{"RayTLSPolicy ml/default: spec.certificateAuthority.replaceIssuedBefore is " + now, "ml/train (generation 3)", "`raytls status -n ml`"},
			nil,
		},
		"shared": {
			"the field acts on all clusters of the policy",
			[]client.Object{clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train"), clitest.RayCluster("serve"), clitest.Record("serve")},
			[]string{"train"},
			map[string]string{"default": ""},
			nil,
			[]string{"covers further RayClusters", "ml/serve", "`raytls rotate --policy default -n ml`", "targetRef: {kind: RayCluster, name: train}"},
		},
		"policy": {
			"all clusters of one policy",
			[]client.Object{
				clitest.Policy("default"), clitest.Policy("own", targeting("mine")), clitest.RayCluster("train"), clitest.Record("train"),
				clitest.RayCluster("serve"), clitest.Record("serve"), clitest.RayCluster("mine"), clitest.Record("mine", bound("own")),
			},
			[]string{"--policy", "default"},
			map[string]string{"default": now, "own": ""},
			[]string{"ml/serve (generation 3), ml/train (generation 3)"},
			nil,
		},
		"all": {
			"every policy with an authority",
			[]client.Object{
				clitest.Policy("default"), clitest.Policy("own", targeting("mine")), clitest.Policy("empty", targeting("gone")), clitest.RayCluster("train"), clitest.Record("train"),
				clitest.RayCluster("mine"), clitest.Record("mine", bound("own")),
			},
			[]string{"--all"},
			map[string]string{"default": now, "own": now, "empty": ""},
			[]string{"RayTLSPolicy ml/default", "RayTLSPolicy ml/own"},
			nil,
		},
		"own": {
			"a policy of the cluster's own is closest",
			[]client.Object{
				clitest.Policy("default"), clitest.Policy("own", targeting("train")), clitest.RayCluster("train"), clitest.Record("train", bound("own")), clitest.RayCluster("serve"), clitest.Record("serve"),
			},
			[]string{"train"},
			map[string]string{"default": "", "own": now},
			nil, nil,
		},
		"ahead": {
			"an operator whose clock is ahead made the authority",
			[]client.Object{
				clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train", func(s *v1alpha1.RayClusterTLSStatus) { s.Authority.IssuedTime = clitest.In(time.Minute) }),
			},
			[]string{"train"},
			map[string]string{"default": "2026-11-27T10:01:01Z"},
			nil, nil,
		},
		"paused": {
			"a paused policy restarts nothing",
			[]client.Object{
				clitest.Policy("default", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = true }), clitest.RayCluster("train"), clitest.Record("train"),
			},
			[]string{"train"},
			map[string]string{"default": now},
			[]string{"is paused"},
			nil,
		},
		"later": {
			"a time to come is kept",
			[]client.Object{
				clitest.Policy("default", func(p *v1alpha1.RayTLSPolicy) {
					p.Spec.CertificateAuthority.ReplaceIssuedBefore = clitest.In(time.Hour)
				}), clitest.RayCluster("train"), clitest.Record("train"),
			},
			[]string{"train"},
			map[string]string{"default": "2026-11-27T11:00:00Z"},
			nil,
			[]string{"would take back"},
		},
		"no cluster": {"a typing error", []client.Object{clitest.Policy("default")}, []string{"trian"}, map[string]string{"default": ""}, nil, []string{"RayCluster ml/trian does not exist"}},
		"no policy": {
			"nobody has it encrypted",
			[]client.Object{clitest.RayCluster("train")},
			[]string{"train"},
			nil, nil,
			[]string{"no RayTLSPolicy has RayCluster ml/train encrypted", "`raytls status train -n ml`"},
		},
		"no authority": {
			"there is nothing to replace",
			[]client.Object{clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train", none)},
			[]string{"train"},
			map[string]string{"default": ""},
			nil,
			[]string{"RayCluster ml/train has no authority yet"},
		},
		"stranger's record": {
			"the RayClusterTLS is of an earlier cluster of the name",
			[]client.Object{clitest.Policy("default"), func() client.Object {
				other := clitest.RayCluster("train")
				other.SetUID("another")
				return other
			}(), clitest.Record("train")},
			[]string{"train"},
			map[string]string{"default": ""},
			nil,
			[]string{"has no authority yet"},
		},
		"no such policy": {"a typing error", []client.Object{clitest.Policy("default")}, []string{"--policy", "other"}, nil, nil, []string{"RayTLSPolicy ml/other does not exist"}},
		"nothing asked":  {"nobody rotates everything by accident", nil, nil, nil, nil, []string{"say which authorities"}},
		"too much asked": {"one of them is meant", nil, []string{"train", "--all"}, nil, nil, []string{"say which authorities"}},
		"dry and wait":   {"nothing would happen", nil, []string{"train", "--dry-run", "--wait"}, nil, nil, []string{"leave out --wait"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := clitest.Client(t, c.objects...)
			out, notes, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", c.args...)
			if (err != nil) != (len(c.fails) > 0) {
				t.Fatalf("%s: error %v", c.reason, err)
			}
			for _, part := range c.fails {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %q is missing in %q", c.reason, part, err)
				}
			}
			for _, part := range c.says {
				if !strings.Contains(out+notes, part) {
					t.Errorf("%s: %q is missing in\n%s%s", c.reason, part, out, notes)
				}
			}
			for policy, want := range c.wants {
				if got := asked(t, fake, policy); got != want {
					t.Errorf("%s: policy %s asks for %q, want %q", c.reason, policy, got, want)
				}
			}
		})
	}
}

// writer owns the policy's field, as a tool that applies from Git.
func writer(t *testing.T, c client.Client, manager string, at metav1.Time) {
	t.Helper()
	config := applyv1alpha1.RayTLSPolicy("default", "ml").WithSpec(applyv1alpha1.RayTLSPolicySpec().WithCertificateAuthority(applyv1alpha1.CertificateAuthority().WithReplaceIssuedBefore(at)))
	if err := c.Apply(t.Context(), config, client.FieldOwner(manager)); err != nil {
		t.Fatal(err)
	}
}

func TestRotateRefusesWhatGitWouldTakeBack(t *testing.T) {
	t.Parallel()
	fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train"))
	writer(t, fake, "kustomize-controller", *clitest.Ago(48 * time.Hour))
	before := asked(t, fake, "default")
	_, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", "train")
	if err == nil || !strings.Contains(err.Error(), "kustomize-controller") || !strings.Contains(err.Error(), "--dry-run") || !strings.Contains(err.Error(), "--force-conflicts") {
		t.Errorf("the error names the writer and what to do: %v", err)
	}
	if got := asked(t, fake, "default"); got != before {
		t.Errorf("the field is %s", got)
	}
	if _, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", "train", "--force-conflicts"); err != nil || asked(t, fake, "default") == before {
		t.Errorf("forced: %v", err)
	}
}

func TestRotateOwnsOneField(t *testing.T) {
	t.Parallel()
	fake := clitest.Client(t, clitest.Policy("default", func(p *v1alpha1.RayTLSPolicy) {
		p.Spec.CertificateAuthority.ValidityDays = 1000
	}), clitest.RayCluster("train"), clitest.Record("train"))
	if _, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, nil)), "", "train"); err != nil {
		t.Fatal(err)
	}
	var p v1alpha1.RayTLSPolicy
	if err := fake.Get(t.Context(), client.ObjectKey{Namespace: "ml", Name: "default"}, &p); err != nil {
		t.Fatal(err)
	}
	if p.Spec.CertificateAuthority.ValidityDays != 1000 || p.Spec.Selector == nil {
		t.Errorf("fields of others are as they were: %+v", p.Spec)
	}
	for _, entry := range p.ManagedFields {
		if entry.Manager == "raytls-rotate" {
			if got, want := entry.FieldsV1.GetRawString(), `{"f:spec":{"f:certificateAuthority":{"f:replaceIssuedBefore":{}}}}`; entry.Operation != metav1.ManagedFieldsOperationApply || got != want {
				t.Errorf("%s owns %s by %s", entry.Manager, got, entry.Operation)
			}
			return
		}
	}
	t.Errorf("nobody named raytls-rotate owns a field: %v", p.ManagedFields)
}

// readOnly fails a test that writes.
func readOnly(t *testing.T, c client.WithWatch) client.Client {
	refuse := func(what string) error {
		t.Errorf("%s with --dry-run", what)
		return errors.New("read only")
	}
	return interceptor.NewClient(c, interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return refuse("patch")
		},
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			return refuse("update")
		},
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
			return refuse("create")
		},
		Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error {
			return refuse("delete")
		},
		Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
			return refuse("apply")
		},
	})
}

func TestRotateDryRun(t *testing.T) {
	t.Parallel()
	p := clitest.Policy("default", func(p *v1alpha1.RayTLSPolicy) {
		p.Labels = map[string]string{"app": "ray"}
		p.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "ml"}
		p.Finalizers = []string{v1alpha1.Finalizer}
		p.Spec = p.Spec.WithDefaults()
		p.Status.Clusters = 1
	})
	fake := clitest.Client(t, p, clitest.Policy("own", targeting("mine")), clitest.RayCluster("train"), clitest.Record("train"), clitest.RayCluster("mine"), clitest.Record("mine", bound("own")))
	out, notes, err := clitest.Run(t.Context(), New(clitest.Open(readOnly(t, fake), nil)), "", "--all", "--dry-run")
	if err != nil {
		t.Fatal(err)
	}
	clitest.Golden(t, *update, "dry-run.yaml", out)
	if !strings.Contains(notes, "would be") {
		t.Errorf("the notes say what changes: %s", notes)
	}
	var printed v1alpha1.RayTLSPolicy
	if err := yaml.UnmarshalStrict([]byte(strings.Split(out, "---\n")[1]), &printed); err != nil || len(printed.ManagedFields) > 0 || len(printed.Finalizers) > 0 || printed.UID != "" {
		t.Errorf("it is what belongs into Git: %v", err)
	}
}

func TestRotateWait(t *testing.T) {
	t.Parallel()
	fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train"))
	// Each look finds what the operator did meanwhile.
	step, left := clitest.Steps(fake,
		func(*v1alpha1.RayClusterTLSStatus) {},
		func(s *v1alpha1.RayClusterTLSStatus) {
			s.Authority = v1alpha1.AuthorityStatus{Generation: 4, ID: "d4", IssuedTime: clitest.In(time.Second), Earlier: []v1alpha1.EarlierAuthority{{Generation: 3, ID: "c3", Pods: 3}}}
			s.Pods = v1alpha1.PodCounts{Total: 3, Outdated: 3}
			clitest.Set(s, clitest.Condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated, "3 of 3"))
		},
		func(s *v1alpha1.RayClusterTLSStatus) {
			s.Rollout = &v1alpha1.RolloutProgress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRoll, PhaseStartTime: *clitest.In(time.Minute)}
			s.Authority.Earlier[0].Pods, s.Pods = 2, v1alpha1.PodCounts{Total: 3, Certified: 1, Outdated: 2}
		},
		func(s *v1alpha1.RayClusterTLSStatus) {
			s.Rollout = nil
			s.Authority.Earlier[0].Pods, s.Pods = 1, v1alpha1.PodCounts{Total: 3, Certified: 2, Outdated: 1}
			s.PendingRestart = &v1alpha1.PendingRestart{
				ID: "3f2a9c", Action: v1alpha1.ActionRoll, Reason: v1alpha1.ReasonAwaitingApproval,
				Message: "the head loses its state\x1b[2J; to approve it, run: kubectl patch raytlspolicy default",
			}
		},
		func(s *v1alpha1.RayClusterTLSStatus) {
			s.PendingRestart = nil
			s.Authority.Earlier[0].Pods, s.Pods = 0, v1alpha1.PodCounts{Total: 3, Certified: 3}
		},
		func(s *v1alpha1.RayClusterTLSStatus) {
			clitest.Set(s, clitest.Condition(v1alpha1.ConditionUpToDate, metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "all"))
		},
	)
	out, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, step)), "", "train", "--wait")
	if err != nil {
		t.Fatal(err)
	}
	clitest.Golden(t, *update, "wait.txt", out)
	if left() > 0 {
		t.Errorf("it ended %d steps early:\n%s", left(), out)
	}
}

// RayJobs delete their clusters while a fleet is waited for.
func TestRotateWaitOutlastsADeletedCluster(t *testing.T) {
	t.Parallel()
	fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train"))
	deleted := func(ctx context.Context, _ time.Duration) error { return fake.Delete(ctx, clitest.Record("train")) }
	out, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, deleted)), "", "--all", "--wait")
	if err != nil || !strings.HasSuffix(out, "ml/train: deleted\n") {
		t.Errorf("error %v\n%s", err, out)
	}
}

func TestRotateWaitHasATimeout(t *testing.T) {
	t.Parallel()
	fake := clitest.Client(t, clitest.Policy("default"), clitest.RayCluster("train"), clitest.Record("train"))
	late := func(context.Context, time.Duration) error { return context.DeadlineExceeded }
	_, _, err := clitest.Run(t.Context(), New(clitest.Open(fake, late)), "", "train", "--wait", "--timeout", "1h")
	coded, ok := errors.AsType[exit.Error](err)
	if !ok || coded.ExitCode() != 3 || !strings.Contains(err.Error(), "not done after 1h0m0s: ml/train") {
		t.Errorf("got %v", err)
	}
}
