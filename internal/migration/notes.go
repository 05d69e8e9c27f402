package migration

import (
	"fmt"
	"strings"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/manifest"
)

// describe says for each migrated object what applying it and the rollout will do, and what clients have to change.
func (m *migration) describe() {
	if len(m.migrated) == 0 {
		return
	}
	for _, done := range m.migrated {
		m.notef("%s: its TLS is taken out, and RayTLSPolicy %s brings the CA of Secret %s. %s", done.object, done.policy.GetName(), done.stanza.secret, done.rollout())
		m.notef("%s: taken out is this.\n%s", done.object, strings.Join(done.stanza.removed, "\n"))
		for _, lost := range done.stanza.lost {
			m.notef("%s: %s", done.object, lost)
		}
	}
	m.notes = append(m.notes, "A pod with the hand-made TLS and one with the operator's cannot connect, in either direction: the old one trusts the brought CA alone, and is shown a chain that ends "+
		"below it, at the cluster's authority; the new one trusts that authority alone, and is shown a certificate that the brought CA signed itself. Pods of one kind connect among themselves.")
	m.notes = append(m.notes, "Clients (ray://) with a certificate of the brought CA are served by the old head and refused by the new one: give them one of the cluster's authority when the head restarts "+
		"(docs/tasks/clients.md has the steps), or run them in the cluster, or submit jobs over HTTP."+m.clients())
}

func (done migrated) rollout() string {
	o := done.object
	if by := o.Wrapper(); by != nil {
		return fmt.Sprintf("%[1]s creates it. That kind decides whether a change reaches a cluster that runs: apply the changed %[2]s as you do any other change of it, or delete it and create it anew. "+
			"A cluster that is created anew is encrypted at its creation by the operator's admission webhook; one that runs waits for your approval.", by.Title(), by.GetKind())
	}
	switch v1alpha1.TargetKind(o.GetKind()) {
	case v1alpha1.TargetRayService:
		return "When you apply this, KubeRay makes a new cluster, which the operator's admission webhook encrypts at its creation, moves the traffic, and deletes the old one. There is nothing to approve."
	case v1alpha1.TargetRayJob:
		return "KubeRay ignores this change for a cluster that exists. The next one, of a retry or when the RayJob is created anew, is encrypted at its creation by the operator's admission webhook. There is nothing to approve."
	case v1alpha1.TargetRayCronJob:
		return "A job that runs stays as it is. The clusters of the next ones are encrypted at their creation by the operator's admission webhook. There is nothing to approve."
	case v1alpha1.TargetRayCluster: // nothing owns it
	}
	switch cluster := kuberay.ReadCluster(&o.Unstructured); {
	case cluster.Suspended:
		return "It is suspended, and encrypted from its next start; there is nothing to approve."
	case cluster.Recreate:
		return "With upgradeStrategy Recreate, KubeRay restarts all its pods as soon as the changed manifest is applied, and they would be plaintext: suspend the cluster (spec.suspend: true), apply, and resume it."
	case cluster.Queued:
		return "Kueue evicts it as soon as the changed manifest is applied: suspend it before that, so that it starts again encrypted."
	}
	return fmt.Sprintf("Nothing restarts when you apply this. Pods that run go on, but a pod that starts from then on starts without TLS and cannot join them, so approve the restart soon, or suspend the cluster. "+
		"`kubectl %[1]sget rctls %[2]s -o jsonpath='{.status.pendingRestart.message}'` prints the command that approves it. Then all its pods restart once: first one ready worker, which shows that certificates can be made, then the head, then the rest. "+
		"From the head's restart to the end the cluster does no work, and without GCS fault tolerance it loses its state; a RayJob that runs on it is waited for. "+
		"If the worker fails, the operator puts back the plain templates, not the old ones: apply your old manifest then, and delete that worker's pod.",
		namespaceFlag(o), o.GetName())
}

func namespaceFlag(o *manifest.Object) string {
	if o.GetNamespace() == "" {
		return ""
	}
	return "-n " + o.GetNamespace() + " "
}

// clients says where in the output TLS is still set up by hand: in what talks to a cluster and is none.
func (m *migration) clients() string {
	var found []string
	for _, o := range m.objects {
		_, cluster := o.ClusterSpec()
		walk("", o.Object, func(at string, object map[string]any) {
			if jsonpatch.Name(object) == injection.EnvUseTLS && (cluster == "" || !strings.HasPrefix(at, cluster+".")) {
				found = append(found, fmt.Sprintf("%s (%s)", o.Title(), at))
			}
		})
	}
	if len(found) == 0 {
		return ""
	}
	return " In the input these are: " + strings.Join(found, ", ") + "."
}
