//go:build ray

package ray

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/raytls/raytls/test/ray/expected"
)

// standing is the cluster that most specs use: a head and two workers, born with TLS. beside is a second cluster, a head with
// certificates of its own authority. client is a pod without a certificate.
type standing struct {
	n, beside *namespace
	client    *corev1.Pod
}

const (
	standingName = "train"
	besideName   = "beside"
)

func (s *standing) start(ctx context.Context) {
	GinkgoHelper()
	s.n, s.beside = newTLSNamespace(ctx), newTLSNamespace(ctx)
	s.n.create(ctx, newCluster(standingName, workers("small", 2, 4)))
	s.beside.create(ctx, newCluster(besideName))
	s.client = s.n.outsider(ctx, "client")
	s.n.encrypted(ctx, standingName, 3)
	s.beside.encrypted(ctx, besideName, 1)
}

// outsider starts a pod of Ray's image that has no certificate. Without a command it does nothing by itself.
func (n *namespace) outsider(ctx context.Context, name string, command ...string) *corev1.Pod {
	GinkgoHelper()
	if len(command) == 0 {
		command = []string{"sleep", "infinity"}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{outsiderLabel: name}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(0)),
			Containers:                    []corev1.Container{{Name: "client", Image: rayImage, Command: command}},
		},
	}
	n.create(ctx, pod)
	return pod
}

func (s *standing) head(ctx context.Context) *corev1.Pod {
	GinkgoHelper()
	return s.n.head(ctx, standingName)
}

// workSpecs do each kind of work in the standing cluster.
func workSpecs(s *standing) {
	script := func(does, file string, labels ...string) {
		It(does, Label(labels...), func(ctx SpecContext) {
			s.n.passes(ctx, s.head(ctx), file, marker(strings.TrimSuffix(file, ".py")))
		}, SpecTimeout(6*time.Minute))
	}
	script("runs tasks on every worker", "tasks.py", "ci")
	script("has actors on two nodes call each other", "actors.py", "ci")
	script("moves objects between workers and to the driver", "objects.py", "ci")
	script("spreads a placement group", "placement_groups.py")
	script("answers the command line tools", "state.py")
	script("prepares runtime environments", "runtime_env.py")
	script("spills objects", "spill.py")
	script("runs Ray Data", "data.py")
	script("replaces a worker process that is killed", "kill.py")

	It("shows logs at the driver and by the API", func(ctx SpecContext) {
		printed := s.n.passes(ctx, s.head(ctx), "logs.py", marker("logs"))
		for node := range 2 {
			Expect(printed).To(ContainSubstring("%s of node %d", marker("logs"), node), "the driver prints what its tasks print")
		}
	}, SpecTimeout(3*time.Minute))

	It("tells of every node in the dashboard", func(ctx SpecContext) {
		head := s.head(ctx)
		s.n.passes(ctx, head, "dashboard.py", dashboardOf(head), "3")
	}, SpecTimeout(3*time.Minute))

	It("takes a job over HTTP from a pod without a certificate", Label("ci"), func(ctx SpecContext) {
		s.n.passes(ctx, s.client, "job.py", dashboardOf(s.head(ctx)), marker("job"))
	}, SpecTimeout(5*time.Minute))

	It("works on after a worker pod is deleted", func(ctx SpecContext) {
		old := s.n.workers(ctx, standingName)[0]
		Expect(target.API.Delete(ctx, &old)).To(Succeed())
		Eventually(ctx, func(ctx context.Context) []string {
			var names []string
			for _, pod := range s.n.workers(ctx, standingName) {
				if isReady(&pod) {
					names = append(names, pod.Name)
				}
			}
			return names
		}).Should(And(HaveLen(2), Not(ContainElement(old.Name))))
		s.n.works(ctx, standingName)
	}, SpecTimeout(5*time.Minute))
}

