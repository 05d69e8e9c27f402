package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/servingcert"
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

// replace puts an authority that ends after days into a folder, as a certificate with its key.
func replace(t *testing.T, folder string, days int) {
	t.Helper()
	authority, err := pki.NewAuthority(pki.AuthorityOptions{Name: "x", KeyAlgorithm: pki.ECDSAP256, Validity: time.Duration(days) * 24 * time.Hour, Now: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	key, err := authority.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{corev1.TLSCertKey: authority.CertificatePEM(), corev1.TLSPrivateKeyKey: key} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func gauge(t *testing.T, of prometheus.Collector) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(of)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

// A file that the webhook does not serve, or cannot, says nothing about the certificate that API servers see.
func TestTheMetricIsOfTheServedCertificate(t *testing.T) {
	const day = 24 * 60 * 60
	folder := t.TempDir()
	replace(t, folder, 30)
	var watcher *certwatcher.CertWatcher
	config, err := servingConfig(func(r manager.Runnable) error {
		var ok bool
		if watcher, ok = r.(*certwatcher.CertWatcher); !ok {
			return errors.New("another look-out")
		}
		return nil
	}, folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	metric := certificateMetrics(config)
	first := gauge(t, metric)
	if first != 30*day {
		t.Errorf("the first certificate ends at %.0f", first)
	}
	replace(t, folder, 60)
	if got := gauge(t, metric); got != first {
		t.Errorf("the metric is of a certificate that is not served yet: %.0f", got)
	}
	if err := watcher.ReadCertificate(); err != nil {
		t.Fatal(err)
	}
	second := gauge(t, metric)
	if second != 60*day {
		t.Errorf("the second certificate ends at %.0f", second)
	}
	if err := os.WriteFile(filepath.Join(folder, corev1.TLSCertKey), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := watcher.ReadCertificate(); err == nil {
		t.Fatal("a broken file is read")
	}
	if got := gauge(t, metric); got != second {
		t.Errorf("the webhook still serves the second certificate, the metric says %.0f", got)
	}
}

func TestTheMetricOfOwnCertificates(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	server := &servingcert.Server{Directory: t.TempDir(), DNSNames: []string{"webhook"}, Clock: testingclock.NewFakePassiveClock(now)}
	config, err := servingConfig(nil, "", server)
	if err != nil {
		t.Fatal(err)
	}
	metric := certificateMetrics(config)
	if got := gauge(t, metric); got != 0 {
		t.Errorf("nothing is served, the metric says %.0f", got)
	}
	authority, err := servingcert.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	data, err := servingcert.Data(authority)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range data {
		if err := os.WriteFile(filepath.Join(server.Directory, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := server.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := gauge(t, metric), float64(certificate.Leaf.NotAfter.Unix()); got != want {
		t.Errorf("the metric says %.0f, the certificate %.0f", got, want)
	}
}
