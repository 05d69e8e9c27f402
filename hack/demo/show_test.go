package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFormatTable(t *testing.T) {
	t.Parallel()
	raw := `{"columnDefinitions": [{"name": "Name"}, {"name": "IP", "priority": 1}, {"name": "Clusters"}, {"name": "Expires"}],
		"rows": [{"cells": ["a", "10.0.0.1", "10/10", null]}, {"cells": ["longer", "10.0.0.2", 3, ""]}]}`
	got, err := formatTable([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	want := "NAME    CLUSTERS  EXPIRES\n" +
		"a       10/10     <none>\n" +
		"longer  3         <none>\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as kubectl prints it, without its wide columns (-want +got):\n%s", diff)
	}
	if _, err := formatTable([]byte("no JSON")); err == nil {
		t.Error("what is no table was printed")
	}
}

func TestSpecDiff(t *testing.T) {
	t.Parallel()
	before := `{"rayVersion": "2", "workerGroupSpecs": [{"groupName": "a"}, {"groupName": "b"}]}`
	after := `{"rayVersion": "2", "workerGroupSpecs": [{"groupName": "a", "command": ["sh", "one\ntwo\n"]}, {"groupName": "c"}]}`
	first := func(spec string) []byte {
		out, err := withFirstGroup([]byte(spec))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	got, err := specDiff(first(before), first(after))
	if err != nil {
		t.Fatal(err)
	}
	want := `--- spec as applied
+++ spec now
@@ -1,4 +1,7 @@
 rayVersion: "2"
 workerGroupSpecs:
-- groupName: a
+- command:
+  - sh
+  - (3 lines, not shown here)
+  groupName: a
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("only the first group, and no program text (-want +got):\n%s", diff)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason, text, want string
	}{
		"short": {"what is short enough stays", "a\nb\n", "a\nb\n"},
		"long":  {"the end is where the failure is", "a\nb\nc\n", "b\nc\n"},
		"wide":  {"a line is not a screenful", strings.Repeat("é", 500) + "\n", strings.Repeat("é", 400) + "\n"},
	} {
		if got := tail(c.text, 2); got != c.want {
			t.Errorf("%s: %s: got %q", name, c.reason, got)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	good, bad := check{ok: true}, check{}
	for name, c := range map[string]struct {
		reason  string
		checks  []check
		err     error
		stopped bool
		want    string
	}{
		"passed":  {"all is well", []check{good, good}, nil, false, "PASSED: all 2 checks"},
		"failed":  {"one bad check is a failure", []check{good, bad}, errVerdict, false, "FAILED: 1 of 2 checks"},
		"broken":  {"what kept the demo from its end is said", nil, errors.New("no etcd"), false, "FAILED after 2.0 s: no etcd"},
		"stopped": {"nobody failed who was told to stop", []check{good}, errors.New("interrupted"), true, "STOPPED after 2.0 s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			s := &screen{out: &out, checks: c.checks}
			s.verdict(c.err, c.stopped, 2*time.Second)
			if !strings.HasPrefix(out.String(), "\n"+c.want) {
				t.Errorf("%s: got %q", c.reason, out.String())
			}
		})
	}
}

func TestFormatChecks(t *testing.T) {
	t.Parallel()
	got := formatChecks([]check{{"worker → head", "works", "works", true}, {"b", "refused", "works", false}})
	want := "   WHAT           EXPECTED  GOT\n" +
		"✓  worker → head  works     works\n" +
		"✗  b              refused   works\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns align by letters, not bytes (-want +got):\n%s", diff)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	boom, name := errors.New("unavailable"), fmt.Errorf("tls: failed to verify certificate: %w", errors.New("x509: certificate is valid for a, not b"))
	mustFail := refused(byClient, "valid for", "name not in certificate")
	for label, c := range map[string]struct {
		reason string
		expect expectation
		got    outcome
		ok     bool
		text   string
	}{
		"works":         {"what must work works", works(), outcome{}, true, "works"},
		"broken":        {"what must work is refused", works(), outcome{call: boom, client: name}, false, "unavailable"},
		"refused":       {"it is refused as it must be", mustFail, outcome{call: boom, client: name, server: boom}, true, "x509: certificate is valid for a, not b"},
		"accepted":      {"what must be refused works", mustFail, outcome{}, false, "works"},
		"other reason":  {"a refusal for another reason proves nothing", mustFail, outcome{call: boom, client: boom}, false, "unavailable"},
		"other side":    {"the side that should refuse was content", mustFail, outcome{call: boom, server: name}, false, "the other side refuses: unavailable"},
		"server's side": {"the server's reason counts where it is to refuse", refused(byServer, "valid for", ""), outcome{call: boom, server: name}, true, "x509: certificate is valid for a, not b"},
	} {
		got := judge("what", c.expect, c.got)
		if got.ok != c.ok || got.got != c.text {
			t.Errorf("%s: %s: got %v %q", label, c.reason, got.ok, got.got)
		}
	}
}
