package v1alpha1

// Condition types of a RayTLSPolicy.
const (
	// ConditionAccepted says whether the spec makes sense and what it refers to is there and usable.
	// It does not wait for clusters: this is what a GitOps tool's health check should look at.
	ConditionAccepted = "Accepted"

	// ConditionReady says whether every covered pod is encrypted as asked. It is never True while a covered
	// pod speaks plaintext.
	ConditionReady = "Ready"

	// ConditionAdmissionActive says whether RayClusters of the namespace go through the operator's admission webhook, so
	// that their first pod has TLS and nobody's apply takes it out again. Without it all that is done too, but later.
	ConditionAdmissionActive = "AdmissionActive"
)

// Reasons of the condition Accepted.
const (
	// ReasonAccepted: the spec makes sense.
	ReasonAccepted = "Accepted"
	// ReasonValidityCut: accepted; issuers and certificates end earlier than asked, with the brought CA.
	ReasonValidityCut = "ValidityCut"
	// ReasonInvalidSelector: spec.selector cannot be parsed.
	ReasonInvalidSelector = "InvalidSelector"
	// ReasonImageNotAllowed: spec.issuance.initContainer.image is not on the operator's allowlist.
	ReasonImageNotAllowed = "ImageNotAllowed"
	// ReasonCASecretNotFound: the Secret in spec.certificateAuthority.secretRef does not exist.
	ReasonCASecretNotFound = "CASecretNotFound"
	// ReasonTargetKindNotServed: the API server does not serve the kind in spec.targetRef.
	ReasonTargetKindNotServed = "TargetKindNotServed"
	// ReasonCASecretInvalid: the Secret in spec.certificateAuthority.secretRef holds no usable CA.
	ReasonCASecretInvalid = "CASecretInvalid"
)

// Reasons of the condition Ready, and of each cluster in status.clusters. From ReasonEncrypted on, the
// first that applies to any covered cluster is the condition's.
const (
	// ReasonNotAccepted: the policy is not Accepted; clusters that are encrypted already stay so.
	ReasonNotAccepted = "NotAccepted"
	// ReasonReconciling: clusters that the policy may cover have yet to be looked at.
	ReasonReconciling = "Reconciling"
	// ReasonTargetNotFound: the object in spec.targetRef does not exist.
	ReasonTargetNotFound = "TargetNotFound"
	// ReasonNoClusters: no RayCluster is covered, so none is in plaintext.
	ReasonNoClusters = "NoClusters"

	// ReasonEncrypted: all pods that run are encrypted, and new ones will be.
	ReasonEncrypted = "Encrypted"
	// ReasonPaused: something is to be done, and spec.paused keeps it from being done.
	ReasonPaused = "Paused"
	// ReasonEnabling: the cluster is being restarted, or replaced by its RayService, to be encrypted.
	ReasonEnabling = "Enabling"
	// ReasonDisabling: the cluster is being restarted, or replaced by its RayService, in plaintext.
	ReasonDisabling = "Disabling"
	// ReasonPodsStarting: the templates are injected and pods have yet to make their certificates.
	ReasonPodsStarting = "PodsStarting"
	// ReasonWaitingForSlot: the cluster waits for others, by spec.rollout.maxConcurrentClusters or since one failed.
	ReasonWaitingForSlot = "WaitingForSlot"
	// ReasonAwaitingApproval: the cluster runs and is restarted only when it stops or is approved.
	ReasonAwaitingApproval = "AwaitingApproval"
	// ReasonBlocked: something named in blockedBy keeps the cluster from being restarted.
	ReasonBlocked = "Blocked"
	// ReasonPolicyConflict: another policy covers the cluster.
	ReasonPolicyConflict = "PolicyConflict"
	// ReasonForeignTLS: the cluster sets up TLS by itself and is left alone.
	ReasonForeignTLS = "ForeignTLS"
	// ReasonInjectionConflict: something in the cluster's spec is in the injection's way.
	ReasonInjectionConflict = "InjectionConflict"
	// ReasonNameConflict: an object of a name that the operator needs exists and is not the operator's.
	ReasonNameConflict = "NameConflict"
	// ReasonAuthorityLost: the Secret with the cluster's authority is gone while pods that trust it run.
	ReasonAuthorityLost = "AuthorityLost"
	// ReasonEnableFailed: enabling failed and was put back; it is tried again when the templates or the approval change.
	ReasonEnableFailed = "EnableFailed"
	// ReasonCertificateFailed: a pod's init container cannot make a certificate.
	ReasonCertificateFailed = "CertificateFailed"
	// ReasonFieldConflict: somebody takes the injection out of the cluster's spec again and again.
	ReasonFieldConflict = "FieldConflict"
	// ReasonError: the operator failed at something and tries again.
	ReasonError = "Error"
)

// Reasons of the condition AdmissionActive.
const (
	// ReasonAdmissionActive: the API server sends the namespace's RayClusters to the webhook and trusts its certificate.
	ReasonAdmissionActive = "AdmissionActive"
	// ReasonAdmissionNotInstalled: there is no webhook configuration of the operator's.
	ReasonAdmissionNotInstalled = "AdmissionNotInstalled"
	// ReasonAdmissionPending: the webhook configuration does not name the namespace yet, or not yet the certificate's authority.
	ReasonAdmissionPending = "AdmissionPending"
	// ReasonAdmissionNarrowed: the webhook configuration was narrowed by more than the names of namespaces, so whether a
	// cluster of this one is meant is not known.
	ReasonAdmissionNarrowed = "AdmissionNarrowed"
	// ReasonAdmissionOff: the operator answers no admission requests for this namespace, which is its own, or for none.
	ReasonAdmissionOff = "AdmissionOff"
)
