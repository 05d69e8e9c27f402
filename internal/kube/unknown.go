package kube

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// UnreadCondition is a condition, of a type to be set, of an object whose present state cannot be read because of an error. most is
// the size of the longest message in bytes.
func UnreadCondition(reason string, cause error, most int, generation int64, now time.Time) metav1.Condition {
	return metav1.Condition{
		Status: metav1.ConditionUnknown, Reason: reason, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
		Message: Truncate("the operator cannot read the present state and tries again: "+Steady(cause.Error()), most),
	}
}

// SetUnknown sets conditions of those types to the given one.
func SetUnknown(conditions *[]metav1.Condition, to metav1.Condition, types ...string) {
	for _, kind := range types {
		to.Type = kind
		meta.SetStatusCondition(conditions, to)
	}
}
