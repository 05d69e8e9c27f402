package rollout

import (
	"cmp"
	"slices"
	"time"
)

// replica is a worker replica: what is restarted as one. It is one pod, or all hosts of a multi-host replica.
type replica struct {
	group string
	// pods are those that are not terminating.
	pods []Pod
	// available reports whether all of its hosts work.
	available bool
	// due reports whether a host needs a new certificate, heldBy names what forbids to evict one, and end is when the first
	// certificate ends.
	due             bool
	heldBy, heldWhy string
	end             time.Time
}

// fleet is what a cluster has of the worker replicas that it wants.
type fleet struct {
	replicas []replica
	// wanted and current are how many replicas the cluster wants, and how many of these are available without being due.
	wanted, current int
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
		available, current := 0, 0
		hosts := max(1, int(t.Hosts))
		replicas, wanted := s.replicas(t.Group, hosts), int(t.Replicas)
		if hosts > 1 && !slices.ContainsFunc(replicas, func(r replica) bool { return r.pods[0].Replica != "" }) {
			wanted *= hosts // an older KubeRay does not tell which pods are one replica, so each counts
		}
		for _, r := range replicas {
			if r.available {
				available++
				if !r.due {
					current++
				}
			}
		}
		out.replicas = append(out.replicas, replicas...)
		out.wanted += wanted
		out.current += min(current, wanted)
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
				r.heldBy, r.heldWhy = p.HeldBy, p.HeldWhy
			}
			if r.end.IsZero() || !p.Leaf.End.IsZero() && p.Leaf.End.Before(r.end) {
				r.end = p.Leaf.End
			}
		}
		out = append(out, r)
	}
	return out
}

// order has those that do not work come first, since evicting them costs nothing, and then those whose certificates end first.
func order(a, b replica) int {
	if a.available != b.available {
		if b.available {
			return -1
		}
		return 1
	}
	return cmp.Or(a.end.Compare(b.end), cmp.Compare(a.group, b.group), cmp.Compare(a.pods[0].Name, b.pods[0].Name))
}

// choose returns the pods that may be evicted now, and the due replicas that are held and those that wait for the budget. The budget
// counts each replica that does not work, whatever the cause. Of those that are due anyway, only as many go at a time.
func (s *Snapshot) choose(f fleet) (evict []Pod, held, waiting []replica) {
	var due []replica
	broken := 0
	for _, r := range f.replicas {
		switch {
		case !r.due:
		case r.heldBy != "":
			held = append(held, r)
		default:
			due = append(due, r)
			if !r.available {
				broken++
			}
		}
	}
	slices.SortFunc(due, order)
	slices.SortFunc(held, order)
	unavailable, replaced := f.unavailable, max(0, f.unavailable-broken)
	for _, r := range due {
		switch young := slices.ContainsFunc(r.pods, func(p Pod) bool { return s.Now.Before(p.Created.Add(NoticeTime)) }); {
		case young:
			waiting = append(waiting, r)
		case !r.available && replaced < s.Roll.MaxUnavailable:
			replaced++
			evict = append(evict, r.pods...)
		case r.available && unavailable < s.Roll.MaxUnavailable:
			unavailable, replaced = unavailable+1, replaced+1
			evict = append(evict, r.pods...)
		default:
			waiting = append(waiting, r)
		}
	}
	return evict, held, waiting
}
