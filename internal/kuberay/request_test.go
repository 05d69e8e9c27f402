package kuberay

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestRequest(t *testing.T) {
	q := Request{For: "x", Goal: v1alpha1.GoalEncrypted, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if diff := cmp.Diff(q, ParseRequest(q.String())); diff != "" {
		t.Errorf("what is written is what is read (-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "x", "{}", `{"for":"a"}`, `{"at":"2026-01-01T00:00:00Z"}`} {
		if got := ParseRequest(text); got != (Request{}) {
			t.Errorf("%q asks for nothing: got %v", text, got)
		}
	}
}

func TestRequestThatCannotBeRecordedIsNone(t *testing.T) {
	if got := ParseRequest(`{"for":"x","goal":"Encrypted","at":"0001-01-01T00:00:00.5Z"}`); got != (Request{}) {
		t.Errorf("a time that a record would lose is taken: %v", got)
	}
}
