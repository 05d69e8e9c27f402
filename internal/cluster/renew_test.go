package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kept"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
)

// The pods of encryptedFacts have certificates of a year from an hour before the epoch.
const dueAfter = 365 * day * 2 / 3

func TestDuePodsAreRolled(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		change []func(*Facts)
		want   string // the phase, or what waits
	}{
		"young":       {"nothing is due", nil, ""},
		"due":         {"the roll begins", []func(*Facts){at(dueAfter)}, "Roll"},
		"silent":      {"what does not report is renewed by its age", []func(*Facts){at(dueAfter), silent(0), silent(1)}, "Roll"},
		"on delete":   {"users restart pods", []func(*Facts){at(dueAfter), func(f *Facts) { f.Policy.Rollout.Strategy = v1alpha1.StrategyOnDelete }}, "OnDelete"},
		"paused":      {"the cluster is as encrypted as it is", []func(*Facts){at(dueAfter), func(f *Facts) { f.Policy.Paused = true }}, "Paused"},
		"no new head": {"workers do not wait for what keeps the head", []func(*Facts){at(dueAfter), func(f *Facts) { f.Ray.NoHeadRestart = true }}, "Roll"},
		"window": {"windows are the policy's", []func(*Facts){at(dueAfter), func(f *Facts) {
			f.Policy.Rollout.Windows = []v1alpha1.RestartWindow{{Schedule: "0 0 1 * *", DurationMinutes: 1, TimeZone: "UTC"}}
		}}, "WaitingForWindow"},
		"slot": {"so are slots", []func(*Facts){at(dueAfter), func(f *Facts) {
			f.Siblings = []v1alpha1.RayClusterTLS{{Status: v1alpha1.RayClusterTLSStatus{PolicyRef: v1alpha1.PolicyReference{Name: "default"}, Rollout: &v1alpha1.RolloutProgress{PhaseStartTime: metav1.NewTime(f.Now)}}}}
		}}, "WaitingForSlot"},
		"failure elsewhere": {"a cluster that could not be enabled keeps nobody from new certificates", []func(*Facts){at(dueAfter), func(f *Facts) {
			f.Siblings = []v1alpha1.RayClusterTLS{{Status: v1alpha1.RayClusterTLSStatus{PolicyRef: v1alpha1.PolicyReference{Name: "default"}, Injection: v1alpha1.InjectionStatus{FailedHash: "x"}}}}
		}}, "Roll"},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := encryptedFacts(t)
			for _, change := range c.change {
				change(f)
			}
			d := f.decide()
			status := Status(f, &d, Done{Keys: store, Recorded: d.Writes()})
			got := ""
			switch {
			case status.PendingRestart != nil:
				got = status.PendingRestart.Reason
				if status.PendingRestart.Action != v1alpha1.ActionRoll || strings.Contains(status.PendingRestart.Message, "to approve it") {
					t.Errorf("%s: got %+v", c.reason, status.PendingRestart)
				}
			case status.Rollout != nil:
				got = string(status.Rollout.Phase)
			}
			if got != c.want || d.Obstacle != nil {
				t.Errorf("%s: got %q, want %q: %+v", c.reason, got, c.want, d.Plan.Report)
			}
			if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionEncrypted) {
				t.Errorf("a roll leaves the cluster encrypted: %+v", status.Conditions)
			}
		})
	}
}

