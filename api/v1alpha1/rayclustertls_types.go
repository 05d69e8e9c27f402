package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RayClusterTLS reports how one RayCluster is encrypted, and holds the operator's record of it. It has the
// RayCluster's name and is deleted with it. The operator alone writes it.
//
// It reports on Ray's gRPC. Anyone who can reach port 8265 or 52365 of a Ray pod can run code in the RayCluster without a
// certificate, also while it is Encrypted. Close these ports with KubeRay's authOptions and a NetworkPolicy.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,path=rayclustertlses,shortName=rctls,categories=ray
// +kubebuilder:metadata:annotations="argocd.argoproj.io/sync-options=Prune=false,Delete=false"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:metadata:annotations="kustomize.toolkit.fluxcd.io/prune=disabled"
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.status.policyRef.name`,description="The policy that covers the RayCluster"
// +kubebuilder:printcolumn:name="Encrypted",type=string,JSONPath=`.status.conditions[?(@.type=="Encrypted")].status`,description="Whether all running pods speak TLS"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Encrypted")].reason`,description="The reason of the Encrypted condition"
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.pods.total`,description="How many pods run"
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.earliestExpiryTime`,description="When the first certificate in use ends"
// +kubebuilder:printcolumn:name="Restart-By",type=string,JSONPath=`.status.restartBy`,description="When the first pod must have been restarted"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Up-To-Date",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="UpToDate")].status`,description="Whether the RayCluster runs with the policy's present values"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Encrypted")].message`,description="The message of the Encrypted condition"
type RayClusterTLS struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's metadata. Its name and namespace are those of the RayCluster.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// status is the state of the RayCluster's encryption, and the operator's record of it.
	// +optional
	Status RayClusterTLSStatus `json:"status,omitempty,omitzero"`
}

// RayClusterTLSList is a list of RayClusterTLSes.
//
// +kubebuilder:object:root=true
type RayClusterTLSList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []RayClusterTLS `json:"items"`
}

// RayClusterTLSStatus is the state of one RayCluster's encryption, and the operator's record of it.
type RayClusterTLSStatus struct {
	// observedGeneration is the metadata.generation of the RayCluster from which the operator computed this status.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// policyRef names the policy that covers the RayCluster. It is absent when no policy does.
	// +optional
	PolicyRef PolicyReference `json:"policyRef,omitempty,omitzero"`

	// conditions answer one question each. Encrypted: does every running pod use TLS for Ray's gRPC? Encrypted says nothing of
	// the HTTP ports 8265 and 52365, which TLS does not close. UpToDate: does the RayCluster run with the policy's present
	// values? Certified: has every pod a valid certificate of the current authority? Stalled: must a user act?
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// injection records what the operator injected into the RayCluster's templates.
	// +optional
	Injection InjectionStatus `json:"injection,omitempty,omitzero"`

	// rollout records how far a restart of the RayCluster has come. It is absent while no restart is under way.
	// +optional
	Rollout *RolloutProgress `json:"rollout,omitempty"`

	// refusedEvictions lists pods that need new certificates and that the API server refuses to evict, for a reason that the
	// operator does not read. It tries each of them again, after one minute at first and after ten at last.
	// +optional
	// +listType=map
	// +listMapKey=podUID
	// +kubebuilder:validation:MaxItems=8
	RefusedEvictions []RefusedEviction `json:"refusedEvictions,omitempty"`

	// authority describes the RayCluster's current authority. It is absent until the operator has created one.
	// +optional
	Authority AuthorityStatus `json:"authority,omitempty,omitzero"`

	// issuer describes the issuer that signs the certificates of new pods. It is absent until the operator has created one.
	// +optional
	Issuer IssuerStatus `json:"issuer,omitempty,omitzero"`

	// pods counts the RayCluster's running pods, terminating ones included.
	// +optional
	Pods PodCounts `json:"pods"`

	// earliestExpiryTime is when the first certificate that the RayCluster's pods use ends.
	// +optional
	EarliestExpiryTime *metav1.Time `json:"earliestExpiryTime,omitempty"`

	// restartBy is when the first pod must have been restarted. From then on, other pods refuse its certificate.
	// It is earlier than earliestExpiryTime where a pod does not report its certificate, or serves another one.
	// +optional
	RestartBy *metav1.Time `json:"restartBy,omitempty"`

	// expiryStage is the last part of its life that a certificate in use has reached. It is absent before the last third.
	// +optional
	ExpiryStage ExpiryStage `json:"expiryStage,omitempty"`

	// podCertificate records since when the policy's podCertificate is what it is. Older pods need a restart.
	// +optional
	PodCertificate PodCertificateStatus `json:"podCertificate,omitempty,omitzero"`

	// observedOnWire is the result of the last handshake with the head. It is absent until the head is ready.
	// +optional
	ObservedOnWire ObservedOnWire `json:"observedOnWire,omitempty,omitzero"`

	// pendingRestart describes a restart that waits for an approval, or for what is named in blockedBy. It is absent when
	// no restart waits.
	// +optional
	PendingRestart *PendingRestart `json:"pendingRestart,omitempty"`
}

