package rollout

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestStartingToEnable(t *testing.T) {
	checkPlans(t, map[string]planCase{
		"youngest worker":      {"the youngest ready worker has the least to lose", nil, `[Inject ["a"]; record enabled=false failed=false phase=Canary] Enabling`},
		"two kinds":            {"each kind of init container is shown by a worker of its own", with(groups(func(t *Template) { t.CanaryKey = "other" }, "b")), `[Inject ["a" "b"]; record enabled=false failed=false phase=Canary] Enabling`},
		"not ready":            {"a worker that is not ready shows nothing", with(unready("a1", "a2")), `[Inject ["b"]; record enabled=false failed=false phase=Canary] Enabling`},
		"no worker":            {"without a ready worker the head goes first", with(unready("a1", "a2", "b1")), `[Inject [""]; record enabled=false failed=false phase=Head] Enabling`},
		"group going":          {"workers of a group that is suspended are on their way out", with(replicas(0, "a")), `[Inject ["b"]; record enabled=false failed=false phase=Canary] Enabling`},
		"new":                  {"a cluster that was never ready has no work to lose", with(selector(), set(func(s *Snapshot) { s.New = true })), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"suspended":            {"nor has one that is stopped", with(selector(), suspended()), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"without pods":         {"nor has one without pods", with(selector(), gone(allPods()...)), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"pods on their way":    {"pods that are being deleted run until they are gone", with(selector(), going(allPods()...)), `AwaitingApproval`},
		"failed without pods":  {"after a failed attempt was put back, no pods for a moment is no stop", with(failedOn("this"), gone(allPods()...)), `EnableFailed`},
		"blocked without pods": {"a head that is being replaced for a running job is no stop", with(blockedNow(), gone(allPods()...)), `Blocked`},
		"edited without pods":  {"a changed cluster without pods is tried", with(failedOn("before"), gone(allPods()...)), `[InjectAll []; record enabled=false failed=true phase=none] Enabling`},
		"selector":             {"a selector waits for approval", with(selector()), `AwaitingApproval`},
		"selector approved":    {"and goes on with one", with(selector(), approved()), `[Inject ["a"]; record enabled=false failed=false phase=Canary] Enabling`},
		"blocked":              {"what blocks is stronger than an approval", with(blockedNow(), approved()), `Blocked`},
		"hazard":               {"what TLS would break is corrected first, even before an approval", with(hazardous(), approved()), `Hazard`},
		"hazard, suspended":    {"a cluster without pods loses no work", with(hazardous(), gone(allPods()...)), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"hazard, no work":      {"nor does one that never was ready", with(hazardous(), set(func(s *Snapshot) { s.New = true })), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"hazard, begun":        {"a restart that has begun is finished", with(hazardous(), phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseCanary, time.Second, "a2"), templatesWithTLS("a")), `[delete a2] Enabling`},
		"no slot":              {"others come first", with(noSlot()), `WaitingForSlot`},
		"no slot approved":     {"even before what is approved", with(noSlot(), approved()), `WaitingForSlot`},
		"failed":               {"what failed is not tried again", with(failedOn("this")), `EnableFailed`},
		"failed, changed":      {"unless the templates changed", with(failedOn("before")), `[Inject ["a"]; record enabled=false failed=false phase=Canary] Enabling`},
		"failed, approved":     {"or somebody approved it", with(failedOn("this"), approved()), `[Inject ["a"]; record enabled=false failed=false phase=Canary] Enabling`},
		"queued":               {"Kueue would evict it", with(set(func(s *Snapshot) { s.Queued = true })), `Blocked`},
		"queued, approved":     {"which can be approved; then Kueue deletes", with(set(func(s *Snapshot) { s.Queued = true }), approved()), `[InjectAll []; record enabled=false failed=false phase=All] Enabling`},
		"recreate":             {"no canary is possible, so even a targetRef waits", with(recreated(true)), `AwaitingApproval`},
		"recreate approved":    {"all templates at once", with(recreated(true), approved()), `[InjectAll []; record enabled=false failed=false phase=All] Enabling`},
		"adopted":              {"what is encrypted already is taken over without a restart", with(selector(), allTemplatesWithTLS(), certifiedPods(allPods()...)), `[record enabled=true failed=false phase=none] Enabling`},
		"record lost":          {"with an encrypted head and all templates injected only the record is missing", with(selector(), allTemplatesWithTLS(), certifiedPods("head")), `[record enabled=true failed=false phase=none] Enabling`},
		"everything lost":      {"an encrypted head whose templates and record were stripped", with(certifiedPods(allPods()...)), `FieldConflict`},
		"half, no record":      {"an attempt that has lost its record, and may not go on, is put back", with(selector(), templatesWithTLS("a"), certifiedPods("a2")), `[RemoveAll []; record enabled=false failed=false phase=Revert] AwaitingApproval`},
		"half, head new":       {"with an encrypted head there is no way back", with(selector(), templatesWithTLS("", "a"), certifiedPods("head", "a2")), `[record enabled=true failed=false phase=none] Enabling`},
		"came up meanwhile":    {"what was injected while it had no work to lose is injected whole", with(selector(), allTemplatesWithTLS(), set(func(s *Snapshot) { s.InjectedAt = start() })), `[record enabled=true failed=false phase=none] Enabling`},
		"leftover worker":      {"a worker made while the templates were put back cannot join", with(failedOn("this"), certifiedPods("a2")), `[delete a2] EnableFailed`},
		"leftover head":        {"nor can others join such a head", with(failedOn("this"), failedPods("head")), `[delete head] EnableFailed`},
	})
}

func TestCanary(t *testing.T) {
	at := func(since time.Duration) func(*Snapshot) {
		return phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseCanary, since, "a2")
	}
	fresh := func(change func(*Pod)) func(*Snapshot) {
		return func(s *Snapshot) {
			p := Pod{Name: "a3", UID: "uid-a3", Group: "a", Injected: true, Created: start()}
			change(&p)
			s.Pods = append(s.Pods, p)
		}
	}
	as := func(p *Pod) { p.Certified = true }
	checkPlans(t, map[string]planCase{
		"restart":           {"the canary goes once its template is seen to be injected", with(at(0), templatesWithTLS("a")), `[delete a2] Enabling`},
		"template unseen":   {"not before", with(at(0)), `[Inject ["a"]; record enabled=false failed=false phase=Canary] Enabling`},
		"stripped for long": {"who takes it out again and again ends the attempt", with(at(time.Hour)), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"going":             {"its grace period is waited for", with(at(0), templatesWithTLS("a"), going("a2")), `[record enabled=false failed=false phase=Canary] Enabling`},
		"long grace period": {"however long", with(at(time.Hour), templatesWithTLS("a"), going("a2")), `[record enabled=false failed=false phase=Canary] Enabling`},
		"clock on record":   {"and is not counted afterwards", with(at(time.Hour), set(func(s *Snapshot) { s.Progress.From = start().Add(-time.Minute) }), templatesWithTLS("a"), gone("a2")), `Enabling`},
		"operator away":     {"an operator that was away gives the canary its time", with(at(time.Hour), templatesWithTLS("a")), `[record enabled=false failed=false phase=Canary] Enabling`},
		"gone":              {"nor is anything decided before the replacement comes", with(at(0), templatesWithTLS("a"), gone("a2")), `Enabling`},
		"starting":          {"or has ended", with(at(0), templatesWithTLS("a"), gone("a2"), fresh(func(*Pod) {})), `Enabling`},
		"shown":             {"a certificate is what it takes", with(at(0), templatesWithTLS("a"), gone("a2"), fresh(as)), `[Inject [""]; record enabled=false failed=false phase=Head] Enabling`},
		"failed":            {"a failure puts back", with(at(0), templatesWithTLS("a"), gone("a2"), fresh(func(p *Pod) { p.Failure = "no openssl" })), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"ended": {"under restartPolicy Never a failure ends the pod", with(at(0), templatesWithTLS("a"), gone("a2"), set(func(s *Snapshot) {
			s.Ended = []Pod{{Name: "a3", Group: "a", Injected: true, Failure: "no", Created: start()}}
		})), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"ended before": {"a pod of an earlier attempt tells nothing", with(at(0), templatesWithTLS("a"), gone("a2"), set(func(s *Snapshot) {
			s.Ended = []Pod{{Name: "a0", Group: "a", Injected: true, Failure: "no", Created: start().Add(-time.Hour)}}
		})), `Enabling`},
		"hangs":         {"so does silence", with(at(10*time.Minute), templatesWithTLS("a"), gone("a2"), fresh(func(*Pod) {})), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"hangs almost":  {"after the deadline and not before", with(at(10*time.Minute-time.Second), templatesWithTLS("a"), gone("a2"), fresh(func(*Pod) {})), `Enabling`},
		"old template":  {"a replacement that KubeRay made from the old template goes too", with(at(0), templatesWithTLS("a"), gone("a2"), fresh(func(p *Pod) { p.Injected = false }), set(func(s *Snapshot) { s.Now = s.Now.Add(NoticeTime) })), `[delete a3] Enabling`},
		"too young":     {"but not before KubeRay has seen it", with(at(0), templatesWithTLS("a"), gone("a2"), fresh(func(p *Pod) { p.Injected = false })), `Enabling`},
		"group emptied": {"when the canary's group is emptied, another goes first", with(at(0), templatesWithTLS("a"), gone("a1", "a2"), replicas(0, "a")), `[Inject ["b"]; record enabled=false failed=false phase=Canary] Enabling`},
		"all emptied":   {"and without any, the head", with(at(0), templatesWithTLS("a"), gone("a1", "a2", "b1"), replicas(0, "a", "b")), `[Inject [""]; record enabled=false failed=false phase=Head] Enabling`},
		"blocked":       {"a job that came up keeps its worker", with(at(0), templatesWithTLS("a"), blockedNow()), `[RemoveAll []; record enabled=false failed=false phase=Revert] Enabling`},
		"suspended":     {"a stopped cluster is injected whole", with(at(0), templatesWithTLS("a"), suspended()), `[InjectAll []; record enabled=false failed=false phase=Canary] Enabling`},
		"disabled":      {"half enabled is put back without asking", with(at(0), selector(), templatesWithTLS("a"), toPlaintext(), starting("a2")), `[RemoveAll []; record enabled=false failed=false phase=All] Disabling`},
	})
}

func TestHead(t *testing.T) {
	at := func(since time.Duration) func(*Snapshot) {
		return phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseHead, since)
	}
	shown := certifiedPods("a2")
	checkPlans(t, map[string]planCase{
		"restart":           {"the head goes once its template is seen to be injected", with(at(0), templatesWithTLS("", "a"), shown), `[delete head] Enabling`},
		"template unseen":   {"not before", with(at(0), templatesWithTLS("a"), shown), `[Inject [""]; record enabled=false failed=false phase=Head] Enabling`},
		"stripped for long": {"who takes it out again and again ends the attempt", with(at(time.Hour), templatesWithTLS("a"), shown), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"operator away":     {"an operator that was away gives the head its time", with(at(time.Hour), templatesWithTLS("", "a"), shown), `[record enabled=false failed=false phase=Head] Enabling`},
		"going":             {"its grace period is waited for", with(at(0), templatesWithTLS("", "a"), shown, going("head")), `[record enabled=false failed=false phase=Head] Enabling`},
		"gone":              {"nothing is decided before the new head comes", with(at(0), templatesWithTLS("", "a"), shown, gone("head")), `Enabling`},
		"no pods":           {"not even when there is no other pod", with(at(0), templatesWithTLS("", "a"), gone(allPods()...)), `Enabling`},
		"certified":         {"then the rest", with(at(0), templatesWithTLS("", "a"), shown, certifiedPods("head")), `[InjectAll []; record enabled=true failed=false phase=Rest] Enabling`},
		"failed":            {"a failure puts back", with(at(0), templatesWithTLS("", "a"), shown, failedPods("head")), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"hangs":             {"so does silence", with(at(10*time.Minute), templatesWithTLS("", "a"), shown, starting("head")), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"blocked":           {"a job that came up keeps its head", with(at(0), templatesWithTLS("", "a"), shown, blockedNow()), `[RemoveAll []; record enabled=false failed=false phase=Revert] Enabling`},
		"blocked too late":  {"unless that is going already", with(at(0), templatesWithTLS("", "a"), shown, blockedNow(), going("head")), `[record enabled=false failed=false phase=Head] Enabling`},
	})
}

func TestRest(t *testing.T) {
	at := func(phaseNow v1alpha1.RolloutPhase, since time.Duration) func(*Snapshot) {
		return phase(v1alpha1.GoalEncrypted, phaseNow, since)
	}
	checkPlans(t, map[string]planCase{
		"restart":                 {"everything that is left goes at once", with(recorded(), at(v1alpha1.PhaseRest, 0), allTemplatesWithTLS(), certifiedPods("head", "a2")), `[delete a1; delete b1] Enabling`},
		"group added":             {"a group that came meanwhile is injected first", with(recorded(), at(v1alpha1.PhaseRest, 0), templatesWithTLS("", "a"), certifiedPods("head", "a2")), `[InjectAll []; record enabled=true failed=false phase=Rest] Enabling`},
		"stripped for long":       {"who takes it out again and again meets the limit", with(recorded(), at(v1alpha1.PhaseRest, time.Hour), templatesWithTLS("", "a"), certifiedPods("head", "a2")), `[record enabled=true failed=false phase=none] Enabling`},
		"going":                   {"pods speak plaintext until they are gone", with(recorded(), at(v1alpha1.PhaseRest, 0), allTemplatesWithTLS(), certifiedPods(allPods()...), onPods(func(p *Pod) { p.Injected, p.Terminating = false, true }, "b1")), `Enabling`},
		"starting":                {"certificates are waited for", with(recorded(), at(v1alpha1.PhaseRest, 0), allTemplatesWithTLS(), certifiedPods("head", "a1", "a2"), starting("b1")), `Enabling`},
		"starting for long":       {"but not for ever", with(recorded(), at(v1alpha1.PhaseRest, time.Hour), allTemplatesWithTLS(), certifiedPods("head", "a1", "a2"), starting("b1")), `[record enabled=true failed=false phase=none] PodsStarting`},
		"failed":                  {"what fails now is said and not put back: the head is encrypted", with(recorded(), at(v1alpha1.PhaseRest, 0), allTemplatesWithTLS(), certifiedPods("head", "a1", "a2"), failedPods("b1")), `CertificateFailed`},
		"done":                    {"all certified is done", with(recorded(), at(v1alpha1.PhaseRest, 0), allTemplatesWithTLS(), certifiedPods(allPods()...)), `[record enabled=true failed=false phase=none] Encrypted`},
		"KubeRay's turn":          {"with Recreate KubeRay deletes", with(at(v1alpha1.PhaseAll, 0), recreated(false), allTemplatesWithTLS()), `Enabling`},
		"KubeRay saw and did not": {"if it saw the change and deleted nothing, it will not", with(at(v1alpha1.PhaseAll, 0), recreated(true), allTemplatesWithTLS()), `[delete head; delete a1; delete a2; delete b1] Enabling`},
		"KubeRay never says":      {"nor if it says nothing until the deadline", with(at(v1alpha1.PhaseAll, time.Hour), recreated(false), allTemplatesWithTLS()), `[delete head; delete a1; delete a2; delete b1] Enabling`},
		"Kueue's turn":            {"what is queued Kueue deletes", with(at(v1alpha1.PhaseAll, 0), set(func(s *Snapshot) { s.Queued = true }), allTemplatesWithTLS()), `Enabling`},
		"Kueue does not":          {"where there is one", with(at(v1alpha1.PhaseAll, time.Hour), set(func(s *Snapshot) { s.Queued = true }), allTemplatesWithTLS()), `[delete head; delete a1; delete a2; delete b1] Enabling`},
	})
}

func TestRevert(t *testing.T) {
	at := with(phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseRevert, 0), failedOn("this"))
	checkPlans(t, map[string]planCase{
		"templates": {"first the templates", append(at, templatesWithTLS("", "a"), failedPods("head")), `[RemoveAll []; record enabled=false failed=true phase=Revert] EnableFailed`},
		"pods":      {"then all pods that were touched, at once", append(at, failedPods("head"), certifiedPods("a2")), `[delete head; delete a2] EnableFailed`},
		"going":     {"which is over when they are gone", append(at, failedPods("head"), going("head")), `EnableFailed`},
		"done":      {"and not before", at, `[record enabled=false failed=true phase=none] EnableFailed`},
	})
}

func hazardous() func(*Snapshot) {
	return func(s *Snapshot) { s.Hazard, s.HazardWhy = "spec.x", "probes a port" }
}