func TestAHeadThatWaitsIsApproved(t *testing.T) {
	f, store := encryptedFacts(t)
	f.Ray.FaultTolerant, f.Now = false, epoch().Add(400*day)
	f.Pods[1].Report, f.Pods[1].Created = nil, f.Now.Add(-time.Hour)
	d := f.decide()
	pending := Status(f, &d, Done{Keys: store}).PendingRestart
	if pending == nil || pending.Reason != v1alpha1.ReasonAwaitingApproval || pending.Action != v1alpha1.ActionRoll || !strings.Contains(pending.Message, d.RestartID) {
		t.Fatalf("got %+v", pending)
	}
	f.Policy.Rollout.Approvals = []v1alpha1.Approval{{Cluster: "train", Restart: pending.ID}}
	if d = f.decide(); d.Plan.Progress == nil || d.Plan.Progress.Phase != v1alpha1.PhaseRoll {
		t.Errorf("an approved head is restarted: %+v", d.Plan.Report)
	}
	f.Decision.Goal = v1alpha1.GoalPlaintext
	if d = f.decide(); d.Snapshot.Approved || d.RestartID == pending.ID {
		t.Error("an approval of a roll disables no cluster")
	}
}

func TestOutdatedPodsAreCounted(t *testing.T) {
	f, store := encryptedFacts(t)
	d := f.decide()
	first := Status(f, &d, Done{Keys: store, Recorded: true})
	if first.PodCertificate.WorkerHash == "" || first.Pods.Outdated != 0 {
		t.Fatalf("got %+v", first.PodCertificate)
	}
	f.TLS.Status = first
	f.Policy.PodCertificate.HeadDNSNames = []string{"ray.example"}
	d = f.decide()
	f.TLS.Status = Status(f, &d, Done{Keys: store, Recorded: true})
	if now := f.TLS.Status.PodCertificate; now.WorkerSince != nil || now.HeadSince == nil || now.HeadHash == first.PodCertificate.HeadHash {
		t.Fatalf("a name of the head concerns no worker: %+v", now)
	}
	if d = f.decide(); Status(f, &d, Done{Keys: store, Recorded: true}).Pods.Outdated != 1 || d.Plan.Progress != nil {
		t.Errorf("the head lacks it from the first moment, and nothing is restarted yet: %+v", d.Plan.Progress)
	}
	f.Now = f.Now.Add(2*time.Minute + kube.ClockTolerance)
	f.Policy.Rollout.Strategy = v1alpha1.StrategyOnDelete
	d = f.decide()
	status := Status(f, &d, Done{Keys: store, Recorded: true})
	upToDate := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate)
	if status.Pods.Outdated != 1 || upToDate.Reason != v1alpha1.ReasonPodsOutdated || !strings.Contains(upToDate.Message, "OnDelete leaves the restart to you") {
		t.Errorf("got %+v, %+v", status.Pods, upToDate)
	}
}

