package v1alpha1

// Labels, annotations and the finalizer that the operator reads or writes.
const (
	// Finalizer keeps a deleted policy until the operator has carried out its deletionPolicy.
	Finalizer = "raytls.io/policy"

	// LabelExclude on a RayCluster, with the value ExcludeTrue, takes it out of every policy. The operator treats a
	// cluster that is injected already as if its policy had been deleted. Another value excludes nothing and is reported.
	LabelExclude = "raytls.io/exclude"
	// ExcludeTrue is the one value of LabelExclude that excludes a RayCluster.
	ExcludeTrue = "true"

	// LabelTesting on the operator's own namespace, with the value "true", lets the controller make days shorter for tests.
	LabelTesting = "raytls.io/testing"

	// LabelCA on a Secret, with the value CATrue, allows policies of its namespace to use it as a brought CA.
	LabelCA = "raytls.io/ca"
	// CATrue is the one value of LabelCA that allows the use of a Secret.
	CATrue = "true"

	// AnnotationEdit on a RayCluster orders the admission webhook to edit the templates in the same request. The webhook
	// accepts the order from the operator alone, and removes the annotation before the object is stored.
	AnnotationEdit = "raytls.io/edit"

	// AnnotationRestartedFor on the head's pod template in a RayService records, as JSON, the change for which the operator
	// last replaced its RayCluster. KubeRay answers a change of it with a new RayCluster, and then moves the traffic.
	AnnotationRestartedFor = "raytls.io/restarted-for"

	// AnnotationCluster on an authority's Secret holds the <namespace>/<name> of its RayCluster.
	AnnotationCluster = "raytls.io/cluster"

	// AnnotationSync on a pod makes the kubelet refresh the pod's volumes at once.
	AnnotationSync = "raytls.io/sync"

	// LabelManagedBy with the value ManagedBy marks every object that the operator created.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of LabelManagedBy, and the operator's field manager.
	ManagedBy = "raytls"

	// LabelComponent tells the operator's own objects apart by purpose.
	LabelComponent = "app.kubernetes.io/component"
	// ComponentAuthority marks the Secret that holds a cluster's authority.
	ComponentAuthority = "authority"
	// ComponentIssuer marks the Secret that holds a cluster's issuer.
	ComponentIssuer = "issuer"
	// ComponentWebhook marks the Secret that holds the admission webhook's serving certificate.
	ComponentWebhook = "webhook"
	// ComponentScripts marks the ConfigMap that holds the gencert scripts.
	ComponentScripts = "gencert"
)
