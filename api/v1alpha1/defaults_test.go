package v1alpha1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWithDefaults(t *testing.T) {
	defaults := func(change func(*RayTLSPolicySpec)) RayTLSPolicySpec {
		spec := RayTLSPolicySpec{
			Issuance:             Issuance{Mode: ModeScript},
			CertificateAuthority: CertificateAuthority{KeyAlgorithm: KeyECDSAP256, ValidityDays: 3650},
			PodCertificate:       PodCertificate{KeyAlgorithm: KeyECDSAP256, ValidityDays: 365},
			Rollout: Rollout{
				EnablePolicy: EnableOnStopOrApproval, Strategy: StrategyRollingUpdate, MaxUnavailable: 1, HeadRestart: HeadRestartIfFaultTolerant,
				MaxConcurrentClusters: 1, ProgressDeadlineSeconds: 600,
			},
			DeletionPolicy: DeletionRetain,
		}
		change(&spec)
		return spec
	}
	selector := &metav1.LabelSelector{}
	target := &TargetReference{Kind: TargetRayCluster, Name: "x"}
	all := RayTLSPolicySpec{
		TargetRef: target,
		Issuance: Issuance{Mode: ModeScript, InitContainer: InitContainer{
			Image: "i", ImagePullPolicy: "Always", Resources: &corev1.ResourceRequirements{}, ScriptsPath: "/s",
		}},
		CertificateAuthority: CertificateAuthority{KeyAlgorithm: KeyRSA4096, ValidityDays: 100, SecretRef: &SecretReference{Name: "ca"}},
		PodCertificate:       PodCertificate{KeyAlgorithm: KeyECDSAP384, ValidityDays: 7, HeadDNSNames: []string{"a"}, HeadServiceShortName: true},
		AdditionalContainers: []string{"c"},
		Rollout: Rollout{
			EnablePolicy: EnableImmediate, Strategy: StrategyOnDelete, MaxUnavailable: 3, HeadRestart: HeadRestartNever,
			Windows:               []RestartWindow{{Schedule: "0 2 * * 6", DurationMinutes: 60, TimeZone: "Europe/Berlin"}},
			MaxConcurrentClusters: 5, ProgressDeadlineSeconds: 10, Approvals: []Approval{{Cluster: "c", Restart: "3f2a9c"}},
		},
		DeletionPolicy: DeletionDisable,
		Paused:         true,
	}
	for name, c := range map[string]struct {
		reason   string
		in, want RayTLSPolicySpec
	}{
		"selector": {
			"an empty selector restarts nothing that runs",
			RayTLSPolicySpec{Selector: selector},
			defaults(func(s *RayTLSPolicySpec) { s.Selector = selector }),
		},
		"targetRef": {
			"no default depends on another field",
			RayTLSPolicySpec{TargetRef: target},
			defaults(func(s *RayTLSPolicySpec) { s.TargetRef = target }),
		},
		"window": {
			"a window's time zone has a default too",
			RayTLSPolicySpec{Selector: selector, Rollout: Rollout{Windows: []RestartWindow{{Schedule: "0 2 * * 6", DurationMinutes: 60}}}},
			defaults(func(s *RayTLSPolicySpec) {
				s.Selector = selector
				s.Rollout.Windows = []RestartWindow{{Schedule: "0 2 * * 6", DurationMinutes: 60, TimeZone: "UTC"}}
			}),
		},
		"all set": {"a value that is set stays", all, all},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.in.DeepCopy()
			if diff := cmp.Diff(c.want, c.in.WithDefaults()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
			if diff := cmp.Diff(*before, c.in); diff != "" {
				t.Errorf("the receiver does not change (-before +after):\n%s", diff)
			}
		})
	}
}
