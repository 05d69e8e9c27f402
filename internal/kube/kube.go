// Package kube has what every controller does alike with the API server: create without taking over, delete exactly, tell stale
// caches from failures, and carry an outcome in an error.
package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
)

// UnwatchedRetry is when to try again at what nothing that is watched tells of.
const UnwatchedRetry = time.Minute

// ClockTolerance is how far two clocks may be apart: those of nodes, of the API server, and of the operator's replicas.
const ClockTolerance = 5 * time.Minute

// FormatTime is how messages and records write a time.
func FormatTime(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// Labels are those of an object that the operator makes for that purpose.
func Labels(component string) map[string]string {
	return map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelComponent: component}
}

// OwnedBy reports whether any owner reference of the object has that UID.
func OwnedBy(object metav1.Object, uid types.UID) bool {
	return slices.ContainsFunc(object.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == uid })
}

// ReadSecret reads a Secret; nil if it does not exist.
func ReadSecret(ctx context.Context, reader client.Reader, key types.NamespacedName) (*corev1.Secret, error) {
	if len(content.IsPathSegmentName(key.Name)) > 0 {
		return nil, nil // no Secret can have that name
	}
	var secret corev1.Secret
	if err := reader.Get(ctx, key, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return &secret, nil
}

// metadataPage is how many objects EachMetadata reads at a time: whoever makes them decides how large their metadata is.
const metadataPage = 50

// EachMetadata reads the metadata of all objects of a kind in a namespace that have the labels, a few at a time, and calls each with
// every one until that fails.
func EachMetadata(ctx context.Context, reader client.Reader, kind schema.GroupVersionKind, namespace string, matching client.MatchingLabels, each func(*metav1.PartialObjectMetadata) error) error {
	for next, done := "", false; !done; done = next == "" {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		if err := reader.List(ctx, list, client.InNamespace(namespace), matching, client.Limit(metadataPage), client.Continue(next)); err != nil {
			return err
		}
		for i := range list.Items {
			if err := each(&list.Items[i]); err != nil {
				return err
			}
		}
		next = list.Continue
	}
	return nil
}

// Delete deletes this very object, and not another that was made under its name meanwhile. One that is gone is no error.
func Delete(ctx context.Context, c client.Client, object client.Object) error {
	uid := object.GetUID()
	err := c.Delete(ctx, object, client.Preconditions{UID: &uid})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // a conflict is another object of that name: the one that was meant is gone
	}
	return fmt.Errorf("deleting %s: %w", client.ObjectKeyFromObject(object), err)
}

// Create creates a Secret or ConfigMap that the cache does not have. One that exists all the same is the cache's lag
// (ErrStale) if it is the operator's, is taken back if the owner (nil for none) owns it, and is otherwise an Outcome.
func Create(ctx context.Context, c client.Client, live client.Reader, object client.Object, owner metav1.Object) error {
	err := c.Create(ctx, object, client.FieldOwner(v1alpha1.ManagedBy))
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	existing := client.Object(&corev1.Secret{})
	if _, configMap := object.(*corev1.ConfigMap); configMap {
		existing = &corev1.ConfigMap{}
	}
	if err := live.Get(ctx, client.ObjectKeyFromObject(object), existing); err != nil {
		if apierrors.IsNotFound(err) {
			return ErrStale
		}
		return fmt.Errorf("reading %s: %w", client.ObjectKeyFromObject(object), err)
	}
	if err := NameConflict(existing, object.GetLabels(), owner); err != nil {
		return err
	}
	object.SetResourceVersion(existing.GetResourceVersion())
	object.SetUID(existing.GetUID())
	return c.Update(ctx, object, client.FieldOwner(v1alpha1.ManagedBy))
}

// NameConflict says what it means that a Secret or ConfigMap of a name of ours exists and the cache of ours does not have
// it: the cache lags behind (ErrStale), or it is somebody else's. Nil: it is ours by its owner (nil for none).
func NameConflict(existing client.Object, labels map[string]string, owner metav1.Object) error {
	kind := reflect.TypeOf(existing).Elem().Name()
	switch {
	case !existing.GetDeletionTimestamp().IsZero():
		return Waitf(v1alpha1.ReasonNameConflict, "%s %s in namespace %s is being deleted and a finalizer holds it; it is made anew when it is gone", kind, existing.GetName(), existing.GetNamespace()).
			RetryAfter(UnwatchedRetry)
	case maps.Equal(existing.GetLabels(), labels):
		return ErrStale
	case owner != nil && OwnedBy(existing, owner.GetUID()):
		return nil
	}
	return UserMustActf(v1alpha1.ReasonNameConflict, "%s %s in namespace %s exists and is not the operator's; it is left alone, so delete or rename it", kind, existing.GetName(), existing.GetNamespace()).
		RetryAfter(UnwatchedRetry)
}

// MaxNote is how many bytes the note of an event may have, as the API server validates it.
const MaxNote = 1024

// Truncate shortens a text to so many bytes at most, between two characters.
func Truncate(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// Outcome is why something was not done. It is an error, so that it ends what it comes up in, and it is reported in a status.
type Outcome struct {
	// UserMustAct reports whether nothing changes until somebody mends what the message names.
	UserMustAct bool
	// Reason is one of the API's reasons, and Message says what is wrong, with which object, and what to do.
	Reason, Message string
	// BlockedBy names the object that is in the way, as Kind/name; empty where there is none.
	BlockedBy string
	// OfRestart reports whether a restart alone waits for it, so that the cluster is as encrypted as it is.
	OfRestart bool
	// After is when to try again where nothing that is watched tells that it changed; zero for never.
	After time.Duration
}

func (o *Outcome) Error() string { return o.Message }

// UserMustActf is an Outcome that lasts until the user acts.
func UserMustActf(reason, format string, args ...any) *Outcome {
	return &Outcome{UserMustAct: true, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Waitf is an Outcome that ends by itself.
func Waitf(reason, format string, args ...any) *Outcome {
	return &Outcome{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// RetryAfter has the same tried again after that time.
func (o *Outcome) RetryAfter(after time.Duration) *Outcome {
	o.After = after
	return o
}

// AsOutcome finds the outcome in an error; nil if there is none.
func AsOutcome(err error) *Outcome {
	outcome, _ := errors.AsType[*Outcome](err)
	return outcome
}

// ErrStale says that a cache lags behind the API server.
var ErrStale = errors.New("the cache lags behind the API server")

// StaleRequeue is when to read again after a cache was found to lag.
const StaleRequeue = 500 * time.Millisecond

// IsStale reports whether an error comes from a cache that lags behind the API server.
func IsStale(err error) bool { return errors.Is(err, ErrStale) || apierrors.IsConflict(err) }
