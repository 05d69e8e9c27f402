package keys

import (
	"crypto/x509"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/raytls/raytls/internal/pki"
)

var (
	oneSeed = flag.Int("seed", -1, "play only the sequence of this seed, and print it")
	seeds   = flag.Int("seeds", 40, "how many sequences are played")
)

// version is one state of the CA Secret, with what a pod makes of it.
type version struct {
	number        int
	from          time.Time
	secret        *corev1.Secret
	issuer        *pki.Issuer
	chain, bundle []*x509.Certificate
	authority     string
	// since is the number in the Secret's name.
	since int64
}

// pod is a pod of the model. It reads the CA Secret at some time, and makes its certificate at another.
type pod struct {
	name string
	// A head's certificate lasts as long as the issuer. The operator cannot read the report of a silent pod.
	head, silent, terminating bool
	created                   time.Time
	// since is the number in the name of the CA Secret that it mounts.
	since int64
	// read is what it has mounted, and leaf its certificate; nil before.
	read *version
	leaf *x509.Certificate
}

// certified reports whether the pod has a certificate, and others would take it for valid at that time.
func (p *pod) certified(at time.Time) bool { return p.leaf != nil && at.Before(p.leaf.NotAfter) }

// model is a cluster, the operator and all that may happen to them, in an order that a seed decides.
type model struct {
	r     *rand.Rand
	now   time.Time
	trace []string

	settings Settings
	// staleness is how old the version of the CA Secret can be that a pod has mounted.
	staleness time.Duration
	// parent is the brought CA that is asked for; nil for none.
	parent *pki.Parent

	// authorities and versions are all states of the two Secrets; the last is the present one. lost reports whether the CA Secret
	// is deleted, and restored whether the authority's is an older one.
	authorities    []*corev1.Secret
	versions       []*version
	lost, restored bool
	// written is when the operator wrote one of them last.
	written time.Time
	// generation and id are what is on record.
	generation    int64
	id            string
	revokedBefore int64
	// template is the number in the name of the CA Secret that new pods mount.
	template int64
	leader   *replica

	pods  []*pod
	names int
	// held are the pairs of versions that hold, and until when.
	held map[[2]int]time.Time
	stats
	original func(chain, bundle []*x509.Certificate, at ...time.Time) error
}

// stats is what a sequence did, so that a test that does nothing fails.
type stats struct {
	pairs, verified, mixed, generations, dropped, conflicts, refused, held8, revoked, strangers, restoredIssuers int
}

func (s *stats) add(o stats) {
	s.pairs, s.verified, s.mixed, s.generations = s.pairs+o.pairs, s.verified+o.verified, s.mixed+o.mixed, s.generations+o.generations
	s.revoked, s.strangers, s.restoredIssuers = s.revoked+o.revoked, s.strangers+o.strangers, s.restoredIssuers+o.restoredIssuers
	s.dropped, s.conflicts, s.refused, s.held8 = s.dropped+o.dropped, s.conflicts+o.conflicts, s.refused+o.refused, s.held8+o.held8
}

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%s ", m.now.Format("01-02 15:04:05"))+fmt.Sprintf(format, args...))
}

// chance is true once in n times.
func (m *model) chance(n int) bool { return m.r.IntN(n) == 0 }

// present is the present version of the CA Secret.
func (m *model) present() *version { return m.versions[len(m.versions)-1] }

// named are the versions of the CA Secret with that number in its name.
func (m *model) named(since int64) []*version {
	from := slices.IndexFunc(m.versions, func(v *version) bool { return v.since == since })
	if from < 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(m.versions[from:]), func(v *version) bool { return v.since != since })
}

// create adds a pod.
func (m *model) create(head bool) {
	m.names++
	p := &pod{name: fmt.Sprint("p", m.names), head: head, silent: m.chance(8), created: m.now, since: m.template}
	m.pods = append(m.pods, p)
	m.note("%s is created (head %t, silent %t)", p.name, head, p.silent)
}