// ExpiryStage is a last part of a certificate's life. The operator warns when a certificate enters one.
//
// +kubebuilder:validation:Enum=LastThird;LastSixth;LastTwelfth
type ExpiryStage string

// The stages. Renewal is due from LastThird.
const (
	// StageLastThird: a third of a certificate's life is left, or less.
	StageLastThird ExpiryStage = "LastThird"
	// StageLastSixth: a sixth of a certificate's life is left, or less.
	StageLastSixth ExpiryStage = "LastSixth"
	// StageLastTwelfth: a twelfth of a certificate's life is left, or less.
	StageLastTwelfth ExpiryStage = "LastTwelfth"
)

// PodCertificateStatus records since when the policy's podCertificate is what it is.
//
// +kubebuilder:validation:MinProperties=1
type PodCertificateStatus struct {
	// workerHash is a hash of the fields that concern every pod.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	WorkerHash string `json:"workerHash,omitempty"`

	// workerSince is from when on every new pod is created by these fields. It is absent if they never changed.
	// +optional
	WorkerSince *metav1.Time `json:"workerSince,omitempty"`

	// headHash is a hash of the fields that concern the head alone.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	HeadHash string `json:"headHash,omitempty"`

	// headSince is from when on every new head is created by these fields. It is absent if they never changed.
	// +optional
	HeadSince *metav1.Time `json:"headSince,omitempty"`
}

// PolicyReference names a RayTLSPolicy in the RayCluster's namespace.
type PolicyReference struct {
	// name is the name of the RayTLSPolicy in the RayCluster's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// generation is the metadata.generation of the policy from which the operator computed this status.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation,omitempty"`
}

// InjectionStatus records what the operator injected into a RayCluster's templates.
//
// +kubebuilder:validation:MinProperties=1
type InjectionStatus struct {
	// revision is the revision of the injection that the templates carry. A value marks the RayCluster as encrypted on
	// record: the operator restores templates that lose the injection. It is absent from a plaintext RayCluster.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Revision int32 `json:"revision,omitempty"`

	// since is when the operator injected the templates of a RayCluster that was created without TLS. It is absent from
	// a RayCluster that had TLS from its creation.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// groups lists the worker groups whose templates carried the injection. It tells a worker group whose injection was
	// removed from a new one.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Groups []string `json:"groups,omitempty"`

	// failedHash is the hash of the templates and parameters with which enabling failed. The operator does not try
	// again until the hash changes.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	FailedHash string `json:"failedHash,omitempty"`

	// failedTime is when enabling failed.
	// +optional
	FailedTime *metav1.Time `json:"failedTime,omitempty"`

	// failedMessage is the error with which enabling failed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	FailedMessage string `json:"failedMessage,omitempty"`

	// restoredTimes lists when the operator restored the injection after somebody had removed it, the last eight times at
	// most. Several in a short time are a FieldConflict.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	RestoredTimes []metav1.Time `json:"restoredTimes,omitempty"`

	// templates lists when the operator last added the injection to a template, or removed it. The operator never deletes a
	// pod that was created from the present template because of what the pod holds.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Templates []TemplateChange `json:"templates,omitempty"`

	// lastAttemptTime is when a restart last failed or was given up, or when the operator last asked the RayService for a new
	// cluster. The id of each restart depends on it, so no approval counts twice.
	// +optional
	LastAttemptTime *metav1.Time `json:"lastAttemptTime,omitempty"`
}

