package rollout

import (
	"testing"
	"time"

	"github.com/raytls/raytls/api/v1alpha1"
)

// revokes is somebody who asks for a revocation.
func revokes(w *world) { w.settings(func() { w.revokeTo = w.keys + 2 }) }

func revokesNow(w *world) {
	revokes(w)
	w.revokeNow = true
}

func TestGoldenRevocations(t *testing.T) {
	const encrypted = v1alpha1.ReasonEncrypted
	born := func(change func(*world), workers ...int32) *world {
		return rolls(func(w *world) { w.life = 0; change(w) }, workers...)
	}
	waiting := func(w *world) { w.immediate = false }
	asks := struct {
		what string
		do   func(*world)
	}{"asks for a revocation", revokes}
	now := asks
	now.what, now.do = "asks for a revocation at once", revokesNow
	suspend := func(on bool) func(*world) {
		return func(w *world) { w.edit(func(c *simCluster) { c.suspend = on }) }
	}
	job := func(name string) func(*world) { return func(w *world) { w.settings(func() { w.blocked = name }) } }
	playAll(t, map[string]goldenCase{
		"revoke": {
			reason: "the record comes first, then the keys, then the templates, and then all pods go together",
			world:  born(asItIs, 2, 1), seconds: 120, ends: encrypted, events: happens{60: asks},
		},
		"revoke-approved": {
			reason: "an approval is good for one revocation, and for no roll of the head", seconds: 200, ends: encrypted,
			world:  born(func(w *world) { waiting(w); w.roll.FaultTolerant = false }, 1),
			events: happens{60: asks, 80: {"approves", approves}, 140: asks},
		},
		"revoke-approved-held": {
			reason: "while a worker holds the revocation, the approval of it restarts no head that is due", seconds: 500, ends: encrypted,
			world: rolls(func(w *world) { waiting(w); w.roll.FaultTolerant = false }, 1),
			events: happens{
				350: {"holds the worker", func(w *world) { w.settings(func() { w.holds["a-2"] = "annotation x" }) }},
				360: asks, 370: {"approves", approves}, 450: {"holds it no more", func(w *world) { w.settings(func() { clear(w.holds) }) }},
			},
		},
		"revoke-suspended": {
			reason: "a cluster that stops has nothing to lose", seconds: 160, ends: encrypted,
			world:  born(waiting, 1),
			events: happens{60: asks, 80: {"suspends", suspend(true)}, 110: {"resumes", suspend(false)}},
		},
		"revoke-without-pods": {
			reason: "a suspended cluster is revoked at once", seconds: 140, ends: encrypted,
			world:  born(waiting, 1),
			events: happens{60: {"suspends", suspend(true)}, 90: asks, 110: {"resumes", suspend(false)}},
		},
		"revoke-job": {
			reason: "a job holds it, approved or not, unless it is to happen now", seconds: 160, ends: encrypted,
			world:  born(asItIs, 1),
			events: happens{40: {"starts a RayJob", job("RayJob/x")}, 60: asks, 70: {"approves", approves}, 100: now},
		},
		"revoke-job-ends": {
			reason: "it begins when the job has finished", seconds: 160, ends: encrypted,
			world:  born(asItIs, 1),
			events: happens{40: {"starts a RayJob", job("RayJob/x")}, 60: asks, 100: {"sees the RayJob end", job("")}},
		},
		"revoke-job-comes-up": {
			reason: "half revoked works in neither state, so a job that comes up then fails", seconds: 140, ends: encrypted,
			world:  born(asItIs, 2),
			events: happens{60: asks, 62: {"starts a RayJob", job("RayJob/x")}},
		},
		"revoke-held": {
			reason: "a pod that is to be left alone holds all", seconds: 160, ends: encrypted,
			world: born(asItIs, 1),
			events: happens{
				50: {"holds a worker", func(w *world) { w.settings(func() { w.holds["a-2"] = "annotation karpenter.sh/do-not-disrupt" }) }},
				60: asks, 90: {"holds it no more", func(w *world) { w.settings(func() { clear(w.holds) }) }},
			},
		},
		"revoke-paused": {
			reason: "a paused policy stops it, even one that is to happen now", seconds: 160, ends: encrypted,
			world:  born(func(w *world) { w.roll.Paused = true }, 1),
			events: happens{60: now, 90: {"resumes", func(w *world) { w.settings(func() { w.roll.Paused = false }) }}},
		},
		"revoke-slot-and-window": {
			reason: "it waits for its turn and its window, unless it is to happen now", seconds: 160, ends: encrypted,
			world: born(func(w *world) { w.noSlot, w.opens = "others are being restarted", start().Add(time.Hour) }, 1),
			events: happens{
				60: asks, 80: {"sees a slot", func(w *world) { w.settings(func() { w.noSlot = "" }) }}, 100: now,
			},
		},
		"revoke-kueue": {
			reason: "an approved change of the templates has Kueue evict the cluster", seconds: 200, ends: encrypted,
			world: born(func(w *world) { w.annotate(func(c *simCluster) { c.queued = true }) }, 1),
			events: happens{
				60: asks, 80: {"approves", approves}, 85: {"is Kueue and evicts", suspend(true)}, 130: {"is Kueue and admits", suspend(false)},
			},
		},
		"revoke-recreate": {
			reason: "with upgradeStrategy Recreate, KubeRay deletes the pods", seconds: 140, ends: encrypted,
			world:  born(func(w *world) { w.annotate(func(c *simCluster) { c.recreate = true }) }, 1),
			events: happens{60: asks},
		},
		"revoke-no-head-restart": {
			reason: "a head that KubeRay would not make again is never deleted", seconds: 120, ends: encrypted,
			world: born(func(w *world) {
				w.roll.HeadBlockedBy, w.roll.HeadBlockedWhy = "annotation x", "KubeRay would not make a new head for this cluster"
			}, 1),
			events: happens{60: now},
		},
		"revoke-in-a-roll": {
			reason: "it takes the place of a roll that is under way", seconds: 500, ends: encrypted,
			world: rolls(asItIs, 2), events: happens{404: asks},
		},
		"revoke-service": {
			reason: "a RayService replaces the cluster without downtime, once it is allowed", seconds: 160, ends: encrypted,
			world: born(func(w *world) { waiting(w); w.service = &Service{Name: "x", Serving: true} }, 1),
			events: happens{
				60: asks, 80: {"approves", approves}, 90: {"is KubeRay and makes a new cluster", func(w *world) { w.settings(func() { w.service.Next = "next" }) }},
				120: {"is KubeRay and moves the traffic", func(w *world) { w.settings(func() { w.service.Serving = false }) }},
			},
		},
		"revoke-service-now": {
			reason: "a cluster that is to be restarted now is restarted in place, even if the RayService is replacing it", seconds: 160, ends: encrypted,
			world:  born(func(w *world) { w.service = &Service{Name: "x", Serving: true} }, 1),
			events: happens{60: asks, 80: now},
		},
		"revoke-certificates-fail": {
			reason: "a pod that gets no certificate is reported, and the revocation ends all the same", seconds: 760, ends: v1alpha1.ReasonCertificateFailed,
			world:  born(asItIs, 1),
			events: happens{59: {"breaks the image", func(w *world) { w.inits["a"] = fails }}, 60: asks},
		},
	})
}
