package injection

import (
	"fmt"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// checkShape refuses what is not the shape of a RayCluster's spec as far as Apply touches it.
func checkShape(spec map[string]any) error {
	if jsonpatch.Map(spec["headGroupSpec"]) == nil {
		return conflict("spec.headGroupSpec", "is missing: a RayCluster needs a head")
	}
	if !isListOrNothing(spec["workerGroupSpecs"]) {
		return conflict("spec.workerGroupSpecs", "is not a list")
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

// MaxWorkerGroups is how many worker groups a cluster may have to be injected. What is injected multiplies a small group many
// times, so that without a bound a small object takes more memory than its reader has.
const MaxWorkerGroups = 256

// CheckSize refuses a spec with too many worker groups, by a *ConflictError, before anything is made of it.
func CheckSize(spec map[string]any) error {
	if TooLarge(spec) {
		return conflict("spec.workerGroupSpecs", "has %d worker groups, of which at most %d can be injected: use fewer", len(jsonpatch.List(spec["workerGroupSpecs"])), MaxWorkerGroups)
	}
	return nil
}

// TooLarge reports whether CheckSize refuses the spec.
func TooLarge(spec map[string]any) bool {
	return len(jsonpatch.List(spec["workerGroupSpecs"])) > MaxWorkerGroups
}

func checkOptionsShape(spec map[string]any) error {
	if !autoscaling(spec) || spec["autoscalerOptions"] == nil {
		return nil
	}
	options := jsonpatch.Map(spec["autoscalerOptions"])
	if options == nil {
		return conflict("spec.autoscalerOptions", "is not an object")
	}
	return checkContainerLists("spec.autoscalerOptions", options)
}

func (t template) checkShape() error {
	containers := jsonpatch.List(t.pod["containers"])
	if len(containers) == 0 {
		return conflict(t.field("containers"), "has no container: the first one must run Ray")
	}
	for _, list := range []string{"initContainers", "volumes"} {
		if !isListOrNothing(t.pod[list]) {
			return conflict(t.field("%s", list), "is not a list")
		}
	}
	if jsonpatch.Map(containers[0]) == nil {
		return conflict(t.field("containers[0]"), "is not a container")
	}
	if jsonpatch.Name(containers[0]) == "" {
		return conflict(t.field("containers[0].name"), "is missing: give the Ray container a name")
	}
	return nil
}

func checkContainerLists(path string, container map[string]any) error {
	for _, list := range []string{"env", "volumeMounts"} {
		if !isListOrNothing(container[list]) {
			return conflict(path+"."+list, "is not a list")
		}
	}
	return nil
}

func isListOrNothing(v any) bool {
	if v == nil {
		return true
	}
	_, ok := v.([]any)
	return ok
}

// checkTargets refuses containers that Apply could not edit, or Remove not find again.
func (t template) checkTargets(p Parameters) error {
	for _, c := range t.targets(p.AdditionalContainers) {
		if err := checkContainerLists(c.path, c.container); err != nil {
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
	for _, list := range containerLists() {
		for _, container := range jsonpatch.List(t.pod[list]) {
			if jsonpatch.Name(container) == name {
				count++
			}
		}
	}
	return count
}

// checkUsers makes sure that whoever reads the key is the user who writes it: the file has mode 0600 and belongs to the
// init container's user, which is the Ray container's. An image's own user is not known here, so a second image is only
// accepted where the user is set.
func (t template) checkUsers(spec map[string]any, p Parameters) error {
	targets := t.targets(p.AdditionalContainers)
	ray := targets[0]
	rayUser := t.userOf(ray.container)
	rayImage := jsonpatch.String(ray.container["image"])
	if p.Image != "" && p.Image != rayImage && rayUser == nil {
		return conflict(ray.path+".securityContext.runAsUser",
			"must be set, here or for the pod, because the init container uses another image (%s) and must run as the same user to own the key", p.Image)
	}
	for _, c := range targets[1:] {
		if err := t.checkSameUser(c.path, c.container, rayImage, rayUser); err != nil {
			return err
		}
	}
	if options := jsonpatch.Map(spec["autoscalerOptions"]); t.kind == Head && autoscaling(spec) && options != nil {
		return t.checkSameUser("spec.autoscalerOptions", options, rayImage, rayUser)
	}
	return nil
}

func (t template) checkSameUser(path string, container map[string]any, rayImage string, rayUser any) error {
	user := t.userOf(container)
	if !jsonpatch.Equal(user, rayUser) {
		return conflict(path+".securityContext.runAsUser",
			"is %s but the Ray container's is %s: make them equal, because only the owner can read the key", userText(user), userText(rayUser))
	}
	if image := jsonpatch.String(container["image"]); user == nil && image != "" && image != rayImage {
		return conflict(path+".securityContext.runAsUser",
			"must be set for the pod, because this container's image is not the Ray container's and both must run as the same user to read the key")
	}
	return nil
}

// userOf gives the runAsUser in force, nil where the image decides.
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