// mountable are the versions of the CA Secret that a pod can read now, the oldest first.
func (m *model) mountable(p *pod) []*version {
	versions := m.named(p.since)
	first := max(0, len(versions)-1)
	for first > 0 && versions[first].from.After(m.now.Add(-m.staleness)) {
		first--
	}
	return versions[first:]
}

// mount has a pod read a version of the CA Secret.
func (m *model) mount(p *pod) {
	versions := m.mountable(p)
	if len(versions) == 0 {
		return
	}
	v := versions[0]
	if m.chance(2) {
		v = versions[m.r.IntN(len(versions))]
	}
	m.read(p, v)
}

func (m *model) read(p *pod, v *version) {
	p.read = v
	m.note("%s reads version %d", p.name, v.number)
}

// certify has a pod make its certificate of what it has read, as the scripts do.
func (m *model) certify(p *pod) error {
	issuer := p.read.issuer
	if m.now.Before(issuer.NotBefore()) || !m.now.Add(5*time.Minute).Before(issuer.NotAfter()) {
		p.read = nil // it waits and reads again
		return nil
	}
	life := m.settings.leafValidity()
	if p.head {
		life = issuer.NotAfter().Sub(m.now)
	}
	leafPEM, _, err := issuer.NewLeaf(pki.LeafOptions{
		CommonName: p.name, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, KeyAlgorithm: pki.ECDSAP256, Validity: life, Now: m.now,
	})
	if err != nil {
		return err
	}
	leaf, err := pki.ParseBundle(leafPEM)
	if err != nil {
		return err
	}
	p.leaf = leaf[0]
	m.note("%s has a certificate of version %d until %s", p.name, p.read.number, p.leaf.NotAfter.Format("01-02 15:04:05"))
	return nil
}

// remove deletes a pod. Some take a while to end, and others talk to them until then.
func (m *model) remove(i int) {
	p := m.pods[i]
	if !p.terminating && m.chance(3) {
		p.terminating = true
		m.note("%s is terminating", p.name)
		return
	}
	m.pods = slices.Delete(m.pods, i, i+1)
	m.note("%s is gone", p.name)
}

// check verifies every ordered pair of live pods, now and until both their certificates end.
func (m *model) check() error {
	for _, a := range m.pods {
		for _, b := range m.pods {
			if !a.certified(m.now) || !b.certified(m.now) {
				continue
			}
			m.pairs++
			if a.read.authority != b.read.authority {
				m.mixed++
			}
			if a.since != b.since {
				if err := m.checkStrangers(a, b); err != nil {
					return err
				}
				continue
			}
			if err := m.checkPair(a, b); err != nil {
				return fmt.Errorf("%s (version %d) to %s (version %d): %w", a.name, a.read.number, b.name, b.read.number, err)
			}
		}
	}
	return nil
}

// checkPair asks the verifiers for the first and the last moment alone: the greedy verifier's path does not depend on the time, so a
// pair that holds at both holds between. Pods of one version differ by their leaves alone.
func (m *model) checkPair(a, b *pod) error {
	key := [2]int{a.read.number, b.read.number}
	last := a.leaf.NotAfter
	if b.leaf.NotAfter.Before(last) {
		last = b.leaf.NotAfter
	}
	if last = last.Add(-time.Second); !m.held[key].Before(last) {
		return nil
	}
	chain := append([]*x509.Certificate{a.leaf}, a.read.chain...)
	for _, at := range []time.Time{m.now, last} {
		m.verified++
		if err := pki.VerifyPair(chain, b.read.bundle, at); err != nil {
			return fmt.Errorf("at %s: %w", at.Format(time.RFC3339), err)
		}
	}
	if m.original != nil {
		if err := m.original(chain, b.read.bundle, m.now, last); err != nil {
			return fmt.Errorf("BoringSSL: %w", err)
		}
	}
	m.held[key] = last
	return nil
}