func TestRestartBy(t *testing.T) {
	year := epoch().AddDate(1, 0, 0)
	for name, c := range map[string]struct {
		reason string
		change []func(*Facts)
		by     time.Time
		stage  v1alpha1.ExpiryStage
	}{
		"first day":    {"it is known from the first day", nil, year, ""},
		"silent":       {"a pod that does not report has one too", []func(*Facts){silent(1)}, epoch().Add(365*day - time.Hour), ""},
		"on the wire":  {"what is served proves more than what is said", []func(*Facts){served(9 * day)}, epoch().Add(9 * day), ""},
		"silent head":  {"and more than what is guessed", []func(*Facts){silent(0), served(500 * day)}, year, ""},
		"of another":   {"a handshake with an earlier head proves nothing", []func(*Facts){func(f *Facts) { f.Wire.Observed = v1alpha1.ObservedOnWire{PodUID: "x", ExpiryTime: stamp(epoch())} }}, year, ""},
		"terminating":  {"a pod that goes needs no restart", []func(*Facts){func(f *Facts) { f.Pods[1].Report.NotAfter, f.Pods[1].Terminating = epoch().Add(day), true }}, year, ""},
		"no policy":    {"without a policy it is the same", []func(*Facts){uncoveredNow}, year, ""},
		"last third":   {"a third of its life is left", []func(*Facts){at(dueAfter)}, year, v1alpha1.StageLastThird},
		"last sixth":   {"a sixth", []func(*Facts){at(365 * day * 5 / 6)}, year, v1alpha1.StageLastSixth},
		"last twelfth": {"a twelfth", []func(*Facts){at(365 * day * 11 / 12)}, year, v1alpha1.StageLastTwelfth},
		"worst":        {"the worst counts", []func(*Facts){at(dueAfter), func(f *Facts) { f.Pods[1].Report.NotAfter = epoch().Add(dueAfter + day) }}, epoch().Add(dueAfter + day), v1alpha1.StageLastTwelfth},
		"ended":        {"what has ended is in its last part", []func(*Facts){at(400 * day)}, year, v1alpha1.StageLastTwelfth},
	} {
		f, store := encryptedFacts(t)
		for _, change := range c.change {
			change(f)
		}
		d := f.decide()
		status := Status(f, &d, Done{Keys: store})
		if !status.RestartBy.Time.Equal(c.by) || status.ExpiryStage != c.stage {
			t.Errorf("%s: %s: got %s and %q, want %s and %q", name, c.reason, status.RestartBy, status.ExpiryStage, c.by, c.stage)
		}
		if next := f.lives(store).next; !next.IsZero() && !next.After(f.Now) {
			t.Errorf("%s: the next stage begins at %s, which has passed", name, next)
		}
	}
	f, store := encryptedFacts(t)
	f.Now = epoch().Add(dueAfter)
	if text := f.lives(store).ending(); !strings.Contains(text, "pod pod- is in the last third") {
		t.Errorf("the head is the deadline of the whole cluster, so it is warned of first: %s", text)
	}
}

// TestAnEndedCertificateHidesNoOther: a worker that nobody may evict outlives its certificate, and the head's is the next to end.
func TestAnEndedCertificateHidesNoOther(t *testing.T) {
	f, store := encryptedFacts(t)
	f.Pods[1].Report.NotAfter = epoch().Add(100 * day)
	before := &v1alpha1.RayClusterTLSStatus{}
	said := func(now time.Duration) string {
		f.Now = epoch().Add(now)
		d := f.decide()
		after := Status(f, &d, Done{Keys: store})
		text := Warning(f, before, &after, store)
		before = &after
		return text
	}
	for _, step := range []struct {
		at   time.Duration
		want string
	}{
		{99 * day, "last twelfth"},
		{101 * day, ""},
		{dueAfter, "pod pod- is in the last third"},
		{dueAfter + day, ""},
		{365 * day * 5 / 6, "pod pod- is in the last sixth"},
		{365 * day * 11 / 12, "pod pod- is in the last twelfth"},
		{366 * day, ""},
	} {
		if got := said(step.at); (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("after %s: said %q, want %q", step.at, got, step.want)
		}
	}
	f.Pods[1].Report.NotAfter = f.Pods[0].Report.NotAfter.Add(-time.Second)
	f.Pods[0], f.Pods[1] = f.Pods[1], f.Pods[0]
	for range 2 {
		f.Now = epoch().Add(dueAfter)
		if text := f.lives(store).ending(); !strings.Contains(text, "pod pod- is in the last third") {
			t.Errorf("the head is warned of first, whatever the order of the pods: %s", text)
		}
		f.Pods[0], f.Pods[1] = f.Pods[1], f.Pods[0]
	}
}

// TestAPausedPolicyIsNotUpToDate: new pods follow the settings at once, and old ones not before the policy goes on.
func TestAPausedPolicyIsNotUpToDate(t *testing.T) {
	f, store := encryptedFacts(t)
	status := func() *metav1.Condition {
		d := f.decide()
		f.TLS.Status = Status(f, &d, Done{Keys: store, Recorded: d.Writes()})
		return meta.FindStatusCondition(f.TLS.Status.Conditions, v1alpha1.ConditionUpToDate)
	}
	status()
	f.Policy.Paused = true
	if got := status(); got.Status != metav1.ConditionTrue {
		t.Fatalf("got %+v", got)
	}
	f.Policy.PodCertificate.HeadDNSNames = []string{"ray.example"}
	if got := status(); got.Status != metav1.ConditionFalse || !strings.Contains(got.Message, "spec.paused") {
		t.Errorf("the pods have not the settings that the policy asks for: %+v", got)
	}
}

