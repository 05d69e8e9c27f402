package rollout

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestReplacing(t *testing.T) {
	const asks = `[record enabled=false failed=false phase=Upgrade; ask the RayService] Enabling`
	stripped := groups(func(t *Template) { t.Injected, t.Pieces, t.Stripped = false, false, true }, "", "a", "b")
	encrypted := func(more ...func(*Snapshot)) []func(*Snapshot) {
		return append(with(recorded(), allTemplatesWithTLS(), certifiedPods(allPods()...)), more...)
	}
	queued := set(func(s *Snapshot) { s.Queued = true })
	checkPlans(t, map[string]planCase{
		"serving":              {"what serves is replaced and loses no pod", with(serving()), asks},
		"selector":             {"under the rules of any restart", with(serving(), selector()), `AwaitingApproval`},
		"selector approved":    {"with the approval of any restart", with(serving(), selector(), approved()), `[record enabled=false failed=false phase=Upgrade; ask the RayService] Enabling`},
		"no slot":              {"after others", with(serving(), noSlot()), `WaitingForSlot`},
		"blocked":              {"not while a job runs on it", with(serving(), blockedNow(), approved()), `Blocked`},
		"queued":               {"not without approval where Kueue has to admit the new one", with(serving(), queued), `Blocked`},
		"queued approved":      {"and with it", with(serving(), queued, approved()), `[record enabled=false failed=false phase=Upgrade; ask the RayService] Enabling`},
		"no upgrades":          {"not where it would make none, approved or not", with(serving(refuses()), approved()), `Blocked`},
		"upgrading already":    {"a user's own upgrade does it too", with(serving(nextIs("n")), selector()), `Enabling`},
		"asked already":        {"what was asked is not asked again, and is put on record", with(serving(askedAgo(time.Minute)), selector()), `[record enabled=false failed=false phase=Upgrade] Enabling`},
		"asked for other":      {"what was asked for before is another thing", with(serving(func(v *Service) { v.Asked = "that" })), asks},
		"new":                  {"a new cluster that does not serve is injected at once", with(serving(idle()), selector(), set(func(s *Snapshot) { s.New = true })), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"about to serve":       {"one that may serve at any moment is left alone", with(serving(idle())), `Enabling`},
		"about to go":          {"so is one that has served", with(serving(idle(), nextIs("n"))), `Enabling`},
		"missed":               {"what was made for it and is not is no reason to go on for ever", with(serving(missed())), `AwaitingApproval`},
		"missed, approved":     {"without somebody who wants it", with(serving(missed()), approved()), `[record enabled=false failed=false phase=Upgrade; ask the RayService] Enabling`},
		"suspended":            {"one that is stopped needs nothing of the RayService", with(serving(), selector(), suspended()), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"between pods":         {"a head that KubeRay is making again is no stop", with(serving(), selector(), gone(allPods()...)), `AwaitingApproval`},
		"adopted":              {"what is encrypted already is taken over", with(serving(), selector(), allTemplatesWithTLS(), certifiedPods(allPods()...)), `[record enabled=true failed=false phase=none] Enabling`},
		"everything lost":      {"an encrypted head whose templates and record were replaced is replaced too", with(serving(), certifiedPods(allPods()...)), asks},
		"at rest":              {"an encrypted one is left alone", encrypted(serving()), `Encrypted`},
		"restored":             {"its templates are restored in place", encrypted(serving(), stripped), `[InjectAll []; record enabled=true failed=false phase=none] Enabling`},
		"worker in plaintext":  {"and workers that cannot join the head replaced", encrypted(serving(), onPods(func(p *Pod) { p.Injected, p.Certified = false, false }, "a1")), `[delete a1] Enabling`},
		"served too early":     {"what came to serve before its pods were replaced gets its templates back", with(serving(), recorded(), allTemplatesWithTLS()), `[RemoveAll []; record enabled=false failed=false phase=Revert] Enabling`},
		"head in plaintext":    {"where some pods are encrypted, nothing but a new cluster helps", encrypted(serving(), onPods(func(p *Pod) { p.Injected, p.Certified = false, false }, "head")), `[record enabled=true failed=false phase=Upgrade; ask the RayService] Enabling`},
		"new, head plaintext":  {"a new one's pods are replaced", with(serving(idle()), recorded(), allTemplatesWithTLS(), set(func(s *Snapshot) { s.New = true })), `[delete head; delete a1; delete a2; delete b1] Enabling`},
		"disable":              {"back to plaintext goes the same way", encrypted(serving(), toPlaintext()), `[record enabled=true failed=false phase=Upgrade; ask the RayService] Disabling`},
		"disable, selector":    {"by the same rules", encrypted(serving(), toPlaintext(), selector()), `AwaitingApproval`},
		"disable, no upgrades": {"and not where it would make no other", encrypted(serving(refuses()), toPlaintext(), approved()), `Blocked`},
		"disable, new":         {"a new one is given back at once", encrypted(serving(idle()), toPlaintext(), set(func(s *Snapshot) { s.New = true })), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"disable, stopped":     {"so is one that is stopped", encrypted(serving(), toPlaintext(), suspended()), `[RemoveAll []; record enabled=true failed=false phase=All] Disabling`},
		"disable, about to go": {"one that has served goes by itself", encrypted(serving(idle(), nextIs("n")), toPlaintext()), `Disabling`},
		"disable, plaintext":   {"one that was never enabled is let go", with(set(func(s *Snapshot) { s.Changed = nil }), serving(), toPlaintext()), `[release] Disabling`},
	})
}

func TestUpgrading(t *testing.T) {
	at := func(ago time.Duration) func(*Snapshot) {
		return phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseUpgrade, ago)
	}
	asked := askedAgo(time.Minute)
	checkPlans(t, map[string]planCase{
		"unseen":                {"the request may not be made or seen yet, and is the same one", with(at(0), serving()), `[record enabled=false failed=false phase=Upgrade; ask the RayService] Enabling`},
		"unseen, blocked":       {"it is not made while a job runs", with(at(0), serving(), blockedNow()), `Enabling`},
		"unseen, refuses":       {"nor for nothing", with(at(0), serving(refuses())), `Enabling`},
		"asked":                 {"KubeRay has its time", with(at(time.Minute), serving(asked)), `Enabling`},
		"made":                  {"so has the new cluster", with(at(9*time.Minute), serving(asked, nextIs("n"))), `Enabling`},
		"not made":              {"after which it is said that there is none", with(at(10*time.Minute), serving(asked)), `Blocked`},
		"not ready":             {"or that it is not ready; nothing is asked again, approved or not", with(at(time.Hour), serving(asked, nextIs("n")), approved()), `Blocked`},
		"taken out":             {"who takes the request out is not fought", with(at(time.Minute), serving()), `Blocked`},
		"taken out, made":       {"though it does not matter once there is a new cluster", with(at(time.Minute), serving(nextIs("n"))), `Enabling`},
		"taken out, approved":   {"a new approval asks again", with(at(time.Minute), serving(), approved()), `[record enabled=false failed=false phase=Upgrade; ask the RayService] Enabling`},
		"taken out, refuses":    {"unless it would be for nothing", with(at(time.Minute), serving(refuses()), approved()), `Blocked`},
		"taken out, blocked":    {"or harm a job", with(at(time.Minute), serving(), blockedNow(), approved()), `Blocked`},
		"upgrades switched off": {"what came to forbid it is said", with(at(time.Minute), serving(asked, refuses())), `Blocked`},
		"switched off too late": {"unless the new cluster is there", with(at(time.Minute), serving(asked, refuses(), nextIs("n"))), `Enabling`},
		"moved":                 {"when the traffic has moved, this one goes", with(at(time.Hour), serving(asked, idle(), nextIs("n"))), `Enabling`},
		"suspended":             {"a stopped cluster needs no other", with(at(time.Minute), serving(asked), suspended()), `[InjectAll []; record enabled=false failed=false phase=none] Enabling`},
		"no pods":               {"a head that KubeRay is making again is no stop", with(at(time.Minute), serving(asked), gone(allPods()...)), `Enabling`},
		"orphaned":              {"without a RayService it is a cluster like any other", with(at(time.Minute)), `[Inject ["a"]; record enabled=false failed=false phase=Canary] Enabling`},
		"goal changed":          {"a plaintext cluster that is to be so again is let go", with(at(time.Minute), serving(asked), toPlaintext()), `[record enabled=false failed=false phase=none; release] Disabling`},
		"goal changed back": {
			"an encrypted one that is to stay so stays", with(phase(v1alpha1.GoalPlaintext, v1alpha1.PhaseUpgrade, time.Minute), serving(asked), recorded(), allTemplatesWithTLS(), certifiedPods(allPods()...)),
			`[record enabled=true failed=false phase=none] Encrypted`,
		},
	})
}
