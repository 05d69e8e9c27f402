package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
)

func TestOutcome(t *testing.T) {
	outcome := UserMustActf("R", "Secret %s is missing", "x").RetryAfter(time.Minute)
	if found := AsOutcome(fmt.Errorf("reading: %w", outcome)); found != outcome || found.Error() != "Secret x is missing" {
		t.Errorf("got %+v", found)
	}
	if AsOutcome(nil) != nil || AsOutcome(errors.New("x")) != nil {
		t.Error("another error is no outcome")
	}
	if Waitf("R", "x").UserMustAct || !outcome.UserMustAct {
		t.Error("who acts next is told apart")
	}
}

func TestIsStale(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"a lagging cache": {fmt.Errorf("x: %w", ErrStale), true},
		"a conflict":      {fmt.Errorf("x: %w", apierrors.NewConflict(schema.GroupResource{}, "x", nil)), true},
		"another error":   {errors.New("x"), false},
		"none":            {nil, false},
	} {
		if got := IsStale(c.err); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func secret(change ...func(*corev1.Secret)) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "raytls-train", Labels: Labels(v1alpha1.ComponentIssuer)}}
	for _, c := range change {
		c(s)
	}
	return s
}

func TestCreate(t *testing.T) {
	owner := &metav1.ObjectMeta{Name: "train", UID: "u"}
	unlabelled := func(s *corev1.Secret) { s.Labels = nil }
	owned := func(s *corev1.Secret) { s.OwnerReferences = []metav1.OwnerReference{{UID: "u"}} }
	ending := func(s *corev1.Secret) {
		s.DeletionTimestamp, s.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"x/y"}
	}
	for name, c := range map[string]struct {
		reason   string
		existing *corev1.Secret
		want     string
		stale    bool
	}{
		"none":                {reason: "it is made"},
		"the operator's":      {reason: "the cache lags", existing: secret(), stale: true},
		"relabelled, but its": {reason: "it is taken back by its owner", existing: secret(unlabelled, owned)},
		"somebody's":          {reason: "it is never overwritten", existing: secret(unlabelled), want: "Secret raytls-train in namespace ml exists and is not the operator's"},
		"being deleted":       {reason: "a finalizer holds it", existing: secret(ending), want: "is being deleted and a finalizer holds it"},
	} {
		t.Run(name, func(t *testing.T) {
			builder := fake.NewClientBuilder()
			if c.existing != nil {
				builder = builder.WithObjects(c.existing)
			}
			api := builder.Build()
			err := Create(t.Context(), api, api, secret(), owner)
			if c.stale != errors.Is(err, ErrStale) {
				t.Errorf("%s: got %v", c.reason, err)
			}
			if c.want != "" {
				if outcome := AsOutcome(err); outcome == nil || outcome.Reason != v1alpha1.ReasonNameConflict || !strings.Contains(outcome.Message, c.want) || outcome.After == 0 {
					t.Errorf("%s: got %v", c.reason, err)
				}
			}
			if c.want == "" && !c.stale && err != nil {
				t.Errorf("%s: %v", c.reason, err)
			}
			now, readErr := ReadSecret(t.Context(), api, client.ObjectKeyFromObject(secret()))
			if readErr != nil || now == nil {
				t.Fatalf("%v, %v", now, readErr)
			}
			if labelled := len(now.Labels) > 0; labelled == (name == "somebody's") {
				t.Errorf("%s: labels %v", c.reason, now.Labels)
			}
		})
	}
}

func TestDeleteIsExact(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		err    error
		fails  bool
	}{
		"deleted":     {reason: "it was there"},
		"gone":        {reason: "nothing is left to do", err: apierrors.NewNotFound(schema.GroupResource{}, "x")},
		"another one": {reason: "the one that was meant is gone", err: apierrors.NewConflict(schema.GroupResource{}, "x", nil)},
		"forbidden":   {reason: "it is still there", err: apierrors.NewForbidden(schema.GroupResource{}, "x", nil), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			var asked client.DeleteOptions
			// The fake client does not look at the UID, which API servers do.
			api := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				Delete: func(_ context.Context, _ client.WithWatch, _ client.Object, options ...client.DeleteOption) error {
					asked.ApplyOptions(options)
					return c.err
				},
			})
			err := Delete(t.Context(), api, secret(func(s *corev1.Secret) { s.UID = "this one" }))
			if (err != nil) != c.fails {
				t.Errorf("%s: got %v", c.reason, err)
			}
			if asked.Preconditions == nil || asked.Preconditions.UID == nil || *asked.Preconditions.UID != "this one" {
				t.Errorf("another object of the name could be deleted: %+v", asked.Preconditions)
			}
		})
	}
}

func TestTruncate(t *testing.T) {
	for _, text := range []string{"", "abc", strings.Repeat("a", 100), strings.Repeat("ä", 100), strings.Repeat("…", 50)} {
		for most := 4; most < 20; most++ {
			got := Truncate(text, most)
			if len(got) > most || !utf8.ValidString(got) || len(text) <= most && got != text {
				t.Errorf("Truncate(%q, %d) is %q", text, most, got)
			}
		}
	}
}

func TestEachMetadataReadsPageByPage(t *testing.T) {
	pages := map[string][]string{"": {"a", "b"}, "more": {"c"}}
	reader := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, into client.ObjectList, options ...client.ListOption) error {
			var asked client.ListOptions
			asked.ApplyOptions(options)
			list, ok := into.(*metav1.PartialObjectMetadataList)
			if !ok || asked.Limit != metadataPage || asked.Namespace != "ml" || list.Kind != "PodList" {
				t.Fatalf("listed a %T with %+v", into, asked)
			}
			for _, name := range pages[asked.Continue] {
				list.Items = append(list.Items, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}})
			}
			if asked.Continue == "" {
				list.Continue = "more"
			}
			return nil
		},
	})
	list := func(until string) (names string, err error) {
		labels := client.MatchingLabels{"a": "b"}
		err = EachMetadata(t.Context(), reader, corev1.SchemeGroupVersion.WithKind("Pod"), "ml", labels, func(o *metav1.PartialObjectMetadata) error {
			if names += o.Name; o.Name == until {
				return errors.New("stop")
			}
			return nil
		})
		return names, err
	}
	if names, err := list(""); err != nil || names != "abc" {
		t.Errorf("read %q, %v", names, err)
	}
	if names, err := list("b"); err == nil || names != "ab" {
		t.Errorf("read %q, %v", names, err)
	}
}
