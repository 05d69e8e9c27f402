package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pmezard/go-difflib/difflib"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// logTail is how many lines of each log are shown when the demo fails.
const logTail = 15

// check is one thing that had to come out in one way.
type check struct {
	what, want, got string
	ok              bool
}

// screen is what the user sees, and the checks that they saw.
type screen struct {
	out    io.Writer
	unread func() // called when nobody reads any more
	checks []check
}

func (s *screen) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(s.out, format, args...); err != nil && s.unread != nil {
		s.unread()
	}
}

func (s *screen) title(text string) { s.printf("\n== %s\n\n", text) }

// indented prints text with each of its lines moved in.
func (s *screen) indented(text string) {
	for line := range strings.Lines(text) {
		if line != "\n" {
			line = "   " + line
		}
		s.printf("%s", line)
	}
}

// show prints checks and keeps them for the verdict.
func (s *screen) show(checks ...check) {
	s.checks = append(s.checks, checks...)
	s.indented(formatChecks(checks))
}

func formatChecks(checks []check) string {
	rows := [][]string{{" ", "WHAT", "EXPECTED", "GOT"}}
	for _, c := range checks {
		mark := "✗"
		if c.ok {
			mark = "✓"
		}
		rows = append(rows, []string{mark, c.what, c.want, c.got})
	}
	return align(rows)
}

// align sets rows in columns, two spaces apart.
func align(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
		}
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return text.String()
}

// verdict is the last line: what came out of everything, and how long it took. stopped says that the user ended it.
func (s *screen) verdict(err error, stopped bool, took time.Duration) {
	failed := 0
	for _, c := range s.checks {
		if !c.ok {
			failed++
		}
	}
	seconds := took.Seconds()
	switch {
	case err == nil:
		s.printf("\nPASSED: all %d checks came out as expected, in %.1f s. Nothing is left running.\n", len(s.checks), seconds)
	case errors.Is(err, errVerdict):
		s.printf("\nFAILED: %d of %d checks did not come out as expected, in %.1f s\n", failed, len(s.checks), seconds)
	case stopped:
		s.printf("\nSTOPPED after %.1f s, before the end\n", seconds)
	default:
		s.printf("\nFAILED after %.1f s: %v\n", seconds, err)
	}
}

// logs shows the end of each log.
func (s *screen) logs(dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			continue
		}
		s.printf("\n-- the last lines of %s\n", filepath.Base(file))
		s.indented(tail(string(text), logTail))
	}
}

// tail gives the last n lines, each cut to a length that a terminal can show.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		lines[i] = fmt.Sprintf("%.400s", line)
	}
	return strings.Join(lines, "\n") + "\n"
}

// subjects are the names and addresses of a certificate, but those that every pod has.
func subjects(leaf *x509.Certificate) string {
	var out []string
	for _, name := range leaf.DNSNames {
		if name != "localhost" {
			out = append(out, name)
		}
	}
	for _, ip := range leaf.IPAddresses {
		if !ip.IsLoopback() {
			out = append(out, ip.String())
		}
	}
	return strings.Join(out, ", ")
}

// formatTable prints the API server's own rendering of a list, as `kubectl get` does.
func formatTable(raw []byte) (string, error) {
	var table metav1.Table
	if err := json.Unmarshal(raw, &table); err != nil {
		return "", fmt.Errorf("reading the API server's table: %w", err)
	}
	rows := make([][]string, len(table.Rows)+1)
	for i, column := range table.ColumnDefinitions {
		// Others are for `kubectl get -o wide`.
		if column.Priority > 0 {
			continue
		}
		rows[0] = append(rows[0], strings.ToUpper(column.Name))
		for j, row := range table.Rows {
			cell := "<none>"
			if i < len(row.Cells) && row.Cells[i] != nil && row.Cells[i] != "" {
				cell = fmt.Sprint(row.Cells[i])
			}
			rows[j+1] = append(rows[j+1], cell)
		}
	}
	return align(rows), nil
}

// specDiff is the unified diff of two specs, given as JSON, in YAML.
func specDiff(before, after []byte) (string, error) {
	a, err := readable(before)
	if err != nil {
		return "", err
	}
	b, err := readable(after)
	if err != nil {
		return "", err
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(a), B: difflib.SplitLines(b), FromFile: "spec as applied", ToFile: "spec now", Context: 2,
	})
	if err != nil {
		return "", fmt.Errorf("comparing specs: %w", err)
	}
	return strings.TrimRight(text, " \n") + "\n", nil
}

// withFirstGroup leaves out all worker groups of a spec but the first.
func withFirstGroup(spec []byte) ([]byte, error) {
	var tree map[string]any
	if err := json.Unmarshal(spec, &tree); err != nil {
		return nil, fmt.Errorf("reading a spec: %w", err)
	}
	if groups, ok := tree["workerGroupSpecs"].([]any); ok && len(groups) > 1 {
		tree["workerGroupSpecs"] = groups[:1]
	}
	return json.Marshal(tree)
}

// readable gives JSON as YAML, with every text of several lines as one: a shell program of forty lines, three
// times, hides what else there is.
func readable(spec []byte) (string, error) {
	var tree any
	if err := json.Unmarshal(spec, &tree); err != nil {
		return "", fmt.Errorf("reading a spec: %w", err)
	}
	text, err := yaml.Marshal(fold(tree))
	if err != nil {
		return "", fmt.Errorf("showing a spec: %w", err)
	}
	return string(text), nil
}

func fold(value any) any {
	switch v := value.(type) {
	case map[string]any:
		folded := map[string]any{}
		for key, item := range v {
			folded[key] = fold(item)
		}
		return folded
	case []any:
		folded := make([]any, len(v))
		for i, item := range v {
			folded[i] = fold(item)
		}
		return folded
	case string:
		if n := strings.Count(v, "\n"); n > 0 {
			return fmt.Sprintf("(%d lines, not shown here)", n+1)
		}
	}
	return value
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
