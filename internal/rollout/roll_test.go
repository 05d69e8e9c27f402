package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kube"
)

const life = 90 * 24 * time.Hour

// encryptedCluster is a fault tolerant cluster whose certificates were made so long ago and last ninety days.
func encryptedCluster(age time.Duration) *Snapshot {
	s := plaintextCluster()
	for _, change := range with(recorded(), allTemplatesWithTLS(), certifiedPods(allPods()...), olderTemplates(), madeAgo(age, allPods()...)) {
		change(s)
	}
	for i := range s.Pods {
		s.Pods[i].Differs = ""
		s.Pods[i].Leaf = Leaf{IssuedAt: start().Add(-age), End: start().Add(life - age)}
	}
	s.Roll = Rolling{MaxUnavailable: 1, Head: v1alpha1.HeadRestartIfFaultTolerant, FaultTolerant: true, WorkerEnd: start().Add(life), HeadEnd: start().Add(life), Validity: life}
	return s
}

// roll is recorded for so long, with so many replicas to go.
func rollsFor(since time.Duration, remaining int32) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Progress = &Progress{Goal: v1alpha1.GoalEncrypted, Phase: v1alpha1.PhaseRoll, Since: start().Add(-since), Remaining: remaining}
	}
}

// renewed pods have certificates that were made a minute ago.
func renewed(names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) {
		p.Created, p.Leaf = start().Add(-time.Minute), Leaf{IssuedAt: start().Add(-time.Minute), End: start().Add(life)}
	}, names...)
}

func rolling(change func(*Rolling)) func(*Snapshot) { return func(s *Snapshot) { change(&s.Roll) } }

func heldPods(by string, names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { p.HeldBy, p.HeldWhy = by, "it is held" }, names...)
}

func leaves(change func(*Leaf), names ...string) func(*Snapshot) {
	return onPods(func(p *Pod) { change(&p.Leaf) }, names...)
}

func jobRuns() func(*Snapshot) {
	return func(s *Snapshot) { s.Roll.BlockedBy, s.Roll.BlockedWhy = "RayJob/x", "it runs" }
}

func clocksDiffer() func(*Snapshot) {
	return func(s *Snapshot) { s.ClockSkew = "give the pods new certificates once the clocks agree" }
}

func notTolerant(r *Rolling) { r.FaultTolerant = false }

func opensIn(d time.Duration) func(*Snapshot) {
	return func(s *Snapshot) { s.Opens = start().Add(d) }
}

func queued(s *Snapshot) { s.Queued = true }

func workersDone() func(*Snapshot) { return renewed("a1", "a2", "b1") }