// happen is something that users, KubeRay, kubelets and the infrastructure do.
func (m *model) happen() error {
	if m.restored && m.chance(3) {
		m.restore()
		return nil
	}
	switch m.r.IntN(29) {
	case 24:
		m.revoke()
	case 25, 26:
		return m.renewAll()
	case 27, 28:
		m.restoreIssuer()
	case 0:
		return m.hurry()
	case 16, 17:
		return m.calm()
	case 1:
		m.settings.ReplaceIssuedBefore = m.now.Add(time.Duration(m.r.IntN(3)-1) * 20 * time.Minute)
		m.note("replaceIssuedBefore: %s", m.settings.ReplaceIssuedBefore.Format("01-02 15:04:05"))
	case 2:
		return m.bring()
	case 3:
		if !m.restored {
			m.lost = true
			m.note("the CA Secret is deleted")
		}
	case 4:
		m.restore()
	case 5:
		m.leader = newReplica(m)
		m.note("another leader, whose clock is off by %s", m.leader.off)
	case 6:
		if !m.restored {
			m.generation, m.id, m.revokedBefore = 0, "", 0
			m.note("the record is lost")
		}
	case 7, 8, 9, 10:
		if len(m.pods) > 5 {
			m.remove(m.r.IntN(len(m.pods)))
		}
	case 11, 12, 13, 14, 15:
		if len(m.pods) < 12 {
			m.create(m.chance(4))
		}
	default:
		return m.progress(m.r.IntN(3))
	}
	return nil
}

// bring names another CA, which may end soon, or none.
func (m *model) bring() error {
	if m.parent = nil; m.chance(3) {
		m.note("no brought CA")
		return nil
	}
	life := time.Duration(3+m.r.IntN(40)) * day
	root, err := pki.NewAuthority(pki.AuthorityOptions{Name: "brought", KeyAlgorithm: pki.ECDSAP256, Validity: life, Now: m.now.Add(-time.Hour)})
	if err != nil {
		return err
	}
	key, err := root.KeyPEM()
	if err != nil {
		return err
	}
	m.note("a brought CA that ends after %s", life)
	m.parent, err = pki.ParseParent(root.CertificatePEM(), key, m.now)
	return err
}

