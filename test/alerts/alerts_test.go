package alerts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"go.yaml.in/yaml/v3"
)

// alert is one of the shipped alerts.
type alert struct {
	Name        string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func root(parts ...string) string { return filepath.Join(append([]string{"..", ".."}, parts...)...) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func shipped(t *testing.T) []alert {
	t.Helper()
	var rule struct {
		Spec struct {
			Groups []struct {
				Rules []alert `yaml:"rules"`
			} `yaml:"groups"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(read(t, root("charts", "raytls", "files", "prometheus-rule.yaml"))), &rule); err != nil {
		t.Fatal(err)
	}
	if len(rule.Spec.Groups) != 1 || len(rule.Spec.Groups[0].Rules) == 0 {
		t.Fatalf("got %d groups", len(rule.Spec.Groups))
	}
	return rule.Spec.Groups[0].Rules
}

// step is how often series have a value and alerts are evaluated.
const step = time.Minute

func (a *alert) pending(t *testing.T) time.Duration {
	t.Helper()
	if a.For == "" {
		return 0
	}
	pending, err := time.ParseDuration(a.For)
	if err != nil {
		t.Fatalf("%s: %v", a.Name, err)
	}
	return pending
}

// firing returns the label sets for which the alert fires at that time: those that its expression gave at each step for as long as it
// has to be pending.
func (a *alert) firing(t *testing.T, series string, at time.Duration) []string {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n"+series)
	engine := promqltest.NewTestEngine(t, false, 0, 1_000_000)
	end, pending := time.Unix(0, 0).Add(at), a.pending(t)
	query, err := engine.NewRangeQuery(t.Context(), storage, nil, a.Expr, end.Add(-pending), end, step)
	if err != nil {
		t.Fatalf("%s: %v", a.Name, err)
	}
	defer query.Close()
	matrix, err := query.Exec(t.Context()).Matrix()
	if err != nil {
		t.Fatalf("%s: %v", a.Name, err)
	}
	var out []string
	for _, found := range matrix {
		if len(found.Floats) == int(pending/step)+1 {
			out = append(out, found.Metric.String())
		}
	}
	slices.Sort(out)
	return out
}

// labels are those of a cluster's or a policy's series, as a replica reports them.
func labels(pod, rest string) string {
	return fmt.Sprintf(`{namespace="ml", pod=%q, %s}`, pod, rest)
}

func TestAlerts(t *testing.T) {
	cluster := func(metric, more, values string) string {
		return metric + labels("a", `policy="p", cluster="c"`+more) + " " + values + "\n"
	}
	policy := func(metric, values string) string { return metric + labels("a", `policy="p"`) + " " + values + "\n" }
	const day = 24 * time.Hour
	ends := func(in time.Duration) string { return fmt.Sprintf("%d+0x3000", int64(in.Seconds())) }
	lives := func(what string, from, to time.Duration) string {
		return cluster("raytls_cluster_"+what+"_issued_timestamp_seconds", "", ends(from)) + cluster("raytls_cluster_"+what+"_expiration_timestamp_seconds", "", ends(to))
	}
	const ofCluster, ofPolicy = `{cluster="c", namespace="ml"}`, `{namespace="ml", policy="p"}`
	for name, c := range map[string]struct {
		reason string
		alert  string
		series string
		at     time.Duration
		want   string
	}{
		"plaintext, long":      {"it was given half an hour", "RayClusterNotEncrypted", cluster("raytls_cluster_encrypted", "", "0+0x100"), 40 * time.Minute, ofCluster},
		"plaintext, briefly":   {"a restart takes a while", "RayClusterNotEncrypted", cluster("raytls_cluster_encrypted", "", "1+0x20 0+0x80"), 40 * time.Minute, ""},
		"plaintext, encrypted": {"nothing is wrong", "RayClusterNotEncrypted", cluster("raytls_cluster_encrypted", "", "1+0x100"), 40 * time.Minute, ""},
		"plaintext, on another replica": {
			"another replica leads, and the alert goes on", "RayClusterNotEncrypted",
			cluster("raytls_cluster_encrypted", "", "0+0x20 _x80") + "raytls_cluster_encrypted" + labels("b", `policy="p", cluster="c"`) + " _x15 0+0x80\n", 40 * time.Minute, ofCluster,
		},
		"plaintext, for another reason": {
			"a reason that changes does not begin the time anew", "RayClusterNotEncrypted",
			cluster("raytls_cluster_encrypted", "", "0+0x100") + cluster("raytls_cluster_encrypted_reason", `, reason="Error"`, "1+0x20 _x80") +
				cluster("raytls_cluster_encrypted_reason", `, reason="Enabling"`, "_x20 1+0x80"), 40 * time.Minute, ofCluster,
		},
		"plaintext, on purpose": {
			"somebody decided so", "RayClusterNotEncrypted",
			cluster("raytls_cluster_encrypted", "", "0+0x100") + cluster("raytls_cluster_encrypted_reason", `, reason="AwaitingApproval"`, "1+0x100"), 40 * time.Minute, "",
		},
		"not revoked": {
			"whatever the restart waits for", "RayAuthorityNotRevoked",
			cluster("raytls_cluster_pending_restart", `, action="Revoke", reason="Blocked"`, "1+0x20 _x80") +
				cluster("raytls_cluster_pending_restart", `, action="Revoke", reason="WaitingForSlot"`, "_x20 1+0x80"), 40 * time.Minute, ofCluster,
		},
		"not revoked, briefly": {"it was approved", "RayAuthorityNotRevoked", cluster("raytls_cluster_pending_restart", `, action="Revoke", reason="AwaitingApproval"`, "1+0x10 _x80"), 40 * time.Minute, ""},
		"not rolled":           {"a roll may wait", "RayAuthorityNotRevoked", cluster("raytls_cluster_pending_restart", `, action="Roll", reason="Blocked"`, "1+0x100"), 40 * time.Minute, ""},
		"on the wire": {
			"the handshake proves it", "RayClusterPlaintextOnWire",
			cluster("raytls_cluster_head_on_wire", `, state="Plaintext"`, "1+0x100") + cluster("raytls_cluster_encrypted_reason", `, reason="PlaintextOnWire"`, "1+0x100"),
			10 * time.Minute, `{cluster="c", namespace="ml", state="Plaintext"}`,
		},
		"on the wire, to be enabled": {
			"the head is in plaintext as its pod says", "RayClusterPlaintextOnWire",
			cluster("raytls_cluster_head_on_wire", `, state="Plaintext"`, "1+0x100") + cluster("raytls_cluster_encrypted_reason", `, reason="AwaitingApproval"`, "1+0x100"),
			10 * time.Minute, "",
		},
		"lost":         {"nobody else can help", "RayClusterNeedsHelp", cluster("raytls_cluster_encrypted_reason", `, reason="AuthorityLost"`, "1+0x100"), 10 * time.Minute, ofCluster},
		"starting":     {"it passes", "RayClusterNeedsHelp", cluster("raytls_cluster_encrypted_reason", `, reason="PodsStarting"`, "1+0x100"), 10 * time.Minute, ""},
		"retained":     {"its policy is gone", "RayClusterWithoutPolicy", `raytls_cluster_encrypted{namespace="ml", cluster="c"} 1+0x3000` + "\n", 25 * time.Hour, ofCluster},
		"not retained": {"its policy is there", "RayClusterWithoutPolicy", cluster("raytls_cluster_encrypted", "", "1+0x3000"), 25 * time.Hour, ""},
		"leaf, late":   {"Ray reads it once", "RayPodCertificateEnds", cluster("raytls_cluster_expiry_stage", `, stage="LastSixth"`, "1+0x100"), 0, ofCluster},
		"leaf, later": {
			"the stage is a label, and the alert goes on", "RayPodCertificateEnds",
			cluster("raytls_cluster_expiry_stage", `, stage="LastSixth"`, "1+0x20 _x80") + cluster("raytls_cluster_expiry_stage", `, stage="LastTwelfth"`, "_x20 1+0x80"), 40 * time.Minute, ofCluster,
		},
		"leaf, to be rolled":      {"a roll begins in the last third", "RayPodCertificateEnds", cluster("raytls_cluster_expiry_stage", `, stage="LastThird"`, "1+0x100"), 0, ""},
		"issuer, late":            {"it was not replaced", "RayIssuerNotReplaced", lives("issuer", -500*day, 230*day), 2 * time.Hour, ofCluster},
		"issuer, replaced":        {"it has another", "RayIssuerNotReplaced", lives("issuer", -30*day, 700*day), 2 * time.Hour, ""},
		"issuer, of a short life": {"there is time", "RayIssuerNotReplaced", lives("issuer", -day, 13*day), 2 * time.Hour, ""},
		"issuer, short and late":  {"days say nothing", "RayIssuerNotReplaced", lives("issuer", -9*day, 5*day), 2 * time.Hour, ofCluster},
		"authority, late":         {"leaves get shorter", "RayAuthorityEnds", lives("authority", -3350*day, 300*day) + lives("issuer", -10*day, 720*day), 2 * time.Hour, ofCluster},
		"authority, early":        {"there is time", "RayAuthorityEnds", lives("authority", -2850*day, 800*day) + lives("issuer", -10*day, 720*day), 2 * time.Hour, ""},
		"authority, young":        {"one of a short life is replaced", "RayAuthorityEnds", lives("authority", -10*day, 50*day) + lives("issuer", -day, 59*day), 2 * time.Hour, ""},
		"refused":                 {"nobody looks at a policy that was applied", "RayTLSPolicyNotAccepted", policy("raytls_policy_accepted", "0+0x100"), 20 * time.Minute, ofPolicy},
		"accepted":                {"nothing is wrong", "RayTLSPolicyNotAccepted", policy("raytls_policy_accepted", "1+0x100"), 20 * time.Minute, ""},
		"not admitted":            {"clusters start in plaintext", "RayTLSPolicyAdmissionInactive", policy("raytls_policy_admission_active", "0+0x100"), 40 * time.Minute, ofPolicy},
		"admitted":                {"nothing is wrong", "RayTLSPolicyAdmissionInactive", policy("raytls_policy_admission_active", "1+0x100"), 40 * time.Minute, ""},
		"CA, late":                {"authorities end with it", "RayBroughtCAEnds", policy("raytls_policy_brought_ca_expiration_timestamp_seconds", ends(80*day)), 0, ofPolicy},
		"CA, early":               {"there is time", "RayBroughtCAEnds", policy("raytls_policy_brought_ca_expiration_timestamp_seconds", ends(100*day)), 0, ""},
		"webhook's, none":         {"the API server refuses RayClusters", "RaytlsWebhookCertificateEnds", "raytls_webhook_certificate_expiration_timestamp_seconds 0+0x100\n", 90 * time.Minute, "{}"},
		"webhook's, late":         {"it was not replaced", "RaytlsWebhookCertificateEnds", "raytls_webhook_certificate_expiration_timestamp_seconds " + ends(6*day) + "\n", 90 * time.Minute, "{}"},
		"webhook's, early":        {"it is replaced in time", "RaytlsWebhookCertificateEnds", "raytls_webhook_certificate_expiration_timestamp_seconds " + ends(30*day) + "\n", 90 * time.Minute, ""},
		"no webhook":              {"nothing reports", "RaytlsWebhookDown", "up 1+0x100\n", 20 * time.Minute, "{}"},
		"a webhook":               {"one reports", "RaytlsWebhookDown", "raytls_webhook_certificate_expiration_timestamp_seconds 1+0x100\n", 20 * time.Minute, ""},
		"nobody leads":            {"both wait", "RaytlsControllerWithoutLeader", `leader_election_master_status{name="raytls.io", pod="a"} 0+0x100` + "\n", 20 * time.Minute, "{}"},
		"another leads":           {"somebody else's leader is none", "RaytlsControllerWithoutLeader", `leader_election_master_status{name="other"} 1+0x100` + "\n", 20 * time.Minute, "{}"},
		"one leads": {
			"the other may wait", "RaytlsControllerWithoutLeader",
			`leader_election_master_status{name="raytls.io", pod="a"} 0+0x100` + "\n" + `leader_election_master_status{name="raytls.io", pod="b"} 1+0x100` + "\n", 20 * time.Minute, "",
		},
		"errors":        {"it fails again and again", "RaytlsReconcileErrors", `controller_runtime_reconcile_errors_total{controller="raycluster", pod="a"} 0+1x200` + "\n", 100 * time.Minute, `{controller="raycluster"}`},
		"an error":      {"it passed", "RaytlsReconcileErrors", `controller_runtime_reconcile_errors_total{controller="raycluster", pod="a"} 0 1+0x200` + "\n", 100 * time.Minute, ""},
		"others' error": {"it is another controller's", "RaytlsReconcileErrors", `controller_runtime_reconcile_errors_total{controller="x", pod="a"} 0+1x200` + "\n", 100 * time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(shipped(t), func(a alert) bool { return a.Name == c.alert })
			if i < 0 {
				t.Fatalf("there is no alert %s", c.alert)
			}
			if got := strings.Join(shipped(t)[i].firing(t, "  "+strings.ReplaceAll(strings.TrimSpace(c.series), "\n", "\n  ")+"\n", c.at), "\n"); got != c.want {
				t.Errorf("%s: fires for %q, want %q", c.reason, got, c.want)
			}
		})
	}
}

// TestAlertsAreExplained finds for each alert a heading that its runbook_url names, and the metrics in the reference.
func TestAlertsAreExplained(t *testing.T) {
	headings, reference := read(t, root("docs", "troubleshooting.md")), read(t, root("docs", "reference", "metrics.md"))
	metrics := regexp.MustCompile(`raytls_[a-z_]+`)
	for _, a := range shipped(t) {
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(a.Expr); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
		if !strings.Contains(headings, "\n### "+a.Name+"\n") {
			t.Errorf("docs/troubleshooting.md has no heading %s", a.Name)
		}
		if want := "/docs/troubleshooting.md#" + strings.ToLower(a.Name); !strings.HasSuffix(a.Annotations["runbook_url"], want) {
			t.Errorf("%s: runbook_url is %s", a.Name, a.Annotations["runbook_url"])
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s lacks severity, summary or description", a.Name)
		}
		for _, metric := range metrics.FindAllString(a.Expr, -1) {
			if !strings.Contains(reference, "`"+metric+"`") {
				t.Errorf("%s: docs/reference/metrics.md does not explain %s", a.Name, metric)
			}
		}
	}
}
