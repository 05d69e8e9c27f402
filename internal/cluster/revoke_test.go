package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/rollout"
)

// asked has the policy revoke what was issued until an hour after the epoch, which it is.
func asked(f *Facts) {
	f.Now = epoch().Add(time.Hour)
	f.Policy.CertificateAuthority.RevokeIssuedBefore = &metav1.Time{Time: f.Now}
	for i := range f.Pods {
		f.Pods[i].CASecret = "raytls-train"
	}
}

func immediately(f *Facts) { f.Policy.Rollout.EnablePolicy = v1alpha1.EnableImmediate }

// begun has the revocation on record.
func begun(f *Facts) {
	f.TLS.Status.Authority = v1alpha1.AuthorityStatus{Generation: 1, ID: f.Keys.Authority.ID(), RevokedBeforeGeneration: 2}
	f.TLS.Status.Rollout = &v1alpha1.RolloutProgress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRevoke, PhaseStartTime: metav1.NewTime(f.Now)}
}

// rekeyed has the keys made by which the revocation is carried out.
func rekeyed(t *testing.T, f *Facts) {
	t.Helper()
	store, due, _, err := keys.Next(f.Keys, f.KeySettings(), f.Parent(), f.KeyPods(), f.Now)
	if err != nil || due.Authority == "" || store.RevokedBefore != 2 {
		t.Fatalf("since %d: %+v, %v", store.RevokedBefore, due, err)
	}
	f.Keys = store
}

// renamed has the templates name the present CA Secret.
func renamed(t *testing.T, f *Facts) {
	t.Helper()
	spec, err := injection.Apply(f.Spec, injection.Options{ClusterName: "train", Parameters: injection.Parameters{RevokedBefore: 2}}, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	f.Object.Object["spec"], f.Spec, f.Templates = spec, spec, injection.Inspect(spec, "train")
}

func TestARevocationStepByStep(t *testing.T) {
	f, store := encryptedFacts(t)
	asked(f)
	immediately(f)
	status, got := says(f, store)
	if got != "False Revoking, True Certified, False Revoking, False NothingToDo" || status.Authority.RevokedBeforeGeneration != 2 || status.Authority.Generation != 1 {
		t.Errorf("the record comes first: %s, %+v", got, status.Authority)
	}
	d := Decide(f, Settings{Namespace: "raytls-system"})
	if d.Plan.RevokedBefore != 2 || d.Edited != nil || len(d.Plan.Delete) > 0 || d.Parameters.RevokedBefore != 0 {
		t.Errorf("and nothing with it: %+v", d.Plan)
	}

	begun(f)
	due := f.due(store)
	d = Decide(f, Settings{Namespace: "raytls-system"})
	if due.Authority == "" || d.Plan.Edit != rollout.InjectAll || d.Parameters.RevokedBefore != 2 || d.Retires || len(d.Plan.Delete) > 0 {
		t.Errorf("then keys and templates: %+v, %+v", due, d.Plan)
	}
	if pods := f.KeyPods(); len(pods.Authorities)+len(pods.InUse) > 0 || pods.RevokedBefore != 2 {
		t.Errorf("pods of before prove nothing of the keys: %+v", pods)
	}

	rekeyed(t, f)
	renamed(t, f)
	f.TLS.Status.Injection.Templates = []v1alpha1.TemplateChange{
		{Goal: v1alpha1.GoalEncrypted, ChangedTime: metav1.NewTime(f.Now)}, {Group: "small", Goal: v1alpha1.GoalEncrypted, ChangedTime: metav1.NewTime(f.Now)},
	}
	f.Revoked = []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "raytls-train"}}}
	d = Decide(f, Settings{Namespace: "raytls-system"})
	if len(d.Plan.Delete) != 2 || d.Retires {
		t.Errorf("then all pods together: %+v", d.Plan)
	}
	if status, got = says(f, f.Keys); got != "False Revoking, False OutdatedAuthority, False Revoking, False NothingToDo" || status.Authority.Generation != 2 || status.Authority.RevokedBeforeGeneration != 2 {
		t.Errorf("meanwhile: %s, %+v", got, status.Authority)
	}

	for i := range f.Pods {
		f.Pods[i].CASecret, f.Pods[i].RevokedBefore, f.Pods[i].UID = "raytls-train.g2", 2, "new"
		f.Pods[i].Created = f.Now
		restarted(f, i)
	}
	if d = Decide(f, Settings{Namespace: "raytls-system"}); !d.Retires || d.Plan.Progress != nil || len(d.Plan.Delete) > 0 {
		t.Errorf("then the Secret of before: %+v", d.Plan)
	}
	f.TLS.Status.Rollout = nil
	if status, got = says(f, f.Keys); got != "True Encrypted, True Certified, True UpToDate, False NothingToDo" || status.PendingRestart != nil {
		t.Errorf("in the end: %s, %+v", got, status.PendingRestart)
	}
}

