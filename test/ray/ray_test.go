//go:build ray

package ray

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/raytls/raytls/test/ray/expected"
)

// The specs share the machine and the capture, so they run in this order.
var _ = Describe("The real Ray with TLS", Ordered, ContinueOnFailure, func() {
	var network *capture
	seen := &census{of: map[string]string{}}

	BeforeAll(func(ctx SpecContext) {
		seen.begin(ctx)
		network = startCapture(ctx)
	}, NodeTimeout(2*time.Minute))
	// Pods that a spec deletes are missed here, and are counted where the spec ends, together with their successors.
	BeforeEach(func(ctx SpecContext) { seen.count(ctx) }, NodeTimeout(10*time.Second))
	AfterEach(func(ctx SpecContext) { seen.count(ctx) }, NodeTimeout(10*time.Second))

	Describe("in a standing cluster", Ordered, func() {
		s := &standing{}
		BeforeAll(func(ctx SpecContext) { s.start(ctx) }, NodeTimeout(5*time.Minute))
		doorSpecs(s) // first, for a dashboard agent that has run a job listens on one more port
		workSpecs(s)
		clientSpecs(s)
		openSpecs(s)
		serveSpecs(s)
		metricSpecs(s)
		textSpecs(s)

		It("shows the audit a text that it sends in clear on purpose", Label("ci"), func(ctx SpecContext) {
			network.isThere()
			url := fmt.Sprintf("http://%s/?%s", dashboardOf(s.head(ctx)), marker("canary"))
			ended, err := s.n.sh(ctx, s.client, "wget -q -O /dev/null '"+url+"'")
			Expect(err).NotTo(HaveOccurred())
			Expect(ended.Code).To(BeZero(), ended.Output())
			Eventually(ctx, func(ctx context.Context) []string { return markersOf(network.streams(ctx)) }).Should(ContainElement(marker("canary")))
		}, SpecTimeout(time.Minute))
	})

	enablingSpecs()
	faultSpecs(seen)
	autoscalerSpecs(seen)
	ownerSpecs(seen)
	closedSpecs(seen)

	It("sends between its pods nothing in clear that is not expected", Label("ci"), func(ctx SpecContext) {
		network.isThere()
		table, err := expected.Of(rayVersion)
		Expect(err).NotTo(HaveOccurred())
		streams := network.streams(ctx)
		kinds, wrong, bytes, lost := map[string]int{}, []string{}, int64(0), int64(0)
		unseen := slices.Clone(table.Plaintext)
		for _, stream := range streams {
			client, server := seen.of[host(stream.Client)], seen.of[host(stream.Server)]
			if client == "" || server == "" {
				continue
			}
			bytes, lost = bytes+stream.Bytes, lost+stream.Lost
			name, path := stream.protocol()
			_, port, err := net.SplitHostPort(stream.Server)
			Expect(err).NotTo(HaveOccurred())
			inClear := !slices.Contains([]string{"nothing", "TLS", "TLS that the server does not speak"}, name)
			if inClear {
				name = strings.TrimSpace(fmt.Sprintf("%s to port %s %s", name, port, path))
			}
			kinds[name]++
			if !inClear {
				continue
			}
			if row := stream.expectedBy(table); row != nil {
				unseen = slices.DeleteFunc(unseen, func(e expected.Stream) bool { return e == *row })
			} else {
				wrong = append(wrong, fmt.Sprintf("%s from %s (%s) to %s (%s), begins %s, answered %s", name, client, stream.Client, server, stream.Server, stream.ClientBegins, stream.ServerBegins))
			}
		}
		GinkgoWriter.Printf("streams between pods: %v\n", kinds)
		AddReportEntry("streams between pods", fmt.Sprint(kinds))
		AddReportEntry("the capture", fmt.Sprintf("saw %d bytes between pods, and missed %d bytes of them and %d packets of all", bytes, lost, network.dropped))
		Expect(kinds["TLS"]).To(BeNumerically(">", 20), "the capture has to see the cluster")
		Expect(lost*100).To(BeNumerically("<", bytes), "a capture that misses more than a hundredth of the bytes proves nothing of markers")
		Expect(wrong).To(BeEmpty())
		if everything() {
			Expect(unseen).To(BeEmpty(), "streams that Ray %s does not send in clear any more: take them out of the table", rayVersion)
		}
		// The client submits its job over HTTP, which is one of the doors that TLS leaves open.
		Expect(markersOf(streams)).To(ConsistOf(marker("canary"), marker("job")), "the markers that crossed the network in clear")
	}, SpecTimeout(2*time.Minute))
})

// These clusters are made without raytls, so the audit does not judge them.
var _ = Describe("The real Ray as time goes by", Ordered, ContinueOnFailure, Label("time"), timeSpecs)

// These specs take half an hour, so they run only where a label filter asks for them.
var _ = Describe("The real Ray while certificates are replaced", Ordered, ContinueOnFailure, Label(lifeLabel), lifeSpecs)

// everything reports whether no spec of the audit was left out.
func everything() bool {
	config, _ := GinkgoConfiguration()
	return config.LabelFilter == "" && len(config.FocusStrings)+len(config.SkipStrings)+len(config.FocusFiles)+len(config.SkipFiles) == 0
}

// markersOf are the markers that streams carried in clear.
func markersOf(streams []stream) []string {
	var out []string
	for _, stream := range streams {
		out = append(out, stream.Markers...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
