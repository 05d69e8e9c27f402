package injection

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// PodState is what a pod carries of the injection.
type PodState struct {
	// TLS reports whether the Ray container and each recorded further container speak TLS with the certificate of our init
	// container.
	TLS bool
	// Pieces reports whether the pod holds a piece of the injection, so it was made from an injected template.
	Pieces bool
	// Differs names the container and the first field in which the pod differs from what the injection renders; empty if the
	// pod does not.
	Differs string
	// CASecret is the Secret that the pod gets its issuer from; empty without our volume.
	CASecret string
	// RevokedBefore is the number in the name of the CA Secret by the record, which is that of the template.
	RevokedBefore int64
	// InitImage is the image of our init container; empty without one, and if it is the Ray container's own.
	InitImage string
}

// InPod describes the injection in a pod. rayContainer is the name that its template's Ray container has: admission may put
// other containers before it. Without such a container, the first one with a piece of ours counts as Ray's, since templates
// rename containers under running pods.
func InPod(pod *corev1.PodSpec, kind Kind, rayContainer string) PodState {
	out := PodState{Pieces: anyPieceInPod(pod), CASecret: issuerIn(pod.Volumes)}
	ray := rayOf(pod, rayContainer)
	if ray == nil {
		out.Differs = "it has no container"
		return out
	}
	at := slices.IndexFunc(pod.InitContainers, func(c corev1.Container) bool { return c.Name == InitContainerName })
	if at < 0 {
		out.Differs = "it has no init container " + InitContainerName
		return out
	}
	ours := &pod.InitContainers[at]
	if unpinned(ours.Image) != unpinned(ray.Image) {
		out.InitImage = ours.Image
	}
	value, _ := lastValue(ours.Env, EnvInjection)
	r := decodeRecord(value)
	if r == nil {
		out.Differs = "init container " + InitContainerName + " has no readable variable " + EnvInjection
		return out
	}
	out.RevokedBefore = r.Parameters.RevokedBefore
	for _, c := range slices.Concat([]corev1.Container{*ray}, pod.InitContainers, pod.Containers) {
		if c.Name == ray.Name || r.additional(c.Name) {
			if out.Differs = plaintextBecause(&c); out.Differs != "" {
				return out
			}
		}
	}
	out.TLS = true
	if !r.runs(ours, kind) {
		out.Differs = "init container " + InitContainerName + " has another command"
		return out
	}
	// KubeRay's own containers copy the Ray container's variables, or have them from autoscalerOptions.
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if c.Name != InitContainerName && slices.ContainsFunc(c.VolumeMounts, isRayMount) && out.Differs == "" {
			out.Differs = plaintextBecause(&c)
		}
	}
	return out
}

// rayOf finds the Ray container; nil in a pod without containers.
func rayOf(pod *corev1.PodSpec, name string) *corev1.Container {
	for _, is := range []func(corev1.Container) bool{
		func(c corev1.Container) bool { return c.Name == name },
		func(c corev1.Container) bool {
			_, found := lastValue(c.Env, EnvUseTLS)
			return found || slices.ContainsFunc(c.VolumeMounts, isRayMount)
		},
		func(corev1.Container) bool { return true },
	} {
		if at := slices.IndexFunc(pod.Containers, is); at >= 0 {
			return &pod.Containers[at]
		}
	}
	return nil
}

func anyPieceInPod(pod *corev1.PodSpec) bool {
	return slices.ContainsFunc(slices.Concat(pod.InitContainers, pod.Containers), func(c corev1.Container) bool {
		return c.Name == InitContainerName || slices.ContainsFunc(c.VolumeMounts, isOurMount)
	})
}

// plaintextBecause names what keeps a container from speaking TLS; empty if it speaks TLS. The last of several values of a
// variable is the one that a process gets.
func plaintextBecause(c *corev1.Container) string {
	for _, item := range rayVariables() {
		switch value, found := lastValue(c.Env, item.Name); {
		case !found:
			return fmt.Sprintf("container %s has no variable %s", c.Name, item.Name)
		case value != item.Value:
			return fmt.Sprintf("container %s has another value of %s", c.Name, item.Name)
		}
	}
	at := slices.IndexFunc(c.VolumeMounts, isRayMount)
	if at < 0 || c.VolumeMounts[at].SubPath != "" || c.VolumeMounts[at].SubPathExpr != "" {
		return fmt.Sprintf("container %s does not mount %s at %s", c.Name, CertsVolume, MountPath)
	}
	return ""
}