// clientSpecs connect with the Ray Client.
func clientSpecs(s *standing) {
	Describe("the Ray Client", Label("ci"), func() {
		fqdn := func() string { return fmt.Sprintf("%s-head-svc.%s.svc.cluster.local:10001", standingName, s.n.name) }

		It("gets in with a certificate of the cluster", func(ctx SpecContext) {
			s.n.connects(ctx, &s.n.workers(ctx, standingName)[0], fqdn())
		}, SpecTimeout(3*time.Minute))

		// Each refusal takes Ray thirty seconds, so they are tried at the same time.
		It("is kept out without one, with another cluster's, and by the short name", func(ctx SpecContext) {
			type attempt struct {
				from *namespace
				pod  *corev1.Pod
				to   string
			}
			attempts := map[string]attempt{
				"without a certificate":              {s.n, s.client, fqdn()},
				"with another cluster's certificate": {s.beside, s.beside.head(ctx, besideName), fqdn()},
				"by a name not in the certificate":   {s.n, &s.n.workers(ctx, standingName)[0], standingName + "-head-svc:10001"},
			}
			said := make(chan string, len(attempts))
			for name, a := range attempts {
				go func() {
					defer GinkgoRecover()
					ended, err := a.from.python(ctx, a.pod, "client.py", a.to)
					said <- fmt.Sprintf("%s: code %d, err %v: %s", name, ended.Code, err, ended.Output())
				}()
			}
			for range attempts {
				Expect(<-said).To(MatchRegexp(`(?s)^[^:]+: code 1, err <nil>: .*ConnectionError: ray client connection timeout`))
			}
		}, SpecTimeout(3*time.Minute))
	})
}

// clientServerFailed is what Ray says where the child of its client server does not come up.
const clientServerFailed = "Starting Ray client server failed"

// connects has a pod connect with the Ray Client, with further variables, each as NAME=value. Ray forks a process with threads of
// gRPC for each client, and now and then the child does not come up: https://github.com/ray-project/ray/issues/63202. The next
// client gets another child.
func (n *namespace) connects(ctx context.Context, pod *corev1.Pod, address string, variables ...string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		ended, err := n.pythonIn(ctx, pod, variables, "client.py", address)
		g.Expect(err).NotTo(HaveOccurred())
		if ended.Code == 0 {
			return
		}
		if text := ended.Output(); !strings.Contains(text, clientServerFailed) {
			StopTrying("client.py in "+pod.Name).Attach("output", text).Now()
		}
		AddReportEntry("Ray's client server did not start", pod.Name)
		g.Expect(ended.Code).To(BeZero(), ended.Output())
	}).Should(Succeed())
}

// listening is a port on which a process of a pod listens.
type listening struct {
	Port    int
	Bound   string
	Process string
}

// ports are the ports of a pod that other pods can reach.
func (n *namespace) ports(ctx context.Context, pod *corev1.Pod) []listening {
	GinkgoHelper()
	var all []listening
	Expect(json.Unmarshal([]byte(n.passes(ctx, pod, "listening.py")), &all)).To(Succeed())
	return slices.DeleteFunc(all, func(l listening) bool { return l.Bound != "0.0.0.0" && l.Bound != "::" && l.Bound != pod.Status.PodIP })
}

// random reports whether Ray or the kernel chooses the port anew at each start: Ray for worker processes, from 10002 to 19999
// by default, and Linux for the others, from 32768 on.
func random(port int) bool {
	known := []int{44217, 44227, 52365}
	return !slices.Contains(known, port) && (port >= 10002 && port <= 19999 || port >= 32768)
}

// doorSpecs knock at each port of each pod.
func doorSpecs(s *standing) {
	It("answers at every port as its release is expected to", Label("ci"), func(ctx SpecContext) {
		table, err := expected.Of(rayVersion)
		Expect(err).NotTo(HaveOccurred())
		head, others := s.head(ctx), s.n.workers(ctx, standingName)
		s.holdProcesses(ctx, others)
		asIs := func(nodeType string, pod, own *corev1.Pod) {
			GinkgoHelper()
			found := slices.SortedFunc(slices.Values(s.knock(ctx, pod, own)), comparePorts)
			// These come and go.
			found = slices.CompactFunc(found, func(a, b expected.Port) bool {
				return a == b && slices.Contains([]string{"worker process", "driver"}, a.Process)
			})
			want := slices.SortedFunc(slices.Values(table.Ports[nodeType]), comparePorts)
			Expect(found).To(Equal(want), "the ports of %s, a %s with Ray %s", pod.Name, nodeType, rayVersion)
		}
		asIs("head", head, &others[0])
		for i := range others {
			asIs("worker", &others[i], head)
		}
	}, SpecTimeout(3*time.Minute))
}

