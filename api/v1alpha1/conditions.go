package v1alpha1

// Condition types of a RayTLSPolicy.
const (
	// ConditionAccepted reports whether the spec is valid and everything that it refers to exists and is usable. It waits
	// for no cluster, so a GitOps tool's health check can rely on it.
	ConditionAccepted = "Accepted"

	// ConditionReady reports whether every covered cluster is encrypted as asked. It is never True while the gRPC of a covered
	// pod is plaintext.
	//
	// It says nothing of Ray's HTTP ports. Anyone who can reach port 8265 or 52365 of a Ray pod can run code in the cluster
	// without a certificate, also while the policy is Ready. Close them with Ray's token authentication (KubeRay's
	// authOptions) and a NetworkPolicy: see docs/tasks/close-http-ports.md.
	ConditionReady = "Ready"

	// ConditionAdmissionActive reports whether RayClusters of the namespace pass through the operator's admission webhook.
	// With the webhook, a cluster's first pod has TLS already, and no apply removes the injection. Without it, the
	// operator patches the templates afterwards.
	ConditionAdmissionActive = "AdmissionActive"
)

// Condition types of a RayClusterTLS.
const (
	// ConditionEncrypted reports whether every running pod of the RayCluster uses TLS for Ray's gRPC. It is never True while
	// a pod uses none, has a certificate that other pods refuse, or has waited for one for longer than a minute,
	// and never while there is no pod. It is Unknown while the operator cannot read the present state.
	//
	// It says nothing of Ray's HTTP ports. Anyone who can reach port 8265 or 52365 of a Ray pod can run code in the cluster
	// without a certificate, also while the cluster is Encrypted. The remedy is that of ConditionReady.
	ConditionEncrypted = "Encrypted"

	// ConditionCertified reports whether every running pod has a valid certificate of the current authority.
	ConditionCertified = "Certified"
)

// Condition types of both kinds.
const (
	// ConditionUpToDate reports whether clusters run with the present values of the policy's spec. A cluster can be
	// encrypted with older values.
	ConditionUpToDate = "UpToDate"

	// ConditionStalled reports whether the operator can go no further until a user acts. Tools that follow kstatus
	// then report a failure at once. Its reason is the one that another condition has for it.
	ConditionStalled = "Stalled"
)

// Reasons of the condition Accepted.
const (
	// ReasonAccepted: the operator can use the spec.
	ReasonAccepted = "Accepted"
	// ReasonValidityCut: the operator can use the spec, but the brought CA ends earlier than asked, and issuers and
	// certificates end with it.
	ReasonValidityCut = "ValidityCut"
	// ReasonInvalidSelector: spec.selector is not a valid label selector.
	ReasonInvalidSelector = "InvalidSelector"
	// ReasonImageNotAllowed: the administrator has not allowed the image in spec.issuance.initContainer.image.
	ReasonImageNotAllowed = "ImageNotAllowed"
	// ReasonPolicyTooLarge: the policy's spec has more bytes than the operator keeps.
	ReasonPolicyTooLarge = "PolicyTooLarge"
	// ReasonTooManyPolicies: the namespace has as many older policies as the operator heeds.
	ReasonTooManyPolicies = "TooManyPolicies"
	// ReasonInvalidResources: a request in spec.issuance.initContainer.resources is more than its limit.
	ReasonInvalidResources = "InvalidResources"
	// ReasonTargetKindNotServed: the API server does not serve the kind in spec.targetRef.
	ReasonTargetKindNotServed = "TargetKindNotServed"
	// ReasonInvalidWindow: an entry of spec.rollout.windows has no usable schedule or time zone.
	ReasonInvalidWindow = "InvalidWindow"
	// ReasonCASecretNotFound: the Secret in spec.certificateAuthority.secretRef does not exist.
	ReasonCASecretNotFound = "CASecretNotFound"
	// ReasonCASecretNotLabelled: the Secret in spec.certificateAuthority.secretRef lacks the label raytls.io/ca: "true".
	ReasonCASecretNotLabelled = "CASecretNotLabelled"
	// ReasonCASecretInvalid: the Secret in spec.certificateAuthority.secretRef holds no usable CA.
	ReasonCASecretInvalid = "CASecretInvalid"
)

// Reasons of a policy's condition Ready that do not come from a cluster.
const (
	// ReasonNotAccepted: the policy is not Accepted. Clusters that are encrypted already stay encrypted.
	ReasonNotAccepted = "NotAccepted"
	// ReasonReconciling: the operator has not computed the state yet.
	ReasonReconciling = "Reconciling"
	// ReasonTargetNotFound: the object in spec.targetRef does not exist, so the policy covers no RayCluster.
	ReasonTargetNotFound = "TargetNotFound"
	// ReasonNoClusters: the policy covers no RayCluster.
	ReasonNoClusters = "NoClusters"
)