// lastValue returns the last value of a variable, which is empty for one that comes from elsewhere.
func lastValue(env []corev1.EnvVar, name string) (value string, found bool) {
	for _, item := range env {
		if item.Name == name {
			value, found = item.Value, true
		}
	}
	return value, found
}

// unpinned is an image's name without its digest, which admission may have added to one container alone.
func unpinned(image string) string {
	name, _, _ := strings.Cut(image, "@")
	return name
}

func isRayMount(m corev1.VolumeMount) bool { return m.Name == CertsVolume && m.MountPath == MountPath }

func isOurMount(m corev1.VolumeMount) bool {
	return slices.Contains([]string{CertsVolume, IssuerVolume, ScriptsVolume}, m.Name)
}

// runs reports whether the init container runs the command of the record's revision. Commands of an unknown revision pass.
func (r *record) runs(c *corev1.Container, kind Kind) bool {
	if r.Revision > Revision {
		return true
	}
	texts, err := scriptsOf(r.Revision)
	return err == nil && len(c.Args) == 0 && slices.Equal(c.Command, texts.command(kind, r.Parameters.normalised()))
}

// issuerIn names the Secret in our volume of the CA Secret; empty for none.
func issuerIn(volumes []corev1.Volume) string {
	at := slices.IndexFunc(volumes, func(v corev1.Volume) bool { return v.Name == IssuerVolume && v.Secret != nil })
	if at < 0 {
		return ""
	}
	return volumes[at].Secret.SecretName
}

// SlimVolumes copies from a pod's volumes what InPod reads.
func SlimVolumes(volumes []corev1.Volume) []corev1.Volume {
	name := issuerIn(volumes)
	if name == "" {
		return nil
	}
	return []corev1.Volume{{Name: IssuerVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}}
}

// These bound what SlimContainers keeps. The cache holds every pod that claims to be Ray's, and the maker of a pod decides its contents.
const (
	// maxContainers is how many containers of a kind are kept: as many as a template may have, and some that admission adds.
	maxContainers = MaxContainers + 32
	// maxText is more than a variable or a path of ours takes, maxImage more than the name of an image, and maxCommand more than the
	// command of any revision, in bytes.
	maxText, maxImage, maxCommand = 256, 1 << 10, 16 << 10
)

// SlimContainers copies from a pod's containers what InPod reads. It cuts texts that are longer than the injection's own, so they still
// differ from these. It keeps no container of a pod that has more of them than any pod of Ray.
func SlimContainers(containers []corev1.Container) []corev1.Container {
	if len(containers) > maxContainers {
		return nil
	}
	out := make([]corev1.Container, 0, len(containers))
	for _, c := range containers {
		slim := corev1.Container{Name: c.Name, Image: cut(c.Image, maxImage)}
		keep := func(name string, most int) {
			if value, found := lastValue(c.Env, name); found {
				slim.Env = append(slim.Env, corev1.EnvVar{Name: name, Value: cut(value, most)})
			}
		}
		for _, name := range TLSVariables() {
			keep(name, maxText)
		}
		if c.Name == InitContainerName {
			slim.Command, slim.Args = slimCommand(c.Command), slimCommand(c.Args)
			keep(EnvInjection, MaxRecord)
		}
		for _, is := range []func(corev1.VolumeMount) bool{isRayMount, isOurMount} {
			if at := slices.IndexFunc(c.VolumeMounts, is); at >= 0 {
				mount := &c.VolumeMounts[at]
				slim.VolumeMounts = append(slim.VolumeMounts, corev1.VolumeMount{
					Name: mount.Name, MountPath: cut(mount.MountPath, maxText), SubPath: cut(mount.SubPath, maxText), SubPathExpr: cut(mount.SubPathExpr, maxText),
				})
			}
		}
		out = append(out, slim)
	}
	return out
}

// cut shortens a text of more than most bytes to one byte more, so that it still differs from every text within the bound.
func cut(text string, most int) string {
	if len(text) > most {
		return strings.Clone(text[:most+1])
	}
	return text
}

// slimCommand keeps a command, or of one that is none of ours its length.
func slimCommand(command []string) []string {
	size := 0
	for _, part := range command {
		size += len(part)
	}
	if size > maxCommand || len(command) > maxText {
		return []string{""}
	}
	return command
}
