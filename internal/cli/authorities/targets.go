package authorities

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/fleet"
)

// target is a policy, and the clusters whose authorities it has replaced.
type target struct {
	policy   *v1alpha1.RayTLSPolicy
	clusters []fleet.Cluster
}

// targets chooses the policies. The field of a policy acts on each of its clusters, so one cluster is chosen only where the policy has
// no other.
func (r *replacement) targets(f *fleet.Fleet, name string) ([]target, error) {
	var out []target
	for _, p := range f.Policies {
		covered := f.Covered(p)
		if r.flags.policy != "" && r.flags.policy != p.Name || name != "" && !slices.ContainsFunc(covered, named(name)) || !p.DeletionTimestamp.IsZero() {
			continue
		}
		t := target{policy: p}
		for _, c := range covered {
			if c.Status().Authority.Generation > 0 {
				t.clusters = append(t.clusters, c)
			}
		}
		if name != "" && len(covered) > 1 {
			return nil, r.shared(p, covered, name)
		}
		if len(t.clusters) > 0 {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return nil, r.none(f, name)
	}
	return out, nil
}

func named(name string) func(fleet.Cluster) bool {
	return func(c fleet.Cluster) bool { return c.Name == name }
}

// shared says which other clusters the policy of a cluster has, and what to do.
func (r *replacement) shared(p *v1alpha1.RayTLSPolicy, covered []fleet.Cluster, name string) error {
	others := slices.DeleteFunc(slices.Clone(covered), named(name))
	return fmt.Errorf("RayTLSPolicy %s/%s covers further RayClusters, and the field acts on all of them: %s; replace them all with `%s`, or first give RayCluster %s a policy of its own with targetRef: {kind: RayCluster, name: %s}",
		p.Namespace, p.Name, fleet.Names(others), r.command(r.verb()+" --policy "+p.Name, p.Namespace), name, name)
}

// verb is the word of the command.
func (r *replacement) verb() string {
	return strings.TrimPrefix(r.field.Manager, v1alpha1.ManagedBy+"-")
}

// none says why nothing is chosen.
func (r *replacement) none(f *fleet.Fleet, name string) error {
	const nothing = "has no authority yet, so there is nothing to replace"
	switch {
	case name != "":
		c, err := f.Find(types.NamespacedName{Namespace: r.Namespace, Name: name})
		switch {
		case err != nil:
			return err
		case c.Policy == nil:
			return fmt.Errorf("no RayTLSPolicy has RayCluster %s encrypted, so there is no authority to replace; see `%s`", c, r.command("status "+name, r.Namespace))
		case !c.Policy.DeletionTimestamp.IsZero():
			return fmt.Errorf("RayTLSPolicy %s/%s of RayCluster %s is being deleted", c.Policy.Namespace, c.Policy.Name, c)
		}
		return fmt.Errorf("RayCluster %s %s; see `%s`", c, nothing, r.command("status "+name, r.Namespace))
	case r.flags.policy != "":
		for _, p := range f.Policies {
			if p.Name == r.flags.policy {
				return fmt.Errorf("no RayCluster of RayTLSPolicy %s/%s has an authority yet, so there is nothing to replace", p.Namespace, p.Name)
			}
		}
		return fmt.Errorf("RayTLSPolicy %s/%s does not exist", r.Namespace, r.flags.policy)
	case r.Namespace == "":
		return fmt.Errorf("no RayCluster that a RayTLSPolicy covers %s", nothing)
	}
	return fmt.Errorf("no RayCluster of namespace %s that a RayTLSPolicy covers %s", r.Namespace, nothing)
}

func generations(clusters []fleet.Cluster) string {
	var out []string
	for _, c := range clusters {
		out = append(out, fmt.Sprintf("%s (generation %d)", c, c.Status().Authority.Generation))
	}
	return strings.Join(out, ", ")
}
