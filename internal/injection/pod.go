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

// SlimContainers copies from a pod's containers what InPod reads.
func SlimContainers(containers []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, 0, len(containers))
	for _, c := range containers {
		slim := corev1.Container{Name: c.Name, Image: c.Image}
		if c.Name == InitContainerName {
			slim.Command, slim.Args = c.Command, c.Args
		}
		for _, env := range c.Env {
			if env.Name == EnvInjection || slices.Contains(TLSVariables(), env.Name) {
				slim.Env = append(slim.Env, corev1.EnvVar{Name: env.Name, Value: env.Value})
			}
		}
		for _, mount := range c.VolumeMounts {
			if isOurMount(mount) {
				slim.VolumeMounts = append(slim.VolumeMounts, corev1.VolumeMount{
					Name: mount.Name, MountPath: mount.MountPath, SubPath: mount.SubPath, SubPathExpr: mount.SubPathExpr,
				})
			}
		}
		out = append(out, slim)
	}
	return out
}
