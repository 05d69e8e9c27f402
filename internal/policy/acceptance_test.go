package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/pki"
	"github.com/raytls/raytls/internal/timescale"
)

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestAllows(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		list   Allowlist
		image  string
		want   bool
	}{
		"empty":           {"without a list nothing is allowed", nil, "a", false},
		"no image":        {"each Ray container's own image needs no permission", nil, "", true},
		"same":            {"an image is itself", Allowlist{"b", "a:1"}, "a:1", true},
		"longer":          {"an image is not the beginning of another", Allowlist{"a"}, "a:1", false},
		"open":            {"an open entry is the beginning of images", Allowlist{"r.example/x/*"}, "r.example/x/y:1", true},
		"open, other":     {"and of no others", Allowlist{"r.example/x/*"}, "r.example/xy:1", false},
		"everything":      {"a star alone allows all", Allowlist{"*"}, "a", true},
		"star as a name":  {"what a policy says is never a pattern", Allowlist{"a:1"}, "*", false},
		"case and spaces": {"images are compared as they are", Allowlist{"a:1"}, " a:1", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.list.Allows(c.image); got != c.want {
				t.Errorf("%s: got %v", c.reason, got)
			}
		})
	}
}

func spec(change func(*v1alpha1.RayTLSPolicySpec)) *v1alpha1.RayTLSPolicySpec {
	s := v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}}
	change(&s)
	s = s.WithDefaults()
	return &s
}

// amounts are requests and limits, each spelt as cpu=1 memory=64Mi.
func amounts(requests, limits string) *corev1.ResourceRequirements {
	list := func(text string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for _, word := range strings.Fields(text) {
			name, amount, _ := strings.Cut(word, "=")
			out[corev1.ResourceName(name)] = resource.MustParse(amount)
		}
		return out
	}
	return &corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}
}

func TestAccept(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		spec   *v1alpha1.RayTLSPolicySpec
		want   string
		text   string
	}{
		"plain": {"the smallest policy makes sense", spec(func(*v1alpha1.RayTLSPolicySpec) {}), v1alpha1.ReasonAccepted, "in force"},
		"selector": {
			"what the API server lets pass is said here", spec(func(s *v1alpha1.RayTLSPolicySpec) {
				s.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpIn}}
			}), v1alpha1.ReasonInvalidSelector, "spec.selector",
		},
		"image": {
			"an image of a user's own choice would run beside the key", spec(func(s *v1alpha1.RayTLSPolicySpec) { s.Issuance.InitContainer.Image = "evil" }),
			v1alpha1.ReasonImageNotAllowed, "evil is not among the images",
		},
		"window": {
			"a window that never opens is a mistake", spec(func(s *v1alpha1.RayTLSPolicySpec) {
				s.Rollout.Windows = []v1alpha1.RestartWindow{{Schedule: "0 2 * * 6", DurationMinutes: 1, TimeZone: "UTC"}, {Schedule: "0 0 30 2 *", DurationMinutes: 1, TimeZone: "UTC"}}
			}), v1alpha1.ReasonInvalidWindow, "spec.rollout.windows[1]: schedule never comes",
		},
		"allowed image": {
			"what the administrator allows is allowed", spec(func(s *v1alpha1.RayTLSPolicySpec) { s.Issuance.InitContainer.Image = "good" }),
			v1alpha1.ReasonAccepted, "in force",
		},
		"request above limit": {
			"the API server would refuse the pods", spec(func(s *v1alpha1.RayTLSPolicySpec) {
				s.Issuance.InitContainer.Resources = amounts("memory=65Mi", "cpu=250m memory=64Mi")
			}), v1alpha1.ReasonInvalidResources,
			"spec.issuance.initContainer.resources: the request of memory, 65Mi, is more than its limit, 64Mi, so the API server would refuse every pod; lower the request or raise the limit",
		},
		"request of the limit": {
			"another spelling of the same amount is no more", spec(func(s *v1alpha1.RayTLSPolicySpec) {
				s.Issuance.InitContainer.Resources = amounts("cpu=1 memory=0.0625Gi", "cpu=1000m memory=64Mi")
			}), v1alpha1.ReasonAccepted, "in force",
		},
		"request without limit": {
			"nothing bounds it", spec(func(s *v1alpha1.RayTLSPolicySpec) {
				s.Issuance.InitContainer.Resources = amounts("cpu=2", "memory=64Mi")
			}), v1alpha1.ReasonAccepted, "in force",
		},
		"limit without request": {
			"the limit is requested", spec(func(s *v1alpha1.RayTLSPolicySpec) {
				s.Issuance.InitContainer.Resources = amounts("", "cpu=1 memory=64Mi")
			}), v1alpha1.ReasonAccepted, "in force",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Accept(Acceptance{Spec: c.spec, Images: Allowlist{"good"}})
			if got.Reason != c.want || !strings.Contains(got.Message, c.text) || got.Accepted != (c.want == v1alpha1.ReasonAccepted) {
				t.Errorf("%s: got %+v", c.reason, got)
			}
		})
	}
}

