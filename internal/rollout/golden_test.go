package rollout

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/golden"
)

var update = flag.Bool("update", false, "rewrite the golden logs")

// happens is what somebody does at a second of the log.
type happens map[int]event

type event struct {
	what string
	do   func(*world)
}

// play runs a world second by second, everybody once in each, and writes down what changes.
func play(w *world, seconds int, events happens) string {
	var b strings.Builder
	begun := w.now
	line := func(format string, args ...any) {
		fmt.Fprintf(&b, "%5ds  %s\n", int(w.now.Sub(begun).Seconds()), fmt.Sprintf(format, args...))
	}
	shown, said := "", ""
	show := func() {
		if now := w.String(); now != shown {
			shown = now
			line("         %s", now)
		}
	}
	for second := range seconds {
		w.now = begun.Add(time.Duration(second) * time.Second)
		if e, ok := events[second]; ok {
			line("USER     %s", e.what)
			e.do(w)
		}
		w.kubelet()
		// The operator sees what the kubelet did before KubeRay has acted on it, and then what KubeRay did.
		for _, act := range []func(){func() {}, w.kuberay} {
			act()
			w.sync()
			show()
			for steps := 0; w.due(); steps++ {
				if steps == 20 {
					line("OPERATOR acts without end")
					return b.String()
				}
				before := w.record
				s, p := w.operate(100)
				act := acts(s, &p)
				switch {
				case len(p.Evict) > 0 && w.record.version != before.version:
					act += "[record a refusal] "
				case w.record.version != before.version && !p.Changes(s):
					act = "[record the groups] " + act
				}
				says := p.Reason + ": " + p.Message
				if p.Roll.Reason != "" {
					says += fmt.Sprintf("; a roll waits, %s %s: %s", p.Roll.Reason, p.Roll.BlockedBy, p.Roll.Message)
				}
				if act != "" || said != says {
					said = says
					line("OPERATOR %s%s", act, says)
				}
				w.sync()
			}
			show()
		}
	}
	return b.String()
}

