package probe

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Address is the pod's own address. It is an error where the pod has none, and where it has the node's: a tenant chooses the port,
// and the node's ports are not the tenant's.
func Address(pod *corev1.Pod) (netip.Addr, error) {
	if pod.Spec.HostNetwork {
		return netip.Addr{}, errors.New("the pod has its node's network")
	}
	if len(pod.Status.PodIPs) == 0 {
		return netip.Addr{}, errors.New("the pod has no address yet")
	}
	address, err := netip.ParseAddr(pod.Status.PodIPs[0].IP)
	if err != nil {
		return netip.Addr{}, errors.New("the pod's address is none")
	}
	address = address.Unmap()
	if address.Zone() != "" || !address.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("%s is not an address of a pod", address)
	}
	return address, nil
}
