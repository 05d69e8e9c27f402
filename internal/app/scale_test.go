package app

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/timescale"
)

func TestShortDaysAreForTestsAlone(t *testing.T) {
	short := timescale.Scale{MinutesPerDay: 1}
	for name, c := range map[string]struct {
		reason string
		scale  timescale.Scale
		labels map[string]string
		want   string
	}{
		"real days":   {"an installation without the flag reads no namespace", timescale.Scale{}, nil, ""},
		"for tests":   {"the label allows it", short, map[string]string{v1alpha1.LabelTesting: "true"}, ""},
		"no label":    {"certificates of users must not end within minutes", short, map[string]string{}, "has the label raytls.io/testing=true"},
		"other value": {"one value allows it", short, map[string]string{v1alpha1.LabelTesting: "yes"}, "has the label raytls.io/testing=true"},
		"unreadable":  {"what cannot be read allows nothing", short, nil, "reading the namespace raytls-system"},
	} {
		var objects []client.Object
		if c.labels != nil {
			objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "raytls-system", Labels: c.labels}})
		}
		live := fake.NewClientBuilder().WithObjects(objects...).Build()
		err := checkScale(t.Context(), live, ControllerOptions{Options: Options{Namespace: "raytls-system"}, Scale: c.scale})
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s: got %v", name, c.reason, err)
		}
	}
}
