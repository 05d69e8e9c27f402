package app

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSlimBoundsContent(t *testing.T) {
	large := make([]byte, maxOwnBytes)
	cases := map[string]struct {
		reason string
		object *corev1.ConfigMap
		kept   bool
	}{
		"scripts":       {"the operator compares them with what it wrote", &corev1.ConfigMap{BinaryData: map[string][]byte{"a": {1}}}, true},
		"text":          {"text beside the scripts is an alteration, which must be seen", &corev1.ConfigMap{Data: map[string]string{"a": "x"}}, true},
		"large":         {"anybody can label a large object", &corev1.ConfigMap{BinaryData: map[string][]byte{"a": make([]byte, maxOwnBytes+1)}}, false},
		"large in sum":  {"two halves are as large as a whole", &corev1.ConfigMap{Data: map[string]string{"a": "x"}, BinaryData: map[string][]byte{"b": large}}, false},
		"large as text": {"anybody can label a large object", &corev1.ConfigMap{Data: map[string]string{"a": string(large) + "x"}}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			object, err := slim(c.object)
			if err != nil {
				t.Fatal(err)
			}
			left := object.(*corev1.ConfigMap)
			if kept := len(left.Data)+len(left.BinaryData) > 0; kept != c.kept {
				t.Errorf("%s: content is kept: %t", c.reason, kept)
			}
		})
	}
}