func TestRoll(t *testing.T) {
	const (
		begins = `[record enabled=true failed=false phase=Roll] Encrypted`
		ends   = `[record enabled=true failed=false phase=none] Encrypted`
		due    = life * 2 / 3
	)
	second := time.Second
	for name, c := range map[string]struct {
		reason  string
		age     time.Duration
		differs []func(*Snapshot)
		want    string
	}{
		"young":                     {"nothing is due", 0, nil, `Encrypted`},
		"just before":               {"not before two thirds of a life", due - second, nil, `Encrypted`},
		"due":                       {"the roll is on record before a pod goes", due, nil, begins},
		"first worker":              {"one goes", due, with(rollsFor(second, 4)), `[evict a1] Encrypted`},
		"first to end":              {"the one whose certificate ends first", due, with(rollsFor(second, 4), leaves(func(l *Leaf) { l.End = l.End.Add(-time.Hour) }, "b1")), `[evict b1] Encrypted`},
		"progress":                  {"what became new is on record before the next goes", due, with(rollsFor(second, 4), renewed("a1")), begins},
		"three at a time":           {"as many as may", due, with(rollsFor(second, 4), rolling(func(r *Rolling) { r.MaxUnavailable = 3 })), `[evict a1; evict a2; evict b1] Encrypted`},
		"more than all":             {"the head waits for the workers", due, with(rollsFor(second, 4), rolling(func(r *Rolling) { r.MaxUnavailable = 9 })), `[evict a1; evict a2; evict b1] Encrypted`},
		"workers lost":              {"the head that works stays", due, with(rollsFor(11*time.Minute, 1), workersDone(), unready("a1", "a2", "b1"), madeAgo(12*time.Minute, "a1", "a2", "b1")), `[record enabled=true failed=false phase=none] Encrypted (ReplicasUnavailable Pod/a1)`},
		"workers lost, late":        {"until it cannot wait", life * 5 / 6, with(rollsFor(11*time.Minute, 1), workersDone(), unready("a1", "a2", "b1"), madeAgo(12*time.Minute, "a1", "a2", "b1")), `[evict head] Encrypted`},
		"workers lost, another due": {"which the head does not wait for either", life * 5 / 6, with(rollsFor(11*time.Minute, 2), renewed("a1", "a2"), unready("a1", "a2"), madeAgo(12*time.Minute, "a1", "a2")), `[evict head] Encrypted`},
		"a held worker is late":     {"the head is not", due, with(rollsFor(11*time.Minute, 2), renewed("a1", "a2"), unready("a1", "a2"), madeAgo(12*time.Minute, "a1", "a2"), heldPods("annotation x", "b1"), leaves(func(l *Leaf) { l.End = start().Add(time.Hour) }, "b1")), `[record enabled=true failed=false phase=none] Encrypted (ReplicasUnavailable Pod/a1)`},
		"a worker lost":             {"as many as may be unavailable do not count", due, with(rollsFor(11*time.Minute, 1), workersDone(), unready("a1"), madeAgo(12*time.Minute, "a1")), `[evict head] Encrypted`},
		"head":                      {"is last", due, with(rollsFor(second, 1), workersDone()), `[evict head] Encrypted`},
		"done":                      {"the roll ends", due, with(rollsFor(second, 0), workersDone(), renewed("head")), ends},
		"done, young":               {"unless replicas are about to work", due, with(rollsFor(second, 0), workersDone(), renewed("head"), unready("a1")), `Encrypted`},
		"done, not working":         {"and when they had their time", due, with(rollsFor(time.Hour, 0), workersDone(), renewed("head"), unready("a1"), madeAgo(10*time.Minute, "a1")), ends},

		"one is going":            {"counts as unavailable", due, with(rollsFor(second, 3), going("a1")), `Encrypted`},
		"one is going, head new":  {"whatever else is due", due, with(rollsFor(second, 2), renewed("head"), going("a1")), `Encrypted`},
		"progress lately":         {"the deadline counts from what became new last", due, with(rollsFor(time.Hour, 3), set(func(s *Snapshot) { s.Progress.From = start().Add(-time.Minute) }), gone("a1")), `Encrypted`},
		"one is gone":             {"so does one that is missing", due, with(rollsFor(second, 3), gone("a1")), `Encrypted`},
		"gone too long":           {"the roll pauses", due, with(rollsFor(10*time.Minute, 3), gone("a1")), `[record enabled=true failed=false phase=none] Encrypted (ReplicasUnavailable WorkerGroup/a)`},
		"not ready":               {"an old one that is not ready goes first", due, with(rollsFor(second, 4), unready("b1")), `[evict b1] Encrypted`},
		"not ready, many":         {"but no more than may at a time", due, with(rollsFor(second, 4), unready("a2", "b1")), `[evict a2] Encrypted`},
		"not ready, another gone": {"nor beside one that is replaced", due, with(rollsFor(second, 3), unready("b1"), gone("a1")), `Encrypted`},
		"new one not ready":       {"others wait for it", due, with(rollsFor(second, 3), renewed("a1"), unready("a1")), `Encrypted`},
		"new one never ready":     {"and longer than the deadline not in silence", due, with(rollsFor(second, 3), renewed("a1"), unready("a1"), madeAgo(11*time.Minute, "a1"), set(func(s *Snapshot) { s.Progress.Since = start().Add(-time.Hour) })), `[record enabled=true failed=false phase=none] Encrypted (ReplicasUnavailable Pod/a1)`},
		"not ready, two may":      {"the budget is one less", due, with(rollsFor(second, 3), renewed("a1"), unready("a1"), rolling(func(r *Rolling) { r.MaxUnavailable = 2 })), `[evict a2] Encrypted`},
		"scaled to nothing":       {"groups that want no replica are left alone", due, with(rollsFor(second, 4), replicas(0, "a", "b")), begins},
		"scaled down":             {"one too many is not missed", due, with(rollsFor(second, 3), replicas(1, "a"), gone("a1")), `[evict a2] Encrypted`},
		"just created":            {"KubeRay has to have seen it", due, with(rollsFor(second, 4), replicas(0, "b"), gone("b1", "a2"), replicas(1, "a"), madeAgo(second, "a1"), leaves(func(l *Leaf) { l.Outdated = "it is outdated" }, "a1"), set(func(s *Snapshot) { s.Progress.Remaining = 2 })), `Encrypted`},
		"head not ready":          {"no worker could join it", due, with(rollsFor(second, 3), unready("head"), madeAgo(time.Minute, "head")), `Encrypted`},
		"head not ready for long": {"and it is named", due, with(rollsFor(11*time.Minute, 4), unready("head")), `[record enabled=true failed=false phase=none] Encrypted (ReplicasUnavailable Pod/head)`},

		"clocks differ":            {"no time means anything", due, with(clocksDiffer()), `Encrypted (ClockSkew)`},
		"clocks differ, rolling":   {"pods stay from then on", due, with(clocksDiffer(), rollsFor(second, 4)), `[record enabled=true failed=false phase=none] Encrypted (ClockSkew)`},
		"clocks differ, wish":      {"nor is a change put on record", 0, with(clocksDiffer(), rolling(func(r *Rolling) { r.WorkerHash = "new" })), `Encrypted`},
		"clocks differ, plaintext": {"a pod that may be from an earlier template stays too", 0, with(clocksDiffer(), onPods(func(p *Pod) { p.Injected, p.Certified = false, false }, "a1"), madeAgo(life, "a1")), `ClockSkew`},
		"clocks differ, enable":    {"nothing is enabled", 0, with(func(s *Snapshot) { *s = *plaintextCluster() }, clocksDiffer()), `ClockSkew`},
		"clocks differ, disable":   {"or disabled", 0, with(clocksDiffer(), toPlaintext()), `ClockSkew`},
		"clocks differ, enabling":  {"what is half done goes on", 0, with(func(s *Snapshot) { *s = *plaintextCluster() }, clocksDiffer(), templatesWithTLS("a"), phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseCanary, time.Minute), set(func(s *Snapshot) { s.Progress.Canaries = map[string]string{"a": "a1"} })), `[delete a1] Enabling`},

		"job":                      {"nothing is restarted under it", due, with(jobRuns()), `Encrypted (Blocked RayJob/x)`},
		"job in the middle":        {"what began ends", due, with(rollsFor(second, 4), jobRuns()), `[record enabled=true failed=false phase=none] Encrypted (Blocked RayJob/x)`},
		"paused":                   {"nothing is restarted", due, with(rolling(func(r *Rolling) { r.Paused = true })), `Encrypted (Paused)`},
		"paused in the middle":     {"nothing is written", due, with(rollsFor(second, 4), renewed("a1"), rolling(func(r *Rolling) { r.Paused = true })), `Encrypted (Paused)`},
		"paused, done":             {"not even that a roll is over", due, with(rollsFor(second, 0), workersDone(), renewed("head"), rolling(func(r *Rolling) { r.Paused = true })), `Encrypted`},
		"on delete":                {"nor here", due, with(rolling(func(r *Rolling) { r.OnDelete = true })), `Encrypted (OnDelete)`},
		"on delete, approved":      {"no approval changes that", due, with(rolling(func(r *Rolling) { r.OnDelete = true }), approved()), `Encrypted (OnDelete)`},
		"no slot":                  {"others come first", due, with(noSlot()), `Encrypted (WaitingForSlot)`},
		"no slot, last sixth":      {"a certificate that ends waits for nobody", life * 5 / 6, with(noSlot()), begins},
		"no slot later":            {"a roll that began has one", due, with(noSlot(), rollsFor(second, 4)), `[evict a1] Encrypted`},
		"window":                   {"it waits for the window", due, with(opensIn(time.Hour)), `Encrypted (WaitingForWindow)`},
		"window closes":            {"a roll that began goes on", due, with(opensIn(time.Hour), rollsFor(second, 4)), `[evict a1] Encrypted`},
		"window too late":          {"somebody is told", due, with(opensIn(life)), `Encrypted (WindowTooLate)`},
		"last sixth":               {"and then it waits for none", life * 5 / 6, with(opensIn(life)), begins},
		"enable, window":           {"windows limit enabling too", due, with(func(s *Snapshot) { *s = *plaintextCluster() }, opensIn(time.Hour)), `WaitingForWindow`},
		"enable, approved, window": {"approved or not", due, with(func(s *Snapshot) { *s = *plaintextCluster() }, selector(), approved(), opensIn(time.Hour)), `WaitingForWindow`},
		"suspended":                {"its pods go anyway", due, with(suspended()), `Encrypted`},
		"altered":                  {"a pod that admission changes would come back the same", due, with(onPods(func(p *Pod) { p.Differs = "another command" }, "a1")), `PodsAltered (Blocked)`},
		"altered, last sixth":      {"the others are renewed before it is too late", life * 5 / 6, with(rollsFor(second, 3), onPods(func(p *Pod) { p.Differs = "another command" }, "a1"), rolling(func(r *Rolling) { r.MaxUnavailable = 2 })), `[evict a2] PodsAltered`},
		"failing":                  {"where certificates cannot be made, what works stays", due, with(rollsFor(second, 3), failedPods("a1"), madeAgo(time.Minute, "a1")), `CertificateFailed (Blocked)`},
		"failing, last sixth":      {"and the budget says what still goes", life * 5 / 6, with(rollsFor(11*time.Minute, 3), failedPods("a1"), madeAgo(time.Hour, "a1")), `[record enabled=true failed=false phase=none] CertificateFailed (Blocked)`},

		"held worker":    {"another one goes", due, with(rollsFor(second, 4), heldPods("annotation x", "a1")), `[evict a2] Encrypted`},
		"all held":       {"the head does not wait for them", due, with(rollsFor(second, 4), heldPods("annotation x", "a1", "a2", "b1")), `[evict head] Encrypted`},
		"only held left": {"they wait", due, with(renewed("head", "a2", "b1"), heldPods("annotation x", "a1")), `Encrypted (Blocked annotation x)`},
		"head held":      {"it waits", due, with(workersDone(), heldPods("PodDisruptionBudget/x", "head")), `Encrypted (Blocked PodDisruptionBudget/x)`},

		"loses":                {"a head without fault tolerance waits for somebody", due, with(workersDone(), rolling(notTolerant)), `Encrypted (AwaitingApproval, approvable)`},
		"loses, approved":      {"and goes when it is approved", due, with(workersDone(), rolling(notTolerant), approved(), rollsFor(second, 1)), `[evict head] Encrypted`},
		"loses, always":        {"or as told", due, with(workersDone(), rolling(notTolerant), rolling(func(r *Rolling) { r.Head = v1alpha1.HeadRestartAlways }), rollsFor(second, 1)), `[evict head] Encrypted`},
		"never":                {"or not at all", due, with(workersDone(), approved(), rolling(func(r *Rolling) { r.Head = v1alpha1.HeadRestartNever })), `Encrypted (Blocked rollout.headRestart)`},
		"kueue":                {"heads in a queue wait", due, with(workersDone(), queued), `Encrypted (Blocked Kueue, approvable)`},
		"kueue, workers":       {"workers do not", due, with(queued, rollsFor(second, 4)), `[evict a1] Encrypted`},
		"no new head":          {"KubeRay would make none", due, with(workersDone(), rolling(func(r *Rolling) { r.HeadBlockedBy = "annotation y" })), `Encrypted (Blocked annotation y)`},
		"no new head, workers": {"workers are rolled", due, with(rollsFor(second, 4), rolling(func(r *Rolling) { r.HeadBlockedBy = "annotation y" })), `[evict a1] Encrypted`},
		"head ended":           {"no worker can join it, so it goes first", life, with(rollsFor(second, 4)), `[evict head] Encrypted`},
		"head ended, loses":    {"and if it may not, workers stay, since they work a while", life, with(rolling(notTolerant)), `Encrypted (AwaitingApproval, approvable)`},

		"service":                   {"workers of a serving cluster are rolled in place", due, with(rollsFor(second, 4), serving(), rolling(notTolerant)), `[evict a1] Encrypted`},
		"service, head":             {"the RayService replaces a head that would lose its state", due, with(rollsFor(second, 1), workersDone(), serving(), rolling(notTolerant)), `[record enabled=true failed=false phase=Upgrade; ask the RayService] Encrypted`},
		"service, always":           {"even if told to restart it, since that costs nothing", due, with(rollsFor(second, 1), workersDone(), serving(), rolling(notTolerant), rolling(func(r *Rolling) { r.Head = v1alpha1.HeadRestartAlways })), `[record enabled=true failed=false phase=Upgrade; ask the RayService] Encrypted`},
		"service, tolerant":         {"a fault tolerant one is restarted in place", due, with(rollsFor(second, 1), workersDone(), serving()), `[evict head] Encrypted`},
		"service, refuses":          {"a user has to act", due, with(workersDone(), serving(refuses()), rolling(notTolerant)), `Encrypted (Blocked RayService/x)`},
		"service, asked":            {"a lost record of a request is made anew", due, with(workersDone(), serving(askedAgo(time.Minute)), rolling(notTolerant)), `[record enabled=true failed=false phase=Upgrade] Encrypted`},
		"service, waits":            {"it is asked once", due, with(workersDone(), serving(askedAgo(time.Minute)), rolling(notTolerant), phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseUpgrade, time.Minute)), `Encrypted`},
		"service, too long":         {"and what does not come is named", due, with(workersDone(), serving(askedAgo(time.Hour)), rolling(notTolerant), phase(v1alpha1.GoalEncrypted, v1alpha1.PhaseUpgrade, time.Hour)), `Encrypted (Blocked RayService/x)`},
		"service, moving":           {"a cluster that is about to go is left alone", due, with(serving(nextIs("next"))), `Encrypted (Blocked RayService/x)`},
		"service, stuck":            {"and its workers are renewed before it is too late", life * 5 / 6, with(serving(nextIs("next")), rollsFor(second, 4)), `[evict a1] Encrypted`},
		"failing, last sixth, head": {"a head that works is not given for one that cannot", life * 5 / 6, with(rollsFor(11*time.Minute, 1), workersDone(), failedPods("a1"), madeAgo(12*time.Minute, "a1")), `[record enabled=true failed=false phase=none] CertificateFailed (Blocked)`},
		"service, stuck, head":      {"no further cluster is asked for", life * 5 / 6, with(serving(nextIs("next")), workersDone(), rolling(notTolerant)), `Encrypted (Blocked RayService/x)`},
		"service, idle":             {"and one that does not serve yet", due, with(serving(idle())), `Encrypted`},

		"plaintext wanted":   {"a roll gives no consent to disable", due, with(rollsFor(second, 4), toPlaintext(), selector()), `[record enabled=true failed=false phase=none] AwaitingApproval`},
		"stripped meanwhile": {"what was stripped is restored first", due, with(rollsFor(second, 4), groups(func(t *Template) { t.Injected, t.Pieces, t.Stripped = false, false, true }, "a")), `[InjectAll []; record enabled=true failed=false phase=Roll] Enabling`},
		"works in plaintext": {"nothing is left to roll", due, with(rollsFor(second, 4), groups(func(t *Template) { t.Injected, t.Pieces, t.Stripped = false, false, true }, "", "a", "b"), onPods(func(p *Pod) { p.Injected, p.Certified = false, false }, allPods()...)), `[Inject ["a"]; record enabled=true failed=false phase=Canary] Enabling`},
	} {
		t.Run(name, func(t *testing.T) {
			s := encryptedCluster(c.age)
			for _, change := range c.differs {
				change(s)
			}
			p := Make(s)
			got := acts(s, &p) + p.Reason
			if w := p.Roll; w.Reason != "" {
				got += " (" + strings.TrimSpace(w.Reason+" "+w.BlockedBy)
				if w.Approvable {
					got += ", approvable"
				}
				got += ")"
				if !strings.Contains(w.Message, "new certificate") && w.BlockedBy != "RayService/x" {
					t.Errorf("%s: what waits is not said: %s", c.reason, w.Message)
				}
			}
			if diff := cmp.Diff(c.want, strings.TrimSpace(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s%s%s", c.reason, diff, p.Message, p.Roll.Message)
			}
			if !p.RequeueAt.IsZero() && !p.RequeueAt.After(s.Now) {
				t.Errorf("planned anew at %s, which has passed", p.RequeueAt)
			}
		})
	}
}

