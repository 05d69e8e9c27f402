package v1alpha1

// Default values of a policy's spec, as documented at each field.
const (
	DefaultAuthorityValidityDays   = 3650
	DefaultPodValidityDays         = 365
	DefaultMaxConcurrentClusters   = 1
	DefaultProgressDeadlineSeconds = 600
)

// WithDefaults returns a copy of the spec with every unset field that has a default at that default.
// The API server stores no defaults, so that what was applied is what is read back.
func (s *RayTLSPolicySpec) WithDefaults() RayTLSPolicySpec {
	out := *s.DeepCopy()
	setDefault(&out.Issuance.Mode, ModeScript)
	setDefault(&out.CertificateAuthority.KeyAlgorithm, KeyECDSAP256)
	setDefault(&out.CertificateAuthority.ValidityDays, DefaultAuthorityValidityDays)
	setDefault(&out.PodCertificate.KeyAlgorithm, KeyECDSAP256)
	setDefault(&out.PodCertificate.ValidityDays, DefaultPodValidityDays)
	enable := EnableWhenStopped
	if out.TargetRef != nil {
		enable = EnableImmediate
	}
	setDefault(&out.Rollout.Enable, enable)
	setDefault(&out.Rollout.MaxConcurrentClusters, DefaultMaxConcurrentClusters)
	setDefault(&out.Rollout.ProgressDeadlineSeconds, DefaultProgressDeadlineSeconds)
	setDefault(&out.DeletionPolicy, DeletionKeep)
	return out
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
