package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RayTLSPolicy gives the RayClusters that it covers mutual TLS on all of Ray core's gRPC. The operator creates an
// authority per cluster, gives each pod a certificate, and injects both into head, worker and autoscaler.
//
// TLS does not close Ray's HTTP ports. Anyone who can reach port 8265 or 52365 of a Ray pod can run code in the RayCluster
// without a certificate. Close these ports with KubeRay's authOptions and a NetworkPolicy.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,path=raytlspolicies,shortName=rtls,categories=ray
// +kubebuilder:metadata:annotations="argocd.argoproj.io/sync-options=Prune=false,Delete=false"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:metadata:annotations="kustomize.toolkit.fluxcd.io/prune=disabled"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether every covered cluster is encrypted as asked"
// +kubebuilder:printcolumn:name="Encrypted",type=integer,JSONPath=`.status.encryptedClusters`,description="How many of the covered RayClusters are encrypted as asked"
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.clusters`,description="How many RayClusters the policy covers"
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.earliestExpiryTime`,description="When the first certificate in use ends"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Accepted",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`,description="Whether the operator can use the spec"
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="The reason of the Ready condition"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="The message of the Ready condition"
type RayTLSPolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec selects RayClusters and says how their pods get certificates. Users write it; the operator never does.
	// +required
	Spec RayTLSPolicySpec `json:"spec,omitzero"`

	// status sums up the covered clusters. The operator alone writes it. Each cluster's own state is in
	// the RayClusterTLS of the same name.
	// +optional
	Status RayTLSPolicyStatus `json:"status,omitempty,omitzero"`
}

// RayTLSPolicyList is a list of RayTLSPolicies.
//
// +kubebuilder:object:root=true
type RayTLSPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []RayTLSPolicy `json:"items"`
}

// RayTLSPolicySpec selects RayClusters and says how their pods get certificates. Exactly one of selector and
// targetRef is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.selector) != has(self.targetRef)",message="exactly one of selector and targetRef must be set: selector: {} covers every RayCluster of the namespace; targetRef: {kind: RayCluster, name: x} covers one, and with kind RayJob, RayService or RayCronJob those that KubeRay creates for it"
// +kubebuilder:validation:XValidation:rule="self.certificateAuthority.validityDays >= 4 * self.podCertificate.validityDays",fieldPath=".certificateAuthority.validityDays",message="certificateAuthority.validityDays (default 3650) must be at least four times podCertificate.validityDays (default 365): an issuer lives twice as long as the certificates it signs, and an authority twice as long as an issuer"
type RayTLSPolicySpec struct {
	// selector covers the RayClusters of the policy's namespace whose labels match. An empty selector covers all of them.
	// A cluster whose labels stop matching stays covered.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || self.matchLabels.size() <= 32",fieldPath=".matchLabels",message="must have at most 32 labels"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchLabels) || self.matchLabels.all(k, k.size() <= 317 && self.matchLabels[k].size() <= 63)",fieldPath=".matchLabels",message="a label's key has at most 317 characters and its value at most 63"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.size() <= 32",fieldPath=".matchExpressions",message="must have at most 32 requirements"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.key.size() <= 317 && (!has(e.values) || e.values.size() <= 32))",fieldPath=".matchExpressions",message="a requirement's key has at most 317 characters, and it has at most 32 values"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])",fieldPath=".matchExpressions",message="a requirement's operator must be In, NotIn, Exists or DoesNotExist"
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// targetRef covers one RayCluster of the policy's namespace, or the RayClusters that KubeRay creates for one RayJob,
	// RayService or RayCronJob. It takes a cluster over from a policy with a selector. A policy that names the RayCluster
	// itself also takes it over from a policy that names its owner.
	// +optional
	TargetRef *TargetReference `json:"targetRef,omitempty"`

	// issuance selects how pods get their certificates.
	// +optional
	// +kubebuilder:default={}
	Issuance Issuance `json:"issuance,omitempty,omitzero"`

	// certificateAuthority describes the authority that the operator creates for each covered cluster. A change of
	// keyAlgorithm or validityDays applies to authorities that are created after it; clusters with an older one report
	// UpToDate=False.
	// +optional
	// +kubebuilder:default={}
	CertificateAuthority CertificateAuthority `json:"certificateAuthority,omitempty,omitzero"`

	// podCertificate describes the certificate that each pod gets for its own addresses. A change applies to pods that
	// start after it. Older pods need a restart for it, as rollout.strategy says.
	// +optional
	// +kubebuilder:default={}
	PodCertificate PodCertificate `json:"podCertificate,omitempty,omitzero"`

	// additionalContainers names further containers, init containers included, that speak Ray's gRPC. The operator gives
	// them the certificates as well. The Ray container of each pod and the autoscaler need no entry.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	AdditionalContainers []string `json:"additionalContainers,omitempty"`

	// rollout limits when and how the operator restarts running clusters.
	// +optional
	// +kubebuilder:default={}
	Rollout Rollout `json:"rollout,omitempty,omitzero"`

	// deletionPolicy selects what happens to the covered clusters when the policy is deleted. Retain leaves them
	// encrypted and keeps issuing certificates to their new pods. Disable restores their specs and restarts
	// them in plaintext, under the rules of rollout.
	// +optional
	// +kubebuilder:default=Retain
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// paused stops every write of the operator to RayClusters, RayServices and pods on behalf of this policy. A RayCluster
	// that is created meanwhile starts in plaintext. The operator still renews issuers, so pods of encrypted clusters can start.
	// +optional
	// +kubebuilder:default=false
	Paused bool `json:"paused,omitempty"` //nolint:kubeapilinter // the field's common name and type in this ecosystem
}

