//go:build ray

package ray

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/test/live"
)

// agingName is the name of the clusters whose certificates end.
const agingName = "aging"

// The validity of a certificate that has to end while a spec watches, and of one that has to outlive the spec. The first one
// leaves a slow machine time to start its pod and to connect with it.
const (
	short = 2 * time.Minute
	long  = time.Hour
)

// jobSucceeded is what Ray says of a job that ended well.
const jobSucceeded = "SUCCEEDED: Job finished successfully."

// timeSpecs show what happens in Ray when certificates end or are replaced. Nothing here is raytls': it is why raytls
// creates pods anew before the first certificate ends.
func timeSpecs() {
	generationSpecs()
	var all []string
	for _, tool := range tools {
		all = append(all, tool.name)
	}

	Describe("where a worker's certificate ends", Ordered, func() {
		a := &aging{}
		var end time.Time
		BeforeAll(func(ctx SpecContext) {
			a.create(ctx, "ends", "replaced", "stays", "late")
			a.certify(ctx, "headgroup", long)
			a.certify(ctx, "stays", long)
			a.ready(ctx)
			end = a.certify(ctx, "ends", short)
			replaced := a.certify(ctx, "replaced", short)
			if replaced.After(end) {
				end = replaced
			}
			a.connect(ctx)
			Expect(a.ask(ctx, "meet head stays", "meet head ends", "meet ends stays", "meet replaced stays")).To(HaveEach("ok"))
			a.signer.write(ctx, a.n, a.pods["replaced"], workerContainer, long)
			Expect(a.ask(ctx, "process ends", "process replaced")).To(HaveEach("ok"), "the certificates have to be valid still")
			a.await(ctx, end)
		}, NodeTimeout(6*time.Minute))

		It("works on what is connected, and says nothing", func(ctx SpecContext) {
			reach := a.reach(ctx, "headgroup", "stays", "ends")
			Expect(a.ask(ctx, "call ends", "call stays", "task ends", "pull ends stays", "pull stays ends",
				"process ends", "process stays", "alive", "job")).To(Equal(map[string]string{
				"call ends": "ok", "call stays": "ok", "task ends": "ok", "pull ends stays": "ok", "pull stays ends": "ok",
				"process ends": "no answer", "process stays": "ok", "alive": "4 nodes", "job": jobSucceeded,
			}))
			Expect(reach()).To(Equal(map[string][]string{"headgroup": all, "stays": all}), "the tools that work, by pod")
			a.unchanged(ctx)
		}, SpecTimeout(5*time.Minute))

		It("takes a new worker, which cannot pull from the old one", func(ctx SpecContext) {
			a.scale(ctx, "late", 1)
			a.certify(ctx, "late", long)
			a.ready(ctx)
			Expect(a.ask(ctx, "join late="+a.pods["late"].Status.PodIP)).To(HaveEach("ok"))
			Expect(a.ask(ctx, "meet late stays")).To(HaveEach("ok"))
			Expect(a.ask(ctx, "pull ends late", "pull late ends")).To(HaveEach("no answer"))
			a.unchanged(ctx)
		}, SpecTimeout(5*time.Minute))

		It("is not helped by new files in the running pod", func(ctx SpecContext) {
			reach := a.reach(ctx, "replaced")
			Expect(a.ask(ctx, "call replaced", "process replaced")).To(Equal(map[string]string{"call replaced": "ok", "process replaced": "no answer"}))
			Expect(reach()).To(Equal(map[string][]string{"replaced": all}), "a process that starts now reaches the head with the new files")
			Expect(a.served(ctx, "replaced")).To(HaveEach(BeTemporally("<", time.Now())), "what the raylet serves has ended")
		}, SpecTimeout(3*time.Minute))
	})

	Describe("where the head's certificate ends", Ordered, func() {
		a := &aging{}
		BeforeAll(func(ctx SpecContext) {
			a.create(ctx, "one", "other", "late")
			end := a.certify(ctx, "headgroup", short)
			a.certify(ctx, "one", long)
			a.certify(ctx, "other", long)
			a.connect(ctx)
			Expect(a.ask(ctx, "meet head one", "meet one other")).To(HaveEach("ok"))
			Expect(a.ask(ctx, "process head", "process one", "process other", "job")).To(HaveEach(BeElementOf("ok", jobSucceeded)), "the certificates have to be valid still")
			a.await(ctx, end)
		}, NodeTimeout(6*time.Minute))

		It("works on what is connected, starts nothing new anywhere, and says nothing", func(ctx SpecContext) {
			a.scale(ctx, "late", 1)
			a.certify(ctx, "late", long)
			reach := a.reach(ctx, "headgroup", "one", "other")
			Expect(a.ask(ctx, "call one", "call other", "task one", "pull one other", "pull other one", "pull head one",
				"process head", "process one", "process other", "alive", "job")).To(Equal(map[string]string{
				"call one": "ok", "call other": "ok", "task one": "ok", "pull one other": "ok", "pull other one": "ok", "pull head one": "ok",
				"process head": "no answer", "process one": "no answer", "process other": "no answer", "alive": "3 nodes",
				"job": "PENDING: Job has not started yet.",
			}))
			Expect(reach()).To(BeEmpty(), "the tools that work, by pod")
			a.unchanged(ctx)
			Expect(a.ask(ctx, "pull head other")).To(HaveEach("no answer"), "a pull between nodes that have not talked")
			Expect(a.refusals(ctx, "one")).NotTo(BeEmpty(), "the logs of who verifies are the only trace")
			Expect(a.refusals(ctx, "headgroup")).NotTo(ContainElement(ContainSubstring("gcs_server")), "the server itself does not know")

			late := a.pods["late"]
			Expect(target.API.Get(ctx, client.ObjectKeyFromObject(late), late)).To(Succeed())
			running := map[string]bool{}
			for _, status := range late.Status.InitContainerStatuses {
				running[status.Name] = status.State.Running != nil
			}
			Expect(running).To(HaveKeyWithValue("wait-gcs-ready", true), "the new worker waits for a head that it cannot reach")
		}, SpecTimeout(5*time.Minute))
	})
}

