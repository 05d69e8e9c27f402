package v1alpha1

import "time"

// Default values of a policy's spec. The schema of the CRD holds the same values, and a test compares the two.
const (
	DefaultAuthorityValidityDays   = 3650
	DefaultPodValidityDays         = 365
	DefaultMaxUnavailable          = 1
	DefaultMaxConcurrentClusters   = 1
	DefaultProgressDeadlineSeconds = 600
	DefaultTimeZone                = "UTC"
)

// WithDefaults returns a copy of the spec in which every unset field has its default. The API server fills in the
// same values. Objects from elsewhere need this function: manifests on a command line, and objects in tests.
func (s *RayTLSPolicySpec) WithDefaults() RayTLSPolicySpec {
	out := *s.DeepCopy()
	setDefault(&out.Issuance.Mode, ModeScript)
	setDefault(&out.CertificateAuthority.KeyAlgorithm, KeyECDSAP256)
	setDefault(&out.CertificateAuthority.ValidityDays, DefaultAuthorityValidityDays)
	setDefault(&out.PodCertificate.KeyAlgorithm, KeyECDSAP256)
	setDefault(&out.PodCertificate.ValidityDays, DefaultPodValidityDays)
	setDefault(&out.Rollout.EnablePolicy, EnableOnStopOrApproval)
	setDefault(&out.Rollout.Strategy, StrategyRollingUpdate)
	setDefault(&out.Rollout.MaxUnavailable, DefaultMaxUnavailable)
	setDefault(&out.Rollout.HeadRestart, HeadRestartIfFaultTolerant)
	for i := range out.Rollout.Windows {
		setDefault(&out.Rollout.Windows[i].TimeZone, DefaultTimeZone)
	}
	setDefault(&out.Rollout.MaxConcurrentClusters, DefaultMaxConcurrentClusters)
	setDefault(&out.Rollout.ProgressDeadlineSeconds, DefaultProgressDeadlineSeconds)
	setDefault(&out.DeletionPolicy, DeletionRetain)
	return out
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Days is so many days of 24 hours.
func Days(n int32) time.Duration { return time.Duration(n) * 24 * time.Hour }
