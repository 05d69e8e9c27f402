package kube

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestLastManager(t *testing.T) {
	entry := func(manager, fields, subresource string, hour int) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC))
		raw := metav1.FieldsV1{}
		raw.SetRawBytes([]byte(fields))
		return metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: &raw, Subresource: subresource, Time: &at}
	}
	object := &metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{
		entry("first", `{"f:spec":{}}`, "", 1),
		entry("argocd", `{"f:spec":{}}`, "", 2),
		entry("labeller", `{"f:metadata":{}}`, "", 3),
		entry("kuberay", `{"f:spec":{}}`, "status", 4),
		entry(v1alpha1.ManagedBy, `{"f:spec":{}}`, "", 5),
	}}
	if got := LastManager(object); got != "argocd" {
		t.Errorf("the last to write the spec, other than the operator, is named: got %q", got)
	}
	if got := LastManager(&metav1.ObjectMeta{}); got != "" {
		t.Errorf("nobody is named without a trace: got %q", got)
	}
}
