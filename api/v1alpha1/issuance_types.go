package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IssuanceMode is a way in which pods get their certificates.
//
// +kubebuilder:validation:Enum=Script
type IssuanceMode string

// The issuance modes.
const (
	// ModeScript has each pod create its certificate in an init container, with openssl and the key of the cluster's issuer.
	ModeScript IssuanceMode = "Script"
)

// Issuance selects how pods get their certificates.
type Issuance struct {
	// mode selects how pods get their certificates. In mode Script, an init container signs the pod's certificate with
	// openssl and the key of the cluster's issuer.
	// +optional
	// +kubebuilder:default=Script
	Mode IssuanceMode `json:"mode,omitempty"`

	// initContainer changes the init container that creates the certificate. A change applies to clusters that are
	// injected after it; clusters that were injected before report UpToDate=False.
	// +optional
	InitContainer InitContainer `json:"initContainer,omitempty,omitzero"`
}

// PullPolicy selects when the kubelet pulls an image: Always, IfNotPresent or Never.
//
// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
type PullPolicy string

// InitContainer changes the init container that creates a pod's certificate.
//
// +kubebuilder:validation:XValidation:rule="!has(self.imagePullPolicy) || has(self.image)",fieldPath=".imagePullPolicy",message="imagePullPolicy goes with image: without image, the init container uses the Ray container's image and pull policy"
type InitContainer struct {
	// image is the init container's image. The operator's administrator must have allowed it.
	// Without it, the init container runs the image of the pod's Ray container.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// imagePullPolicy selects when the kubelet pulls image. Without it, Kubernetes chooses by the image's tag.
	// +optional
	ImagePullPolicy PullPolicy `json:"imagePullPolicy,omitempty"`

	// resources are the init container's requests and limits of cpu, memory and ephemeral-storage. Without it, they are
	// those of the pod's Ray container. With it, a resource that is left out here is neither requested nor limited.
	// No request may be more than its limit: the API server refuses the pods.
	// A quantity is a number, alone or with one of the suffixes m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.claims)",fieldPath=".claims",message="claims are not supported: the init container uses no devices"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || self.requests.size() == ['cpu', 'memory', 'ephemeral-storage'].filter(k, k in self.requests).size()",fieldPath=".requests",message="only cpu, memory and ephemeral-storage can be requested"
	// +kubebuilder:validation:XValidation:rule="!has(self.limits) || self.limits.size() == ['cpu', 'memory', 'ephemeral-storage'].filter(k, k in self.limits).size()",fieldPath=".limits",message="only cpu, memory and ephemeral-storage can be limited"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !('cpu' in self.requests) || string(self.requests['cpu']).matches(r'^[0-9]{1,15}(\\.[0-9]{1,9})?(m|k|[KMGTPE]i?)?$')",fieldPath=".requests.cpu",message="must be a quantity such as 250m: at most 15 digits and 9 decimals, with at most one suffix"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !('memory' in self.requests) || string(self.requests['memory']).matches(r'^[0-9]{1,15}(\\.[0-9]{1,9})?(m|k|[KMGTPE]i?)?$')",fieldPath=".requests.memory",message="must be a quantity such as 64Mi: at most 15 digits and 9 decimals, with at most one suffix"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !('ephemeral-storage' in self.requests) || string(self.requests['ephemeral-storage']).matches(r'^[0-9]{1,15}(\\.[0-9]{1,9})?(m|k|[KMGTPE]i?)?$')",fieldPath=".requests['ephemeral-storage']",message="must be a quantity such as 64Mi: at most 15 digits and 9 decimals, with at most one suffix"
	// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !('cpu' in self.limits) || string(self.limits['cpu']).matches(r'^[0-9]{1,15}(\\.[0-9]{1,9})?(m|k|[KMGTPE]i?)?$')",fieldPath=".limits.cpu",message="must be a quantity such as 250m: at most 15 digits and 9 decimals, with at most one suffix"
	// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !('memory' in self.limits) || string(self.limits['memory']).matches(r'^[0-9]{1,15}(\\.[0-9]{1,9})?(m|k|[KMGTPE]i?)?$')",fieldPath=".limits.memory",message="must be a quantity such as 64Mi: at most 15 digits and 9 decimals, with at most one suffix"
	// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !('ephemeral-storage' in self.limits) || string(self.limits['ephemeral-storage']).matches(r'^[0-9]{1,15}(\\.[0-9]{1,9})?(m|k|[KMGTPE]i?)?$')",fieldPath=".limits['ephemeral-storage']",message="must be a quantity such as 64Mi: at most 15 digits and 9 decimals, with at most one suffix"
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// scriptsPath is the absolute path of the folder in the image that holds gencert_head.sh and gencert_worker.sh, as
	// `raytls gencert` writes them. The init container checks their content before it runs them. Without it,
	// the operator mounts the scripts from a ConfigMap.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`
	ScriptsPath string `json:"scriptsPath,omitempty"`
}