// aging is a cluster with a driver on its head, whose certificates the spec signs.
type aging struct {
	n      *namespace
	signer *signer
	// pods are those that have a certificate, by group.
	pods map[string]*corev1.Pod
	asks int
}

// create makes a cluster with a group of one worker for each name; the last group has none yet.
func (a *aging) create(ctx context.Context, groups ...string) {
	GinkgoHelper()
	a.n, a.pods = newNamespace(ctx), map[string]*corev1.Pod{}
	_, a.signer = newSigner(agingName)
	cluster := newCluster(agingName)
	for i, group := range groups {
		replicas := int32(1)
		if i == len(groups)-1 {
			replicas = 0
		}
		workers(group, replicas, 1)(cluster)
		// A node keeps as many idle processes as it has CPUs, and one has to be there for a task.
		cluster.Spec.WorkerGroupSpecs[i].RayStartParams["num-cpus"] = "4"
	}
	withSpecsCertificates(cluster)
	a.n.create(ctx, cluster)
}

// certify gives a group's pod its certificate, and returns when that ends.
func (a *aging) certify(ctx context.Context, group string, validity time.Duration) time.Time {
	GinkgoHelper()
	pod, end := a.signer.certify(ctx, a.n, agingName, group, validity)
	a.pods[group] = pod
	return end
}

// heldFolder is where specs/held.py is asked.
const heldFolder = "/tmp/raytls-held"

// ready waits until all pods that have a certificate are Ready.
func (a *aging) ready(ctx context.Context) {
	GinkgoHelper()
	for group, pod := range a.pods {
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(target.API.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			g.Expect(isReady(pod)).To(BeTrue(), "%s is not Ready", group)
		}).Should(Succeed())
	}
}

// connect starts the driver once those pods are Ready.
func (a *aging) connect(ctx context.Context) {
	GinkgoHelper()
	a.ready(ctx)
	script, err := os.ReadFile(filepath.Join("specs", "held.py"))
	Expect(err).NotTo(HaveOccurred())
	names := []string{heldFolder, "head=" + a.pods["headgroup"].Status.PodIP}
	for group, pod := range a.pods {
		names = append(names, group+"="+pod.Status.PodIP)
	}
	ended, err := target.Exec(ctx, a.n.key(a.pods["headgroup"].Name), headContainer, string(script), "/bin/sh", "-c",
		"cat >/tmp/held.py; nohup python /tmp/held.py "+strings.Join(names, " ")+" >/tmp/held.log 2>&1 </dev/null & echo $! >/tmp/held.pid")
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.Code).To(BeZero(), ended.Stderr)
}

// ask has the driver try things at the same time, and gives the outcome of each.
func (a *aging) ask(ctx context.Context, lines ...string) map[string]string {
	GinkgoHelper()
	asked, said := fmt.Sprintf("%s/ask-%d.txt", heldFolder, a.asks), fmt.Sprintf("%s/said-%d.json", heldFolder, a.asks)
	a.asks++
	script := fmt.Sprintf("mkdir -p %s; cat >%s.part; mv %[2]s.part %[2]s; ", heldFolder, asked) +
		"while kill -0 $(cat /tmp/held.pid); do if [ -e " + said + " ]; then exec cat " + said + "; fi; sleep 0.2; done; cat /tmp/held.log; exit 1"
	ended, err := target.Exec(ctx, a.n.key(a.pods["headgroup"].Name), headContainer, strings.Join(lines, "\n")+"\n", "/bin/sh", "-c", script)
	Expect(err).NotTo(HaveOccurred())
	Expect(ended.Code).To(BeZero(), ended.Output())
	outcomes := map[string]string{}
	Expect(json.Unmarshal([]byte(ended.Stdout), &outcomes)).To(Succeed(), ended.Stdout)
	GinkgoWriter.Printf("asked: %v\n", outcomes)
	return outcomes
}