// TestAnEarlierAuthority: a pod that was made under the present authority says something wrong, and so would its replacement.
func TestAnEarlierAuthority(t *testing.T) {
	f, _ := encryptedFacts(t)
	f.Pods[1].Report.Authority = "ab"
	by := f.signers(f.Keys)
	begins := f.replacedAt().Add(kube.ClockTolerance)
	if f.Now = begins.Add(-time.Second); f.judged(&f.Pods[1], by).Outdated != "" {
		t.Error("a replacement would be outdated again by an API server whose clock is behind")
	}
	f.Now = begins
	if f.judged(&f.Pods[1], by).Outdated == "" || f.judged(&f.Pods[0], by).Outdated != "" {
		t.Error("a pod of an earlier authority is outdated, and no other")
	}
	f.Pods[1].Created = f.Keys.Authority.IssuedAt()
	if f.judged(&f.Pods[1], by).Outdated != "" {
		t.Error("a pod that claims another authority for ever would be restarted for ever")
	}
}

// TestAReplacedAuthorityRestartsEachPodOnce: whatever the API server's clock says, a replacement is not outdated again by what it
// claims.
func TestAReplacedAuthorityRestartsEachPodOnce(t *testing.T) {
	f, store := encryptedFacts(t)
	f.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(day)}
	f.Now = epoch().Add(day)
	next, _, _, err := keys.Next(store, f.KeySettings(), keys.Parent{}, keys.Pods{}, f.Now)
	if err != nil || next.Generation != 2 {
		t.Fatalf("generation %d, %v", next.Generation, err)
	}
	f.Keys = next
	by := f.signers(next)
	f.Pods[1].Report.Authority = store.Authority.ID()
	for f.judged(&f.Pods[1], by).Outdated == "" {
		wake := f.lives(next).next
		if !wake.After(f.Now) || f.Now.After(epoch().Add(2*day)) {
			t.Fatalf("nobody looks when the roll begins: at %s, next at %s", f.Now, wake)
		}
		f.Now = wake
	}
	for behind := time.Duration(0); behind <= kube.ClockTolerance; behind += time.Minute {
		f.Pods[1].Created = f.Now.Add(-behind)
		if why := f.judged(&f.Pods[1], by).Outdated; why != "" {
			t.Errorf("by a clock that is %s behind, the replacement is restarted again: %s", behind, why)
		}
	}
	// A node that mounted the CA Secret as it was is slower than that. Its pod is due an hour later, and what comes for it is not.
	made := next.Authority.IssuedAt()
	f.Pods[1].Created = made.Add(4 * time.Minute)
	late := made.Add(time.Hour + kube.ClockTolerance)
	if f.Now = late.Add(-time.Second); f.judged(&f.Pods[1], by).Outdated != "" || !f.lives(next).next.Equal(late) {
		t.Errorf("it is due too early, or nobody looks: next at %s", f.lives(next).next)
	}
	if f.Now = late; f.judged(&f.Pods[1], by).Outdated == "" {
		t.Error("a pod with a certificate of before stays for ever")
	}
	for behind := time.Duration(0); behind <= kube.ClockTolerance; behind += time.Minute {
		f.Pods[1].Created = f.Now.Add(-behind)
		if why := f.judged(&f.Pods[1], by).Outdated; why != "" {
			t.Errorf("by a clock that is %s behind, it is restarted again: %s", behind, why)
		}
	}
}

