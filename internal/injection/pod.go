package injection

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// InPod reports whether a pod was made from an injected template and speaks TLS. It must have our init container, and its
// Ray container and each recorded further container must have the variable and the certificates. The init container alone
// is not enough, because replacing a template's containers removes the rest.
func InPod(pod *corev1.PodSpec) bool {
	at := slices.IndexFunc(pod.InitContainers, func(c corev1.Container) bool { return c.Name == InitContainerName })
	if at < 0 || len(pod.Containers) == 0 || !speaksTLS(pod.Containers[0]) {
		return false
	}
	var r record
	for _, env := range pod.InitContainers[at].Env {
		if env.Name == EnvInjection && json.Unmarshal([]byte(env.Value), &r) != nil {
			return false
		}
	}
	return !slices.ContainsFunc(slices.Concat(pod.InitContainers, pod.Containers), func(c corev1.Container) bool {
		return r.additional(c.Name) && !speaksTLS(c)
	})
}

// SlimContainers copies from a pod's containers what InPod reads.
func SlimContainers(containers []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, 0, len(containers))
	for _, c := range containers {
		slim := corev1.Container{Name: c.Name}
		for _, env := range c.Env {
			if env.Name == EnvInjection || env.Name == EnvUseTLS {
				slim.Env = append(slim.Env, corev1.EnvVar{Name: env.Name, Value: env.Value})
			}
		}
		for _, mount := range c.VolumeMounts {
			if mount.Name == CertsVolume {
				slim.VolumeMounts = append(slim.VolumeMounts, corev1.VolumeMount{Name: mount.Name, MountPath: mount.MountPath})
			}
		}
		out = append(out, slim)
	}
	return out
}

func speaksTLS(c corev1.Container) bool {
	return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == EnvUseTLS && e.Value == "1" }) &&
		slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == CertsVolume && m.MountPath == MountPath })
}