func TestARevocationThatWaits(t *testing.T) {
	for name, c := range map[string]struct {
		reason      string
		change      func(*Facts)
		why, by     string
		approvable  bool
		stalled     bool
		insteadOver string
	}{
		"approval": {reason: "nobody allowed it", change: func(*Facts) {}, why: v1alpha1.ReasonAwaitingApproval, approvable: true},
		"paused":   {reason: "the policy is", change: func(f *Facts) { f.Policy.Paused = true }, why: v1alpha1.ReasonPaused},
		"CA": {reason: "no authority could be made", change: func(f *Facts) {
			immediately(f)
			f.Policy.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "missing"}
		}, why: v1alpha1.ReasonNotAccepted, stalled: true},
		"init image": {reason: "no pod of the templates would be allowed", change: func(f *Facts) {
			immediately(f)
			withImage(f)
		}, why: v1alpha1.ReasonNotAccepted, stalled: true, insteadOver: v1alpha1.ReasonNotAccepted},
		"no new head": {reason: "the cluster would be gone", change: func(f *Facts) {
			f.Policy.CertificateAuthority.RevokeNow, f.Ray.NoHeadRestart = true, true
		}, why: v1alpha1.ReasonBlocked, by: "annotation ray.io/disable-provisioned-head-restart", stalled: true},
		"held": {reason: "a pod asks for it", change: func(f *Facts) {
			immediately(f)
			f.Pods[1].HeldBy, f.Pods[1].HeldWhy = "PodDisruptionBudget/x", "it allows no disruption"
		}, why: v1alpha1.ReasonBlocked, by: "PodDisruptionBudget/x"},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := encryptedFacts(t)
			asked(f)
			c.change(f)
			status, _ := says(f, store)
			upToDate := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionUpToDate)
			if c.insteadOver != "" {
				if upToDate.Reason != c.insteadOver || status.Authority.RevokedBeforeGeneration != 0 {
					t.Errorf("%s: %+v", c.reason, upToDate)
				}
				return
			}
			pending := status.PendingRestart
			if pending == nil || pending.Action != v1alpha1.ActionRevoke || pending.Reason != c.why || pending.BlockedBy != c.by {
				t.Fatalf("%s: %+v", c.reason, pending)
			}
			if strings.Contains(pending.Message, "to approve it, run") != c.approvable {
				t.Errorf("%s: %s", c.reason, pending.Message)
			}
			if upToDate.Status != metav1.ConditionFalse || upToDate.Reason != v1alpha1.ReasonRevocationPending || !strings.Contains(upToDate.Message, "until all pods are restarted, they trust it") {
				t.Errorf("%s: %+v", c.reason, upToDate)
			}
			if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionEncrypted) || meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled) != c.stalled {
				t.Errorf("%s: %+v", c.reason, status.Conditions)
			}
			if status.Authority.RevokedBeforeGeneration != 0 || status.Rollout != nil {
				t.Errorf("%s: it has begun: %+v", c.reason, status.Authority)
			}
		})
	}
}

// withImage has the templates carry an init image that nobody allows.
func withImage(f *Facts) {
	for i := range f.Templates {
		f.Templates[i].Parameters = &injection.Parameters{Image: "x"}
	}
}