func TestHeadsThatMayNotRestartGetLongCertificates(t *testing.T) {
	for _, c := range []struct {
		restart  v1alpha1.HeadRestart
		tolerant bool
		long     bool
	}{
		{v1alpha1.HeadRestartIfFaultTolerant, true, false},
		{v1alpha1.HeadRestartIfFaultTolerant, false, true},
		{v1alpha1.HeadRestartAlways, false, false},
		{v1alpha1.HeadRestartNever, true, true},
	} {
		f, store := encryptedFacts(t)
		f.Policy.Rollout.HeadRestart, f.Ray.FaultTolerant = c.restart, c.tolerant
		if got := f.KeySettings().HeadUntilIssuerEnd; got != c.long {
			t.Errorf("%+v: the head's certificate lasts until its issuer ends: %t", c, got)
		}
		want := f.Now.Add(365 * day)
		if c.long {
			want = store.Issuer.NotAfter()
		}
		if got := f.rolling().HeadEnd; !got.Equal(want) {
			t.Errorf("%+v: it would end at %s, want %s", c, got, want)
		}
	}
}

func TestPodsAskToBeLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"none":            {nil, ""},
		"karpenter":       {map[string]string{"karpenter.sh/do-not-disrupt": "true"}, "annotation karpenter.sh/do-not-disrupt"},
		"karpenter, no":   {map[string]string{"karpenter.sh/do-not-disrupt": "false"}, ""},
		"autoscaler":      {map[string]string{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}, "annotation cluster-autoscaler.kubernetes.io/safe-to-evict"},
		"autoscaler, yes": {map[string]string{"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}, ""},
		"both":            {map[string]string{"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}, "annotation cluster-autoscaler.kubernetes.io/safe-to-evict"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: c.annotations, Labels: map[string]string{kuberay.LabelReplica: "r"}}}
		got := readPod(slimmed(t, pod), nil)
		if got.HeldBy != c.want || (got.HeldWhy == "") != (c.want == "") || got.Replica != "r" {
			t.Errorf("%s: got %q, want %q", name, got.HeldBy, c.want)
		}
	}
}

func TestBudgetsHoldPods(t *testing.T) {
	budget := func(name string, selector map[string]string, change func(*policyv1.PodDisruptionBudget)) client.Object {
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: selector}}}
		change(b)
		return b
	}
	workers := map[string]string{"ray.io/group": "small"}
	allowing := func(n int32) func(*policyv1.PodDisruptionBudget) {
		return func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = n }
	}
	always, unless := policyv1.AlwaysAllow, policyv1.IfHealthyBudget
	unready := func(f *Facts) { f.Pods[1].Ready = false }
	for name, c := range map[string]struct {
		reason  string
		budgets []client.Object
		change  func(*Facts)
		want    string
	}{
		"none":      {"nothing holds", nil, nil, ""},
		"allows":    {"as many as it allows may go", []client.Object{budget("b", workers, allowing(1))}, nil, ""},
		"refuses":   {"the worker is held", []client.Object{budget("b", workers, allowing(0))}, nil, "PodDisruptionBudget/b"},
		"of others": {"pods that it does not select are not", []client.Object{budget("b", map[string]string{"app": "x"}, allowing(0))}, nil, ""},
		"unseen":    {"the API server refuses while the budget was not looked at", []client.Object{budget("b", workers, func(b *policyv1.PodDisruptionBudget) { b.Generation, b.Status.DisruptionsAllowed = 2, 1 })}, nil, "PodDisruptionBudget/b"},
		"two":       {"the API server evicts no pod of two", []client.Object{budget("a", workers, allowing(1)), budget("b", workers, allowing(1))}, nil, "PodDisruptionBudget/b"},
		"broken":    {"a pod that is not ready counts for nothing where the budget says so", []client.Object{budget("b", workers, func(b *policyv1.PodDisruptionBudget) { b.Spec.UnhealthyPodEvictionPolicy = &always })}, unready, ""},
		"broken, healthy budget": {"or where enough others are", []client.Object{budget("b", workers, func(b *policyv1.PodDisruptionBudget) {
			b.Spec.UnhealthyPodEvictionPolicy, b.Status.CurrentHealthy, b.Status.DesiredHealthy = &unless, 2, 2
		})}, unready, ""},
		"broken, no budget": {"and else not", []client.Object{budget("b", workers, func(b *policyv1.PodDisruptionBudget) { b.Status.CurrentHealthy, b.Status.DesiredHealthy = 1, 2 })}, unready, "PodDisruptionBudget/b"},
		"pending":           {"nor does one whose containers have not started", []client.Object{budget("a", workers, allowing(0)), budget("b", workers, allowing(0))}, func(f *Facts) { unready(f); f.Pods[1].Pending = true }, ""},
		"held already":      {"a pod's own word comes first", []client.Object{budget("b", workers, allowing(0))}, func(f *Facts) { f.Pods[1].HeldBy = "annotation x" }, "annotation x"},
		"no record":         {"a cluster that is not encrypted is not rolled", []client.Object{budget("b", workers, allowing(0))}, func(f *Facts) { f.TLS = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := encryptedFacts(t)
			f.Pods[0].Labels, f.Pods[1].Labels = map[string]string{"ray.io/group": "headgroup"}, workers
			if c.change != nil {
				c.change(f)
			}
			g := gatherer(t, kuberay.NewRayCluster(), kuberay.NewRayCluster(), c.budgets...)
			if err := g.budgets(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			if got := f.Pods[1].HeldBy; got != c.want || f.Pods[0].HeldBy != "" {
				t.Errorf("%s: got %q, and %q of the head; want %q", c.reason, got, f.Pods[0].HeldBy, c.want)
			}
		})
	}
	many := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "In", Values: slices.Repeat([]string{"x"}, 1000)}}}}}
	if out, err := kept.SlimBudget(many); err != nil || out.(*policyv1.PodDisruptionBudget).Spec.Selector != nil {
		t.Errorf("whoever may create budgets must not fill the memory: %v", err)
	}
}