func TestProgressIsStamped(t *testing.T) {
	s := encryptedCluster(life * 2 / 3)
	for _, change := range with(rollsFor(time.Hour, 4), renewed("a1")) {
		change(s)
	}
	p := Make(s)
	if p.Progress.Remaining != 3 || !p.Progress.From.Equal(start()) || !p.Progress.Since.Equal(start().Add(-time.Hour)) || len(p.Evict) > 0 {
		t.Errorf("three are left from now on, and nothing else is done before that is on record: %+v %v", p.Progress, p.Evict)
	}
	s = encryptedCluster(life * 2 / 3)
	for _, change := range with(rollsFor(time.Hour, 2), renewed("a1"), unready("a1")) {
		change(s)
	}
	if p := Make(s); p.Progress != nil && (p.Progress.Remaining != 3 || !p.Progress.From.IsZero()) {
		t.Errorf("that more are left is no progress: %+v", p.Progress)
	}
}

func TestDue(t *testing.T) {
	const year = 365 * 24 * time.Hour
	made, second := start().Add(-year), time.Second
	type at struct {
		now  time.Time
		leaf Leaf
		// created is the pod's creation, by the API server's clock.
		created time.Time
		ends    time.Time // of a certificate that is made now
		want    bool
	}
	honest := Leaf{IssuedAt: made, End: made.Add(year)}
	for name, c := range map[string]struct {
		reason string
		at
	}{
		"one second early":    {"not before two thirds", at{made.Add(year*2/3 - second), honest, made, made.Add(2 * year), false}},
		"in time":             {"at two thirds", at{made.Add(year * 2 / 3), honest, made, made.Add(2 * year), true}},
		"ended":               {"however late", at{made.Add(2 * year), honest, made, made.Add(3 * year), true}},
		"authority ends":      {"a new one would end with this one", at{made.Add(year * 2 / 3), honest, made, made.Add(year), false}},
		"lasts little":        {"a new one that lasts hardly longer would soon be due again", at{made.Add(year * 2 / 3), honest, made, made.Add(year + 30*24*time.Hour), false}},
		"worth it":            {"half as long again as what is left is worth it", at{made.Add(year * 2 / 3), honest, made, made.Add(year + year/6), true}},
		"all ended":           {"nothing helps while what signs has ended", at{made.Add(2 * year), honest, made, made.Add(2 * year), false}},
		"clock behind":        {"a node whose clock is a year behind makes each pod due at once", at{start().Add(time.Minute), Leaf{IssuedAt: made, End: made.Add(year + time.Hour)}, start(), start().Add(year), false}},
		"clock behind, ended": {"nor can a pod help that says its certificate ended before it was created", at{start().Add(24 * time.Hour), Leaf{IssuedAt: made, End: made.Add(year - second)}, start(), start().Add(year), false}},
		"claims an hour":      {"no claim has a place restarted more often than twelve times in a life", at{start().Add(year/12 - second), Leaf{IssuedAt: start(), End: start().Add(time.Hour)}, start(), start().Add(year), false}},
		"claimed an hour":     {"but as often it is", at{start().Add(year / 12), Leaf{IssuedAt: start(), End: start().Add(time.Hour)}, start(), start().Add(2 * year), true}},
		"unknown end":         {"an end that nobody knows is none", at{made.Add(2 * year), Leaf{}, made, made.Add(3 * year), false}},
		"outdated":            {"whatever its age", at{start(), Leaf{Outdated: "another authority"}, start().Add(-time.Hour), start().Add(year), true}},
	} {
		s := encryptedCluster(0)
		s.Now, s.Roll.WorkerEnd, s.Roll.Validity = c.now, c.ends, year
		pod := s.Pods[1]
		pod.Leaf, pod.Created = c.leaf, c.created
		if got := s.due(pod); (got != "") != c.want {
			t.Errorf("%s: %s: got %q", name, c.reason, got)
		}
		pod.Certified = false
		if s.due(pod) != "" {
			t.Errorf("%s: a pod without a certificate is due", name)
		}
	}
}

