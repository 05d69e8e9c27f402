package cluster

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// plaintextFacts are those of a cluster that runs in plaintext and is not on record.
func plaintextFacts(t *testing.T) *Facts {
	t.Helper()
	f, _ := encryptedFacts(t)
	plain, err := injection.Remove(f.Spec, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	f.Spec, f.TLS = plain, &v1alpha1.RayClusterTLS{}
	f.Templates = injection.Inspect(plain, "train")
	for i := range f.Pods {
		f.Pods[i].Injected, f.Pods[i].Certified, f.Pods[i].Report = false, false, nil
		f.Pods[i].Differs = "it has no init container raytls-init"
	}
	return f
}

// failedOnce is a cluster whose approved restart has failed at its canary, and the approval.
func failedOnce(t *testing.T) (*Facts, v1alpha1.Approval) {
	t.Helper()
	f := plaintextFacts(t)
	approval := v1alpha1.Approval{Cluster: "train", Restart: f.decide().RestartID}
	f.Policy.Rollout.Approvals = []v1alpha1.Approval{approval}
	if d := f.decide(); d.Plan.Progress == nil {
		t.Fatalf("the approved restart does not begin: %+v", d.Plan.Report)
	}
	f.remember(rollout.Record{FailedAttempt: "x", FailedBecause: "no openssl", FailedAt: f.Now, Attempted: f.Now})
	return f, approval
}

func (f *Facts) decide() Decision { return Decide(f, Settings{Namespace: "raytls-system"}) }

// remember has the record written.
func (f *Facts) remember(r rollout.Record) {
	f.TLS = &v1alpha1.RayClusterTLS{Status: *f.TLS.Status.DeepCopy()}
	f.TLS.Status.Injection, f.TLS.Status.Rollout = writeRecord(r, nil)
}

func TestApprovalIsUsedOnce(t *testing.T) {
	released := func(f *Facts) {
		f.Decision.Goal = v1alpha1.GoalPlaintext
		d := f.decide()
		f.remember(d.Plan.Record)
		f.Decision.Goal = v1alpha1.GoalEncrypted
	}
	for name, c := range map[string]struct {
		reason string
		change func(*testing.T, *Facts)
	}{
		"failed":          {"the attempt failed", func(*testing.T, *Facts) {}},
		"other templates": {"whatever was changed since", func(_ *testing.T, f *Facts) { f.Policy.AdditionalContainers = []string{"ray-worker"} }},
		"later":           {"whenever it is", func(_ *testing.T, f *Facts) { f.Now = f.Now.Add(time.Hour) }},
		"put off":         {"though a later attempt was put off", func(_ *testing.T, f *Facts) { r := f.Record(); f.remember(rollout.Record{Attempted: r.Attempted}) }},
		"excluded":        {"a cluster that was excluded and covered again is the same", func(_ *testing.T, f *Facts) { released(f) }},
		"excluded twice":  {"however often", func(_ *testing.T, f *Facts) { released(f); released(f) }},
		"uncovered": {"so is one whose policy was away", func(_ *testing.T, f *Facts) {
			spec, decision := f.Policy, f.Decision
			f.Policy, f.Decision = nil, policy.Decision{}
			d := f.decide()
			f.TLS = &v1alpha1.RayClusterTLS{Status: Status(f, &d, Done{Recorded: d.Writes()})}
			f.Policy, f.Decision = spec, decision
		}},
		"another policy": {"another policy with the same approvals adopts it", func(_ *testing.T, f *Facts) {
			released(f)
			other := f.Decision.Policy.DeepCopy()
			other.Name, f.Decision.Policy = "other", other
		}},
		"no head": {"a moment without a head is none of a restart that nobody named", func(_ *testing.T, f *Facts) {
			f.Pods = f.Pods[1:]
			f.Policy.Rollout.Approvals[0].Restart = ""
		}},
		"another head":    {"the head was replaced by anybody", func(_ *testing.T, f *Facts) { f.remember(rollout.Record{}); f.Pods[0].UID = "next" }},
		"created again":   {"it is another cluster", func(_ *testing.T, f *Facts) { f.remember(rollout.Record{}); f.Object.SetUID("next") }},
		"another cluster": {"it is another cluster", func(_ *testing.T, f *Facts) { f.remember(rollout.Record{}); f.Key.Name = "eval" }},
		"other direction": {"it was for enabling", func(_ *testing.T, f *Facts) {
			f.remember(rollout.Record{Enabled: true})
			f.Decision.Goal = v1alpha1.GoalPlaintext
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := failedOnce(t)
			c.change(t, f)
			d := f.decide()
			if d.Snapshot.Approved {
				t.Errorf("%s, and the approval counts again", c.reason)
			}
			if d.Plan.Progress != nil && d.Plan.Progress.Goal == v1alpha1.GoalEncrypted || len(d.Plan.Delete) > 0 {
				t.Errorf("%s, and the cluster is restarted: %+v", c.reason, d.Plan)
			}
		})
	}
}

func TestNewApprovalCountsAfterARelease(t *testing.T) {
	f, used := failedOnce(t)
	f.Decision.Goal = v1alpha1.GoalPlaintext
	released := f.decide()
	if !released.Plan.Release {
		t.Fatalf("the cluster is not released: %+v", released.Plan)
	}
	f.remember(released.Plan.Record)
	f.Decision.Goal = v1alpha1.GoalEncrypted
	id := f.decide().RestartID
	if id == used.Restart {
		t.Fatal("the restart has the id of one that was tried")
	}
	f.Policy.Rollout.Approvals = append(f.Policy.Rollout.Approvals, v1alpha1.Approval{Cluster: "train", Restart: id})
	if d := f.decide(); d.Plan.Progress == nil || d.Plan.Progress.Phase != v1alpha1.PhaseCanary {
		t.Errorf("the approved restart does not begin: %+v", d.Plan.Report)
	}
}

func TestNewClusterHasNoWorkToLose(t *testing.T) {
	job := func(status string) unstructured.Unstructured {
		return unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"jobDeploymentStatus": status}}}
	}
	for name, c := range map[string]struct {
		reason string
		change func(*Facts)
		want   bool
	}{
		"starting":        {"nothing is ready", func(*Facts) {}, true},
		"just ready":      {"a head that is ready for a moment has no work", func(f *Facts) { f.Pods[0].ReadySince = f.Now.Add(-readyForWork) }, true},
		"head works":      {"a pending worker keeps nobody from working", func(f *Facts) { f.Pods[0].ReadySince = f.Now.Add(-readyForWork - time.Second) }, false},
		"worker ready":    {"a worker without a head does nothing", func(f *Facts) { f.Pods[1].ReadySince = f.Now.Add(-time.Hour) }, true},
		"old":             {"what is older than the deadline may have worked before", func(f *Facts) { f.Object.SetCreationTimestamp(metav1.NewTime(f.Now.Add(-10 * time.Minute))) }, false},
		"almost old":      {"not before", func(f *Facts) { f.Object.SetCreationTimestamp(metav1.NewTime(f.Now.Add(time.Second - 10*time.Minute))) }, true},
		"named by a job":  {"a job's work is work", func(f *Facts) { f.Jobs = []unstructured.Unstructured{job("Running")} }, false},
		"after a job":     {"what a job left may be wanted", func(f *Facts) { f.Jobs = []unstructured.Unstructured{job("Complete")} }, false},
		"made for a job":  {"KubeRay has not submitted it", func(f *Facts) { f.Jobs = []unstructured.Unstructured{job("Initializing"), job("")} }, true},
		"was provisioned": {"all pods were ready together", func(f *Facts) { f.Ray.Provisioned = true }, false},
	} {
		f := plaintextFacts(t)
		f.Ray.Provisioned = false
		f.Object.SetCreationTimestamp(metav1.NewTime(f.Now.Add(-time.Minute)))
		for i := range f.Pods {
			f.Pods[i].ReadySince = time.Time{}
		}
		c.change(f)
		d := f.decide()
		if d.Snapshot.New != c.want {
			t.Errorf("%s: %s: new is %t", name, c.reason, d.Snapshot.New)
		}
		if waits := d.Plan.Edit == rollout.NoEdit; waits == c.want {
			t.Errorf("%s: %s: it is planned as %s %+v", name, c.reason, d.Plan.Edit, d.Plan.Report)
		}
	}
}

// A head and two workers are ready for three days, one worker is pending, and a RayJob has run.
func TestPartlyPendingClusterWaitsForApproval(t *testing.T) {
	f := plaintextFacts(t)
	f.Ray.Provisioned = false
	f.Object.SetCreationTimestamp(metav1.NewTime(f.Now.Add(-72 * time.Hour)))
	f.Pods[0].ReadySince = f.Now.Add(-72 * time.Hour)
	d := f.decide()
	if d.Plan.Reason != v1alpha1.ReasonAwaitingApproval || d.Plan.Edit != rollout.NoEdit || len(d.Plan.Delete) > 0 {
		t.Errorf("it is planned as %s %+v", d.Plan.Edit, d.Plan.Report)
	}
}
