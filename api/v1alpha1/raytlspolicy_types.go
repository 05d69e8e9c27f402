package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RayTLSPolicy gives the RayClusters it covers mutual TLS on all of Ray core's gRPC: an authority per
// cluster, a certificate per pod, and the injection that brings both into head, worker and autoscaler.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,path=raytlspolicies,shortName=rtls,categories=ray
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.status.mode`
// +kubebuilder:printcolumn:name="Clusters",type=string,JSONPath=`.status.encrypted`,description="RayClusters encrypted as asked, of those covered"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.expires`,description="When the first certificate in use ends"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RayTLSPolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is what is asked for.
	// +required
	Spec RayTLSPolicySpec `json:"spec,omitzero"`

	// status is what the operator found.
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

// RayTLSPolicySpec is what a policy asks for. Exactly one of selector and targetRef says for which RayClusters.
//
// +kubebuilder:validation:XValidation:rule="has(self.selector) != has(self.targetRef)",message="exactly one of selector and targetRef must be set: selector: {} covers every RayCluster of the namespace, targetRef: {kind: RayCluster, name: x} covers one, and with kind RayJob, RayService or RayCronJob those made for it"
// +kubebuilder:validation:XValidation:rule="2 * (has(self.podCertificate) && has(self.podCertificate.validityDays) ? self.podCertificate.validityDays : 365) <= (has(self.certificateAuthority) && has(self.certificateAuthority.validityDays) ? self.certificateAuthority.validityDays : 3650)",fieldPath=".podCertificate",message="podCertificate.validityDays (default 365) must be at most half of certificateAuthority.validityDays (default 3650), since an issuer lives twice as long as the certificates it signs"
type RayTLSPolicySpec struct {
	// selector picks RayClusters of the policy's namespace by label. An empty selector picks all of them.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// targetRef names the one RayCluster of the policy's namespace that is covered, or the RayJob, RayService or
	// RayCronJob whose RayClusters are. It may take a cluster over from a policy that covers it by selector; one
	// that names the RayCluster itself may also take it over from one that names what it was made for.
	// +optional
	TargetRef *TargetReference `json:"targetRef,omitempty"`

	// issuance says how pods come by their certificates.
	// +optional
	Issuance Issuance `json:"issuance,omitempty,omitzero"`

	// certificateAuthority describes the authority that each covered cluster gets for itself.
	// +optional
	CertificateAuthority CertificateAuthority `json:"certificateAuthority,omitempty,omitzero"`

	// podCertificate describes the certificate that each pod gets for its own addresses.
	// A change applies to pods that start after it.
	// +optional
	PodCertificate PodCertificate `json:"podCertificate,omitempty,omitzero"`

	// additionalContainers are the names of further containers, init containers included, that speak Ray's
	// gRPC and so need the certificates too. The first container of each pod and the autoscaler have them anyway.
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	AdditionalContainers []string `json:"additionalContainers,omitempty"`

	// rollout says when and how running clusters are restarted.
	// +optional
	Rollout Rollout `json:"rollout,omitempty,omitzero"`

	// deletionPolicy says what becomes of the covered clusters when the policy is deleted. Keep leaves them
	// as they are, encrypted and with working certificates for new pods. Remove gives them their specs back
	// and restarts them in plaintext, under the rules of enabling. Defaults to Keep.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// paused stops every write to RayClusters, RayServices and pods on behalf of this policy. A RayCluster that is
	// created meanwhile starts in plaintext. Issuers are still renewed, so that pods can start.
	// +optional
	Paused bool `json:"paused,omitempty"` //nolint:kubeapilinter // the field's common name and type in this ecosystem
}

// TargetKind is a kind that a policy can name in targetRef.
//
// +kubebuilder:validation:Enum=RayCluster;RayJob;RayService;RayCronJob
type TargetKind string