func TestGoldenLogs(t *testing.T) {
	broken := func(w *world, groups ...string) *world {
		for _, g := range groups {
			w.inits[g] = fails
		}
		return w
	}
	stopped := func(w *world, do func(*world)) *world { do(w); w.sync(); return w }
	cases := map[string]goldenCase{
		"enable": {
			reason: "a worker goes first, then the head, then the rest, each pod once",
			world:  newWorld(2, 1).running(), seconds: 120, ends: v1alpha1.ReasonEncrypted,
		},
		"enable-head-only": {
			reason: "without a worker the head goes first; while there is no pod at all, nothing is assumed",
			world:  newWorld().running(), seconds: 120, ends: v1alpha1.ReasonEncrypted,
		},
		"enable-new": {
			reason: "a cluster that was never ready is injected at once",
			world:  newWorld(2), seconds: 60, ends: v1alpha1.ReasonEncrypted,
		},
		"enable-selector": {
			reason: "a running cluster waits for an approval", seconds: 120, ends: v1alpha1.ReasonEncrypted,
			world:  stopped(newWorld(1).running(), func(w *world) { w.immediate = false }),
			events: happens{30: {"approves", approves}},
		},
		"enable-suspended": {
			reason: "stopping a cluster that waits is as good as approving it", seconds: 120, ends: v1alpha1.ReasonEncrypted,
			world: stopped(newWorld(1).running(), func(w *world) { w.immediate = false }),
			events: happens{
				10: {"suspends", func(w *world) { w.edit(func(c *simCluster) { c.suspend = true }) }},
				40: {"resumes", func(w *world) { w.edit(func(c *simCluster) { c.suspend = false }) }},
			},
		},
		"canary-fails": {
			reason: "an image without openssl costs one worker, and is tried again only when something changed",
			world:  broken(newWorld(2).running(), "a"), seconds: 240, ends: v1alpha1.ReasonEncrypted,
			events: happens{120: {"repairs the image", func(w *world) {
				w.inits["a"] = succeeds
				w.template("a", func(t *simTemplate) { t.edition++ })
			}}},
		},
		"canary-fails-approved": {
			reason: "an approval holds for one attempt: after a failure it takes another", seconds: 120, ends: v1alpha1.ReasonEnableFailed,
			world: stopped(broken(newWorld(1).running(), "a"), func(w *world) { w.immediate = false }),
			events: happens{
				10: {"approves", approves}, 40: {"changes nothing", func(w *world) { w.settings(func() {}) }}, 60: {"approves", approves},
			},
		},
		"head-fails": {
			reason: "the head's failure puts everything back",
			world:  broken(newWorld(1).running(), ""), seconds: 120, ends: v1alpha1.ReasonEnableFailed,
		},
		"head-only-fails": {
			reason: "putting a lone head back leaves no pod for a moment, which is no reason to try again",
			world:  broken(newWorld().running(), ""), seconds: 120, ends: v1alpha1.ReasonEnableFailed,
		},
		"canary-hangs": {
			reason: "an init container that neither ends nor fails is given up after the deadline", seconds: 720, ends: v1alpha1.ReasonEnableFailed,
			world: stopped(newWorld(1).running(), func(w *world) { w.inits["a"] = hangs }),
		},
		"long-grace-period": {
			reason: "a grace period longer than the deadline is the user's and no failure", seconds: 3600, ends: v1alpha1.ReasonEncrypted,
			world: stopped(newWorld(1).running(), func(w *world) { w.grace, w.period = 15*time.Minute, 15*time.Minute }),
		},
		"recreate": {
			reason: "KubeRay deletes the pods, once", seconds: 90, ends: v1alpha1.ReasonEncrypted,
			world:  stopped(newWorld(2).running(), func(w *world) { w.annotate(func(c *simCluster) { c.recreate = true }) }),
			events: happens{10: {"approves", approves}},
		},
		"recreate-restamped": {
			reason: "after an upgrade KubeRay only restamps the head and deletes nothing, so the operator does", seconds: 800, ends: v1alpha1.ReasonEncrypted,
			world: stopped(newWorld(2).running(), func(w *world) {
				w.annotate(func(c *simCluster) { c.recreate = true })
				w.restamp = true
				w.approve()
			}),
		},
		"kueue": {
			reason: "an approved change has Kueue evict the cluster and admit it again", seconds: 120, ends: v1alpha1.ReasonEncrypted,
			world: stopped(newWorld(1).running(), func(w *world) { w.annotate(func(c *simCluster) { c.queued = true }) }),
			events: happens{
				10: {"approves", approves},
				15: {"is Kueue and evicts", func(w *world) { w.edit(func(c *simCluster) { c.suspend = true }) }},
				40: {"is Kueue and admits", func(w *world) { w.edit(func(c *simCluster) { c.suspend = false }) }},
			},
		},
		"job-comes-up": {
			reason: "a job that starts between the canary and the head is not harmed, and the cluster is enabled when it ends", seconds: 180, ends: v1alpha1.ReasonEncrypted,
			world: newWorld(1).running(),
			events: happens{
				3:  {"starts a RayJob", func(w *world) { w.settings(func() { w.blocked = "RayJob/x" }) }},
				60: {"sees the RayJob end", func(w *world) { w.settings(func() { w.blocked = "" }) }},
			},
		},
		"suspended-in-the-middle": {
			reason: "a cluster that stops in the middle is injected whole", seconds: 120, ends: v1alpha1.ReasonEncrypted,
			world: newWorld(2).running(),
			events: happens{
				3:  {"suspends", func(w *world) { w.edit(func(c *simCluster) { c.suspend = true }) }},
				40: {"resumes", func(w *world) { w.edit(func(c *simCluster) { c.suspend = false }) }},
			},
		},
		"canary-group-goes": {
			reason: "when the canary's group is scaled to nothing, another worker goes first and not the head", seconds: 180, ends: v1alpha1.ReasonEncrypted,
			world:  stopped(newWorld(1, 1).running(), func(w *world) { w.grace = 20 * time.Second }),
			events: happens{3: {"scales group a to nothing", func(w *world) { w.template("a", func(t *simTemplate) { t.replicas = 0 }) }}},
		},
		"group-added": {
			reason: "a worker group that comes in the middle is injected with the rest, and later by itself", seconds: 180, ends: v1alpha1.ReasonEncrypted,
			world: newWorld(1).running(),
			events: happens{
				8:  {"adds group b", func(w *world) { w.edit(addGroup("b")) }},
				90: {"adds group c", func(w *world) { w.edit(addGroup("c")) }},
			},
		},
		"stripped": {
			reason: "what a tool strips is restored twice an hour, and then left out", seconds: 4000, ends: v1alpha1.ReasonEncrypted,
			world:  newWorld(1).running(),
			events: happens{100: {"strips", (*world).strip}, 200: {"strips", (*world).strip}, 300: {"strips", (*world).strip}},
		},
		"stripped-and-restarted": {
			reason: "a cluster that was stripped and restarted as a whole is enabled anew", seconds: 300, ends: v1alpha1.ReasonEncrypted,
			world:  stopped(newWorld(1).running(), func(w *world) { w.annotate(func(c *simCluster) { c.recreate = true }); w.approve() }),
			events: happens{100: {"strips", (*world).strip}, 200: {"approves", approves}},
		},
		"disable": {
			reason: "disabling gives the templates back, restarts every pod and lets go of the keys last", seconds: 160, ends: v1alpha1.ReasonDisabling,
			world:  newWorld(2).running(),
			events: happens{80: {"deletes the policy", func(w *world) { w.settings(func() { w.goal = v1alpha1.GoalPlaintext }) }}},
		},
		"rayservice": {
			reason: "a RayService is asked once for a new cluster, and the old one loses no pod", seconds: 120, ends: v1alpha1.ReasonEnabling,
			world: stopped(newWorld(2).running(), func(w *world) { w.immediate, w.service = false, &Service{Name: "x", Serving: true} }),
			events: happens{
				5:  {"approves", approves},
				8:  {"is KubeRay and makes a new cluster", func(w *world) { w.settings(func() { w.service.Next = "next" }) }},
				60: {"is KubeRay and moves the traffic", func(w *world) { w.settings(func() { w.service.Serving = false }) }},
			},
		},
		"rayservice-not-ready": {
			reason: "a new cluster that does not become ready is waited for and not asked for again", seconds: 1000, ends: v1alpha1.ReasonBlocked,
			world: stopped(newWorld(1).running(), func(w *world) { w.service = &Service{Name: "x", Serving: true} }),
			events: happens{
				8:   {"is KubeRay and makes a new cluster", func(w *world) { w.settings(func() { w.service.Next = "next" }) }},
				700: {"approves", approves},
			},
		},
		"rayservice-asked-twice": {
			reason: "a request that somebody takes out is made once more for each approval", seconds: 300, ends: v1alpha1.ReasonBlocked,
			world: stopped(newWorld(1).running(), func(w *world) { w.immediate, w.service = false, &Service{Name: "x", Serving: true} }),
			events: happens{
				5:   {"approves", approves},
				60:  {"takes the request out", func(w *world) { w.settings(func() { w.service.Asked = "" }) }},
				100: {"approves", approves},
				160: {"takes the request out", func(w *world) { w.settings(func() { w.service.Asked = "" }) }},
			},
		},
		"rayservice-disable": {
			reason: "and the same way back", seconds: 200, ends: v1alpha1.ReasonDisabling,
			world: newWorld(1),
			events: happens{
				60: {"deletes the policy of a cluster that serves", func(w *world) {
					w.settings(func() {
						w.goal, w.service = v1alpha1.GoalPlaintext, &Service{Name: "x", Serving: true, Asked: "Encrypted", AskedAt: start()}
					})
				}},
				70:  {"is KubeRay and makes a new cluster", func(w *world) { w.settings(func() { w.service.Next = "next" }) }},
				100: {"is KubeRay and moves the traffic", func(w *world) { w.settings(func() { w.service.Serving = false }) }},
			},
		},
		"disable-in-the-middle": {
			reason: "half enabled works in neither state, so it is put back without asking", seconds: 100, ends: v1alpha1.ReasonDisabling,
			world:  newWorld(2).running(),
			events: happens{3: {"deletes the policy", func(w *world) { w.settings(func() { w.goal = v1alpha1.GoalPlaintext }) }}},
		},
	}
	playAll(t, cases)
}

// goldenCase is a world, what happens to it, and the reason that it reports in the end.
type goldenCase struct {
	reason  string
	world   *world
	seconds int
	events  happens
	ends    string
}

// playAll compares the log of each case with its golden one.
func playAll(t *testing.T, cases map[string]goldenCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := tc.reason + "\n\n" + play(tc.world, tc.seconds, tc.events)
			if diff := golden.Diff(t, *update, filepath.Join("testdata", name+".log"), got); diff != "" {
				t.Errorf("the log of %q differs (-want +got):\n%s", tc.reason, diff)
			}
			if p := Make(tc.world.snapshot()); p.Reason != tc.ends {
				t.Errorf("%s: it ends as %s (%s), want %s", tc.reason, p.Reason, p.Message, tc.ends)
			}
		})
	}
}

func approves(w *world) { w.approve() }

func addGroup(name string) func(*simCluster) {
	return func(c *simCluster) {
		c.templates = append(c.templates, simTemplate{group: name, replicas: 1, key: "same"})
	}
}