// textSpecs make mistakes, and read what docs/troubleshooting.md has users look for.
func textSpecs(s *standing) {
	It("says of each mistake what the troubleshooting page says", func(ctx SpecContext) {
		if version.MustParseGeneric(rayVersion).LessThan(version.MustParseGeneric("2.60.0")) {
			Skip("the page's texts are those of Ray 2.60.0")
		}
		const noGCS = "ray.exceptions.RpcError: Timed out while waiting for GCS to become available."
		head, worker := s.head(ctx), &s.n.workers(ctx, standingName)[0]
		gcs := fmt.Sprintf("%s-head-svc.%s.svc.cluster.local:6379", standingName, s.n.name)
		mistakes := []struct {
			from          *corev1.Pod
			command, want string
		}{
			{worker, "ray status --address " + standingName + "-head-svc:6379", noGCS},
			{worker, "ray health-check --address $FQ_RAY_IP:6379 && echo 'nothing is wrong'", "nothing is wrong"},
			// What is sent without TLS comes from a pod that the audit does not judge.
			{s.client, "ray status --address " + gcs, noGCS},
			{s.client, "ray health-check --address " + gcs, noGCS},
			{s.client, "RAY_ADDRESS=" + gcs + " timeout 60 python -c 'import ray; ray.init()'", "Failed to get cluster ID from GCS server: TimedOut"},
		}
		said := make(chan string, len(mistakes))
		for _, m := range mistakes {
			go func() {
				defer GinkgoRecover()
				ended, err := s.n.sh(ctx, m.from, m.command)
				code := m.want != noGCS || ended.Code == 1 // the others end in another way
				if err == nil && code && strings.Contains(ended.Output(), m.want) {
					said <- ""
					return
				}
				said <- fmt.Sprintf("%s: want %q, code %d, err %v: %s", m.command, m.want, ended.Code, err, ended.Output())
			}()
		}
		for range mistakes {
			Expect(<-said).To(BeEmpty())
		}

		By("reading the causes in the head's logs")
		s.knock(ctx, head, worker)
		for _, cause := range []string{"WRONG_VERSION_NUMBER", "PEER_DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED"} {
			Eventually(ctx, func(ctx context.Context) (string, error) {
				ended, err := s.n.sh(ctx, head, "grep -h ssl_transport_security /tmp/ray/session_latest/logs/*.err")
				return ended.Stdout, err
			}).Should(ContainSubstring(cause))
		}
	}, SpecTimeout(4*time.Minute))
}

// holdProcesses has each worker run a worker process while its ports are tried. It waits until all of them do.
func (s *standing) holdProcesses(ctx context.Context, workers []corev1.Pod) {
	GinkgoHelper()
	head := s.head(ctx)
	ended := make(chan struct{})
	holding, stop := context.WithCancel(ctx)
	DeferCleanup(func() {
		stop()
		<-ended
	})
	go func() {
		defer close(ended)
		// The end of the spec interrupts it.
		_, _ = s.n.python(holding, head, "hold.py", "60")
	}()
	for i := range workers {
		Eventually(ctx, func(ctx context.Context) []string {
			var kinds []string
			for _, l := range s.n.ports(ctx, &workers[i]) {
				kinds = append(kinds, l.Process)
			}
			return kinds
		}).Should(ContainElement("worker process"), "a process of %s", workers[i].Name)
	}
}

// serveSpecs look at what Ray Serve adds.
func serveSpecs(s *standing) {
	It("opens Serve's proxies, and closes the gRPC of its replicas where its release does", func(ctx SpecContext) {
		table, err := expected.Of(rayVersion)
		Expect(err).NotTo(HaveOccurred())
		head := s.head(ctx)
		s.n.passes(ctx, head, "serve_works.py")
		s.n.passes(ctx, head, "serve.py")
		var open []expected.Port
		pods := append(s.n.workers(ctx, standingName), *head)
		for i := range pods {
			nodeType := pods[i].Labels["ray.io/node-type"]
			var proxies []expected.Port
			for _, port := range s.knock(ctx, &pods[i], &pods[(i+1)%len(pods)]) {
				switch {
				case port.Process != "worker process":
				case port.Port != expected.Random:
					proxies = append(proxies, port)
				case port.Plaintext == "in":
					open = append(open, port)
				}
			}
			Expect(proxies).To(ConsistOf(table.Serve[nodeType]), "what Serve adds to %s, a %s with Ray %s", pods[i].Name, nodeType, rayVersion)
		}
		s.n.passes(ctx, head, "serve.py", "stop")
		if table.Fault("serve-replica") == nil {
			Expect(open).To(BeEmpty(), "ports that serve gRPC without TLS")
			return
		}
		Expect(open).NotTo(BeEmpty(), "Ray %s has lost this fault: take it out of the table", rayVersion)
	}, SpecTimeout(4*time.Minute))
}