// The kinds. All but the first stand for every RayCluster that KubeRay makes for the object.
const (
	TargetRayCluster TargetKind = "RayCluster"
	TargetRayJob     TargetKind = "RayJob"
	TargetRayService TargetKind = "RayService"
	TargetRayCronJob TargetKind = "RayCronJob"
)

// TargetReference names one object in the policy's namespace.
type TargetReference struct {
	// kind is the kind of the object. RayJob, RayService and RayCronJob cover the RayClusters that are made for the
	// object, those of retries, upgrades and later runs included. KubeRay has RayCronJob from v1.6.
	// +required
	Kind TargetKind `json:"kind,omitempty"`

	// name is the name of the object. It need not exist yet.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// IssuanceMode is a way in which pods come by their certificates.
//
// +kubebuilder:validation:Enum=Script
type IssuanceMode string

// ModeScript has each pod make its certificate in an init container, with openssl and the cluster's issuer key.
const ModeScript IssuanceMode = "Script"

// Issuance says how pods come by their certificates.
type Issuance struct {
	// mode is the way in which pods come by their certificates. Script runs a script with openssl in an init
	// container, beside the key of the cluster's issuer. Defaults to Script.
	// +optional
	Mode IssuanceMode `json:"mode,omitempty"`

	// initContainer changes the init container that makes the certificate.
	// +optional
	InitContainer InitContainer `json:"initContainer,omitempty,omitzero"`
}

// PullPolicy says when the kubelet pulls an image.
//
// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
type PullPolicy string

// InitContainer changes the init container that makes a pod's certificate.
//
// +kubebuilder:validation:XValidation:rule="!has(self.imagePullPolicy) || has(self.image)",fieldPath=".imagePullPolicy",message="imagePullPolicy goes with image: without image, the init container uses the Ray container's image and pull policy"
type InitContainer struct {
	// image is the init container's image. It must be one that the operator's administrator has allowed.
	// Defaults to the image of the pod's Ray container.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// imagePullPolicy says when image is pulled. Defaults to what Kubernetes chooses for the image's tag.
	// +optional
	ImagePullPolicy PullPolicy `json:"imagePullPolicy,omitempty"`

	// resources are the init container's requests and limits. Defaults to 250m CPU and 64Mi memory for both,
	// which keeps a pod of the Guaranteed class in it.
	// +optional
	Resources *InitContainerResources `json:"resources,omitempty"`

	// scriptsPath is the folder in the image that holds gencert_head.sh and gencert_worker.sh, as
	// `raytls gencert` writes them. Their content is checked all the same. Defaults to a mounted ConfigMap.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`
	ScriptsPath string `json:"scriptsPath,omitempty"`
}

// InitContainerResources are requests and limits. What is left out is neither requested nor limited.
type InitContainerResources struct {
	// requests are what is reserved.
	// +optional
	Requests ResourceAmounts `json:"requests,omitempty,omitzero"`

	// limits are what may be used at most.
	// +optional
	Limits ResourceAmounts `json:"limits,omitempty,omitzero"`
}

// ResourceAmounts are amounts of the resources that an init container uses. The schema of a quantity lets more pass than
// can be read, and one object that cannot be read would keep the operator from reading any.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.cpu) || type(self.cpu) == int || isQuantity(self.cpu)",fieldPath=".cpu",message="must be a quantity such as 250m"
// +kubebuilder:validation:XValidation:rule="!has(self.memory) || type(self.memory) == int || isQuantity(self.memory)",fieldPath=".memory",message="must be a quantity such as 64Mi"
// +kubebuilder:validation:XValidation:rule="!has(self.ephemeralStorage) || type(self.ephemeralStorage) == int || isQuantity(self.ephemeralStorage)",fieldPath=".ephemeralStorage",message="must be a quantity such as 64Mi"
type ResourceAmounts struct {
	// cpu is an amount of CPU time.
	// +optional
	CPU *resource.Quantity `json:"cpu,omitempty"`

	// memory is an amount of memory.
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`

	// ephemeralStorage is an amount of the node's disk. The init container writes none; a quota may want it stated.
	// +optional
	EphemeralStorage *resource.Quantity `json:"ephemeralStorage,omitempty"`
}

// KeyAlgorithm is a kind and size of private key that all of Ray's TLS stacks accept.
//
// +kubebuilder:validation:Enum=ECDSAP256;ECDSAP384;RSA2048;RSA3072;RSA4096
type KeyAlgorithm string

// The key algorithms. BoringSSL, which Ray's gRPC is built on, refuses Ed25519 and P-521 certificates.
const (
	KeyECDSAP256 KeyAlgorithm = "ECDSAP256"
	KeyECDSAP384 KeyAlgorithm = "ECDSAP384"
	KeyRSA2048   KeyAlgorithm = "RSA2048"
	KeyRSA3072   KeyAlgorithm = "RSA3072"
	KeyRSA4096   KeyAlgorithm = "RSA4096"
)

// CertificateAuthority describes the authority of each covered cluster.
type CertificateAuthority struct {
	// keyAlgorithm is the key of authorities and issuers made from now on. Defaults to ECDSAP256.
	// +optional
	KeyAlgorithm KeyAlgorithm `json:"keyAlgorithm,omitempty"`

	// validityDays is how many days an authority made from now on lives. Defaults to 3650.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=7300
	ValidityDays int32 `json:"validityDays,omitempty"`

	// secretRef names a Secret in the policy's namespace with a CA certificate and key that sign the
	// authorities made from now on: keys ca.crt and ca.key, or tls.crt and tls.key. Pods trust their
	// cluster's authority alone, never this CA. Defaults to self-signed authorities.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
}

// SecretReference names a Secret in the policy's namespace.
type SecretReference struct {
	// name is the Secret's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// PodCertificate describes the certificate that each pod gets.
type PodCertificate struct {
	// keyAlgorithm is the key of pod certificates. Defaults to ECDSAP256.
	// +optional
	KeyAlgorithm KeyAlgorithm `json:"keyAlgorithm,omitempty"`

	// validityDays is how many days a pod certificate lives. The issuer is replaced as often and lives twice
	// as long. Defaults to 365.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3650
	ValidityDays int32 `json:"validityDays,omitempty"`

	// headDNSNames are further names under which clients reach the head, such as that of an ingress. The last
	// label starts with a letter, as that of every name on the network does.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`
	HeadDNSNames []string `json:"headDNSNames,omitempty"`

	// headServiceShortName adds the head service's bare name to the head's certificate, for clients that
	// connect to $RAY_IP. Defaults to false.
	// +optional
	HeadServiceShortName bool `json:"headServiceShortName,omitempty"` //nolint:kubeapilinter // two states by nature
}

// EnableStrategy says when a running cluster may be restarted to be encrypted.
//
// +kubebuilder:validation:Enum=WhenStopped;Immediate
type EnableStrategy string

// The enable strategies.
const (
	// EnableWhenStopped waits until the cluster has no pods, is suspended or is approved.
	EnableWhenStopped EnableStrategy = "WhenStopped"
	// EnableImmediate restarts the cluster at once, canary first.
	EnableImmediate EnableStrategy = "Immediate"
)

// Rollout says when and how running clusters are restarted. Clusters that are new, suspended or without pods
// are never waited with.
type Rollout struct {
	// enable says when a running cluster is restarted, or replaced by its RayService, to be encrypted (or, with deletionPolicy Remove, to be
	// plaintext again). WhenStopped waits until it stops or is approved with the policy's annotation
	// raytls.io/approve-restart: <cluster>=<token>, or <rayservice>=<token>. Defaults to Immediate with targetRef and to WhenStopped
	// with selector.
	// +optional
	Enable EnableStrategy `json:"enable,omitempty"`

	// maxConcurrentClusters is how many running clusters are restarted, or replaced by their RayService, at a
	// time. Defaults to 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxConcurrentClusters int32 `json:"maxConcurrentClusters,omitempty"`

	// progressDeadlineSeconds is how many seconds each canary (a worker, then the head) may take to make its
	// certificate, counted from the end of its old pod's grace period, before the cluster is put back; and a
	// RayService to make a new cluster and have it ready, before that is reported. Defaults to 600.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=86400
	ProgressDeadlineSeconds int32 `json:"progressDeadlineSeconds,omitempty"`
}

// DeletionPolicy says what becomes of covered clusters when their policy is deleted.
//
// +kubebuilder:validation:Enum=Keep;Remove
type DeletionPolicy string

// The deletion policies.
const (
	// DeletionKeep leaves clusters as they are; a new policy adopts them without a restart.
	DeletionKeep DeletionPolicy = "Keep"
	// DeletionRemove gives clusters their specs back and restarts them in plaintext.
	DeletionRemove DeletionPolicy = "Remove"
)

// RayTLSPolicyStatus is what the operator found.
type RayTLSPolicyStatus struct {
	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Accepted (the spec makes sense), Ready (every covered pod is encrypted as asked) and AdmissionActive
	// (RayClusters of the namespace go through the operator's webhook).
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// mode is the issuance mode in force.
	// +optional
	Mode IssuanceMode `json:"mode,omitempty"`

	// encrypted says how many clusters are encrypted as asked, of those covered, such as 3/3.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Encrypted string `json:"encrypted,omitempty"`

	// expires is when the first certificate in use ends, in RFC 3339.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Expires string `json:"expires,omitempty"`

	// totals count over all covered clusters, also those not listed in clusters.
	// +optional
	Totals Totals `json:"totals,omitempty,omitzero"`

	// clusters are the covered clusters, at most 100, those that need attention first.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=100
	Clusters []ClusterStatus `json:"clusters,omitempty"`
}

// Totals count over all covered clusters.
type Totals struct {
	// clusters is how many RayClusters are covered.
	// +required
	// +kubebuilder:validation:Minimum=0
	Clusters int32 `json:"clusters"`

	// clustersEncrypted is how many of them are encrypted as asked.
	// +required
	// +kubebuilder:validation:Minimum=0
	ClustersEncrypted int32 `json:"clustersEncrypted"`

	// pods count over all of them.
	// +required
	Pods PodCounts `json:"pods"`
}

// PodCounts count the pods of clusters, terminating ones included as long as they run.
type PodCounts struct {
	// total is how many pods there are.
	// +required
	// +kubebuilder:validation:Minimum=0
	Total int32 `json:"total"`

	// upToDate is how many have a certificate of the cluster's authority.
	// +required
	// +kubebuilder:validation:Minimum=0
	UpToDate int32 `json:"upToDate"`

	// plaintext is how many were started without TLS.
	// +required
	// +kubebuilder:validation:Minimum=0
	Plaintext int32 `json:"plaintext"`

	// old is how many have a certificate of an authority or an injection revision that is no longer the cluster's.
	// +required
	// +kubebuilder:validation:Minimum=0
	Old int32 `json:"old"`
}

// ClusterStatus is what the operator found of one covered RayCluster.
type ClusterStatus struct {
	// name is the RayCluster's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// reason is one of the reasons of the Ready condition.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message says what was found and, where something is to be done, what.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// blockedBy names what keeps the cluster from being restarted, such as RayJob/train.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	BlockedBy string `json:"blockedBy,omitempty"`

	// injectionRevision is the revision of what was injected into the cluster's templates; absent while nothing is.
	// +optional
	// +kubebuilder:validation:Minimum=1
	InjectionRevision int32 `json:"injectionRevision,omitempty"`

	// issuerNotAfter is when the cluster's issuer ends. It is replaced long before.
	// +optional
	IssuerNotAfter *metav1.Time `json:"issuerNotAfter,omitempty"`

	// leafNotAfter is when the first certificate of a running pod ends.
	// +optional
	LeafNotAfter *metav1.Time `json:"leafNotAfter,omitempty"`

	// pods count the cluster's pods.
	// +required
	Pods PodCounts `json:"pods"`
}
