package probe

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// queue gives out clusters in turn, one namespace after another, so that a namespace full of slow heads delays its own alone. Its
// user locks.
type queue struct {
	// total and perNamespace bound how many clusters are out at a time.
	total, perNamespace int

	out        int
	namespaces map[string]*lane
	// turns are the namespaces with waiting clusters; the first has waited longest since its last turn.
	turns []string
}

// lane is a namespace's part of the queue.
type lane struct {
	waiting []string
	out     int
}

// add has a cluster wait. It must not wait already.
func (q *queue) add(key types.NamespacedName) {
	if q.namespaces == nil {
		q.namespaces = map[string]*lane{}
	}
	l := q.namespaces[key.Namespace]
	if l == nil {
		l = &lane{}
		q.namespaces[key.Namespace] = l
	}
	if len(l.waiting) == 0 {
		q.turns = append(q.turns, key.Namespace)
	}
	l.waiting = append(l.waiting, key.Name)
}

// next takes a cluster out, if one waits and the bounds allow it. done must follow.
func (q *queue) next() (types.NamespacedName, bool) {
	i := slices.IndexFunc(q.turns, func(namespace string) bool { return q.namespaces[namespace].out < q.perNamespace })
	if i < 0 || q.out >= q.total {
		return types.NamespacedName{}, false
	}
	namespace := q.turns[i]
	l := q.namespaces[namespace]
	name := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.out++
	q.out++
	q.turns = slices.Delete(q.turns, i, i+1)
	if len(l.waiting) > 0 {
		q.turns = append(q.turns, namespace)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, true
}

// done gives back the place of a cluster that next took out.
func (q *queue) done(key types.NamespacedName) {
	l := q.namespaces[key.Namespace]
	l.out--
	q.out--
	if l.out == 0 && len(l.waiting) == 0 {
		delete(q.namespaces, key.Namespace)
	}
}
