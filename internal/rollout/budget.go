package rollout

import (
	"cmp"
	"slices"
	"time"

	"github.com/raytls/raytls/internal/kube"
)

// replica is a worker replica: what is restarted as one. It is one pod, or all hosts of a multi-host replica.
type replica struct {
	group string
	// pods are those that are not terminating.
	pods []Pod
	// available reports whether all of its hosts work.
	available bool
	// due reports whether a host needs a new certificate. heldBy and heldWhy are those of the first host that nobody may evict. end is
	// the first end among the certificates.
	due             bool
	heldBy, heldWhy string
	end             time.Time
}

// fleet is what a cluster has of the worker replicas that it wants.
type fleet struct {
	replicas []replica
	// unavailable is how many of the wanted replicas do not work, and missing names the first group that lacks one.
	unavailable int
	missing     string
}

// fleet sorts the workers into replicas. Groups that want no replica, suspended ones among them, are left alone.
func (s *Snapshot) fleet() fleet {
	var out fleet
	for _, t := range s.Templates {
		if t.Group == "" || t.Replicas <= 0 {
			continue
		}
		available := 0
		hosts := max(1, int(t.Hosts))
		replicas, wanted := s.replicas(t.Group, hosts), int(t.Replicas)
		if hosts > 1 && !slices.ContainsFunc(replicas, func(r replica) bool { return r.pods[0].Replica != "" }) {
			wanted *= hosts // an older KubeRay does not tell which pods are one replica, so each counts
		}
		for _, r := range replicas {
			if r.available {
				available++
			}
		}
		out.replicas = append(out.replicas, replicas...)
		if lacking := wanted - available; lacking > 0 {
			out.unavailable += lacking
			out.missing = cmp.Or(out.missing, t.Group)
		}
	}
	return out
}

func (s *Snapshot) replicas(group string, hosts int) []replica {
	members := map[string][]Pod{}
	var names []string
	for _, p := range s.live(in(group)) {
		name := p.Name
		if hosts > 1 && p.Replica != "" {
			name = p.Replica
		}
		if members[name] == nil {
			names = append(names, name)
		}
		members[name] = append(members[name], p)
	}
	var out []replica
	for _, name := range names {
		pods := members[name]
		r := replica{group: group, pods: pods, available: pods[0].Replica == "" || hosts == 1 || len(pods) == hosts}
		for _, p := range pods {
			r.available = r.available && p.Ready && certified(p)
			r.due = r.due || s.due(p) != ""
			if r.heldBy == "" {
				r.heldBy, r.heldWhy = s.held(p)
			}
			if r.end.IsZero() || !p.Leaf.End.IsZero() && p.Leaf.End.Before(r.end) {
				r.end = p.Leaf.End
			}
		}
		out = append(out, r)
	}
	return out
}

// order puts the replicas that do not work first, because their eviction costs nothing. The others follow by the ends of their
// certificates.
func order(a, b replica) int {
	if a.available != b.available {
		if b.available {
			return -1
		}
		return 1
	}
	return cmp.Or(a.end.Compare(b.end), cmp.Compare(a.group, b.group), cmp.Compare(a.pods[0].Name, b.pods[0].Name))
}

// choice is what may be done about the replicas that are due.
type choice struct {
	// evict are the pods that may be evicted now.
	evict []Pod
	// held are the replicas that something else holds, and waiting those that the budget does.
	held, waiting []replica
	// young is when KubeRay has seen the pods of the other ones; zero if there are none.
	young time.Time
}

// choose divides the replicas that are due. The budget counts each replica that does not work, whatever the cause. Of those that are
// due anyway, only as many go at a time.
func (s *Snapshot) choose(f fleet) choice {
	var out choice
	var due []replica
	broken := 0
	for _, r := range f.replicas {
		seen := s.noticed(r.pods)
		switch {
		case !r.due:
		case r.heldBy != "":
			out.held = append(out.held, r)
		case s.Now.Before(seen):
			out.young = kube.Earlier(out.young, seen)
		default:
			due = append(due, r)
			if !r.available {
				broken++
			}
		}
	}
	slices.SortFunc(due, order)
	slices.SortFunc(out.held, order)
	taken := max(0, f.unavailable-broken) // those that are due and do not work come first, and take their own place
	for _, r := range due {
		if taken >= s.Roll.MaxUnavailable {
			out.waiting = append(out.waiting, r)
			continue
		}
		taken++
		out.evict = append(out.evict, r.pods...)
	}
	return out
}

// noticed is when KubeRay has seen all of the pods.
func (s *Snapshot) noticed(pods []Pod) time.Time {
	return slices.MaxFunc(pods, func(a, b Pod) int { return a.Created.Compare(b.Created) }).Created.Add(NoticeTime)
}
