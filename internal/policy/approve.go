package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/raytls/raytls/api/v1alpha1"
)

// toApprove comes before ApproveCommand in the message of a restart that waits.
const toApprove = "; to approve it, run: "

// Approvable is the message of a restart that waits for what the message says, and that an approval lets begin.
func Approvable(message string, p *v1alpha1.RayTLSPolicy, cluster, restart string) string {
	return message + toApprove + ApproveCommand(p, cluster, restart)
}

// Obstacle is a message without its command. approvable reports whether there was one.
func Obstacle(message string) (obstacle string, approvable bool) {
	obstacle, _, approvable = strings.Cut(message, toApprove)
	return obstacle, approvable
}

// ApproveCommand is the command that approves a restart of a cluster and keeps the approvals of others.
func ApproveCommand(p *v1alpha1.RayTLSPolicy, cluster, restart string) string {
	approvals := p.Spec.Rollout.Approvals
	command := fmt.Sprintf("kubectl patch raytlspolicy %s -n %s ", p.Name, p.Namespace)
	approval := fmt.Sprintf(`{"cluster":%q,"restart":%q}`, cluster, restart)
	at := slices.IndexFunc(approvals, func(a v1alpha1.Approval) bool { return a.Cluster == cluster })
	switch {
	case at >= 0:
		return command + fmt.Sprintf(`--type=json -p '[{"op":"test","path":"/spec/rollout/approvals/%[1]d/cluster","value":%[3]q},{"op":"replace","path":"/spec/rollout/approvals/%[1]d","value":%[2]s}]'`, at, approval, cluster)
	case len(approvals) > 0:
		return command + fmt.Sprintf(`--type=json -p '[{"op":"add","path":"/spec/rollout/approvals/-","value":%s}]'`, approval)
	}
	return command + fmt.Sprintf(`--type=merge -p '{"spec":{"rollout":{"approvals":[%s]}}}'`, approval)
}