// TestWishes: a changed podCertificate makes older pods due, once each, and once each new pod has it by any clock.
func TestWishes(t *testing.T) {
	s := encryptedCluster(time.Hour)
	wants := func(worker, head string) Plan {
		s.Roll.WorkerHash, s.Roll.HeadHash = worker, head
		p := Make(s)
		s.Record = p.Record
		return p
	}
	due := func() (out []string) {
		for _, p := range s.allDue() {
			out = append(out, p.Name)
		}
		return out
	}
	wants("w1", "h1")
	if diff := cmp.Diff([]Wish{{Hash: "w1"}, {Hash: "h1"}}, []Wish{s.WorkerWish, s.HeadWish}); diff != "" || due() != nil {
		t.Errorf("what was asked before nobody knows, so nothing is due: %s %v", diff, due())
	}
	s.Roll.Paused = true
	if p := wants("w1", "h2"); p.Changes(s) || s.HeadWish.Hash != "h1" {
		t.Error("a paused policy is not followed")
	}
	s.Roll.Paused = false
	if p := wants("w1", "h2"); len(due()) != 0 || !p.RequeueAt.Equal(start().Add(Settles)) {
		t.Errorf("a pod that starts now may lack it, so the roll begins later: %v, %s", due(), p.RequeueAt)
	}
	if top := s.Pods[0]; !s.Unlike(top) || s.Unlike(s.Pods[1]) {
		t.Error("a head from before lacks it from the first moment, and no worker does")
	} else if top.Created = start().Add(time.Second); s.Unlike(top) {
		t.Error("one from after may have it")
	}
	if s.Now = start().Add(Settles); due() != nil {
		t.Errorf("the API server's clock may be behind, and a replacement would be due again: %v", due())
	}
	if p := wants("w1", "h2"); !p.RequeueAt.Equal(s.Now.Add(kube.ClockTolerance)) {
		t.Errorf("nobody looks when the roll begins, but at %s", p.RequeueAt)
	}
	s.Now = s.Now.Add(kube.ClockTolerance)
	if diff := cmp.Diff([]string{"head"}, due()); diff != "" {
		t.Errorf("a name of the head's restarts no worker: %s", diff)
	}
	wants("w2", "h2")
	s.Now = s.Now.Add(Settles + kube.ClockTolerance)
	if diff := cmp.Diff(allPods(), due()); diff != "" {
		t.Error(diff)
	}
	s.Pods[1].Created = s.WorkerWish.Since
	s.Pods[1].Leaf.IssuedAt = s.WorkerWish.Since.Add(-time.Hour) // by the node's clock
	if diff := cmp.Diff([]string{"head", "a2", "b1"}, due()); diff != "" {
		t.Errorf("a pod's clock changes nothing: %s", diff)
	}
	s.Record = Record{Enabled: true}
	wants("w3", "h3")
	if due() != nil {
		t.Errorf("a lost record restarts nobody: %v", due())
	}
}

