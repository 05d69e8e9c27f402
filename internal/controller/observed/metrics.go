package observed

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/raytls/raytls/api/v1alpha1"
)

// descriptions are those of the metrics.
type descriptions struct{ encrypted, pods, issuer, leaf *prometheus.Desc }

func newDescriptions() descriptions {
	return descriptions{
		encrypted: prometheus.NewDesc("raytls_cluster_encrypted",
			"1 if the RayCluster is encrypted as its policy asks, otherwise 0 with the reason.",
			[]string{"namespace", "policy", "cluster", "reason"}, nil),
		pods: prometheus.NewDesc("raytls_cluster_pods",
			"Pods of the RayCluster, by whether they have a certificate of its authority.",
			[]string{"namespace", "policy", "cluster", "state"}, nil),
		issuer: prometheus.NewDesc("raytls_cluster_issuer_not_after_seconds",
			"When the RayCluster's issuer ends, in seconds since 1970.", []string{"namespace", "policy", "cluster"}, nil),
		leaf: prometheus.NewDesc("raytls_cluster_leaf_not_after_seconds",
			"When the first certificate of a running pod of the RayCluster ends, in seconds since 1970.",
			[]string{"namespace", "policy", "cluster"}, nil),
	}
}

var _ prometheus.Collector = &Clusters{}

// Describe implements prometheus.Collector.
func (c *Clusters) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.metrics.encrypted, c.metrics.pods, c.metrics.issuer, c.metrics.leaf} {
		out <- d
	}
}

// Collect implements prometheus.Collector: the covered clusters as they were found last.
func (c *Clusters) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for namespace, clusters := range c.clusters {
		for name, found := range clusters {
			if found.Policy != "" {
				c.metrics.collect(metrics, found, namespace, found.Policy, name)
			}
		}
	}
}

func (d descriptions) collect(metrics chan<- prometheus.Metric, found Cluster, labels ...string) {
	gauge := func(desc *prometheus.Desc, value float64, more ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append(labels, more...)...)
	}
	encrypted := 0.0
	if found.Encrypted {
		encrypted = 1
	}
	gauge(d.encrypted, encrypted, found.Status.Reason)
	for state, count := range podStates(found.Status.Pods) {
		gauge(d.pods, float64(count), state)
	}
	if end := found.Status.IssuerNotAfter; end != nil {
		gauge(d.issuer, float64(end.Unix()))
	}
	if end := found.Status.LeafNotAfter; end != nil {
		gauge(d.leaf, float64(end.Unix()))
	}
}

func podStates(pods v1alpha1.PodCounts) map[string]int32 {
	return map[string]int32{
		"uptodate": pods.UpToDate, "plaintext": pods.Plaintext, "old": pods.Old,
		"starting": pods.Total - pods.UpToDate - pods.Plaintext - pods.Old,
	}
}