// TargetKind is a kind that a policy can name in targetRef.
//
// +kubebuilder:validation:Enum=RayCluster;RayJob;RayService;RayCronJob
type TargetKind string

// The kinds that targetRef can name.
const (
	// TargetRayCluster covers the RayCluster itself.
	TargetRayCluster TargetKind = "RayCluster"
	// TargetRayJob covers every RayCluster that KubeRay creates for the RayJob.
	TargetRayJob TargetKind = "RayJob"
	// TargetRayService covers every RayCluster that KubeRay creates for the RayService.
	TargetRayService TargetKind = "RayService"
	// TargetRayCronJob covers every RayCluster that KubeRay creates for a RayJob of the RayCronJob.
	TargetRayCronJob TargetKind = "RayCronJob"
)

// TargetReference names one object in the policy's namespace.
type TargetReference struct {
	// kind is the kind of the object. RayJob, RayService and RayCronJob cover every RayCluster that KubeRay creates for
	// the object, including those of retries, upgrades and later runs. KubeRay has RayCronJob from v1.6.
	// +required
	Kind TargetKind `json:"kind,omitempty"`

	// name is the name of the object in the policy's namespace. The object may be created later.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// EnablePolicy selects when the operator may restart a running cluster.
//
// +kubebuilder:validation:Enum=OnStopOrApproval;Immediate
type EnablePolicy string

// The enable policies.
const (
	// EnableOnStopOrApproval waits until the cluster has no pods, is suspended or is approved.
	EnableOnStopOrApproval EnablePolicy = "OnStopOrApproval"
	// EnableImmediate restarts the cluster at once, canary first.
	EnableImmediate EnablePolicy = "Immediate"
)

// RolloutStrategy selects who restarts pods for new certificates.
//
// +kubebuilder:validation:Enum=RollingUpdate;OnDelete
type RolloutStrategy string

// The rollout strategies.
const (
	// StrategyRollingUpdate has the operator evict pods that need new certificates, a few at a time.
	StrategyRollingUpdate RolloutStrategy = "RollingUpdate"
	// StrategyOnDelete leaves the restart of pods that need new certificates to users.
	StrategyOnDelete RolloutStrategy = "OnDelete"
)

// HeadRestart selects when the operator may restart a head for a new certificate.
//
// +kubebuilder:validation:Enum=IfFaultTolerant;Always;Never
type HeadRestart string

// The values of headRestart.
const (
	// HeadRestartIfFaultTolerant restarts heads whose GCS keeps its state outside of the pod, and others if approved.
	HeadRestartIfFaultTolerant HeadRestart = "IfFaultTolerant"
	// HeadRestartAlways restarts every head.
	HeadRestartAlways HeadRestart = "Always"
	// HeadRestartNever restarts no head.
	HeadRestartNever HeadRestart = "Never"
)

// RestartWindow is a recurring time in which restarts may begin.
type RestartWindow struct {
	// schedule is when the window opens, in cron's five fields: minute, hour, day of the month, month, day of the week.
	// "0 2 * * 6" is every Saturday at 02:00.
	// +required
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z*/,?-]+( [0-9A-Za-z*/,?-]+){4}$`
	Schedule string `json:"schedule,omitempty"`

	// durationMinutes is how many minutes the window stays open. A restart that began in it may end later.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10080
	DurationMinutes int32 `json:"durationMinutes,omitempty"`

	// timeZone is the name of the schedule's time zone in the IANA database, such as Europe/Berlin.
	// +optional
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`
	TimeZone string `json:"timeZone,omitempty"`
}