func TestFleetTakesHostsTogether(t *testing.T) {
	s := encryptedCluster(life * 2 / 3)
	groups(func(t *Template) { t.Replicas, t.Hosts = 1, 2 }, "a")(s)
	onPods(func(p *Pod) { p.Replica = "r" }, "a1", "a2")(s)
	onPods(func(p *Pod) { p.HeldBy = "x" }, "b1")(s)
	if got := s.choose(s.fleet()).evict; len(got) != 2 || got[0].Name != "a1" || got[1].Name != "a2" {
		t.Errorf("both hosts go: %+v", got)
	}
	renewed("a1")(s)
	if got := s.choose(s.fleet()).evict; len(got) != 2 {
		t.Errorf("a host that needs none goes with its sibling, as KubeRay has it: %+v", got)
	}
	gone("a2")(s)
	if f := s.fleet(); f.unavailable != 1 {
		t.Errorf("half a replica works not: %+v", f)
	}
	s = encryptedCluster(life * 2 / 3)
	groups(func(t *Template) { t.Replicas, t.Hosts = 1, 2 }, "a")(s)
	if f := s.fleet(); len(f.replicas) != 3 || f.unavailable != 0 || len(s.choose(f).evict) != 1 {
		t.Errorf("an older KubeRay does not tell which hosts are together, so each counts: %+v", f)
	}
}

