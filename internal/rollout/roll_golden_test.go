package rollout

import (
	"slices"
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// rolls is an encrypted cluster with certificates that last ten minutes.
func rolls(change func(*world), workers ...int32) *world {
	w := newWorld(workers...)
	w.life = 10 * time.Minute
	change(w)
	w.clusters, w.stored = []simCluster{w.cluster}, w.stored[len(w.stored)-1:]
	w.seen.cluster, w.seen.kuberay = 0, 0
	return w
}

func asItIs(*world) {}

func (w *world) groupNamed(name string) *simTemplate {
	at := slices.IndexFunc(w.cluster.templates, func(t simTemplate) bool { return t.group == name })
	return &w.cluster.templates[at]
}

// flaps has the youngest worker be ready and not ready by turns.
func flaps(from, to, every int) happens {
	out := happens{}
	turn := func(down bool) func(*world) {
		return func(w *world) {
			workers := w.own(func(p simPod) bool { return p.group == "a" })
			if len(workers) > 0 {
				w.down[w.pods[workers[len(workers)-1]].name] = down
			}
		}
	}
	for at := from; at < to; at += 2 * every {
		out[at] = event{"sees the youngest worker fail", turn(true)}
		out[at+every] = event{"sees it work", turn(false)}
	}
	return out
}

// wishes is somebody who changes podCertificate for all pods.
func wishes(w *world) { w.settings(func() { w.roll.WorkerHash += "+" }) }

func TestGoldenRolls(t *testing.T) {
	const encrypted = v1alpha1.ReasonEncrypted
	loses := func(w *world) { w.roll.FaultTolerant = false }
	replicas := func(n int32) func(*world) {
		return func(w *world) { w.template("a", func(t *simTemplate) { t.replicas = n }) }
	}
	suspends := func(w *world) { w.edit(func(c *simCluster) { c.suspend = true }) }
	hold := func(by string) func(*world) {
		return func(w *world) {
			w.settings(func() {
				for _, i := range w.own(func(p simPod) bool { return p.group == "a" }) {
					w.holds[w.pods[i].name] = by
				}
			})
		}
	}
	playAll(t, map[string]goldenCase{
		"roll": {
			reason: "from two thirds of a life on, one worker after another gets a new certificate, and the head last",
			world:  rolls(asItIs, 2, 1), seconds: 560, ends: encrypted,
		},
		"roll-two-at-a-time": {
			reason: "maxUnavailable lets more go at a time",
			world:  rolls(func(w *world) { w.roll.MaxUnavailable = 2 }, 4), seconds: 500, ends: encrypted,
		},
		"roll-multi-host": {
			reason: "the hosts of a replica go together, and one replica after another",
			world:  rolls(func(w *world) { w.groupNamed("a").hosts = 2 }, 2), seconds: 500, ends: encrypted,
		},
		"roll-without-fault-tolerance": {
			reason: "workers are rolled, and the head waits until somebody approves its restart",
			world:  rolls(loses, 1), seconds: 560, ends: encrypted,
			events: happens{500: {"approves", approves}},
		},
		"roll-head-never": {
			reason: "a head that must not be restarted is not, approved or not",
			world:  rolls(func(w *world) { w.roll.Head = v1alpha1.HeadRestartNever }, 1), seconds: 560, ends: encrypted,
			events: happens{500: {"approves", approves}},
		},
		"roll-head-always": {
			reason: "as told, a head without fault tolerance is restarted",
			world:  rolls(func(w *world) { loses(w); w.roll.Head = v1alpha1.HeadRestartAlways }, 1), seconds: 500, ends: encrypted,
		},
		"roll-on-delete": {
			reason: "nothing restarts, and what a user deletes comes back new",
			world:  rolls(func(w *world) { w.roll.OnDelete = true }, 1), seconds: 500, ends: encrypted,
			events: happens{450: {"deletes the worker", func(w *world) { w.terminate(w.own(func(p simPod) bool { return p.group == "a" })[0]) }}},
		},
		"roll-paused": {
			reason: "a paused policy waits, and goes on",
			world:  rolls(func(w *world) { w.roll.Paused = true }, 1), seconds: 600, ends: encrypted,
			events: happens{450: {"resumes", func(w *world) { w.settings(func() { w.roll.Paused = false }) }}},
		},
		"roll-node-never-arrives": {
			reason: "a replacement that gets no node stops the roll after the deadline, and the roll goes on when it has one",
			world:  rolls(func(w *world) { w.life = time.Hour }, 2), seconds: 3300, ends: encrypted,
			events: happens{
				2300: {"has no node left", func(w *world) { w.pending["a"] = true }},
				3200: {"gets a node", func(w *world) { w.pending["a"] = false }},
			},
		},
		"roll-unavailable-anyway": {
			reason: "a worker that is down counts, so no other goes",
			world:  rolls(func(w *world) { w.life = time.Hour }, 2), seconds: 3600, ends: encrypted,
			events: happens{
				1200: {"has a pod lose its node, and no other", func(w *world) {
					w.pending["a"] = true
					w.terminate(w.own(func(p simPod) bool { return p.group == "a" })[1])
				}},
				3300: {"gets a node", func(w *world) { w.pending["a"] = false }},
			},
		},
		"roll-not-ready-first": {
			reason: "an old worker that is not ready goes first, since nobody loses by it",
			world:  rolls(asItIs, 3), seconds: 560, ends: encrypted,
			events: happens{300: {"sees a worker fail", func(w *world) {
				w.down[w.pods[w.own(func(p simPod) bool { return p.group == "a" })[2]].name] = true
			}}},
		},
		"roll-spot-loss": {
			reason: "a worker that is lost in the middle is waited for",
			world:  rolls(asItIs, 2), seconds: 500, ends: encrypted,
			events: happens{408: {"loses the new worker", func(w *world) {
				young := w.own(func(p simPod) bool { return p.group == "a" && w.now.Sub(p.created) < time.Minute })
				w.terminate(young[0])
			}}},
		},
		"roll-scaled-up": {
			reason: "the autoscaler adds workers in the middle, which are waited for and new already",
			world:  rolls(asItIs, 2), seconds: 500, ends: encrypted, events: happens{405: {"scales up", replicas(4)}},
		},
		"roll-scaled-down": {
			reason: "the autoscaler takes workers away in the middle, which need nothing",
			world:  rolls(asItIs, 3), seconds: 500, ends: encrypted, events: happens{405: {"scales down", replicas(1)}},
		},
		"roll-suspended-group": {
			reason: "a group that wants no replica is left alone",
			world:  rolls(asItIs, 1, 1), seconds: 500, ends: encrypted, events: happens{390: {"suspends the group", replicas(0)}},
		},
		"roll-suspended-cluster": {
			reason: "a cluster that stops in the middle gets new certificates when it starts",
			world:  rolls(asItIs, 2), seconds: 500, ends: encrypted,
			events: happens{404: {"suspends", suspends}, 440: {"resumes", func(w *world) { w.edit(func(c *simCluster) { c.suspend = false }) }}},
		},
		"roll-job": {
			reason: "a job that starts in the middle keeps its pods until it has ended",
			world:  rolls(asItIs, 3), seconds: 600, ends: encrypted,
			events: happens{
				405: {"starts a RayJob", func(w *world) { w.settings(func() { w.blocked = "RayJob/x" }) }},
				450: {"sees the RayJob end", func(w *world) { w.settings(func() { w.blocked = "" }) }},
			},
		},
		"roll-held": {
			reason: "a held worker waits, and the head does not wait for it",
			world:  rolls(asItIs, 1, 1), seconds: 520, ends: encrypted,
			events: happens{
				10:  {"annotates a worker", hold("annotation karpenter.sh/do-not-disrupt")},
				480: {"removes the annotation", func(w *world) { w.settings(func() { clear(w.holds) }) }},
			},
		},
		"roll-budget-refuses": {
			reason: "the API server has the last word on an eviction: the roll holds no slot while it refuses, and tries again ever later",
			world:  rolls(func(w *world) { w.refuses = true }, 1), seconds: 900, ends: encrypted,
			events: happens{800: {"allows evictions", func(w *world) { w.settings(func() { w.refuses = false }) }}},
		},
		"roll-refused": {
			reason: "a pod that is refused for ever keeps neither the other workers, nor the head, nor the slot",
			world:  rolls(func(w *world) { w.life = time.Hour; w.refused["a-2"] = true }, 3), seconds: 5000, ends: encrypted,
		},
		"roll-refused-all": {
			reason: "eight pods are tried, and then no other but the head",
			world:  rolls(func(w *world) { w.life = time.Hour; w.refuses = true }, 12), seconds: 2600, ends: encrypted,
		},
		"roll-flapping": {
			reason: "a replacement that is ready and not ready by turns pauses the roll after the deadline",
			world:  rolls(func(w *world) { w.life = time.Hour }, 3), seconds: 3300, ends: encrypted,
			events: flaps(2410, 3200, 50),
		},
		"roll-long-grace": {
			reason: "a pod that may take an hour to end pauses the roll after the deadline, and the roll goes on when the pod has ended",
			world:  rolls(func(w *world) { w.life, w.grace, w.period = 6*time.Hour, time.Hour, time.Hour }, 2), seconds: 30000, ends: encrypted,
		},
		"roll-window": {
			reason: "a roll begins when a window opens",
			world:  rolls(func(w *world) { w.opens = start().Add(430 * time.Second) }, 1), seconds: 560, ends: encrypted,
		},
		"roll-window-too-late": {
			reason: "a window that opens after the last sixth of a life has begun is not waited for",
			world:  rolls(func(w *world) { w.opens = start().Add(2 * time.Hour) }, 1), seconds: 640, ends: encrypted,
		},
		"roll-slot": {
			reason: "a roll waits until other clusters have had their turn",
			world:  rolls(func(w *world) { w.noSlot = "another one is restarted" }, 1), seconds: 560, ends: encrypted,
			events: happens{430: {"has a slot free", func(w *world) { w.settings(func() { w.noSlot = "" }) }}},
		},
		"roll-podcertificate": {
			reason: "a changed podCertificate is a renewal, seven minutes later, for pods that may lack it",
			world:  rolls(func(w *world) { w.life = 0 }, 1), seconds: 620, ends: encrypted, events: happens{100: {"changes podCertificate", wishes}},
		},
		"roll-podcertificate-again": {
			reason: "a new wish in the middle begins anew with the pods that lack it",
			world:  rolls(func(w *world) { w.life = 0 }, 2), seconds: 1100, ends: encrypted,
			events: happens{100: {"changes podCertificate", wishes}, 525: {"changes podCertificate", wishes}},
		},
		"roll-podcertificate-of-head": {
			reason: "what concerns the head alone restarts no worker",
			world:  rolls(func(w *world) { w.life = 0 }, 1), seconds: 620, ends: encrypted,
			events: happens{100: {"adds a name of the head", func(w *world) { w.settings(func() { w.roll.HeadHash = "second" }) }}},
		},
		"roll-kueue": {
			reason: "in a queue, workers are rolled and the head waits for an approval",
			world:  rolls(func(w *world) { w.cluster.queued = true }, 1), seconds: 560, ends: encrypted,
			events: happens{500: {"approves", approves}},
		},
		"roll-service": {
			reason: "a serving cluster's workers are rolled in place, and a head with fault tolerance too",
			world:  rolls(func(w *world) { w.service = &Service{Name: "x", Serving: true} }, 1), seconds: 500, ends: encrypted,
		},
		"roll-service-replaces": {
			reason: "without fault tolerance, the RayService replaces a serving cluster once its workers are done",
			world:  rolls(func(w *world) { loses(w); w.service = &Service{Name: "x", Serving: true} }, 1), seconds: 560, ends: encrypted,
			events: happens{
				440: {"is KubeRay and makes a new cluster", func(w *world) { w.settings(func() { w.service.Next = "next" }) }},
				480: {"is KubeRay and moves the traffic", func(w *world) { w.settings(func() { w.service.Serving = false }) }},
			},
		},
		"roll-head-ended": {
			reason: "no worker can join a head whose certificate has ended, so the head goes first",
			world:  rolls(func(w *world) { w.roll.OnDelete = true }, 1), seconds: 700, ends: encrypted,
			events: happens{620: {"chooses RollingUpdate", func(w *world) { w.settings(func() { w.roll.OnDelete = false }) }}},
		},
	})
}
