package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// lag is the most that KubeRay's cache lags: the operator counts on it.
const lag = overtakenBy

// kuberay is one reconcile of KubeRay, from what it has seen of the cluster.
func (w *world) kuberay() {
	for next := w.seen.kuberay + 1; next < len(w.clusters) && w.now.Sub(w.stored[next]) >= lag-time.Second; next++ {
		w.seen.kuberay = next
	}
	c := w.clusters[w.seen.kuberay]
	switch {
	case c.suspension == "Suspending":
		w.deleteAll()
	case c.suspension == "Suspended" || c.suspend:
	case w.recreates(c):
		w.deleteAll()
	default:
		w.scale(c)
	}
	w.status(c)
}

func (w *world) own(keep func(simPod) bool) []int {
	var out []int
	for i, p := range w.pods {
		if p.owned && keep(p) {
			out = append(out, i)
		}
	}
	return out
}

func (w *world) deleteAll() {
	for _, i := range w.own(func(simPod) bool { return true }) {
		w.terminate(i)
	}
}

// recreates compares the hash on the head, unless KubeRay itself is newer than the head: then it only writes a new one.
func (w *world) recreates(c simCluster) bool {
	heads := w.own(func(p simPod) bool { return p.group == "" })
	if !c.recreate || len(heads) == 0 || w.pods[heads[0]].hash == c.hash() {
		return false
	}
	if w.restamp {
		pods := slices.Clone(w.pods)
		pods[heads[0]].hash, w.restamp = c.hash(), false
		w.setPods(pods)
		return false
	}
	return true
}

// scale makes the pods that are missing; pods on their way out count until they are gone.
func (w *world) scale(c simCluster) {
	for _, t := range c.templates {
		want := int(t.replicas) * max(1, int(t.hosts))
		if t.group == "" {
			want = 1
		}
		if t.hosts > 1 {
			w.siblings(t)
		}
		have := w.own(func(p simPod) bool { return p.group == t.group })
		for i := len(have); i < want; i++ {
			w.create(c, t)
		}
		if t.group == "" {
			continue
		}
		for i := want; i < len(have); i++ {
			w.terminate(have[i])
		}
	}
}

// siblings go with each host of a multi-host replica.
func (w *world) siblings(t simTemplate) {
	broken := map[string]bool{}
	for _, i := range w.own(func(p simPod) bool { return p.group == t.group && p.terminating }) {
		broken[w.pods[i].replica] = true
	}
	for _, i := range w.own(func(p simPod) bool { return p.group == t.group && broken[p.replica] }) {
		w.terminate(i)
	}
}

// replicaFor is the multi-host replica that the next pod of the group becomes part of.
func (w *world) replicaFor(t simTemplate) string {
	members := map[string]int{}
	for _, i := range w.own(func(p simPod) bool { return p.group == t.group && !p.terminating }) {
		members[w.pods[i].replica]++
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if members[name] < int(t.hosts) {
			return name
		}
	}
	return fmt.Sprintf("%s-r%d", t.group, w.serial)
}

func (w *world) create(c simCluster, t simTemplate) {
	w.serial++
	slot := ""
	for i := 0; ; i++ {
		slot = fmt.Sprintf("%s/%d", cmp.Or(t.group, "head"), i)
		if len(w.own(func(p simPod) bool { return p.slot == slot })) == 0 {
			break
		}
	}
	p := simPod{
		name: fmt.Sprintf("%s-%d", cmp.Or(t.group, "head"), w.serial), uid: fmt.Sprintf("uid-%d", w.serial), group: t.group, slot: slot,
		injected: t.injected, pieces: t.injected, since: t.since, created: w.now.Truncate(time.Second), owned: true, made: cmp.Or(w.inits[t.group], succeeds),
	}
	if t.hosts > 1 {
		p.replica = w.replicaFor(t)
	}
	if !p.injected {
		p.differs = "it has nothing of the injection"
	}
	if w.admission != nil {
		w.admission(&p)
	}
	if t.group == "" {
		p.hash = c.hash()
	}
	w.setPods(append(slices.Clone(w.pods), p))
}

