package injection

import (
	"fmt"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// checkShape refuses a spec that is malformed where Apply edits it.
func checkShape(spec map[string]any) error {
	if jsonpatch.Map(spec["headGroupSpec"]) == nil {
		return conflict("spec.headGroupSpec", "is missing: a RayCluster needs a head")
	}
	if err := checkLists("spec", spec, "workerGroupSpecs"); err != nil {
		return err
	}
	if err := CheckSize(spec); err != nil {
		return err
	}
	for i, group := range jsonpatch.List(spec["workerGroupSpecs"]) {
		if jsonpatch.Map(group) == nil {
			return conflict(fmt.Sprintf("spec.workerGroupSpecs[%d]", i), "is not a worker group")
		}
	}
	for _, t := range templatesOf(spec) {
		if err := t.checkShape(); err != nil {
			return err
		}
	}
	return checkOptionsShape(spec)
}

// MaxWorkerGroups is the highest number of worker groups that can be injected. The injection is many times the size of a
// small group, so without a bound a small object could exhaust its reader's memory.
const MaxWorkerGroups = 256

// MaxWeight is the weight of the largest spec that can be injected, as jsonpatch.Weigh gives it, in bytes. MaxWorkerGroups groups
// of common containers weigh half of it.
const MaxWeight = 8 << 20

// MaxContainers is the highest number of containers, init containers included, that a template can have to be injected. Each is
// looked at several times, and an empty one has two bytes.
const MaxContainers = 256

// CheckSize refuses a spec with too many worker groups, or with too many containers in one, with a *ConflictError.
func CheckSize(spec map[string]any) error {
	workers := jsonpatch.List(spec["workerGroupSpecs"])
	if len(workers) > MaxWorkerGroups {
		return conflict("spec.workerGroupSpecs", "has %d worker groups, of which at most %d can be injected: use fewer", len(workers), MaxWorkerGroups)
	}
	if count := containersIn(spec["headGroupSpec"]); count > MaxContainers {
		return conflict("spec.headGroupSpec.template.spec", "has %d containers, of which at most %d can be injected: use fewer", count, MaxContainers)
	}
	for n, group := range workers {
		if count := containersIn(group); count > MaxContainers {
			return conflict(fmt.Sprintf("spec.workerGroupSpecs[%d].template.spec", n), "has %d containers, of which at most %d can be injected: use fewer", count, MaxContainers)
		}
	}
	return nil
}

func containersIn(group any) int {
	pod, count := jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(group)["template"])["spec"]), 0
	for _, list := range containerLists() {
		count += len(jsonpatch.List(pod[list]))
	}
	return count
}

func checkOptionsShape(spec map[string]any) error {
	if !autoscaling(spec) || spec["autoscalerOptions"] == nil {
		return nil
	}
	options := jsonpatch.Map(spec["autoscalerOptions"])
	if options == nil {
		return conflict("spec.autoscalerOptions", "is not an object")
	}
	return checkLists("spec.autoscalerOptions", options, "env", "volumeMounts")
}

func (t template) checkShape() error {
	containers := jsonpatch.List(t.pod["containers"])
	if len(containers) == 0 {
		return conflict(t.field("containers"), "has no container: the first one must run Ray")
	}
	if err := checkLists(t.path+".spec", t.pod, "initContainers", "volumes"); err != nil {
		return err
	}
	if jsonpatch.Map(containers[0]) == nil {
		return conflict(t.field("containers[0]"), "is not a container")
	}
	if jsonpatch.Name(containers[0]) == "" {
		return conflict(t.field("containers[0].name"), "is missing: give the Ray container a name")
	}
	return nil
}

func checkLists(path string, parent map[string]any, keys ...string) error {
	for _, key := range keys {
		if _, isList := parent[key].([]any); !isList && parent[key] != nil {
			return conflict(path+"."+key, "is not a list")
		}
	}
	return nil
}

// checkTargets refuses containers that Apply could not edit, or that Remove could not tell apart.
func (t template) checkTargets(p Parameters) error {
	for _, c := range t.targets(p.AdditionalContainers) {
		if err := checkLists(c.path, c.container, "env", "volumeMounts"); err != nil {
			return err
		}
		if count := t.containersNamed(c.name); count > 1 {
			return conflict(c.path+".name", "%d containers of this pod are named %q: give each a name of its own", count, c.name)
		}
	}
	return nil
}

func (t template) containersNamed(name string) int {
	count := 0
	for _, container := range t.containers() {
		if jsonpatch.Name(container) == name {
			count++
		}
	}
	return count
}

// checkUsers requires one user for all containers that share the key: its file has mode 0600 and belongs to the init
// container's user, which is the Ray container's. An image's own user is unknown here, so with a second image the user
// must be set.
func (t template) checkUsers(spec map[string]any, p Parameters) error {
	targets := t.targets(p.AdditionalContainers)
	ray := targets[0]
	rayUser := t.userOf(ray.container)
	rayImage := jsonpatch.String(ray.container["image"])
	if p.Image != "" && p.Image != rayImage && rayUser == nil {
		return conflict(ray.path+".securityContext.runAsUser", "must be set, here or for the pod, because the init container uses another image (%s) and must run as the same user to own the key", p.Image)
	}
	for _, c := range targets[1:] {
		if err := t.checkSameUser(c.path, c.container, rayImage, rayUser); err != nil {
			return err
		}
	}
	if t.kind == Head && autoscaling(spec) {
		// Without options KubeRay still adds the container, with Ray's image and no user of its own.
		return t.checkSameUser("spec.autoscalerOptions", jsonpatch.Map(spec["autoscalerOptions"]), rayImage, rayUser)
	}
	return nil
}

func (t template) checkSameUser(path string, container map[string]any, rayImage string, rayUser any) error {
	user := t.userOf(container)
	if !jsonpatch.Equal(user, rayUser) {
		return conflict(path+".securityContext.runAsUser", "is %s but the Ray container's is %s: make them equal, because only the owner can read the key", userText(user), userText(rayUser))
	}
	if image := jsonpatch.String(container["image"]); user == nil && image != "" && image != rayImage {
		return conflict(path+".securityContext.runAsUser", "must be set for the pod, because this container's image is not the Ray container's and both must run as the same user to read the key")
	}
	return nil
}

// userOf returns the runAsUser in force; nil if the image decides.
func (t template) userOf(container map[string]any) any {
	if user := jsonpatch.Map(container["securityContext"])["runAsUser"]; user != nil {
		return user
	}
	return jsonpatch.Map(t.pod["securityContext"])["runAsUser"]
}

func userText(user any) string {
	if user == nil {
		return "not set"
	}
	return fmt.Sprint(user)
}