// progress has pods go on with their certificates: all of them, or some of them one step.
func (m *model) progress(hurry int) error {
	for _, p := range m.pods {
		if p.read == nil && (hurry == 0 || m.chance(2)) {
			m.mount(p)
		}
		if p.read != nil && p.leaf == nil && (hurry == 0 || m.chance(2)) {
			if err := m.certify(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// restore puts an older authority into the Secret, or the newest one back.
func (m *model) restore() {
	newest := len(m.authorities) - 1
	if m.restored {
		m.authorities, m.restored = append(m.authorities, m.authorities[newest-1]), false
		m.note("the newest authority is restored")
		return
	}
	older := slices.IndexFunc(m.authorities, func(s *corev1.Secret) bool {
		return string(s.Data[keyGeneration]) != string(m.authorities[newest].Data[keyGeneration])
	})
	if older < 0 || m.lost {
		return
	}
	// Where nothing proves that there was a newer one, the operator cannot know.
	store, err := Read(train(), m.authorities[older], m.present().secret)
	generation := string(m.authorities[newest].Data[keyGeneration])
	if err != nil || string(m.present().secret.Data[keyGeneration]) != generation || fmt.Sprint(m.generation) != generation && store.successor == "" {
		return
	}
	m.authorities, m.restored = append(m.authorities, m.authorities[older]), true
	m.note("an older authority is restored, of generation %s", m.authorities[older].Data[keyGeneration])
}

// restoreIssuer puts an older state of the CA Secret back, as a backup does, of an authority that the operator still knows.
func (m *model) restoreIssuer() {
	if m.lost || m.restored || len(m.authorities) == 0 {
		return
	}
	store, err := Read(train(), m.authorities[len(m.authorities)-1], m.present().secret)
	if err != nil {
		return
	}
	known := store.Signers()
	versions := slices.DeleteFunc(m.named(m.present().since), func(v *version) bool {
		return !slices.ContainsFunc(known.Earlier, func(e Earlier) bool { return e.ID == v.authority })
	})
	if len(versions) == 0 {
		return
	}
	older := *versions[m.r.IntN(len(versions))]
	m.note("the CA Secret is restored to version %d, as version %d", older.number, len(m.versions))
	older.number, older.from = len(m.versions), m.now
	m.versions = append(m.versions, &older)
	m.restoredIssuers++
}

// newModel begins a sequence. Keys are drawn by the seed too: what is spread over time is spread by their IDs.
func newModel(t *testing.T, seed int) *model {
	t.Helper()
	cryptotest.SetGlobalRandom(t, uint64(seed))
	m := &model{r: rand.New(rand.NewPCG(uint64(seed), 0)), now: epoch(), held: map[[2]int]time.Time{}, staleness: time.Hour}
	m.settings = settings(valid(5), func(s *Settings) { s.AuthorityValidityDays = 20 + m.r.Int32N(60) })
	m.leader = newReplica(m)
	for i := range 4 {
		m.create(i == 0)
	}
	return m
}

// play plays a sequence.
func (m *model) play(steps int) error {
	for step := range steps {
		var err error
		switch {
		case step == 0 || m.chance(3):
			err = m.operate()
			m.restartRevoked()
		case m.chance(3):
			m.pass()
		default:
			err = m.happen()
		}
		if err == nil {
			err = m.check()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestEveryPairOfPodsHolds plays random events and verifies after each of them that every pod of the cluster accepts every other pod.
func TestEveryPairOfPodsHolds(t *testing.T) {
	first, last := 0, *seeds
	if *oneSeed >= 0 {
		first, last = *oneSeed, *oneSeed+1
	}
	original := boringSSL(t)
	var total stats
	for seed := first; seed < last; seed++ {
		m := newModel(t, seed)
		m.original = original
		err := m.play(150)
		total.add(m.stats)
		if *oneSeed >= 0 || err != nil {
			t.Logf("%s", strings.Join(m.trace, "\n"))
		}
		if err != nil {
			t.Fatalf("seed %d: %v\nto see it again: go test ./internal/keys -run %s -seed %d", seed, err, t.Name(), seed)
		}
	}
	t.Logf("%+v", total)
	if seeds := last - first; *oneSeed < 0 && (total.pairs < 5000*seeds || total.mixed < 50*seeds) {
		t.Errorf("too few pairs to mean anything: %+v", total)
	}
	for what, n := range map[string]int{
		"replacements": total.generations, "forgotten authorities": total.dropped, "conflicting writes": total.conflicts,
		"restored CA Secrets": total.restoredIssuers, "revocations": total.revoked, "pods that refuse each other": total.strangers, "restored authorities refused": total.refused, "replacements that wait for old pods": total.held8,
	} {
		if n == 0 && *oneSeed < 0 && *seeds >= 40 {
			t.Errorf("there were no %s", what)
		}
	}
}

// TestPodsMayReadForAsLongAsTheOperatorWaits proves that the sequences reach what the wait for stale mounts is for: pods that read
// what is older than that are refused.
func TestPodsMayReadForAsLongAsTheOperatorWaits(t *testing.T) {
	if *oneSeed >= 0 {
		t.Skip("one sequence is played")
	}
	for seed := range *seeds {
		m := newModel(t, seed)
		m.staleness = SettleTime + SettleTime/2
		if m.play(150) != nil {
			return
		}
	}
	t.Errorf("%d sequences hold whether the operator waits long enough or not", *seeds)
}