// TemplateChange is what the operator last made of a pod template.
type TemplateChange struct {
	// group is the name of the worker group. It is absent for the head.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// goal is what new pods of the template are: Encrypted or Plaintext.
	// +required
	Goal RolloutGoal `json:"goal,omitempty"`

	// changedTime is when the operator changed the template.
	// +required
	ChangedTime metav1.Time `json:"changedTime,omitempty,omitzero"` //nolint:kubeapilinter // a change always has a time
}

// RolloutGoal is the state that a restart brings a RayCluster into.
//
// +kubebuilder:validation:Enum=Encrypted;Plaintext
type RolloutGoal string

// The goals of a restart.
const (
	// GoalEncrypted restarts the RayCluster with TLS.
	GoalEncrypted RolloutGoal = "Encrypted"
	// GoalPlaintext restarts the RayCluster with its own templates.
	GoalPlaintext RolloutGoal = "Plaintext"
)

// RolloutPhase is a stage of a restart.
//
// +kubebuilder:validation:Enum=Canary;Head;Rest;All;Revert;Upgrade;Roll;Revoke
type RolloutPhase string

// The phases of a restart. A restart goes through Canary, Head and Rest, or is in one of the others.
const (
	// PhaseCanary waits for one worker of each kind to get its certificate.
	PhaseCanary RolloutPhase = "Canary"
	// PhaseHead waits for the new head to get its certificate.
	PhaseHead RolloutPhase = "Head"
	// PhaseRest replaces all other pods.
	PhaseRest RolloutPhase = "Rest"
	// PhaseAll waits for KubeRay or Kueue to replace all pods.
	PhaseAll RolloutPhase = "All"
	// PhaseRevert restores the templates and the canaries after a failure.
	PhaseRevert RolloutPhase = "Revert"
	// PhaseUpgrade waits for the RayService to replace the RayCluster.
	PhaseUpgrade RolloutPhase = "Upgrade"
	// PhaseRoll evicts pods that need new certificates, a few at a time.
	PhaseRoll RolloutPhase = "Roll"
	// PhaseRevoke replaces all pods together, because their authority is revoked.
	PhaseRevoke RolloutPhase = "Revoke"
)

// RolloutProgress records how far a restart has come, so that another replica of the operator can continue it.
type RolloutProgress struct {
	// goal is the state that the restart brings the RayCluster into.
	// +required
	Goal RolloutGoal `json:"goal,omitempty"`

	// phase is the stage that the restart has reached.
	// +required
	Phase RolloutPhase `json:"phase,omitempty"` //nolint:kubeapilinter // a record of how far a restart has come; users read conditions

	// phaseStartTime is when the phase began.
	// +required
	PhaseStartTime metav1.Time `json:"phaseStartTime,omitempty,omitzero"` //nolint:kubeapilinter // goes with phase; the zero time is no value of it

	// deadlineStartTime is when rollout.progressDeadlineSeconds began to count. In the phase Roll it is when remaining last fell. It
	// is absent when that is phaseStartTime.
	// +optional
	DeadlineStartTime *metav1.Time `json:"deadlineStartTime,omitempty"`

	// remaining is the number of replicas, the head included, that still need a new certificate. It is set in the phase Roll
	// alone, and absent when none is left.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Remaining int32 `json:"remaining,omitempty"`

	// canaries lists the workers that restart first, at most one of each worker group.
	// +optional
	// +listType=map
	// +listMapKey=group
	// +kubebuilder:validation:MaxItems=1024
	Canaries []Canary `json:"canaries,omitempty"`
}

// Canary is a worker that restarts before the others.
type Canary struct {
	// group is the name of the worker group.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// pod is the name of the pod that the operator deletes to get the canary.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Pod string `json:"pod,omitempty"`
}