// await waits until a certificate has ended.
func (a *aging) await(ctx context.Context, end time.Time) {
	GinkgoHelper()
	Eventually(ctx, time.Now).WithTimeout(time.Until(end) + time.Minute).Should(BeTemporally(">", end.Add(2*time.Second)))
}

// tools are what a user starts beside the cluster's processes, and what each says after half a minute if it reaches nobody.
var tools = []struct{ name, command, fails string }{
	{"health-check", `ray health-check --address "$RAY_ADDRESS"`, "Timed out while waiting for GCS to become available"},
	{"status", `ray status --address "$RAY_ADDRESS"`, "Timed out while waiting for GCS to become available"},
	{"client", `python -c "import ray; ray.init('ray://${RAY_ADDRESS%:*}:10001')"`, "ray client connection timeout"},
}

// reach starts the tools in the pods of groups, one after another in each, and returns what waits for those that work.
func (a *aging) reach(ctx context.Context, groups ...string) func() map[string][]string {
	type outcome struct {
		group, tool, fails string
		ended              live.Result
		err                error
	}
	outcomes := make(chan outcome, len(groups)*len(tools))
	for _, group := range groups {
		go func() {
			for _, tool := range tools {
				o := outcome{group: group, tool: tool.name, fails: tool.fails}
				for {
					o.ended, o.err = a.n.sh(ctx, a.pods[group], tool.command)
					// The next client gets another server, as connects says.
					if o.err != nil || !strings.Contains(o.ended.Output(), clientServerFailed) {
						break
					}
				}
				outcomes <- o
			}
		}()
	}
	return func() map[string][]string {
		GinkgoHelper()
		working := map[string][]string{}
		for range cap(outcomes) {
			o := <-outcomes
			Expect(o.err).NotTo(HaveOccurred())
			GinkgoWriter.Printf("%s in %s: code %d\n", o.tool, o.group, o.ended.Code)
			if o.ended.Code == 0 {
				working[o.group] = append(working[o.group], o.tool)
			} else {
				Expect(o.ended.Output()).To(ContainSubstring(o.fails), "%s in %s", o.tool, o.group)
			}
		}
		return working
	}
}

// unchanged asserts that Kubernetes shows nothing: all pods that were Ready are, and none was restarted.
func (a *aging) unchanged(ctx context.Context) {
	GinkgoHelper()
	for group, pod := range a.pods {
		if group == "late" {
			continue
		}
		Expect(target.API.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		Expect(isReady(pod)).To(BeTrue(), "%s is not Ready", group)
		Expect(pod.Status.ContainerStatuses[0].RestartCount).To(BeZero(), "restarts of %s", group)
	}
}

// refusals are the logs of a group's pod that tell of a certificate that was refused.
func (a *aging) refusals(ctx context.Context, group string) []string {
	GinkgoHelper()
	ended, err := a.n.sh(ctx, a.pods[group], "grep -rl CERTIFICATE_VERIFY_FAILED /tmp/ray/session_latest/logs/")
	Expect(err).NotTo(HaveOccurred())
	return strings.Fields(ended.Stdout)
}

// scale sets the number of a group's workers.
func (a *aging) scale(ctx context.Context, group string, replicas int32) {
	GinkgoHelper()
	cluster := &rayv1.RayCluster{}
	Expect(target.API.Get(ctx, a.n.key(agingName), cluster)).To(Succeed())
	for i := range cluster.Spec.WorkerGroupSpecs {
		if cluster.Spec.WorkerGroupSpecs[i].GroupName == group {
			cluster.Spec.WorkerGroupSpecs[i].Replicas = &replicas
		}
	}
	Expect(target.API.Update(ctx, cluster)).To(Succeed())
}

// served are the ends of the certificates that the raylet of a group's pod serves.
func (a *aging) served(ctx context.Context, group string) []time.Time {
	GinkgoHelper()
	var ends []time.Time
	for _, certificate := range a.n.served(ctx, a.pods[group]) {
		ends = append(ends, certificate.NotAfter)
	}
	return ends
}

// served are the certificates that the ports of the pod's raylet and GCS serve.
func (n *namespace) served(ctx context.Context, pod *corev1.Pod) []*x509.Certificate {
	GinkgoHelper()
	var out []*x509.Certificate
	for _, port := range n.ports(ctx, pod) {
		if port.Process != "raylet" && port.Process != "gcs_server" {
			continue
		}
		ended, err := n.sh(ctx, pod, fmt.Sprintf("openssl s_client -connect %s </dev/null 2>/dev/null | openssl x509", address(pod, port.Port)))
		Expect(err).NotTo(HaveOccurred())
		certificates, err := pki.ParseBundle([]byte(ended.Stdout))
		Expect(err).NotTo(HaveOccurred(), ended.Output())
		out = append(out, certificates...)
	}
	Expect(out).NotTo(BeEmpty())
	return out
}
