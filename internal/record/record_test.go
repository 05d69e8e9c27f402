package record

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/internal/jsonpatch"
)

func TestRestoredRecord(t *testing.T) {
	r := Restored{Groups: []string{"a"}, Times: []time.Time{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	if diff := cmp.Diff(r, ParseRestored(r.String())); diff != "" {
		t.Errorf("a record is read back as it was written:\n%s", diff)
	}
	if diff := cmp.Diff(Restored{}, ParseRestored("{")); diff != "" {
		t.Errorf("what somebody else wrote is no record:\n%s", diff)
	}
}

func TestOperations(t *testing.T) {
	for name, c := range map[string]struct {
		reason     string
		have, want map[string]string
		ops        []jsonpatch.Operation
	}{
		"same":     {"what is as it is to be takes no write", map[string]string{"a/b": "1"}, map[string]string{"a/b": "1", "c": ""}, nil},
		"add":      {"a slash in a name is escaped", map[string]string{"x": "y"}, map[string]string{"a/b": "1"}, []jsonpatch.Operation{{Op: "add", Path: "/metadata/annotations/a~1b", Value: "1"}}},
		"first":    {"where there are none, the parent comes first", nil, map[string]string{"a": "1"}, []jsonpatch.Operation{{Op: "add", Path: "/metadata/annotations", Value: map[string]string{}}, {Op: "add", Path: "/metadata/annotations/a", Value: "1"}}},
		"remove":   {"an empty value removes", map[string]string{"a": "1", "x": "y"}, map[string]string{"a": ""}, []jsonpatch.Operation{{Op: "remove", Path: "/metadata/annotations/a"}}},
		"none yet": {"removing what is not there takes no write", nil, map[string]string{"a": ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.ops, Operations(c.have, c.want)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}