// TestARefusedEvictionIsNoFault: what the API server says of an eviction is said of the restart, and the cluster stays encrypted.
func TestARefusedEvictionIsNoFault(t *testing.T) {
	f, store := encryptedFacts(t)
	f.Now = epoch().Add(dueAfter)
	d := f.decide()
	outcome := kube.Waitf(v1alpha1.ReasonBlocked, "no")
	outcome.BlockedBy, outcome.OfRestart = Budget("b"), true
	refused := []Refused{{Pod: &f.Pods[1].Pod, BlockedBy: outcome.BlockedBy, Message: strings.Repeat("é", maxRefusal)}}
	status := Status(f, &d, Done{Keys: store, Recorded: true, Refused: refused, Err: outcome})
	if r := status.RefusedEvictions; len(r) != 1 || r[0].Pod != "pod-small" || r[0].PodUID != "uid-small" || r[0].BlockedBy != "PodDisruptionBudget/b" || r[0].Attempts != 1 || !r[0].LastTime.Equal(stamp(f.Now)) || len(r[0].Message) > maxRefusal {
		t.Errorf("the refusal is on record: got %+v", r)
	}
	f.TLS.Status = status
	if plan := f.decide().Plan; plan.Roll.BlockedBy != "PodDisruptionBudget/b" || len(plan.Evict) != 1 || plan.Evict[0].Group != "" {
		t.Errorf("the head does not wait for the worker that was refused: got %+v", plan)
	}
	if diff := cmp.Diff(&v1alpha1.PendingRestart{ID: d.RestartID, Action: v1alpha1.ActionRoll, Reason: v1alpha1.ReasonBlocked, BlockedBy: "PodDisruptionBudget/b", Message: "no"}, status.PendingRestart); diff != "" {
		t.Error(diff)
	}
	if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionEncrypted) {
		t.Errorf("got %+v", status.Conditions)
	}
}
