//go:build hostile

package hostile

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/kuberay"
)

// namespace makes a namespace, and removes it and its policies at the end.
func (w *world) namespace(name string) {
	w.t.Helper()
	if err := w.api.Create(w.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		// The policy goes first: its finalizer waits for the operator.
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := w.api.DeleteAllOf(ctx, &v1alpha1.RayTLSPolicy{}, client.InNamespace(name)); err != nil {
			w.t.Error(err)
		}
		if err := w.api.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			w.t.Error(err)
		}
	})
}

// prepare makes a namespace with a tenant, and with a policy where the operator is to be asked. It returns the tenant's client when
// the tenant may create RayClusters and the webhook is asked about them.
func (w *world) prepare(namespace string, covered bool) client.Client {
	w.t.Helper()
	w.namespace(namespace)
	api := w.tenant(namespace)
	if covered {
		policy := &v1alpha1.RayTLSPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}, Spec: v1alpha1.RayTLSPolicySpec{Selector: &metav1.LabelSelector{}},
		}
		if err := w.api.Create(w.t.Context(), policy); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for {
		probe := small(namespace, "probe")
		err := api.Create(ctx, probe, client.DryRunAll)
		if err != nil && !apierrors.IsForbidden(err) { // the API server learns of a Role within a moment
			w.t.Fatal(err)
		}
		if err == nil && covered == strings.Contains(fmt.Sprint(probe.Object["spec"]), "raytls-init") {
			return api
		}
		time.Sleep(time.Second)
	}
}

// tenant is a client of a namespace's ServiceAccount, with connections of its own. The API server queues its requests with other
// tenants' by priority and fairness, from which an administrator is exempt.
func (w *world) tenant(namespace string) client.Client {
	w.t.Helper()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: tenant}
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: meta},
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{kuberay.RayClusterGVK().Group}, Resources: []string{"rayclusters"}, Verbs: []string{"create", "update", "delete"},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: tenant},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: tenant}},
		},
	} {
		if err := w.api.Create(w.t.Context(), object); err != nil {
			w.t.Fatal(err)
		}
	}
	life := int64((duration(w.t) + time.Hour).Seconds())
	token, err := w.kube.CoreV1().ServiceAccounts(namespace).CreateToken(
		w.t.Context(), tenant, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &life}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(w.config)
	config.BearerToken = token.Status.Token
	config.Dial = (&net.Dialer{}).DialContext // clients without a dialer of their own share connections, on which one waits for the other
	api, err := client.New(config, client.Options{Scheme: w.api.Scheme(), Mapper: w.api.RESTMapper()})
	if err != nil {
		w.t.Fatal(err)
	}
	return api
}