// brought is a CA that ends so many days after epoch: an authority is one too.
func brought(t *testing.T, days int) (certificate, key []byte) {
	t.Helper()
	a, err := pki.NewAuthority(pki.AuthorityOptions{
		Name: "brought", KeyAlgorithm: "ECDSAP256", Validity: time.Duration(days) * 24 * time.Hour, Now: epoch(),
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err = a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	return a.CertificatePEM(), key
}

func labelled(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "ca", Labels: map[string]string{v1alpha1.LabelCA: v1alpha1.CATrue}}, Data: data}
}

func TestBroughtCA(t *testing.T) {
	withCA := spec(func(s *v1alpha1.RayTLSPolicySpec) {
		s.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "ca"}
	})
	certificate, key := brought(t, 3650)
	short, shortKey := brought(t, 700)
	end := epoch().Add(700 * 24 * time.Hour)
	for name, c := range map[string]struct {
		reason string
		data   map[string][]byte
		now    time.Time
		want   Verdict
	}{
		"missing": {
			"it may come later", nil, epoch(),
			Verdict{Reason: v1alpha1.ReasonCASecretNotFound, Message: "spec.certificateAuthority.secretRef: Secret ca does not exist in this namespace; create it with ca.crt and ca.key, or tls.crt and tls.key, and the label raytls.io/ca: \"true\""},
		},
		"the TLS guide's names": {
			"the guide's command works unchanged",
			map[string][]byte{"ca.crt": certificate, "ca.key": key},
			epoch(),
			Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force", RequeueAt: epoch().Add(2920 * 24 * time.Hour), CAEnds: epoch().Add(3650 * 24 * time.Hour)},
		},
		"cert-manager's names": {
			"cert-manager's ca.crt is of the issuer above",
			map[string][]byte{"ca.crt": []byte("x"), "tls.crt": certificate, "tls.key": key},
			epoch(),
			Verdict{Accepted: true, Reason: v1alpha1.ReasonAccepted, Message: "the policy is in force", RequeueAt: epoch().Add(2920 * 24 * time.Hour), CAEnds: epoch().Add(3650 * 24 * time.Hour)},
		},
		"half a pair": {
			"a certificate without its key signs nothing",
			map[string][]byte{"ca.crt": certificate},
			epoch(),
			Verdict{Reason: v1alpha1.ReasonCASecretInvalid, Message: "spec.certificateAuthority.secretRef: Secret ca holds neither ca.crt and ca.key nor tls.crt and tls.key"},
		},
		"cut": {
			"a CA shorter than an issuer's life is used, and that is said",
			map[string][]byte{"ca.crt": short, "ca.key": shortKey},
			epoch(),
			Verdict{
				Accepted: true, Reason: v1alpha1.ReasonValidityCut, RequeueAt: end, CAEnds: end,
				Message: "the policy is in force; the CA in Secret ca ends at 2027-12-02T00:00:00Z, so issuers and pod certificates end then at the latest, earlier than podCertificate.validityDays asks",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var secret *corev1.Secret
			if c.data != nil {
				secret = labelled(c.data)
			}
			parent, got := BroughtCA(withCA, secret, timescale.Scale{}, c.now)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if (parent != nil) != c.want.Accepted {
				t.Errorf("%s: the CA comes with an accepting verdict and with no other", c.reason)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		_, got := BroughtCA(withCA, labelled(map[string][]byte{"ca.crt": short, "ca.key": shortKey}), timescale.Scale{}, end.Add(time.Second))
		if got.Accepted || got.Reason != v1alpha1.ReasonCASecretInvalid {
			t.Errorf("an expired CA signs nothing: got %+v", got)
		}
	})
	t.Run("mismatched", func(t *testing.T) {
		_, got := BroughtCA(withCA, labelled(map[string][]byte{"ca.crt": certificate, "ca.key": shortKey}), timescale.Scale{}, epoch())
		if got.Accepted || strings.Contains(got.Message, "PRIVATE") {
			t.Errorf("a key of another signs nothing, and is not repeated: got %+v", got)
		}
	})
}

// Whoever may write a policy must not have any Secret of the namespace read, and its key used.
func TestBroughtCANeedsItsLabel(t *testing.T) {
	withCA := spec(func(s *v1alpha1.RayTLSPolicySpec) {
		s.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "ca"}
	})
	certificate, key := brought(t, 3650)
	for name, labels := range map[string]map[string]string{
		"none":          nil,
		"another value": {v1alpha1.LabelCA: "yes"},
		"empty":         {v1alpha1.LabelCA: ""},
	} {
		t.Run(name, func(t *testing.T) {
			secret := labelled(map[string][]byte{"ca.crt": certificate, "ca.key": key})
			secret.Labels = labels
			parent, got := BroughtCA(withCA, secret, timescale.Scale{}, epoch())
			want := Verdict{
				Reason:  v1alpha1.ReasonCASecretNotLabelled,
				Message: "spec.certificateAuthority.secretRef: Secret ca lacks the label raytls.io/ca: \"true\", which allows policies to sign with it; label it with: kubectl label secret ca -n ml raytls.io/ca=true",
			}
			if diff := cmp.Diff(want, got); diff != "" || parent != nil {
				t.Errorf("it is used (%v) (-want +got):\n%s", parent, diff)
			}
			secret.Data["ca.crt"] = []byte("x")
			if _, invalid := BroughtCA(withCA, secret, timescale.Scale{}, epoch()); invalid.Reason != v1alpha1.ReasonCASecretNotLabelled {
				t.Errorf("what is in a Secret without the label is not told: got %+v", invalid)
			}
		})
	}
}

