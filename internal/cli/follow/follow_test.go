package follow

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/clitest"
	"github.com/raytls/raytls/internal/cli/connect"
)

func TestUntil(t *testing.T) {
	t.Parallel()
	key := types.NamespacedName{Namespace: "ml", Name: "train"}
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "rayclustertlses"}, "train", errors.New("no"))
	for name, c := range map[string]struct {
		reason string
		// fails are the errors of the first reads.
		fails       []error
		gone        bool
		says, error string
	}{
		"down for a moment": {"a wait of hours outlasts a restart of the API server", []error{errors.New("connection refused"), errors.New("connection refused")}, false, "connection refused", ""},
		"forbidden":         {"this does not pass", []error{refused}, false, "", "forbidden"},
		"gone":              {"what that means, the command knows", nil, true, "", "it is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var objects []client.Object
			if !c.gone {
				objects = append(objects, clitest.Record("train"))
			}
			fails := c.fails
			fake := interceptor.NewClient(clitest.Client(t, objects...), interceptor.Funcs{
				Get: func(ctx context.Context, from client.WithWatch, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
					if len(fails) > 0 {
						defer func() { fails = fails[1:] }()
						return fails[0]
					}
					return from.Get(ctx, key, into, options...)
				},
			})
			var out bytes.Buffer
			session := &connect.Session{Client: fake, Sleep: func(context.Context, time.Duration) error { return nil }}
			follower := New(session, &out, AddFlags(&cobra.Command{}, "then"))
			err := follower.Until(t.Context(), map[types.NamespacedName]Look{key: func(tls *v1alpha1.RayClusterTLS) (Step, error) {
				if tls == nil {
					return Step{}, errors.New("it is gone")
				}
				return Step{Text: "done", Done: true}, nil
			}})
			if (err != nil) != (c.error != "") || err != nil && !strings.Contains(err.Error(), c.error) {
				t.Errorf("%s: error %v", c.reason, err)
			}
			if !strings.Contains(out.String(), c.says) || strings.Count(out.String(), "connection refused") > 1 || err == nil && !strings.HasSuffix(out.String(), "ml/train: done\n") {
				t.Errorf("%s:\n%s", c.reason, out.String())
			}
		})
	}
}
