package raytlspolicy

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// scrapeTimeout is how long a scrape waits for the cache.
const scrapeTimeout = 2 * time.Second

// collector makes metrics of the policies and the RayClusterTLSes at each scrape.
type collector struct {
	reader client.Reader
	// ends says when the brought CA of a policy ends, if that is known.
	ends func(types.NamespacedName) (time.Time, bool)

	encrypted, reason, pods, generations, head, leaf, stage, restartBy, pending *prometheus.Desc
	authorityIssued, authorityEnds, issuerIssued, issuerEnds                    *prometheus.Desc
	accepted, acceptedReason, admission, broughtCA                              *prometheus.Desc
}

// Metrics collects the metrics of each policy and of each RayClusterTLS that the reader's cache holds. A RayCluster that was kept
// without a policy has an empty label policy. Each replica may register them: alerts would else begin anew whenever another one
// leads. Brought CAs are read by the replica that leads alone.
func (r *Reconciler) Metrics() prometheus.Collector {
	ofCluster := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"namespace", "policy", "cluster"}, more...), nil)
	}
	ofPolicy := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"namespace", "policy"}, more...), nil)
	}
	return &collector{
		reader:      r.Client,
		ends:        r.broughtCAEnds,
		encrypted:   ofCluster("raytls_cluster_encrypted", "1 if the RayCluster is encrypted as its policy asks, otherwise 0."),
		reason:      ofCluster("raytls_cluster_encrypted_reason", "1 for the reason of the RayCluster's condition Encrypted.", "reason"),
		pods:        ofCluster("raytls_cluster_pods", "Running pods of the RayCluster by state: certified, plaintext or starting; and outdated, which may be certified too.", "state"),
		generations: ofCluster("raytls_cluster_generation_pods", "Running pods of the RayCluster with a valid certificate by the generation of the authority that issued it.", "generation"),
		head:        ofCluster("raytls_cluster_head_on_wire", "1 for the state that a handshake with the head's GCS port showed: TLS, ForeignTLS, Plaintext or Unknown.", "state"),
		leaf:        ofCluster("raytls_cluster_leaf_expiration_timestamp_seconds", "When the first certificate of a running pod of the RayCluster ends, in seconds since 1970."),
		stage:       ofCluster("raytls_cluster_expiry_stage", "1 for the part of its life that the first certificate of a running pod to end is in: LastThird, LastSixth or LastTwelfth.", "stage"),
		restartBy:   ofCluster("raytls_cluster_restart_by_timestamp_seconds", "When the first pod of the RayCluster must have been restarted, in seconds since 1970."),
		pending:     ofCluster("raytls_cluster_pending_restart", "1 for the action and the reason of a restart of the RayCluster that waits.", "action", "reason"),

		authorityIssued: ofCluster("raytls_cluster_authority_issued_timestamp_seconds", "When the RayCluster's authority was made, in seconds since 1970."),
		authorityEnds:   ofCluster("raytls_cluster_authority_expiration_timestamp_seconds", "When the RayCluster's authority ends, in seconds since 1970."),
		issuerIssued:    ofCluster("raytls_cluster_issuer_issued_timestamp_seconds", "When the RayCluster's issuer was made, in seconds since 1970."),
		issuerEnds:      ofCluster("raytls_cluster_issuer_expiration_timestamp_seconds", "When the RayCluster's issuer ends, in seconds since 1970."),

		accepted:       ofPolicy("raytls_policy_accepted", "1 if the operator can use the policy's spec, otherwise 0."),
		acceptedReason: ofPolicy("raytls_policy_accepted_reason", "1 for the reason of the policy's condition Accepted.", "reason"),
		admission:      ofPolicy("raytls_policy_admission_active", "1 if RayClusters of the policy's namespace go through the admission webhook, otherwise 0."),
		broughtCA:      ofPolicy("raytls_policy_brought_ca_expiration_timestamp_seconds", "When the CA in the policy's secretRef ends, in seconds since 1970."),
	}
}

// broughtCAEnds says when the CA that the policy names ends. It is known once this process has reconciled the policy.
func (r *Reconciler) broughtCAEnds(of types.NamespacedName) (time.Time, bool) {
	value, _ := r.broughtCAs.Load(of)
	at, known := value.(time.Time)
	return at, known
}