func comparePorts(a, b expected.Port) int {
	return strings.Compare(fmt.Sprint(a.Port, a.Process, a), fmt.Sprint(b.Port, b.Process, b))
}

// knock knocks at each port of a pod: from the client without a certificate, from the other cluster's head, and from a pod of the
// same cluster.
func (s *standing) knock(ctx context.Context, pod, own *corev1.Pod) []expected.Port {
	GinkgoHelper()
	all := s.n.ports(ctx, pod)
	var addresses []string
	for _, l := range all {
		addresses = append(addresses, address(pod, l.Port))
	}
	plaintext, none := s.n.answers(ctx, s.client, "plaintext", addresses...), s.n.answers(ctx, s.client, "no-certificate", addresses...)
	foreign := s.beside.answers(ctx, s.beside.head(ctx, besideName), "certificate", addresses...)
	ours := s.n.answers(ctx, own, "certificate", addresses...)
	var out []expected.Port
	for i, l := range all {
		port, a := fmt.Sprint(l.Port), addresses[i]
		if random(l.Port) {
			port = expected.Random
		}
		out = append(out, expected.Port{Port: port, Process: l.Process, Plaintext: plaintext[a], NoCertificate: none[a], Foreign: foreign[a], Own: ours[a]})
	}
	return out
}

// answers are what addresses answer to a pod that knocks in one of the ways of specs/doors.py.
func (n *namespace) answers(ctx context.Context, from *corev1.Pod, way string, addresses ...string) map[string]string {
	GinkgoHelper()
	out := map[string]string{}
	Expect(json.Unmarshal([]byte(n.passes(ctx, from, "doors.py", append([]string{way}, addresses...)...)), &out)).To(Succeed())
	Expect(slices.Collect(maps.Keys(out))).To(ConsistOf(addresses))
	return out
}

// metricSpecs compare metrics with those of a cluster without TLS.
func metricSpecs(s *standing) {
	It("exports each metric that it exports without TLS", Label("ci"), func(ctx SpecContext) {
		table, err := expected.Of(rayVersion)
		Expect(err).NotTo(HaveOccurred())
		n := newNamespace(ctx)
		n.create(ctx, newCluster("plain", workers("small", 2, 2), outside))
		n.ready(ctx, "plain", 3)
		for _, of := range []struct {
			n    *namespace
			name string
		}{{s.n, standingName}, {n, "plain"}} {
			of.n.passes(ctx, of.n.head(ctx, of.name), "tasks.py", "no marker")
		}
		for _, nodeType := range []string{"head", "worker"} {
			same := func(g Gomega, ctx context.Context) {
				// It has done more work than its twin, so that it may export more.
				plain := n.metrics(ctx, g, "plain", nodeType)
				g.Expect(len(plain)).To(BeNumerically(">", 60))
				g.Expect(s.n.metrics(ctx, g, standingName, nodeType)).To(ContainElements(plain))
			}
			if table.Fault("metrics") == nil {
				Eventually(ctx, same).WithPolling(2*time.Second).Should(Succeed(), "metrics of a %s", nodeType)
				continue
			}
			// Ray exports them every ten seconds, so that they would be there by now.
			Eventually(ctx, func(g Gomega, ctx context.Context) {
				g.Expect(len(n.metrics(ctx, g, "plain", nodeType))).To(BeNumerically(">", 60))
			}).Should(Succeed())
			Expect(len(s.n.metrics(ctx, Default, standingName, nodeType))).To(BeNumerically("<", 60),
				"Ray %s does not lose its metrics under TLS any more: take the fault out of the table", rayVersion)
		}
		n.remove(ctx, "plain")
	}, SpecTimeout(6*time.Minute))
}

// metrics are the names of what one pod of a node type exports.
func (n *namespace) metrics(ctx context.Context, g Gomega, cluster, nodeType string) []string {
	GinkgoHelper()
	pods, err := n.find(ctx, cluster, nodeType)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(pods).NotTo(BeEmpty())
	// From another pod where there is one, so that the audit sees them cross the network.
	others, err := n.find(ctx, cluster, map[string]string{"head": "worker", "worker": "head"}[nodeType])
	g.Expect(err).NotTo(HaveOccurred())
	from := append(others, pods[0])[0]
	ended, err := n.python(ctx, &from, "metrics.py", address(&pods[0], 8080))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(ended.Code).To(BeZero(), ended.Output())
	var names []string
	g.Expect(json.Unmarshal([]byte(ended.Stdout), &names)).To(Succeed())
	return names
}
