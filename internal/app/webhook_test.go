package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/internal/webhook"
)

func TestAdmissionsAreServedByPath(t *testing.T) {
	by := func(said string) admission.Handler {
		return admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Denied(said) })
	}
	handler, err := admissions(map[string]admission.Handler{webhook.Path: by("of clusters"), webhook.PolicyPath: by("of policies")})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{webhook.Path: "of clusters", webhook.PolicyPath: "of policies", "/": "404"} {
		request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1"}}`))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if got := recorder.Body.String(); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}
