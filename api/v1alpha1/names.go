package v1alpha1

// Labels, annotations and the finalizer that the operator reads or writes.
const (
	// Finalizer holds a deleted policy until its deletionPolicy is carried out.
	Finalizer = "raytls.io/policy"

	// LabelExclude on a RayCluster, with any value, keeps it from being enabled. A cluster that is injected
	// already is treated as if its policy were deleted.
	LabelExclude = "raytls.io/exclude"

	// AnnotationApproveRestart on a policy approves restarts of running clusters: a comma separated list
	// of <cluster>=<token>, or <rayservice>=<token> for the cluster that serves it, each pair good once.
	AnnotationApproveRestart = "raytls.io/approve-restart"

	// AnnotationPolicy on a RayCluster names the policy it is bound to.
	AnnotationPolicy = "raytls.io/policy"

	// AnnotationInjection on a RayCluster holds the injection revision its templates are meant to carry.
	AnnotationInjection = "raytls.io/injection"

	// AnnotationRollout on a RayCluster holds how far its enabling or disabling has come, as JSON.
	AnnotationRollout = "raytls.io/rollout"

	// AnnotationRestored on a RayCluster holds which templates were injected, since when a cluster that was created without the
	// injection is, and when stripped ones were restored, as JSON.
	AnnotationRestored = "raytls.io/restored"

	// AnnotationEnableFailed on a RayCluster holds the hash of the templates and parameters with which
	// enabling failed.
	AnnotationEnableFailed = "raytls.io/enable-failed"

	// AnnotationEnableFailedBecause on a RayCluster says why enabling failed.
	AnnotationEnableFailedBecause = "raytls.io/enable-failed-because"

	// AnnotationApproved on a RayCluster holds the approval token that was used last.
	AnnotationApproved = "raytls.io/approved-restart"

	// AnnotationEdit on a RayCluster asks the operator's admission webhook to change the templates in the very request that
	// sets it. The webhook heeds the operator alone, and does not let it be stored.
	AnnotationEdit = "raytls.io/edit"

	// AnnotationRestartedFor on the head's pod template in a RayService says for what its cluster was last replaced, as
	// JSON. A change of it has KubeRay make a new cluster and move the traffic.
	AnnotationRestartedFor = "raytls.io/restarted-for"

	// AnnotationCluster on an authority's Secret holds the <namespace>/<name> of its RayCluster.
	AnnotationCluster = "raytls.io/cluster"

	// AnnotationSync on a pod makes its kubelet look at the pod's volumes now.
	AnnotationSync = "raytls.io/sync"

	// LabelManagedBy with the value ManagedBy marks what the operator made.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of LabelManagedBy, and the operator's field manager.
	ManagedBy = "raytls"

	// LabelComponent says what an object the operator made is for.
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
