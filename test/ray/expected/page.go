package expected

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/raytls/raytls/hack/blocks"
)

// Page returns the text of a page with each block between <!-- NAME:begin --> and <!-- NAME:end --> replaced by what the
// tables of all releases give. The names are ports, serve, wire and faults, and the page must have them all.
func Page(text string) (string, error) {
	releases, err := Versions()
	if err != nil {
		return "", err
	}
	tables := make([]Table, len(releases))
	for i, release := range releases {
		if tables[i], err = Of(release); err != nil {
			return "", err
		}
	}
	for _, block := range []struct{ name, content string }{
		{"ports", portBlock(releases, tables, func(t Table) map[string][]Port { return t.Ports })},
		{"serve", portBlock(releases, tables, func(t Table) map[string][]Port { return t.Serve })},
		{"wire", wireBlock(releases, tables)},
		{"faults", faultBlock(releases, tables)},
	} {
		if text, err = blocks.Replace(text, block.name, block.content); err != nil {
			return "", err
		}
	}
	return text, nil
}

// row is a line of the table of ports: a kind of port, and the node types that have it with these answers.
type row struct {
	Port
	nodes string
}

// rows are ports by node type: those of a head in the table's order, and then what workers alone have. Ports of one process that
// answer alike are one row.
func rows(ports map[string][]Port) []row {
	var out []row
	for _, port := range ports["head"] {
		nodes := "head"
		if slices.Contains(ports["worker"], port) {
			nodes = "both"
		}
		if r := (row{port, nodes}); !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	for _, port := range ports["worker"] {
		if r := (row{port, "worker"}); !slices.Contains(ports["head"], port) && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// describePort says in words what a row of the table says.
func describePort(r row) string {
	pods := "a " + r.nodes
	if r.nodes == "both" {
		pods = "both"
	}
	return fmt.Sprintf("%s (%s) of %s: %s in plaintext, %s without a certificate, %s with another cluster's, %s with the cluster's", numberOf(r.Port.Port),
		processOf(r.Port), pods, answer(r.Port, r.Plaintext), answer(r.Port, r.NoCertificate), answer(r.Port, r.Foreign), answer(r.Port, r.Own))
}

// portBlock shows the newest release's ports, and what differs in the others.
func portBlock(releases []string, tables []Table, ports func(Table) map[string][]Port) string {
	entries := func(t Table) []row { return rows(ports(t)) }
	lines := []string{
		"Ray " + releases[0] + ":", "",
		"| port | process | pods | plaintext | TLS without a certificate | certificate of another cluster | certificate of this cluster |",
		"|---|---|---|---|---|---|---|",
	}
	for _, r := range entries(tables[0]) {
		lines = append(lines, cells(numberOf(r.Port.Port), processOf(r.Port), r.nodes,
			answer(r.Port, r.Plaintext), answer(r.Port, r.NoCertificate), answer(r.Port, r.Foreign), answer(r.Port, r.Own)))
	}
	return block(append(lines, differences(releases, tables, entries, describePort)...))
}

func wireBlock(releases []string, tables []Table) string {
	streams := func(table Table) []Stream { return table.Plaintext }
	lines := []string{"Ray " + releases[0] + ":", "", "| connection | port | begins with |", "|---|---|---|"}
	for _, stream := range streams(tables[0]) {
		lines = append(lines, cells(whatOf(stream), numberOf(stream.Port), "plain "+stream.Protocol))
	}
	lines = append(lines, cells("every other one", "any", "a TLS record"))
	describe := func(s Stream) string {
		return fmt.Sprintf("%s (port %s): plain %s", whatOf(s), numberOf(s.Port), s.Protocol)
	}
	return block(append(lines, differences(releases, tables, streams, describe)...))
}

// differences are the lines that say what the tables of older releases hold beside the newest's, and what they lack of it.
func differences[T comparable](releases []string, tables []Table, entries func(Table) []T, describe func(T) string) []string {
	if len(releases) == 1 {
		return nil
	}
	lines := []string{"", "| Ray | difference from " + releases[0] + " |", "|---|---|"}
	newest := entries(tables[0])
	for i, release := range releases[1:] {
		older, said := entries(tables[i+1]), []string{}
		for _, entry := range older {
			if !slices.Contains(newest, entry) {
				said = append(said, "has "+describe(entry))
			}
		}
		for _, entry := range newest {
			if !slices.Contains(older, entry) {
				said = append(said, "lacks "+describe(entry))
			}
		}
		if len(said) == 0 {
			said = []string{"none"}
		}
		lines = append(lines, cells(release, strings.Join(said, "<br>")))
	}
	return lines
}

func faultBlock(releases []string, tables []Table) string {
	lines := []string{"| Ray | known fault | issue |", "|---|---|---|"}
	for i, release := range releases {
		if len(tables[i].Faults) == 0 {
			lines = append(lines, cells(release, "none", ""))
		}
		for _, fault := range tables[i].Faults {
			lines = append(lines, cells(release, fault.What, link(fault.Issue)))
		}
	}
	return block(lines)
}

// numberOf names a port's number for people.
func numberOf(port string) string {
	if port == Random {
		return "at random"
	}
	return port
}

// processOf says what listens on a port, in the words of Ray's documentation, and whether it speaks HTTP. A process that
// Ray's documentation does not name keeps the name that the system gives it.
func processOf(port Port) string {
	name := port.Process
	for _, known := range []struct{ process, port, name string }{
		{"gcs_server", "6379", "GCS"},
		{"raylet", Random, "raylet: node manager, object manager"},
		{"dashboard", "8265", "dashboard and job API"},
		{"dashboard", "44227", "metrics of the dashboard"},
		{"dashboard agent", Random, "dashboard agent, gRPC"},
		{"dashboard agent", "52365", "dashboard agent: health and job submission"},
		{"dashboard agent", "8080", "metrics of the node"},
		{"monitor", "44217", "metrics of the autoscaler"},
		{"worker process", "8000", "Serve's proxy"},
		{"worker process", "9000", "Serve's proxy, gRPC"},
	} {
		if known.process == port.Process && known.port == port.Port {
			name = known.name
		}
	}
	if port.Plaintext == "HTTP" {
		name += ", HTTP"
	}
	return name
}

// answer words an answer of a port. A web server lets a client in as a gRPC server does; bold marks where the client runs code.
func answer(port Port, said string) string {
	if said != "in" && said != "HTTP" {
		return said
	}
	if runsCode(port) && said == port.Plaintext {
		return "**in**"
	}
	return "in"
}

// runsCode reports whether a client of a web server can have it run code.
func runsCode(port Port) bool {
	return port.Plaintext == "HTTP" && (port.Port == "8265" || port.Port == "52365" || port.Process == "runtime_env agent")
}

// whatOf says what a stream is, and by which path it is recognised where its port cannot tell.
func whatOf(stream Stream) string {
	if stream.Path == "" {
		return stream.What
	}
	return fmt.Sprintf("%s (`%s`)", stream.What, stream.Path)
}

// link shortens the address of an issue to the number that Ray's users know it by.
func link(issue string) string {
	parts := regexp.MustCompile(`^https://github\.com/([^/]+/[^/]+)/(?:issues|pull)/(\d+)$`).FindStringSubmatch(issue)
	if parts == nil {
		return issue
	}
	return fmt.Sprintf("[%s#%s](%s)", parts[1], parts[2], issue)
}

// cells is a line of a table. A process may have a name that would end a cell.
func cells(content ...string) string {
	for i := range content {
		content[i] = strings.ReplaceAll(content[i], "|", `\|`)
	}
	return "| " + strings.Join(content, " | ") + " |"
}

func block(lines []string) string { return strings.Join(lines, "\n") + "\n" }