// noteBroughtCA keeps when the CA that the policy names ends; zero for none.
func (r *Reconciler) noteBroughtCA(of types.NamespacedName, ends time.Time) {
	if ends.IsZero() {
		r.broughtCAs.Delete(of)
		return
	}
	r.broughtCAs.Store(of, ends)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.encrypted, c.reason, c.pods, c.generations, c.head, c.leaf, c.stage, c.restartBy, c.pending,
		c.authorityIssued, c.authorityEnds, c.issuerIssued, c.issuerEnds, c.accepted, c.acceptedReason, c.admission, c.broughtCA,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector. A cache that does not answer costs these metrics, and not the whole scrape.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var records v1alpha1.RayClusterTLSList
	if err := c.reader.List(ctx, &records, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.Log.WithName("metrics").Error(err, "Listing RayClusterTLSes")
		return
	}
	var policies v1alpha1.RayTLSPolicyList
	if err := c.reader.List(ctx, &policies, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.Log.WithName("metrics").Error(err, "Listing policies")
		return
	}
	for i := range records.Items {
		c.cluster(&records.Items[i], out)
	}
	for i := range policies.Items {
		c.policy(&policies.Items[i], out)
	}
}

func (c *collector) cluster(record *v1alpha1.RayClusterTLS, out chan<- prometheus.Metric) {
	status := &record.Status
	gauge := func(desc *prometheus.Desc, value float64, more ...string) {
		labels := append([]string{record.Namespace, status.PolicyRef.Name, record.Name}, more...)
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	moment := func(desc *prometheus.Desc, at *metav1.Time) {
		if at != nil {
			gauge(desc, float64(at.Unix()))
		}
	}
	if condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted); condition != nil {
		gauge(c.encrypted, truth(condition))
		gauge(c.reason, 1, condition.Reason)
	}
	pods := status.Pods
	gauge(c.pods, float64(pods.Certified), "certified")
	gauge(c.pods, float64(pods.Plaintext), "plaintext")
	gauge(c.pods, float64(pods.Outdated), "outdated")
	gauge(c.pods, float64(max(0, pods.Total-pods.Certified-pods.Plaintext)), "starting")
	if head := status.ObservedOnWire.Head; head != "" {
		gauge(c.head, 1, string(head))
	}
	if status.Authority.Generation != 0 {
		gauge(c.generations, float64(pods.Certified), strconv.FormatInt(status.Authority.Generation, 10))
	}
	for _, earlier := range status.Authority.Earlier {
		gauge(c.generations, float64(earlier.Pods), strconv.FormatInt(earlier.Generation, 10))
	}
	moment(c.authorityIssued, status.Authority.IssuedTime)
	moment(c.authorityEnds, status.Authority.ExpiryTime)
	moment(c.issuerIssued, status.Issuer.IssuedTime)
	moment(c.issuerEnds, status.Issuer.ExpiryTime)
	moment(c.leaf, status.EarliestExpiryTime)
	if status.ExpiryStage != "" {
		gauge(c.stage, 1, string(status.ExpiryStage))
	}
	moment(c.restartBy, status.RestartBy)
	if pending := status.PendingRestart; pending != nil {
		gauge(c.pending, 1, string(pending.Action), pending.Reason)
	}
}

func (c *collector) policy(p *v1alpha1.RayTLSPolicy, out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, more ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{p.Namespace, p.Name}, more...)...)
	}
	if condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted); condition != nil {
		gauge(c.accepted, truth(condition))
		gauge(c.acceptedReason, 1, condition.Reason)
	}
	if condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAdmissionActive); condition != nil {
		gauge(c.admission, truth(condition))
	}
	if at, known := c.ends(client.ObjectKeyFromObject(p)); known {
		gauge(c.broughtCA, float64(at.Unix()))
	}
}

// truth is 1 for a condition that is true, and 0 for one that is false or unknown.
func truth(condition *metav1.Condition) float64 {
	if condition.Status == metav1.ConditionTrue {
		return 1
	}
	return 0
}