// Reasons of a cluster's condition Encrypted. A policy's condition Ready has the first of them, in the order of the
// operator's severity, that applies to a covered cluster.
const (
	// ReasonEncrypted: every running pod speaks TLS, and every new pod will.
	ReasonEncrypted = "Encrypted"
	// ReasonNoPods: the cluster has no running pod, so nothing is encrypted. New pods will get TLS.
	ReasonNoPods = "NoPods"
	// ReasonSuspended: the cluster is suspended, so it has no pods. New pods will get TLS.
	ReasonSuspended = "Suspended"
	// ReasonNotCovered: no policy covers the cluster, and its pods run without TLS.
	ReasonNotCovered = "NotCovered"
	// ReasonPaused: the cluster needs a change, and spec.paused of its policy stops the operator.
	ReasonPaused = "Paused"
	// ReasonEnabling: the operator restarts the cluster, or its RayService replaces it, to encrypt it.
	ReasonEnabling = "Enabling"
	// ReasonDisabling: the operator restarts the cluster, or its RayService replaces it, to return it to plaintext.
	ReasonDisabling = "Disabling"
	// ReasonRevoking: the operator restarts all pods together, because their authority is revoked.
	ReasonRevoking = "Revoking"
	// ReasonPodsStarting: the templates carry the injection. Pods wait for their certificates, or KubeRay has yet to create pods.
	ReasonPodsStarting = "PodsStarting"
	// ReasonWaitingForSlot: the cluster waits for other clusters, because of spec.rollout.maxConcurrentClusters or because
	// enabling another cluster failed.
	ReasonWaitingForSlot = "WaitingForSlot"
	// ReasonWaitingForWindow: the restart begins when one of spec.rollout.windows opens.
	ReasonWaitingForWindow = "WaitingForWindow"
	// ReasonAwaitingApproval: the cluster runs, and the operator restarts it once it stops or the restart is approved.
	ReasonAwaitingApproval = "AwaitingApproval"
	// ReasonBlocked: the object or setting in status.pendingRestart.blockedBy forbids the cluster's restart.
	ReasonBlocked = "Blocked"
	// ReasonPolicyConflict: another policy covers the cluster.
	ReasonPolicyConflict = "PolicyConflict"
	// ReasonDeleting: the cluster was deleted ten minutes ago and a finalizer still holds it; its pods are not looked at any more.
	ReasonDeleting = "Deleting"
	// ReasonInvalidExclude: the cluster's label raytls.io/exclude has another value than "true", so it excludes nothing.
	ReasonInvalidExclude = "InvalidExclude"
	// ReasonForeignTLS: the cluster configures Ray's TLS itself, and the operator leaves it alone.
	ReasonForeignTLS = "ForeignTLS"
	// ReasonInjectionConflict: a field of the cluster's spec conflicts with the injection.
	ReasonInjectionConflict = "InjectionConflict"
	// ReasonHazard: something in the running cluster's templates dials, probes or names Ray in a way that TLS breaks. The
	// operator does not restart the cluster until it is corrected. A cluster without pods is encrypted all the same.
	ReasonHazard = "Hazard"
	// ReasonNameConflict: an object has a name that the operator needs, and the operator did not create it.
	ReasonNameConflict = "NameConflict"
	// ReasonFieldConflict: another writer repeatedly removes the injection from the cluster's spec.
	ReasonFieldConflict = "FieldConflict"
	// ReasonEnableFailed: enabling failed and the operator reverted it. It tries again when the templates or the
	// parameters change, or when you approve the restart.
	ReasonEnableFailed = "EnableFailed"
	// ReasonCertificateFailed: the init container of a pod cannot create a certificate.
	ReasonCertificateFailed = "CertificateFailed"
	// ReasonCertificateExpired: a running pod has a certificate that has ended.
	ReasonCertificateExpired = "CertificateExpired"
	// ReasonPodsAltered: a pod is not as its template, because something changes pods at admission. The operator does not
	// delete it, since its replacement would be the same.
	ReasonPodsAltered = "PodsAltered"
	// ReasonOutdatedAuthority: a running pod has a certificate of an authority that is neither the cluster's nor an earlier one
	// that its pods still accept, so other pods refuse it.
	ReasonOutdatedAuthority = "OutdatedAuthority"
	// ReasonPlaintextOnWire: the head's GCS port serves gRPC without TLS, whatever the pod's spec says.
	ReasonPlaintextOnWire = "PlaintextOnWire"
	// ReasonForeignTLSOnWire: the head's GCS port serves another certificate than one of the cluster's authority, or lets
	// in clients without a certificate.
	ReasonForeignTLSOnWire = "ForeignTLSOnWire"
	// ReasonAuthorityLost: the Secret of the cluster's authority is gone, and running pods trust that authority.
	ReasonAuthorityLost = "AuthorityLost"
	// ReasonAuthorityRestored: the Secret of the cluster's authority holds another authority than the one that the cluster
	// has used last, as after a restore from a backup. The operator writes nothing.
	ReasonAuthorityRestored = "AuthorityRestored"
	// ReasonFormatUnknown: a newer version of the operator wrote one of the cluster's Secrets, and this version
	// leaves it alone.
	ReasonFormatUnknown = "FormatUnknown"
	// ReasonClockSkew: the clocks of the operator and of an API server differ by more than five minutes, so the operator makes
	// no keys and begins no restart. It is a reason of the condition UpToDate where the cluster has keys that work.
	ReasonClockSkew = "ClockSkew"
	// ReasonError: the operator failed and tries again. The condition is Unknown if the operator cannot read the present state.
	ReasonError = "Error"
)