// Rollout limits when and how the operator restarts running clusters. A cluster that is new, suspended or without
// pods waits for nothing.
type Rollout struct {
	// enablePolicy selects when the operator may restart a running cluster, or have its RayService replace it. This
	// holds for encrypting a cluster, and for returning it to plaintext. OnStopOrApproval waits until the
	// cluster stops or somebody approves the restart in approvals. Immediate restarts the cluster at once, canary first.
	// +optional
	// +kubebuilder:default=OnStopOrApproval
	EnablePolicy EnablePolicy `json:"enablePolicy,omitempty"`

	// strategy selects who restarts pods that need new certificates: because two thirds of a certificate's life are over, or
	// because podCertificate changed. With RollingUpdate, the operator evicts workers as maxUnavailable allows, and
	// the head last. With OnDelete, it restarts none of them.
	// +optional
	// +kubebuilder:default=RollingUpdate
	Strategy RolloutStrategy `json:"strategy,omitempty"`

	// maxUnavailable is the number of worker replicas of one cluster that may be unavailable while the operator evicts
	// workers. Replicas that are unavailable for other reasons count. The hosts of a multi-host replica count as one.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`

	// headRestart selects when the operator may restart a head for a new certificate. A head without GCS fault tolerance
	// loses the cluster's state. IfFaultTolerant restarts such a head only if you approve it; the RayService of a serving
	// cluster replaces the cluster instead, without downtime. Always restarts every head. Never restarts none.
	// +optional
	// +kubebuilder:default=IfFaultTolerant
	HeadRestart HeadRestart `json:"headRestart,omitempty"`

	// windows lists the times in which restarts may begin. A restart that began goes on when its window closes. A cluster
	// whose certificates end too soon for the next window does not wait for it. Without windows, restarts begin at any time.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Windows []RestartWindow `json:"windows,omitempty"`

	// maxConcurrentClusters is the number of running clusters that the operator restarts at the same time.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxConcurrentClusters int32 `json:"maxConcurrentClusters,omitempty"`

	// progressDeadlineSeconds is the number of seconds in which a canary must get its certificate. It counts from the end
	// of the old pod's grace period. A canary that misses it reverts the cluster. A RayService must have its new
	// cluster ready in the same time, or the delay is reported. An evicted replica must be ready again in the same
	// time, or the operator evicts no more until it is.
	// +optional
	// +kubebuilder:default=600
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=86400
	ProgressDeadlineSeconds int32 `json:"progressDeadlineSeconds,omitempty"`

	// approvals lists the restarts of running clusters that somebody approved. Copy each entry from
	// status.pendingRestart of the RayClusterTLS. An entry approves one restart of the head that runs now. It matches
	// nothing once that head is gone, so an old entry may stay.
	// +optional
	// +listType=map
	// +listMapKey=cluster
	// +kubebuilder:validation:MaxItems=100
	Approvals []Approval `json:"approvals,omitempty"`
}

// Approval approves one restart of one running cluster.
type Approval struct {
	// cluster is the name of the RayCluster.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Cluster string `json:"cluster,omitempty"`

	// restart is the id of the restart, from status.pendingRestart.id of the cluster's RayClusterTLS.
	// +required
	// +kubebuilder:validation:MinLength=6
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{6,16}$`
	Restart string `json:"restart,omitempty"`
}

// DeletionPolicy selects what happens to covered clusters when their policy is deleted.
//
// +kubebuilder:validation:Enum=Retain;Disable
type DeletionPolicy string

// The deletion policies.
const (
	// DeletionRetain leaves clusters as they are; a new policy adopts them without a restart.
	DeletionRetain DeletionPolicy = "Retain"
	// DeletionDisable restores the clusters' specs and restarts them in plaintext.
	DeletionDisable DeletionPolicy = "Disable"
)

// RayTLSPolicyStatus sums up the covered clusters.
type RayTLSPolicyStatus struct {
	// observedGeneration is the metadata.generation of the policy from which the operator computed this status.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions answer one question each. Accepted: can the operator use the spec? Ready: is the gRPC of every covered
	// cluster encrypted as asked? Ready says nothing of the HTTP ports 8265 and 52365, which TLS does not close; close them
	// with the RayCluster's authOptions and a NetworkPolicy. UpToDate:
	// does every covered cluster run with the spec's present values? AdmissionActive: do the namespace's RayClusters go
	// through the operator's webhook? Stalled: must a user act?
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// clusters is the number of RayClusters that the policy covers.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Clusters int32 `json:"clusters"`

	// encryptedClusters is the number of covered RayClusters that are encrypted as asked.
	// +optional
	// +kubebuilder:validation:Minimum=0
	EncryptedClusters int32 `json:"encryptedClusters"`

	// pods is the number of running pods of the covered RayClusters, terminating ones included.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Pods int32 `json:"pods"`

	// plaintextPods is the number of these pods that run without TLS.
	// +optional
	// +kubebuilder:validation:Minimum=0
	PlaintextPods int32 `json:"plaintextPods"`

	// outdatedPods is the number of these pods whose certificates the cluster's authority or the present podCertificate
	// would make differently.
	// +optional
	// +kubebuilder:validation:Minimum=0
	OutdatedPods int32 `json:"outdatedPods"`

	// earliestExpiryTime is when the first certificate that these pods use ends.
	// +optional
	EarliestExpiryTime *metav1.Time `json:"earliestExpiryTime,omitempty"`
}