func TestAnApprovalOfARevocationIsOfNothingElse(t *testing.T) {
	f, store := encryptedFacts(t)
	asked(f)
	status, _ := says(f, store)
	id := status.PendingRestart.ID
	for _, action := range []v1alpha1.RestartAction{v1alpha1.ActionRoll, v1alpha1.ActionEnable, v1alpha1.ActionDisable} {
		if restartID("u", "uid-", action, time.Time{}) == id {
			t.Errorf("it is that of %s", action)
		}
	}
	f.Policy.Rollout.Approvals = []v1alpha1.Approval{{Cluster: "train", Restart: id}}
	if d := Decide(f, Settings{Namespace: "raytls-system"}); d.Plan.RevokedBefore != 2 {
		t.Errorf("it does not count: %+v", d.Plan.Report)
	}
	f.Pods[0].UID = "another"
	if d := Decide(f, Settings{Namespace: "raytls-system"}); d.Plan.RevokedBefore != 0 {
		t.Error("it counts for another head")
	}
}

func TestTheNewestOfRecordAndSecretCounts(t *testing.T) {
	f, _ := encryptedFacts(t)
	asked(f)
	begun(f)
	if f.RevokedBefore() != 2 || f.revocation().Asked != "" {
		t.Errorf("on record: %d, asked %q", f.RevokedBefore(), f.revocation().Asked)
	}
	rekeyed(t, f)
	f.TLS.Status.Authority = v1alpha1.AuthorityStatus{Generation: 1}
	if f.RevokedBefore() != 2 || f.revocation().Asked != "" {
		t.Errorf("a record of before: %d, asked %q", f.RevokedBefore(), f.revocation().Asked)
	}
	if got := f.mountsOther(&f.Pods[0]); !strings.Contains(got, "it mounts Secret raytls-train, and the cluster's CA Secret is raytls-train.g2") {
		t.Errorf("got %q", got)
	}
	f.Pods[0].CASecret = "raytls-train.g5"
	if pods := f.KeyPods(); pods.Newer != "raytls-train.g5" {
		t.Errorf("a pod that mounts a later Secret: %+v", pods)
	}
	if pods := f.KeyPods(); !pods.Revoking || pods.NewerPod != f.Pods[0].Name {
		t.Errorf("a revocation restarts all pods: %+v", pods)
	}
	if f.TLS.Status.Rollout = nil; f.KeyPods().Revoking {
		t.Error("the revocation is over")
	}
	f.Pods[0].Terminating = true
	if pods := f.KeyPods(); pods.Newer != "" {
		t.Errorf("one that goes proves nothing: %+v", pods)
	}
}

func fakeReader(t *testing.T, objects ...client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func TestCASecretsOfRevokedAuthorities(t *testing.T) {
	secret := func(name, owner string, labels map[string]string) client.Object {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name, Labels: labels}}
		if owner != "" {
			s.OwnerReferences = []metav1.OwnerReference{{Kind: "RayCluster", Name: owner, UID: types.UID(owner)}}
		}
		return s
	}
	ours := kube.Labels(v1alpha1.ComponentIssuer)
	f, _ := encryptedFacts(t)
	f.Object.SetKind("RayCluster")
	g := &Gatherer{Cached: fakeReader(t,
		secret("raytls-train", "train", ours), secret("raytls-train.g2", "train", ours), secret("raytls-train.g3", "train", ours), secret("raytls-train.g4", "train", ours),
		secret("raytls-train.g1", "", ours), secret("raytls-train.g02", "train", ours), secret("raytls-trainer", "trainer", ours), secret("raytls-other.g2", "other", ours),
	)}
	if err := g.revoked(t.Context(), f, 3); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range f.Revoked {
		names = append(names, f.Revoked[i].Name)
	}
	if got := strings.Join(names, " "); got != "raytls-train raytls-train.g1 raytls-train.g2" {
		t.Errorf("got %s", got)
	}
	f.Revoked = nil
	if err := g.revoked(t.Context(), f, 0); err != nil || len(f.Revoked) > 0 {
		t.Errorf("without a revocation: %v, %v", f.Revoked, err)
	}
	g.Cached = fakeReader(t, secret("raytls-train.g2", "train.g2", ours), secret("raytls-train", "train", kube.Labels(v1alpha1.ComponentAuthority)))
	if err := g.revoked(t.Context(), f, 3); err != nil || len(f.Revoked) > 0 {
		t.Errorf("of another cluster, and of another kind: %v, %v", f.Revoked, err)
	}
	other := secret("raytls-train.g2", "train.g2", ours).(*corev1.Secret)
	if f.OwnIssuer(other) {
		t.Error("the Secret of a cluster with such a name is taken for the cluster's own")
	}
}