// TestASecondHead: whoever may create pods can make a second head of the cluster, whose certificate is young.
func TestASecondHead(t *testing.T) {
	for name, change := range map[string]func(*Snapshot){
		"first in order": func(s *Snapshot) {},
		"not ready":      onPods(func(p *Pod) { p.Ready = false }, "a-head"),
	} {
		s := encryptedCluster(life * 2 / 3)
		renewed("a1", "a2", "b1")(s)
		second := s.Pods[0]
		second.Name, second.UID = "a-head", "uid-a-head"
		s.Pods = slices.Insert(s.Pods, 0, second)
		renewed("a-head")(s)
		rollsFor(time.Minute, 1)(s)
		change(s)
		p := Make(s)
		s.Record = p.Record
		if p = Make(s); len(p.Evict) != 1 || p.Evict[0].Name != "head" {
			t.Errorf("%s: the head that is due is restarted: %+v %+v", name, p.Evict, p.Roll)
		}
	}
}

// TestRefusals: a pod is tried again ever later, up to ten minutes, and the record is bounded.
func TestRefusals(t *testing.T) {
	var r Record
	pod, now := Pod{Name: "a", UID: "uid-a"}, start()
	for _, minutes := range []int{1, 2, 4, 8, 10, 10} {
		r = r.Refused(&pod, "Pod/a", "no", now)
		refusal := &r.Refusals[0]
		if wait := time.Duration(minutes) * time.Minute; !refusal.holds(now.Add(wait-time.Second)) || refusal.holds(now.Add(wait)) || !refusal.retryAt().Equal(now.Add(wait)) {
			t.Errorf("after %d refusals it is tried again after %s", refusal.Attempts, refusal.retryAt().Sub(now))
		}
		now = refusal.retryAt()
	}
	if refusal := r.Refusals[0]; len(r.Refusals) != 1 || refusal.Attempts != 6 || !refusal.First.Equal(start()) || refusal.holds(refusal.Last.Add(-time.Hour)) {
		t.Errorf("one pod is one refusal, and one of a clock that was wrong holds nothing: %+v", r.Refusals)
	}
	before := r
	for i := range 2 * MaxRefusals {
		other := Pod{Name: "b", UID: string(rune('a' + i))}
		r = r.Refused(&other, "Pod/b", "no", now)
	}
	if len(r.Refusals) != MaxRefusals || r.Refusals[MaxRefusals-1].UID != "p" || len(before.Refusals) != 1 {
		t.Errorf("the latest are kept, and no record is changed: %+v", r.Refusals)
	}
}
