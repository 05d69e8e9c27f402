package webhook

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/internal/limit"
)

// crowd works on each request until it is told to finish.
type crowd struct {
	working map[string]int
	finish  chan struct{}
}

func (c *crowd) Handle(_ context.Context, r admission.Request) admission.Response {
	c.working[r.Namespace]++
	<-c.finish
	return admission.Allowed("")
}

func TestLimitedLeavesSlotsToOtherNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{working: map[string]int{}, finish: make(chan struct{})}
		limiter := limit.New(Limits())
		// RayClusters and policies are worked on in the same memory.
		handlers := []*Limited{{Handler: c, Limiter: limiter}, {Handler: c, Limiter: limiter}}
		ctx, cancel := context.WithCancel(t.Context())
		answers := make(chan admission.Response, 100)
		send := func(namespace string, size int) {
			for _, h := range handlers {
				go func() {
					answers <- h.Handle(ctx, admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
						Namespace: namespace, Object: runtime.RawExtension{Raw: make([]byte, size)},
					}})
				}()
				synctest.Wait()
			}
		}
		for range 10 {
			send("greedy", 2<<20)
		}
		send("other", 1<<10)
		if c.working["greedy"] != 2 || c.working["other"] != 2 {
			t.Errorf("requests that are worked on: %v", c.working)
		}
		refused := len(answers)
		if refused != 14 {
			t.Errorf("%d requests were refused, want those that exceed a namespace's share of the waiting room", refused)
		}
		for range refused {
			if r := <-answers; r.Allowed || r.Result.Code != http.StatusTooManyRequests {
				t.Errorf("got %v", r.Result)
			}
		}
		cancel()
		synctest.Wait()
		if len(answers) != 4 {
			t.Errorf("%d requests ended with their API server, want all that waited", len(answers))
		}
		close(c.finish)
		synctest.Wait()
	})
}
