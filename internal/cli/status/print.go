package status

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/text"
)

// printer prints reports.
type printer struct {
	out io.Writer
	// namespaces is whether tables name the namespace. one is whether the report is of one cluster that the user named, and pods
	// whether its pods are in it.
	namespaces, one, pods bool
	// approve is the command that approves a restart of the cluster.
	approve func(*clusterReport) string
}

func (p *printer) print(found *report, format string) error {
	switch {
	case format == formatJSON || format == formatYAML:
		return p.document(found, format)
	case format == formatCSV && p.pods:
		return p.csv(podsTable(found, true, true))
	case format == formatCSV:
		return p.csv(clustersCSV(found))
	case p.one:
		return p.cluster(&found.Clusters[0], slices.Contains(found.Unread, "Pod"), format == formatWide)
	case p.pods:
		return p.table(podsTable(found, true, format == formatWide))
	}
	return p.table(p.clusters(found, format == formatWide))
}

func (p *printer) document(found *report, format string) error {
	out, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	out = append(escape(out), '\n')
	if format == formatYAML {
		if out, err = yaml.JSONToYAML(out); err != nil {
			return fmt.Errorf("encoding the report: %w", err)
		}
		out = []byte(text.Readable(string(out)))
	}
	_, err = p.out.Write(out)
	return err
}

// escape writes the characters of a JSON text that can steer a terminal as JSON's escapes, which changes no value.
func escape(document []byte) []byte {
	var out bytes.Buffer
	for _, r := range string(document) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&out, `\u%04x`, unit)
			}
		}
	}
	return out.Bytes()
}

func (p *printer) csv(rows [][]string) error {
	for i, header := range rows[0] {
		rows[0][i] = strings.ReplaceAll(strings.ToLower(header), "-", "_")
	}
	w := csv.NewWriter(p.out)
	for _, row := range rows {
		for i := range row {
			row[i] = text.Line(row[i])
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// table aligns rows, of which the first has the headers. Empty cells are dashes.
func (p *printer) table(rows [][]string) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = text.Line(cell); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// clusters has one row for each cluster.
func (p *printer) clusters(found *report, wide bool) [][]string {
	header := []string{"CLUSTER", "POLICY", "ENCRYPTED", "UP-TO-DATE", "GENERATION", "PODS", "EXPIRES", "RESTART-BY", "PENDING"}
	if wide {
		header = append(header, "AUTHORITY", "ISSUER", "WIRE", "MESSAGE")
	}
	if p.namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	rows := [][]string{header}
	for i := range found.Clusters {
		c := &found.Clusters[i]
		s := c.status()
		encrypted, upToDate := condition(s, v1alpha1.ConditionEncrypted), condition(s, v1alpha1.ConditionUpToDate)
		row := []string{
			c.Name, c.Policy, brief(encrypted), brief(upToDate), number(s.Authority.Generation), podCounts(s.Pods),
			stamp(s.EarliestExpiryTime), stamp(s.RestartBy), pending(s.PendingRestart),
		}
		if c.Status == nil {
			row[5] = ""
		}
		if wide {
			row = append(row, s.Authority.ID, s.Issuer.ID, string(s.ObservedOnWire.Head), encrypted.Message)
		}
		if p.namespaces {
			row = append([]string{c.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	return rows
}

// status is what the operator reports; empty if it reports nothing.
func (c *clusterReport) status() *v1alpha1.RayClusterTLSStatus {
	if c.Status == nil {
		return &v1alpha1.RayClusterTLSStatus{}
	}
	return c.Status
}

func condition(s *v1alpha1.RayClusterTLSStatus, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(s.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown}
}

// brief is a condition in a cell.
func brief(c metav1.Condition) string {
	if c.Status == metav1.ConditionTrue || c.Reason == "" {
		return string(c.Status)
	}
	return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// podCounts says how many of the pods have a certificate of the present authority, and what is wrong with others.
func podCounts(c v1alpha1.PodCounts) string {
	out := fmt.Sprintf("%d/%d", c.Certified, c.Total)
	var wrong []string
	if c.Plaintext > 0 {
		wrong = append(wrong, fmt.Sprintf("%d plaintext", c.Plaintext))
	}
	if c.Outdated > 0 {
		wrong = append(wrong, fmt.Sprintf("%d outdated", c.Outdated))
	}
	if len(wrong) > 0 {
		out += " (" + strings.Join(wrong, ", ") + ")"
	}
	return out
}

func pending(p *v1alpha1.PendingRestart) string {
	if p == nil {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", p.Action, p.Reason, p.BlockedBy))
}

func clustersCSV(found *report) [][]string {
	rows := [][]string{{
		"namespace", "cluster", "policy", "current", "encrypted", "encrypted_reason", "up_to_date", "up_to_date_reason", "generation", "authority", "issuer",
		"pods", "certified_pods", "plaintext_pods", "outdated_pods", "expires", "restart_by", "wire", "pending_restart", "pending_action", "pending_reason", "blocked_by",
	}}
	for i := range found.Clusters {
		c := &found.Clusters[i]
		s := c.status()
		encrypted, upToDate := condition(s, v1alpha1.ConditionEncrypted), condition(s, v1alpha1.ConditionUpToDate)
		waits := s.PendingRestart
		if waits == nil {
			waits = &v1alpha1.PendingRestart{}
		}
		counts := make([]string, 4)
		if c.Status != nil {
			for i, n := range []int32{s.Pods.Total, s.Pods.Certified, s.Pods.Plaintext, s.Pods.Outdated} {
				counts[i] = strconv.Itoa(int(n))
			}
		}
		rows = append(rows, slices.Concat(
			[]string{c.Namespace, c.Name, c.Policy, strconv.FormatBool(c.Current), string(encrypted.Status), encrypted.Reason, string(upToDate.Status), upToDate.Reason, number(s.Authority.Generation), s.Authority.ID, s.Issuer.ID},
			counts,
			[]string{stamp(s.EarliestExpiryTime), stamp(s.RestartBy), string(s.ObservedOnWire.Head), waits.ID, string(waits.Action), waits.Reason, waits.BlockedBy},
		))
	}
	return rows
}

// podsTable has one row for each pod. Wide rows have all that is known.
func podsTable(found *report, clusters, wide bool) [][]string {
	header := []string{"POD", "ROLE", "GROUP", "STATE", "GENERATION", "END"}
	if wide {
		header = []string{"POD", "ROLE", "GROUP", "NODE", "STATE", "TERMINATING", "GENERATION", "AUTHORITY", "ISSUER", "SERIAL", "ISSUED", "END", "NOTE"}
	}
	if clusters {
		header = append([]string{"NAMESPACE", "CLUSTER"}, header...)
	}
	rows := [][]string{header}
	for i := range found.Clusters {
		c := &found.Clusters[i]
		for j := range c.Pods {
			pod := &c.Pods[j]
			row := []string{pod.Name, pod.Role, pod.Group, string(pod.State), number(pod.Generation), stamp(pod.End)}
			if wide {
				row = []string{
					pod.Name, pod.Role, pod.Group, pod.Node, string(pod.State), strconv.FormatBool(pod.Terminating), number(pod.Generation),
					pod.Authority, pod.Issuer, pod.Serial, stamp(pod.Issued), stamp(pod.End), pod.Note,
				}
			}
			if clusters {
				row = append([]string{c.Namespace, c.Name}, row...)
			}
			rows = append(rows, row)
		}
	}
	return rows
}
