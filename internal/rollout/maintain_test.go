package rollout

import (
	"testing"
	"time"
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
		"without pods":         {"no pods speak no plaintext", encrypted(gone(allPods()...)), `Encrypted`},
		"edited":               {"a user's edit is followed", encrypted(groups(func(t *Template) { t.Injected = false }, "a")), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"group added":          {"so is a new group", encrypted(groups(func(t *Template) { *t = Template{Group: "b", Stripped: true, Replicas: 1} }, "b")), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"stripped":             {"what was stripped is restored", encrypted(stripped), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"stripped again":       {"twice", encrypted(stripped, restoredAgo(time.Minute)), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"stripped repeatedly":  {"and no more", encrypted(stripped, restoredAgo(59*time.Minute, time.Minute)), `FieldConflict`},
		"stripped hours later": {"within the hour", encrypted(stripped, restoredAgo(time.Hour, time.Minute)), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"works in plaintext":   {"stripped and restarted, it works in plaintext and is enabled anew", encrypted(stripped, asPlaintext(allPods()...)), `[Inject ["a"]; record enabled=true failed=false phase=Canary] Enabling`},
		"blocked":              {"pods that a job uses are not replaced, and new ones have to be able to join them", encrypted(asPlaintext(allPods()...), blockedNow()), `[RemoveAll []; record enabled=false failed=false phase=none] Blocked`},
		"blocked, later head":  {"a head that was made after the injection may be anybody's: nothing is decrypted for it", encrypted(asPlaintext(allPods()...), blockedNow(), injectedLongAgo()), `Blocked`},
		"later head":           {"it goes", encrypted(asPlaintext(allPods()...), set(func(s *Snapshot) { s.Service = &Service{Name: "serve", Serving: true} }), injectedLongAgo()), `[delete head; delete a1; delete a2; delete b1] Enabling`},
		"born so, plaintext":   {"no plaintext head can be the cluster's own", encrypted(asPlaintext(allPods()...), blockedNow(), set(func(s *Snapshot) { s.InjectedAt = time.Time{} })), `Blocked`},
		"blocked in half":      {"what cannot be put back without harm stays", encrypted(asPlaintext("head", "a1"), blockedNow()), `Blocked`},
		"blocked, head well":   {"a worker that cannot join does nothing for the job", encrypted(asPlaintext("a1"), blockedNow()), `[delete a1] Enabling`},
		"approval unused":      {"nothing needs it", encrypted(approved()), `Encrypted`},
	})
}

func TestDisable(t *testing.T) {
	encrypted := func(more ...func(*Snapshot)) []func(*Snapshot) {
		return append(with(toPlaintext(), recorded(), allTemplatesWithTLS(), certifiedPods(allPods()...)), more...)
	}
	removing := func(since time.Duration, more ...func(*Snapshot)) []func(*Snapshot) {
		return append(with(toPlaintext(), recorded(), certifiedPods(allPods()...), phase(Plaintext, PhaseAll, since)), more...)
	}
	checkPlans(t, map[string]planCase{
		"allowed":           {"first the templates", encrypted(), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"selector":          {"under the same rules as enabling", encrypted(selector()), `AwaitingApproval`},
		"selector approved": {"with the same approval", encrypted(selector(), approved()), `[RemoveAll []; record enabled=true failed=false phase=All; use approval] Disabling`},
		"blocked":           {"and the same blocks", encrypted(approved(), blockedNow()), `Blocked`},
		"failed before":     {"a failure to enable is none to disable", encrypted(failedOn("this")), `[RemoveAll []; record enabled=true failed=true phase=All] Disabling`},
		"suspended":         {"a stopped cluster has no work to lose", encrypted(selector(), suspended()), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"nothing of ours":   {"what was never enabled is let go", with(toPlaintext()), `[release] Disabling`},
		"templates first":   {"pieces that are still seen go first", removing(0, templatesWithTLS("a")), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"pods":              {"then all pods", removing(0), `[delete head; delete a1; delete a2; delete b1] Disabling`},
		"pods of others":    {"with Recreate KubeRay deletes them", removing(0, recreated(false)), `Disabling`},
		"not by others":     {"if it does", removing(time.Hour, recreated(false)), `[delete head; delete a1; delete a2; delete b1] Disabling`},
		"going":             {"keys stay until the last encrypted pod is gone", removing(0, going(allPods()...)), `Disabling`},
		"done":              {"then they go", removing(0, gone(allPods()...)), `[record enabled=false failed=false phase=none; release] Disabling`},
		"goal changed":      {"what is being removed is removed whole", removing(0, set(func(s *Snapshot) { s.Goal = Encrypted })), `[delete head; delete a1; delete a2; delete b1] Disabling`},
		"revert first":      {"a failed attempt is put back before anything else", with(toPlaintext(), failedOn("this"), phase(Encrypted, PhaseRevert, 0), failedPods("a2")), `[delete a2] EnableFailed`},
	})
}

// injectedLongAgo is before any of the pods was made.
func injectedLongAgo() func(*Snapshot) {
	return set(func(s *Snapshot) { s.InjectedAt = start().Add(-24 * time.Hour) })
}