// The first objection counts, and what was not looked up is not judged.
func TestAcceptInOrder(t *testing.T) {
	bad := spec(func(s *v1alpha1.RayTLSPolicySpec) {
		s.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpIn}}
		s.TargetRef = &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCronJob, Name: "x"}
		s.Issuance.InitContainer.Image = "evil"
		s.Issuance.InitContainer.Resources = amounts("cpu=2", "cpu=1")
		s.CertificateAuthority.SecretRef = &v1alpha1.SecretReference{Name: "ca"}
	})
	all := Acceptance{Spec: bad, Served: func(v1alpha1.TargetKind) bool { return false }, CAKnown: true, Now: epoch()}
	for _, step := range []struct {
		want string
		mend func()
	}{
		{v1alpha1.ReasonInvalidSelector, func() { bad.Selector = nil }},
		{v1alpha1.ReasonImageNotAllowed, func() { all.Images = Allowlist{"*"} }},
		{v1alpha1.ReasonInvalidResources, func() { bad.Issuance.InitContainer.Resources = nil }},
		{v1alpha1.ReasonTargetKindNotServed, func() { all.Served = nil }},
		{v1alpha1.ReasonCASecretNotFound, func() { all.CAKnown = false }},
		{v1alpha1.ReasonAccepted, func() {}},
	} {
		if got := Accept(all); got.Reason != step.want || got.Accepted != (step.want == v1alpha1.ReasonAccepted) {
			t.Errorf("got %+v, want %s", got, step.want)
		}
		step.mend()
	}
}

func TestTarget(t *testing.T) {
	served := func(kind v1alpha1.TargetKind) bool { return kind == v1alpha1.TargetRayCluster }
	for name, c := range map[string]struct {
		reason string
		target *v1alpha1.TargetReference
		want   string
	}{
		"selector": {"a selector names no kind", nil, v1alpha1.ReasonAccepted},
		"served":   {"what is served can be there", &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCluster, Name: "x"}, v1alpha1.ReasonAccepted},
		"missing":  {"what is not served cannot", &v1alpha1.TargetReference{Kind: v1alpha1.TargetRayCronJob, Name: "x"}, v1alpha1.ReasonTargetKindNotServed},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			verdict := Accept(Acceptance{Spec: &v1alpha1.RayTLSPolicySpec{TargetRef: c.target}, Served: served, Now: now})
			if verdict.Reason != c.want || verdict.Accepted != (c.want == v1alpha1.ReasonAccepted) || verdict.Accepted == verdict.RequeueAt.After(now) {
				t.Errorf("%s: got %+v", c.reason, verdict)
			}
		})
	}
}
