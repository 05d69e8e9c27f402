package expected

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPageIsWhatTheTablesGive(t *testing.T) {
	const page = "../../../docs/concepts/what-is-encrypted.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Page(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("docs/concepts/what-is-encrypted.md differs from the tables in test/ray/expected: run make docs (-want +got)\n%s", diff)
	}
}

func TestPageNeedsItsBlocks(t *testing.T) {
	for _, missing := range []string{"ports", "serve", "wire", "faults"} {
		var text strings.Builder
		for _, name := range []string{"ports", "serve", "wire", "faults"} {
			if name != missing {
				text.WriteString("<!-- " + name + ":begin -->\n<!-- " + name + ":end -->\n")
			}
		}
		if _, err := Page(text.String()); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("a page without the block %s: %v", missing, err)
		}
	}
}

func TestDifferences(t *testing.T) {
	gcs := Port{Port: "6379", Process: "gcs_server", Plaintext: "closed", NoCertificate: "closed", Foreign: "closed", Own: "in"}
	agent := Port{Port: "52365", Process: "dashboard agent", Plaintext: "HTTP", NoCertificate: "not TLS", Foreign: "not TLS", Own: "not TLS"}
	novel := Port{Port: "7", Process: "echo a|b", Plaintext: "silent", NoCertificate: "silent", Foreign: "silent", Own: "silent"}
	table := func(head, worker []Port) Table {
		return Table{Ports: map[string][]Port{"head": head, "worker": worker}}
	}
	ports := func(t Table) map[string][]Port { return t.Ports }
	newest := table([]Port{gcs, agent}, []Port{agent})
	for _, c := range []struct {
		reason string
		older  Table
		want   string
	}{
		{"an equal table says so", newest, "| 2.0.0 | none |"},
		{
			"a port that only the newest has is told",
			table([]Port{agent}, []Port{agent}),
			"| 2.0.0 | lacks 6379 (GCS) of a head: closed in plaintext, closed without a certificate, closed with another cluster's, in with the cluster's |",
		},
		{
			"a port that the page has no word for keeps its process's name",
			table([]Port{gcs, agent, novel}, []Port{agent}),
			"| 2.0.0 | has 7 (echo a\\|b) of a head: silent in plaintext, silent without a certificate, silent with another cluster's, silent with the cluster's |",
		},
	} {
		text := portBlock([]string{"3.0.0", "2.0.0"}, []Table{newest, c.older}, ports)
		if !strings.Contains(text, "\n"+c.want+"\n") {
			t.Errorf("%s: want the line\n%s\nin\n%s", c.reason, c.want, text)
		}
	}
	want := "| 52365 | dashboard agent: health and job submission, HTTP | both | **in** | not TLS | not TLS | not TLS |"
	if text := portBlock([]string{"3.0.0"}, []Table{newest}, ports); !strings.Contains(text, want) || strings.Contains(text, "difference") {
		t.Errorf("want the line\n%s\nand no differences in\n%s", want, text)
	}
}

func TestFaults(t *testing.T) {
	got := faultBlock([]string{"3.0.0", "2.0.0"}, []Table{{}, {Faults: []Fault{
		{Name: "metrics", Issue: "https://github.com/ray-project/ray/issues/59968", What: "most metrics are missing under TLS"},
		{Name: "other", Issue: "unreported", What: "another"},
	}}})
	want := `| Ray | known fault | issue |
|---|---|---|
| 3.0.0 | none |  |
| 2.0.0 | most metrics are missing under TLS | [ray-project/ray#59968](https://github.com/ray-project/ray/issues/59968) |
| 2.0.0 | another | unreported |
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
