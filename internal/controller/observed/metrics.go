package observed

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/raytls/raytls/api/v1alpha1"
)

var (
	encryptedDesc = prometheus.NewDesc("raytls_cluster_encrypted",
		"1 if the RayCluster is encrypted as its policy asks, otherwise 0 with the reason.",
		[]string{"namespace", "policy", "cluster", "reason"}, nil)
	podsDesc = prometheus.NewDesc("raytls_cluster_pods",
		"Pods of the RayCluster, by whether they have a certificate of its authority.",
		[]string{"namespace", "policy", "cluster", "state"}, nil)
	issuerDesc = prometheus.NewDesc("raytls_cluster_issuer_not_after_seconds",
		"When the RayCluster's issuer ends, in seconds since 1970.", []string{"namespace", "policy", "cluster"}, nil)
	leafDesc = prometheus.NewDesc("raytls_cluster_leaf_not_after_seconds",
		"When the first certificate of a running pod of the RayCluster ends, in seconds since 1970.",
		[]string{"namespace", "policy", "cluster"}, nil)
)

var _ prometheus.Collector = &Clusters{}

// Describe implements prometheus.Collector.
func (c *Clusters) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{encryptedDesc, podsDesc, issuerDesc, leafDesc} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector: the covered clusters as they were found last.
func (c *Clusters) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for namespace, clusters := range c.clusters {
		for name, found := range clusters {
			if found.Policy != "" {
				collect(metrics, found, namespace, found.Policy, name)
			}
		}
	}
}

func collect(metrics chan<- prometheus.Metric, found Cluster, labels ...string) {
	gauge := func(desc *prometheus.Desc, value float64, more ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append(labels, more...)...)
	}
	encrypted := 0.0
	if found.Encrypted {
		encrypted = 1
	}
	gauge(encryptedDesc, encrypted, found.Status.Reason)
	for state, count := range podStates(found.Status.Pods) {
		gauge(podsDesc, float64(count), state)
	}
	if end := found.Status.IssuerNotAfter; end != nil {
		gauge(issuerDesc, float64(end.Unix()))
	}
	if end := found.Status.LeafNotAfter; end != nil {
		gauge(leafDesc, float64(end.Unix()))
	}
}

func podStates(pods v1alpha1.PodCounts) map[string]int32 {
	return map[string]int32{
		"uptodate": pods.UpToDate, "plaintext": pods.Plaintext, "old": pods.Old,
		"starting": pods.Total - pods.UpToDate - pods.Plaintext - pods.Old,
	}
}