// RefusedEviction is a pod that the API server refuses to evict.
type RefusedEviction struct {
	// pod is the name of the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Pod string `json:"pod,omitempty"`

	// podUID is the UID of the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	PodUID string `json:"podUID,omitempty"`

	// firstTime is when the API server refused first.
	// +required
	FirstTime metav1.Time `json:"firstTime,omitempty,omitzero"` //nolint:kubeapilinter // a refusal always has a time

	// lastTime is when the API server refused last.
	// +required
	LastTime metav1.Time `json:"lastTime,omitempty,omitzero"` //nolint:kubeapilinter // a refusal always has a time

	// attempts is how many times the API server refused.
	// +required
	// +kubebuilder:validation:Minimum=1
	Attempts int32 `json:"attempts,omitempty"`

	// blockedBy names what refuses: the PodDisruptionBudget that the API server names, or else the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	BlockedBy string `json:"blockedBy,omitempty"`

	// message is the API server's answer.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// AuthorityStatus describes a RayCluster's current authority.
type AuthorityStatus struct {
	// generation is the number of the authority: 1 for the first, and one more for each that replaced another. It
	// never decreases.
	// +required
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation,omitempty"`

	// id is a short hash of the authority's public key.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id,omitempty"`

	// issuedTime is when the operator created the authority.
	// +optional
	IssuedTime *metav1.Time `json:"issuedTime,omitempty"`

	// expiryTime is when the authority's certificate ends.
	// +optional
	ExpiryTime *metav1.Time `json:"expiryTime,omitempty"`

	// revokedBeforeGeneration is the number below which every generation is revoked. The operator never uses an authority
	// below it again. It is part of the CA Secret's name. It is absent if no authority of the RayCluster was revoked. A
	// generation below it means that the revocation has begun.
	// +optional
	// +kubebuilder:validation:Minimum=2
	RevokedBeforeGeneration int64 `json:"revokedBeforeGeneration,omitempty"`

	// earlier lists the authorities that the current one replaced and that pods may still have certificates of, newest first.
	// These pods connect to all others.
	// +optional
	// +listType=map
	// +listMapKey=generation
	// +kubebuilder:validation:MaxItems=32
	Earlier []EarlierAuthority `json:"earlier,omitempty"`
}

// EarlierAuthority describes an authority that was replaced, as long as pods may have certificates of it.
type EarlierAuthority struct {
	// generation is the number of the authority.
	// +required
	// +kubebuilder:validation:Minimum=1
	Generation int64 `json:"generation,omitempty"`

	// id is a short hash of the authority's public key.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id,omitempty"`

	// pods is the number of running pods that have a certificate of the authority.
	// +required
	// +kubebuilder:validation:Minimum=0
	Pods int32 `json:"pods"`

	// expiryTime is when the pods of the current authority cease to accept those of this one. No certificate of it lasts longer.
	// +optional
	ExpiryTime *metav1.Time `json:"expiryTime,omitempty"`
}

// IssuerStatus describes the issuer that signs the certificates of new pods.
type IssuerStatus struct {
	// id is a short hash of the issuer's public key.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id,omitempty"`

	// issuedTime is when the issuer was made.
	// +optional
	IssuedTime *metav1.Time `json:"issuedTime,omitempty"`

	// expiryTime is when the issuer's certificate ends. The operator replaces the issuer halfway there.
	// +optional
	ExpiryTime *metav1.Time `json:"expiryTime,omitempty"`
}

// PodCounts counts the running pods of a RayCluster, terminating ones included.
type PodCounts struct {
	// total is the number of running pods.
	// +required
	// +kubebuilder:validation:Minimum=0
	Total int32 `json:"total"`

	// certified is the number of pods that have a valid certificate of the current authority.
	// +required
	// +kubebuilder:validation:Minimum=0
	Certified int32 `json:"certified"`

	// plaintext is the number of pods that run without TLS.
	// +required
	// +kubebuilder:validation:Minimum=0
	Plaintext int32 `json:"plaintext"`

	// outdated is the number of pods whose certificate is of an earlier authority or of an earlier podCertificate. It includes
	// pods of the earlier authorities in authority.earlier.
	// +required
	// +kubebuilder:validation:Minimum=0
	Outdated int32 `json:"outdated"`
}

// WireState is what the GCS port of a head serves.
//
// +kubebuilder:validation:Enum=TLS;ForeignTLS;Plaintext;Unknown
type WireState string

// The wire states. Each but Unknown is proven by what the head sent.
const (
	// WireTLS: mutual TLS, with a certificate of the RayCluster's authority.
	WireTLS WireState = "TLS"
	// WireForeignTLS: other TLS than that of the RayCluster.
	WireForeignTLS WireState = "ForeignTLS"
	// WirePlaintext: gRPC without TLS.
	WirePlaintext WireState = "Plaintext"
	// WireUnknown: the operator could not tell.
	WireUnknown WireState = "Unknown"
)

// ObservedOnWire is the result of a TLS handshake of the operator with the GCS port of the head.
type ObservedOnWire struct {
	// time is when the operator made the handshake.
	// +required
	Time metav1.Time `json:"time,omitempty,omitzero"` //nolint:kubeapilinter // an observation always has a time

	// podUID is the UID of the head pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	PodUID string `json:"podUID,omitempty"`

	// head is what the port serves. TLS is mutual TLS with a certificate of the RayCluster's authority. ForeignTLS is TLS
	// with another certificate, or TLS that lets in clients without a certificate. Plaintext is gRPC without TLS. Unknown
	// means that the operator could not tell; it changes no condition.
	// +required
	Head WireState `json:"head,omitempty"`

	// reason is the cause of a head that is ForeignTLS or Unknown; TLS and Plaintext have none. ForeignTLS has
	// ForeignCertificate or AnyClient. Unknown has Refused, Unreachable, TimedOut, Closed, NotGRPC, HandshakeFailed, TooLarge,
	// Moved, ServiceMesh or HostNetwork.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// port is the port of the handshake. It is absent when the operator made none.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// authorityGeneration is the generation of the authority that issued the served certificate. It is absent for an
	// authority whose generation the operator does not know.
	// +optional
	// +kubebuilder:validation:Minimum=1
	AuthorityGeneration int64 `json:"authorityGeneration,omitempty"`

	// expiryTime is when the served certificate ends, if the RayCluster's authority issued it.
	// +optional
	ExpiryTime *metav1.Time `json:"expiryTime,omitempty"`
}

// RestartAction is the change for which a RayCluster needs a restart.
//
// +kubebuilder:validation:Enum=Enable;Disable;Roll;Revoke
type RestartAction string

// The actions that need a restart.
const (
	// ActionEnable restarts the RayCluster with TLS.
	ActionEnable RestartAction = "Enable"
	// ActionDisable restarts the RayCluster in plaintext.
	ActionDisable RestartAction = "Disable"
	// ActionRoll restarts pods of an encrypted RayCluster for new certificates.
	ActionRoll RestartAction = "Roll"
	// ActionRevoke restarts all pods of an encrypted RayCluster together with an unrelated authority.
	ActionRevoke RestartAction = "Revoke"
)

// PendingRestart describes a restart of a running RayCluster that has not begun.
type PendingRestart struct {
	// id identifies the restart in rollout.approvals of the policy. It changes when the head pod is replaced.
	// +required
	// +kubebuilder:validation:MinLength=6
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{6,16}$`
	ID string `json:"id,omitempty"`

	// action is the change for which the RayCluster needs the restart.
	// +required
	Action RestartAction `json:"action,omitempty"`

	// reason is AwaitingApproval, Blocked, Hazard, WaitingForSlot, WaitingForWindow, WindowTooLate, EnableFailed, OnDelete,
	// Paused, ReplicasUnavailable, ClockSkew or NotAccepted.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// blockedBy names the object or setting that forbids the restart, approved or not, such as RayJob/train.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	BlockedBy string `json:"blockedBy,omitempty"`

	// message is the obstacle to the restart. It ends with the complete command to approve the restart, if an approval helps.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`
}
