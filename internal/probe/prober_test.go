package probe

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
)

// network answers by address.
type network struct {
	mu    sync.Mutex
	peers map[string]peer
	dials map[string]int
	ends  []net.Conn
}

func (n *network) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[address]++
	near, end := net.Pipe()
	n.ends = append(n.ends, end)
	go n.peers[address](end)
	return near, nil
}

// bubble is a running prober.
type bubble struct {
	*Prober
	network network
	clock   *clocktesting.FakePassiveClock
}

func run(t *testing.T, test func(*testing.T, *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{clock: clocktesting.NewFakePassiveClock(epoch())}
		b.network.peers, b.network.dials = map[string]peer{}, map[string]int{}
		b.Prober = NewProber(b.network.dial, b.clock, func(context.Context, Target) bool { return true })
		ctx, cancel := context.WithCancel(t.Context())
		go b.Run(ctx, func(types.NamespacedName) {})
		test(t, b)
		cancel()
		for _, end := range b.network.ends {
			_ = end.Close()
		}
		synctest.Wait()
	})
}

func target(namespace, name, address string, bundle []byte) Target {
	return Target{
		Cluster: types.NamespacedName{Namespace: namespace, Name: name}, PodUID: types.UID("uid-" + name),
		Address: netip.MustParseAddrPort(address), Bundle: bundle,
	}
}

func settings() peer { return sends(0, 0, 0, 4, 0, 0, 0, 0, 0) }

func TestProberFindsWhatIsServed(t *testing.T) {
	own, other := newAuthority(t), newAuthority(t)
	for name, c := range map[string]struct {
		reason string
		peer   peer
		at     time.Time
		moved  bool
		want   Finding
		wait   time.Duration
	}{
		"own": {
			"a good head is observed daily", serveTLS(own.chain(t)), epoch(), false,
			Finding{Answer: TLS, AuthorityID: own.ID(), ExpiryTime: epoch().Add(365 * day)},
			24 * time.Hour,
		},
		"ended": {
			"an ended leaf is a fault", serveTLS(own.chain(t)), epoch().Add(366 * day), false,
			Finding{Answer: TLS, AuthorityID: own.ID(), ExpiryTime: epoch().Add(365 * day)},
			time.Hour,
		},
		"ended, moved": {"as long as it is this pod's", serveTLS(own.chain(t)), epoch().Add(366 * day), true, Finding{Answer: Unknown, Cause: Moved}, 15 * time.Second},
		"foreign":      {"a stranger's words are not repeated", serveTLS(other.chain(t)), epoch(), false, Finding{Answer: ForeignTLS, Cause: ForeignCertificate}, time.Hour},
		"plaintext":    {"a fault is observed until it is mended", settings(), epoch(), false, Finding{Answer: Plaintext}, time.Hour},
		"moved":        {"another pod may have the address by now", settings(), epoch(), true, Finding{Answer: Unknown, Cause: Moved}, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			found := make(chan types.NamespacedName, 1)
			p := NewProber(dialer(), clocktesting.NewFakePassiveClock(c.at), func(context.Context, Target) bool { return !c.moved })
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			go p.Run(ctx, func(key types.NamespacedName) { found <- key })
			head := target("ml", "train", serve(t, c.peer), bundlePEM(own.bundle...))
			p.Ask(head)
			if key := <-found; key != head.Cluster {
				t.Errorf("notified of %s", key)
			}
			got := p.Finding(head)
			if got == nil {
				t.Fatal("there is no finding")
			}
			c.want.Time, c.want.Next = c.at, c.at.Add(c.wait)
			c.want.target, c.want.unknowns = got.target, got.unknowns
			if diff := cmp.Diff(c.want, *got, cmp.AllowUnexported(Finding{}), cmp.Comparer(Target.is)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestProberFindsNothingOfAnotherPod(t *testing.T) {
	run(t, func(t *testing.T, b *bubble) {
		b.network.peers["10.0.0.7:6379"] = settings()
		head := target("ml", "train", "10.0.0.7:6379", nil)
		b.Ask(head)
		synctest.Wait()
		if b.Finding(head) == nil {
			t.Fatal("there is no finding")
		}
		for name, change := range map[string]func(*Target){
			"pod":     func(t *Target) { t.PodUID = "another" },
			"address": func(t *Target) { t.Address = netip.MustParseAddrPort("10.0.0.8:6379") },
			"bundle":  func(t *Target) { t.Bundle = []byte("another") },
		} {
			changed := head
			change(&changed)
			if b.Finding(changed) != nil {
				t.Errorf("the finding counts for another %s", name)
			}
		}
		b.Forget(head.Cluster)
		if b.Finding(head) != nil {
			t.Error("the finding outlives its cluster")
		}
	})
}

// TestProberIsNotHeldUp fills one namespace with heads that never answer.
func TestProberIsNotHeldUp(t *testing.T) {
	run(t, func(t *testing.T, b *bubble) {
		b.network.peers["10.0.0.1:6379"], b.network.peers["10.0.0.2:6379"] = drain, settings()
		for n := range 100 {
			b.Ask(target("slow", named("", n).Name, "10.0.0.1:6379", nil))
		}
		head := target("ml", "train", "10.0.0.2:6379", nil)
		b.Ask(head)
		synctest.Wait() // no time passes
		if b.Finding(head) == nil {
			t.Error("another namespace's heads hold it up")
		}
		if n := b.network.dials["10.0.0.1:6379"]; n != maxObservationsPerNamespace {
			t.Errorf("%d heads of one namespace are observed at a time, want %d", n, maxObservationsPerNamespace)
		}
	})
}

func TestProberObservesOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bubble) {
		const address = "10.0.0.7:6379"
		b.network.peers[address] = drain
		head := target("ml", "train", address, nil)
		for range 10 {
			b.Ask(head)
			synctest.Wait()
		}
		if n := b.network.dials[address]; n != 1 {
			t.Errorf("%d connections at a time to one head", n)
		}
		time.Sleep(Timeout)
		synctest.Wait()
		if n := b.network.dials[address]; n != 1 {
			t.Errorf("%d connections, though it was asked for before the first ended", n)
		}
	})
}

// TestProberGivesUpSlowly observes a head that nothing reaches, whenever it is due.
func TestProberGivesUpSlowly(t *testing.T) {
	run(t, func(t *testing.T, b *bubble) {
		const address = "10.0.0.7:6379"
		b.network.peers[address] = drain
		head := target("ml", "train", address, nil)
		for i, want := range []time.Duration{15 * time.Second, time.Minute, 10 * time.Minute, 24 * time.Hour, 24 * time.Hour} {
			b.Ask(head)
			time.Sleep(Timeout)
			synctest.Wait()
			finding := b.Finding(head)
			if finding == nil || finding.Next.Sub(finding.Time) != want {
				t.Fatalf("observation %d: the finding is %+v, want the next after %s", i+1, finding, want)
			}
			b.clock.SetTime(finding.Next)
		}
	})
}

// TestProberStopsInTime ends the process while a head is observed.
func TestProberStopsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, end := net.Pipe()
		dial := func(context.Context, string, string) (net.Conn, error) { return near, nil }
		p := NewProber(dial, clocktesting.NewFakePassiveClock(epoch()), nil)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			p.Run(ctx, func(types.NamespacedName) { t.Error("a cut observation counts") })
			close(stopped)
		}()
		p.Ask(target("ml", "train", "10.0.0.7:6379", nil))
		synctest.Wait()
		begin := time.Now()
		cancel()
		<-stopped
		if took := time.Since(begin); took > 0 {
			t.Errorf("it stopped after %s", took)
		}
		_ = end.Close()
	})
}
