package raytlspolicy

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// scrapeTimeout is how long a scrape waits for the cache.
const scrapeTimeout = 2 * time.Second

// collector makes metrics of the RayClusterTLSes at each scrape.
type collector struct {
	reader                              client.Reader
	encrypted, pods, head, issuer, leaf *prometheus.Desc
}

// Metrics collects, from the RayClusterTLSes that the reader's cache holds, the metrics of each RayCluster that a policy covers.
// Only the replica that leads should register it, or every cluster is reported twice.
func Metrics(reader client.Reader) prometheus.Collector {
	describe := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"namespace", "policy", "cluster"}, more...), nil)
	}
	return &collector{
		reader:    reader,
		encrypted: describe("raytls_cluster_encrypted", "1 if every running pod of the RayCluster speaks TLS, otherwise 0 with the reason.", "reason"),
		pods:      describe("raytls_cluster_pods", "Running pods of the RayCluster by state: certified, plaintext, outdated or starting.", "state"),
		head:      describe("raytls_cluster_head_on_wire", "1 for the state that a handshake with the head's GCS port showed: TLS, ForeignTLS, Plaintext or Unknown.", "state"),
		issuer:    describe("raytls_cluster_issuer_not_after_seconds", "When the RayCluster's issuer ends, in seconds since 1970."),
		leaf:      describe("raytls_cluster_leaf_not_after_seconds", "When the first certificate of a running pod of the RayCluster ends, in seconds since 1970."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.encrypted, c.pods, c.head, c.issuer, c.leaf} {
		out <- d
	}
}

// Collect implements prometheus.Collector. A cache that does not answer costs these metrics, and not the whole scrape.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var list v1alpha1.RayClusterTLSList
	if err := c.reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.Log.WithName("metrics").Error(err, "Listing RayClusterTLSes")
		return
	}
	for i := range list.Items {
		if list.Items[i].Status.PolicyRef.Name != "" {
			c.collect(&list.Items[i], out)
		}
	}
}

func (c *collector) collect(record *v1alpha1.RayClusterTLS, out chan<- prometheus.Metric) {
	status := &record.Status
	gauge := func(desc *prometheus.Desc, value float64, more ...string) {
		labels := append([]string{record.Namespace, status.PolicyRef.Name, record.Name}, more...)
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	if condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted); condition != nil {
		value := 0.0
		if condition.Status == metav1.ConditionTrue {
			value = 1
		}
		gauge(c.encrypted, value, condition.Reason)
	}
	pods := status.Pods
	gauge(c.pods, float64(pods.Certified), "certified")
	gauge(c.pods, float64(pods.Plaintext), "plaintext")
	gauge(c.pods, float64(pods.Outdated), "outdated")
	gauge(c.pods, float64(max(0, pods.Total-pods.Certified-pods.Plaintext-pods.Outdated)), "starting")
	if head := status.ObservedOnWire.Head; head != "" {
		gauge(c.head, 1, string(head))
	}
	if end := status.Issuer.ExpiryTime; end != nil {
		gauge(c.issuer, float64(end.Unix()))
	}
	if end := status.EarliestExpiryTime; end != nil {
		gauge(c.leaf, float64(end.Unix()))
	}
}