// judge finds a deletion that its replacement would need again: of a pod that was surely made from the present template, or of a
// third one in a place. KubeRay may make pods from the earlier template while its cache lags, and these lack proof.
func (w *world) judge(p simPod) {
	at := slices.IndexFunc(w.cluster.templates, func(t simTemplate) bool { return t.group == p.group })
	turned := w.turned[p.group]
	proof := at >= 0 && w.cluster.templates[at].injected && p.pieces && p.since == w.cluster.templates[at].since
	place := fmt.Sprint(p.slot, turned)
	if w.places[place]++; w.places[place] > 2 || proof && p.created.After(turned) {
		w.wrong = fmt.Errorf("deleted pod %s, number %d since its template was turned, made %s later: pieces %t, TLS %t", p.name, w.places[place], p.created.Sub(turned), p.pieces, p.injected)
	}
}

// status is written only when more than observedGeneration differs.
func (w *world) status(c simCluster) {
	next := c.clone()
	pods := w.own(func(simPod) bool { return true })
	allReady := len(pods) > 0
	next.ready = 0
	for _, i := range pods {
		if w.pods[i].ready {
			next.ready++
		}
		allReady = allReady && w.pods[i].ready
	}
	switch c.suspension {
	case "Suspending":
		if len(pods) == 0 {
			next.suspension, next.provisioned = "Suspended", false
		}
	case "Suspended":
		if !c.suspend {
			next.suspension = ""
		}
	default:
		if c.suspend {
			next.suspension = "Suspending"
		}
		next.provisioned = c.provisioned || allReady
	}
	if next.ready == c.ready && next.suspension == c.suspension && next.provisioned == c.provisioned {
		return
	}
	next.observed = next.generated
	if c.version == w.cluster.version {
		w.store(next, false)
	}
}

// kubelet moves every pod on.
func (w *world) kubelet() {
	pods := slices.Clone(w.pods)
	heads := func(of *simPod) bool {
		return slices.ContainsFunc(pods, func(p simPod) bool {
			return p.owned && p.group == "" && p.ready && p.injected == of.injected && p.since == of.since
		})
	}
	for i := range pods {
		p := &pods[i]
		age := w.now.Sub(p.created)
		if !p.owned || p.terminating || w.pending[p.group] && !p.certified {
			continue
		}
		if p.injected && !p.certified && p.since <= w.keys && age >= 2*time.Second {
			p.certified = p.made == succeeds
			if p.certified && w.life > 0 {
				p.issued, p.end = w.now, w.now.Add(w.life)
			}
			if p.made == fails {
				p.failure = "no openssl"
			}
		}
		up := (p.certified || !p.injected) && age >= 4*time.Second
		was := p.ready
		if p.ready = up && (p.group == "" || heads(p)) && !w.down[p.name]; p.ready && !was {
			p.readied = w.now
		}
		if p.certified && p.group != "" {
			w.certified = true
		}
	}
	pods = slices.DeleteFunc(pods, func(p simPod) bool { return p.terminating && !w.now.Before(p.gone) })
	if !slices.Equal(pods, w.pods) {
		w.setPods(pods)
	}
}

// String shows the pods: P plaintext, i injected, C with a certificate, F failed; ' ready, ~ going.
func (w *world) String() string {
	groups := map[string]string{}
	for _, i := range w.own(func(simPod) bool { return true }) {
		p := w.pods[i]
		mark := "P"
		switch {
		case p.failure != "":
			mark = "F"
		case p.certified:
			mark = "C"
		case p.injected:
			mark = "i"
		}
		if p.terminating {
			mark += "~"
		} else if p.ready {
			mark += "'"
		}
		if p.since > 0 {
			mark += fmt.Sprint(p.since)
		}
		groups[p.group] += " " + mark
	}
	var out []string
	for _, t := range w.cluster.templates {
		state := ""
		if t.injected {
			state = "*"
		}
		out = append(out, cmp.Or(t.group, "head")+state+":"+groups[t.group])
	}
	return strings.Join(out, " | ")
}

// What users and other controllers do.

func (w *world) edit(change func(*simCluster)) {
	c := w.cluster.clone()
	change(&c)
	w.store(c, true)
}

func (w *world) annotate(change func(*simCluster)) {
	c := w.cluster.clone()
	change(&c)
	w.store(c, false)
}

func (w *world) template(group string, change func(*simTemplate)) {
	w.edit(func(c *simCluster) {
		for i := range c.templates {
			if c.templates[i].group == group {
				change(&c.templates[i])
			}
		}
	})
}

func (w *world) strip() {
	w.edit(func(c *simCluster) {
		for i := range c.templates {
			c.templates[i].injected, c.templates[i].stale, c.templates[i].since = false, false, 0
		}
	})
}

func (w *world) settings(change func()) {
	change()
	w.dirty = true
}