// KeyAlgorithm is an algorithm and size of private key that all of Ray's TLS stacks accept.
//
// +kubebuilder:validation:Enum=ECDSAP256;ECDSAP384;RSA2048;RSA3072;RSA4096
type KeyAlgorithm string

// The key algorithms. BoringSSL, on which Ray's gRPC is built, refuses Ed25519 and P-521 certificates.
const (
	// KeyECDSAP256 is ECDSA with the curve P-256.
	KeyECDSAP256 KeyAlgorithm = "ECDSAP256"
	// KeyECDSAP384 is ECDSA with the curve P-384.
	KeyECDSAP384 KeyAlgorithm = "ECDSAP384"
	// KeyRSA2048 is RSA with 2048 bits.
	KeyRSA2048 KeyAlgorithm = "RSA2048"
	// KeyRSA3072 is RSA with 3072 bits.
	KeyRSA3072 KeyAlgorithm = "RSA3072"
	// KeyRSA4096 is RSA with 4096 bits.
	KeyRSA4096 KeyAlgorithm = "RSA4096"
)

// CertificateAuthority describes the authority of each covered cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(self.revokeNow) || !self.revokeNow || has(self.revokeIssuedBefore)",fieldPath=".revokeNow",message="revokeNow goes with revokeIssuedBefore: without it, nothing is revoked"
type CertificateAuthority struct {
	// keyAlgorithm is the algorithm and size of the keys of authorities and issuers.
	// +optional
	// +kubebuilder:default=ECDSAP256
	KeyAlgorithm KeyAlgorithm `json:"keyAlgorithm,omitempty"`

	// validityDays is the number of days that an authority is valid. It must be at least four times
	// podCertificate.validityDays. An authority that a brought CA signs ends with that CA at the latest.
	// +optional
	// +kubebuilder:default=3650
	// +kubebuilder:validation:Minimum=90
	// +kubebuilder:validation:Maximum=7300
	ValidityDays int32 `json:"validityDays,omitempty"`

	// secretRef names a Secret in the policy's namespace with a CA that signs the authorities. The Secret
	// must carry the label raytls.io/ca: "true" and hold ca.crt and ca.key, or tls.crt and tls.key. Pods trust the
	// authority of their cluster alone, never this CA. Without it, authorities are self-signed. When another CA is named, or
	// the Secret gets another one, the operator replaces the authorities as for replaceIssuedBefore.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// replaceIssuedBefore has the operator replace each authority that it issued before this time, once the time has come.
	// Running pods and new ones accept each other. A pod gets a certificate of the new authority when it is created anew, which
	// rollout decides. The field asks for nothing more once every authority is younger, so it may stay.
	// +optional
	ReplaceIssuedBefore *metav1.Time `json:"replaceIssuedBefore,omitempty"`

	// revokeIssuedBefore has the operator revoke each authority that it issued before this time, once the time has come. The
	// cluster gets an unrelated authority in a Secret with another name, and all of its pods restart together. An authority that
	// replaced another one is as old as the first of them, because its pods accept the others. The restart waits as
	// rollout.enablePolicy says, and for jobs, queues and holds. Until then, the old authority stays trusted. The field asks for
	// nothing more once every authority is younger, so it may stay.
	// +optional
	RevokeIssuedBefore *metav1.Time `json:"revokeIssuedBefore,omitempty"`

	// revokeNow lets the restart for revokeIssuedBefore begin at once. Running jobs fail, and a RayService is interrupted. The
	// restart does not wait for an approval, a window, a slot, a Kueue queue, a PodDisruptionBudget or a pod that asks to be left
	// alone.
	// +optional
	// +kubebuilder:default=false
	RevokeNow bool `json:"revokeNow,omitempty"` //nolint:kubeapilinter // two states by nature
}

// SecretReference names a Secret in the policy's namespace.
type SecretReference struct {
	// name is the name of the Secret in the policy's namespace. The Secret may be created later.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// PodCertificate describes the certificate that each pod gets.
type PodCertificate struct {
	// keyAlgorithm is the algorithm and size of the pods' keys.
	// +optional
	// +kubebuilder:default=ECDSAP256
	KeyAlgorithm KeyAlgorithm `json:"keyAlgorithm,omitempty"`

	// validityDays is the number of days that a pod's certificate is valid. The operator replaces the issuer as often;
	// each issuer is valid for twice as many days.
	// +optional
	// +kubebuilder:default=365
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1825
	ValidityDays int32 `json:"validityDays,omitempty"`

	// headDNSNames lists further DNS names in the head's certificate, such as that of an ingress. The last label of
	// each name must start with a letter.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`
	HeadDNSNames []string `json:"headDNSNames,omitempty"`

	// headServiceShortName adds the bare name of the head's Service to the head's certificate, for clients that
	// connect to RAY_IP.
	// +optional
	// +kubebuilder:default=false
	HeadServiceShortName bool `json:"headServiceShortName,omitempty"` //nolint:kubeapilinter // two states by nature
}
