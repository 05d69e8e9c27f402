package suite_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// queueWebhook is a stand-in for Kueue's admission: it suspends RayClusters that have a queue's name.
type queueWebhook struct {
	requests atomic.Int64
}

func (q *queueWebhook) asked() int64 { return q.requests.Load() }

// startQueue registers it under a name, by which API servers order webhooks, until the spec ends.
func startQueue(name string) *queueWebhook {
	GinkgoHelper()
	q := &queueWebhook{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(q.serve))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	DeferCleanup(server.Close)
	none, fail, url := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail, server.URL
	c := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: name + ".kueue.x-k8s.io", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: pemOf(server)},
			ObjectSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "kueue.x-k8s.io/queue-name", Operator: metav1.LabelSelectorOpExists},
			}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"ray.io"}, APIVersions: []string{"v1"}, Resources: []string{"rayclusters"}},
			}},
		}},
	}
	Expect(env.admin.Create(context.Background(), c)).To(Succeed())
	DeferCleanup(func() { Expect(env.admin.Delete(context.Background(), c)).To(Succeed()) })
	// API servers learn of it by a watch.
	probe := newWorld()
	Eventually(func(g Gomega) {
		before := q.asked()
		g.Expect(probe.admin.Create(probe.ctx, probe.rayCluster("probe", queue()), client.DryRunAll)).To(Succeed())
		g.Expect(q.asked()).To(BeNumerically(">", before))
	}).Should(Succeed())
	return q
}

func (q *queueWebhook) serve(w http.ResponseWriter, r *http.Request) {
	q.requests.Add(1)
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kind := admissionv1.PatchTypeJSONPatch
	review.Response = &admissionv1.AdmissionResponse{
		UID: review.Request.UID, Allowed: true, PatchType: &kind, Patch: []byte(`[{"op":"add","path":"/spec/suspend","value":true}]`),
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

// pemOf is the certificate of a test server.
func pemOf(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
