package rollout

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestMaintain(t *testing.T) {
	encrypted := func(more ...func(*Snapshot)) []func(*Snapshot) {
		return append(with(recorded(), allTemplatesWithTLS(), certifiedPods(allPods()...)), more...)
	}
	stripped := groups(func(t *Template) { t.Injected, t.Pieces, t.Stripped = false, false, true }, "", "a", "b")
	asPlaintext := func(names ...string) func(*Snapshot) {
		return onPods(func(p *Pod) { p.Injected, p.Certified = false, false }, names...)
	}
	checkPlans(t, map[string]planCase{
		"at rest":              {"nothing is to be done", encrypted(), `Encrypted`},
		"worker in plaintext":  {"a pod made while the injection was out cannot talk to the others", encrypted(asPlaintext("a1")), `[delete a1] Enabling`},
		"going in plaintext":   {"it speaks until it is gone", encrypted(asPlaintext("a1"), going("a1")), `Enabling`},
		"recreate":             {"KubeRay may never say that it has seen the change", encrypted(asPlaintext("a1"), recreated(false)), `[delete a1] Enabling`},
		"certificate failed":   {"a pod that makes none is named", encrypted(failedPods("a1")), `CertificateFailed`},
		"head starting":        {"without a head nobody can join", encrypted(starting("head")), `PodsStarting`},
		"without pods":         {"no pods speak no plaintext, and nothing else", encrypted(gone(allPods()...)), `NoPods`},
		"suspended":            {"a stopped cluster is named so", encrypted(suspended(), gone(allPods()...)), `Suspended`},
		"suspended, going":     {"and from when its pods go", encrypted(suspended(), going(allPods()...)), `Suspended`},
		"suspended, running":   {"and not before", encrypted(suspended()), `Encrypted`},
		"edited":               {"a user's edit is followed", encrypted(groups(func(t *Template) { t.Injected = false }, "a")), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"group added":          {"so is a new group", encrypted(groups(func(t *Template) { *t = Template{Group: "b", Stripped: true, Replicas: 1} }, "b")), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"stripped":             {"what was stripped is restored", encrypted(stripped), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"stripped again":       {"twice", encrypted(stripped, restoredAgo(time.Minute)), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"stripped just now":    {"what is on record and not seen is written and not counted", encrypted(stripped, restoredAgo(59*time.Minute, 9*time.Second)), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"stripped repeatedly":  {"and no more", encrypted(stripped, restoredAgo(59*time.Minute, time.Minute)), `FieldConflict`},
		"stripped hours later": {"within the hour", encrypted(stripped, restoredAgo(time.Hour, time.Minute)), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"works in plaintext":   {"stripped and restarted, it works in plaintext and is enabled anew", encrypted(stripped, asPlaintext(allPods()...)), `[Inject ["a"]; record enabled=true failed=false phase=Canary] Enabling`},
		"blocked":              {"pods that a job uses are not replaced, and new ones have to be able to join them", encrypted(asPlaintext(allPods()...), blockedNow()), `[RemoveAll []; record enabled=false failed=false phase=Revert] Blocked`},
		"blocked, later head":  {"a head that was made after the injection may be anybody's: nothing is decrypted for it", encrypted(asPlaintext(allPods()...), blockedNow(), injectedLongAgo()), `Blocked`},
		"later head":           {"it goes", encrypted(asPlaintext(allPods()...), set(func(s *Snapshot) { s.Service = &Service{Name: "serve", Serving: true} }), injectedLongAgo()), `[delete head; delete a1; delete a2; delete b1] Enabling`},
		"born so, plaintext":   {"no plaintext head can be the cluster's own", encrypted(asPlaintext(allPods()...), blockedNow(), set(func(s *Snapshot) { s.InjectedAt = time.Time{} })), `Blocked`},
		"blocked in half":      {"what cannot be put back without harm stays", encrypted(asPlaintext("head", "a1"), blockedNow()), `Blocked`},
		"blocked, head well":   {"a worker that cannot join does nothing for the job", encrypted(asPlaintext("a1"), blockedNow()), `[delete a1] Enabling`},
		"altered":              {"a pod of the present template would come back the same", encrypted(alteredPods("a1")), `PodsAltered`},
		"altered wholly":       {"even if nothing of the injection is left in it", encrypted(asPlaintext("a1"), olderTemplates()), `PodsAltered`},
		"altered and going":    {"a pod that goes is not worth a word", encrypted(alteredPods("a1"), going("a1")), `Enabling`},
		"altered, others not":  {"what an earlier template left goes all the same", encrypted(alteredPods("a1"), asPlaintext("b1")), `[delete b1] Enabling`},
		"altered before":       {"pieces of an earlier template prove nothing", encrypted(alteredPods("a1"), madeAgo(time.Minute, "a1")), `[delete a1] Enabling`},
		"nobody's template":    {"of a template that somebody else injected, pieces prove it", encrypted(alteredPods("a1"), set(func(s *Snapshot) { s.Changed = nil })), `PodsAltered`},
		"first sight":          {"without pieces, it goes once the template is on record", encrypted(asPlaintext("a1"), set(func(s *Snapshot) { s.Changed = nil })), `[record enabled=true failed=false phase=none] Enabling`},
		"in between":           {"while a change takes effect, a pod may be from before", encrypted(asPlaintext("a1"), madeAgo(-time.Second, "a1"), now(5*time.Second)), `Enabling`},
		"in between, later":    {"and goes when its replacement cannot be", encrypted(asPlaintext("a1"), madeAgo(-time.Second, "a1"), now(inEffect)), `[delete a1] Enabling`},
		"other init container": {"a pod that gets its certificate from elsewhere stays, and is named", encrypted(onPods(func(p *Pod) { p.Differs = "another command" }, "head")), `PodsAltered`},
		"without a group":      {"a label that admission took away makes no pod older", encrypted(alteredPods("a1"), onPods(func(p *Pod) { p.Group = "-" }, "a1"), olderTemplates()), `PodsAltered`},
		"altered, blocked":     {"nothing is done to it, so nothing blocks", encrypted(alteredPods("head"), blockedNow()), `PodsAltered`},
		"altered head, served": {"nor is the RayService asked for the same again", encrypted(alteredPods("head"), serving()), `PodsAltered`},
		"approval unused":      {"nothing needs it", encrypted(approved()), `Encrypted`},
	})
}

func TestRestReports(t *testing.T) {
	rest := func(more ...func(*Snapshot)) *Snapshot {
		s := plaintextCluster()
		for _, change := range append(with(recorded(), allTemplatesWithTLS(), certifiedPods(allPods()...)), more...) {
			change(s)
		}
		return s
	}
	for name, tc := range map[string]struct {
		reason      string
		snapshot    *Snapshot
		requeueAt   time.Time
		userMustAct bool
		message     string
	}{
		"at rest":   {"there is nothing to wait for", rest(), time.Time{}, false, ""},
		"no pods":   {"they may be on their way", rest(gone(allPods()...)), time.Time{}, false, "the cluster has no pods yet; they will have TLS"},
		"refused":   {"KubeRay says why it makes none", rest(gone(allPods()...), set(func(s *Snapshot) { s.PodsMissing = "exceeded quota" })), time.Time{}, false, "KubeRay cannot create the cluster's pods: exceeded quota"},
		"suspended": {"none are meant to be there", rest(suspended(), gone(allPods()...), set(func(s *Snapshot) { s.PodsMissing = "exceeded quota" })), time.Time{}, false, "the cluster is suspended; its pods will have TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Make(tc.snapshot)
			if !p.RequeueAt.Equal(tc.requeueAt) || p.UserMustAct != tc.userMustAct || p.Message != tc.message || p.Event != nil {
				t.Errorf("%s: it is planned as %+v", tc.reason, p)
			}
			if act := acts(tc.snapshot, &p); act != "" {
				t.Errorf("%s: it does %s", tc.reason, act)
			}
		})
	}
}

func TestDisable(t *testing.T) {
	encrypted := func(more ...func(*Snapshot)) []func(*Snapshot) {
		return append(with(toPlaintext(), recorded(), allTemplatesWithTLS(), certifiedPods(allPods()...)), more...)
	}
	removing := func(since time.Duration, more ...func(*Snapshot)) []func(*Snapshot) {
		return append(with(toPlaintext(), recorded(), certifiedPods(allPods()...), phase(v1alpha1.GoalPlaintext, v1alpha1.PhaseAll, since)), more...)
	}
	checkPlans(t, map[string]planCase{
		"allowed":           {"first the templates", encrypted(), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"selector":          {"under the same rules as enabling", encrypted(selector()), `AwaitingApproval`},
		"selector approved": {"with the same approval", encrypted(selector(), approved()), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"blocked":           {"and the same blocks", encrypted(approved(), blockedNow()), `Blocked`},
		"failed before":     {"a failure to enable is none to disable", encrypted(failedOn("this")), `[RemoveAll []; record enabled=true failed=true phase=All] Disabling`},
		"suspended":         {"a stopped cluster has no work to lose", encrypted(selector(), suspended()), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"nothing of ours":   {"what was never enabled is let go", with(toPlaintext(), set(func(s *Snapshot) { s.Changed = nil })), `[release] Disabling`},
		"templates first":   {"pieces that are still seen go first", removing(0, templatesWithTLS("a")), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"pods":              {"then all pods", removing(0), `[delete head; delete a1; delete a2; delete b1] Disabling`},
		"pods of others":    {"with Recreate KubeRay deletes them", removing(0, recreated(false)), `Disabling`},
		"not by others":     {"if it does", removing(time.Hour, recreated(false)), `[delete head; delete a1; delete a2; delete b1] Disabling`},
		"going":             {"keys stay until the last encrypted pod is gone", removing(0, going(allPods()...)), `Disabling`},
		"done":              {"then they go", removing(0, gone(allPods()...)), `[record enabled=false failed=false phase=none; release] Disabling`},
		"goal changed":      {"what is being removed is removed whole", removing(0, set(func(s *Snapshot) { s.Goal = v1alpha1.GoalEncrypted })), `[delete head; delete a1; delete a2; delete b1] Disabling`},
		"half enabled":      {"what was enabled in half, and has lost the record of it, works in neither state", with(toPlaintext(), selector(), templatesWithTLS("a"), certifiedPods("a2")), `[RemoveAll []; record enabled=false failed=false phase=All] Disabling`},
		"restored record":   {"a record of what is over does not disable what waits for approval", encrypted(selector(), phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseRest, time.Hour)), `[record enabled=true failed=false phase=none] AwaitingApproval`},
		"revert first":      {"a failed attempt is put back before anything else", with(toPlaintext(), failedOn("this"), phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseRevert, 0), failedPods("a2")), `[delete a2] EnableFailed`},
	})
}

// injectedLongAgo is before any of the pods was made.
func injectedLongAgo() func(*Snapshot) {
	return set(func(s *Snapshot) { s.InjectedAt = start().Add(-24 * time.Hour) })
}