// Reasons of the condition Certified, besides NoPods, CertificateFailed, CertificateExpired, OutdatedAuthority and PodsOutdated.
const (
	// ReasonCertified: every running pod has a valid certificate of the current authority.
	ReasonCertified = "Certified"
	// ReasonCertificatesPending: a running pod has no certificate of the current authority yet.
	ReasonCertificatesPending = "CertificatesPending"
	// ReasonCertificateEnding: every running pod has a valid certificate, and one is in the last twelfth of its life.
	ReasonCertificateEnding = "CertificateEnding"
)

// Reasons of the condition UpToDate.
const (
	// ReasonUpToDate: clusters run with the present values of the policy's spec.
	ReasonUpToDate = "UpToDate"
	// ReasonAuthorityEnding: the cluster's authority is in the last part of its life, and the brought CA that would sign
	// another ends no later.
	ReasonAuthorityEnding = "AuthorityEnding"
	// ReasonAuthorityChangePending: keyAlgorithm or validityDays of spec.certificateAuthority changed after the cluster's
	// authority was created, or the CA in secretRef cannot be used.
	ReasonAuthorityChangePending = "AuthorityChangePending"
	// ReasonRevocationPending: spec.certificateAuthority.revokeIssuedBefore revokes the cluster's authority, and the restart has not
	// begun. Until it does, every pod trusts that authority.
	ReasonRevocationPending = "RevocationPending"
	// ReasonTooManyGenerations: a new authority is due, and pods may still have certificates of the oldest of the
	// generations that work together.
	ReasonTooManyGenerations = "TooManyGenerations"
	// ReasonTemplateChangePending: spec.issuance.initContainer or spec.additionalContainers changed after the cluster was
	// injected.
	ReasonTemplateChangePending = "TemplateChangePending"
	// ReasonPodsOutdated: pods run with a certificate of an earlier authority or of an earlier podCertificate. Pods of an
	// earlier generation of the authority connect to all others.
	ReasonPodsOutdated = "PodsOutdated"
)

// Reasons of a pending restart for new certificates, besides the reasons of the condition Encrypted.
const (
	// ReasonOnDelete: spec.rollout.strategy of the policy leaves the restart to users.
	ReasonOnDelete = "OnDelete"
	// ReasonWindowTooLate: the next of spec.rollout.windows opens after the last sixth of a certificate's life has begun. The
	// restart begins with that sixth, outside of the windows.
	ReasonWindowTooLate = "WindowTooLate"
	// ReasonReplicasUnavailable: as many replicas as spec.rollout.maxUnavailable allows are unavailable, and have been for
	// longer than spec.rollout.progressDeadlineSeconds. The operator goes on when they are ready.
	ReasonReplicasUnavailable = "ReplicasUnavailable"
)

// Reasons of the condition Stalled, besides the reasons of other conditions.
const (
	// ReasonNothingToDo: no user needs to act.
	ReasonNothingToDo = "NothingToDo"
)

// Reasons of the condition AdmissionActive.
const (
	// ReasonAdmissionActive: the API server sends the namespace's RayClusters to the webhook and trusts its certificate.
	ReasonAdmissionActive = "AdmissionActive"
	// ReasonAdmissionNotInstalled: the operator's webhook configuration does not exist.
	ReasonAdmissionNotInstalled = "AdmissionNotInstalled"
	// ReasonAdmissionPending: the webhook configuration does not list the namespace yet, or lacks its rules or the authority of
	// the webhook's certificate.
	ReasonAdmissionPending = "AdmissionPending"
	// ReasonAdmissionNarrowed: somebody narrowed the webhook configuration by more than names of namespaces. The operator
	// cannot tell whether it matches the namespace's RayClusters.
	ReasonAdmissionNarrowed = "AdmissionNarrowed"
	// ReasonAdmissionOff: the webhook serves no namespace, or this one is the operator's own, which it does not serve.
	ReasonAdmissionOff = "AdmissionOff"
)
