package suite_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli"
)

// user is somebody who may edit what is in the namespace of a world, but read no Secret. The kubeconfig is theirs.
type user struct {
	ns, kubeconfig string
}

// newUser makes a user, and gives them the roles that Kubernetes would, of which view and edit are made by a controller that does not
// run here.
func (w *world) newUser() *user {
	GinkgoHelper()
	name := "user-of-" + w.ns
	u := &user{w.ns, filepath.Join(GinkgoT().TempDir(), "kubeconfig")}
	Expect(env.addUser(envtest.User{Name: name, Groups: []string{"system:authenticated"}}, u.kubeconfig)).To(Succeed())
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}}
	for _, role := range []string{"raytls-view", "raytls-edit"} {
		Expect(w.admin.Create(w.ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: role}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		})).To(Succeed())
	}
	read := []string{"get", "list", "watch"}
	Expect(w.admin.Create(w.ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "workloads"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: read},
			{APIGroups: []string{"ray.io"}, Resources: []string{"rayclusters"}, Verbs: read},
		},
	})).To(Succeed())
	Expect(w.admin.Create(w.ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "workloads"}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "workloads"},
	})).To(Succeed())
	return u
}

// run runs the command line tool.
func (u *user) run(args ...string) (out, notes string, err error) {
	var to, beside bytes.Buffer
	err = u.start(&to, &beside, args...)
	return to.String(), beside.String(), err
}

func (u *user) start(out, notes io.Writer, args ...string) error {
	args = append([]string{"raytls"}, append(args, "--kubeconfig", u.kubeconfig, "-n", u.ns)...)
	return cli.Main("v0.0.0", args, cli.Environment{In: strings.NewReader(""), Out: out, Notes: notes, Now: time.Now})
}

// background runs the command line tool beside the spec. The output is closed when it has ended, and err has its error then.
func (u *user) background(args ...string) (out *gbytes.Buffer, err func() error) {
	out = gbytes.NewBuffer()
	ended := make(chan error, 1)
	go func() {
		ended <- u.start(out, io.Discard, args...)
		_ = out.Close()
	}()
	return out, func() error { return <-ended }
}

var _ = Describe("The command line tool", func() {
	var w *world
	var u *user
	BeforeEach(func() {
		w = newWorld()
		u = w.newUser()
	})
	encrypted := func() {
		GinkgoHelper()
		w.policy("p", selecting(func(s *v1alpha1.RayTLSPolicySpec) { s.Rollout.Strategy = v1alpha1.StrategyOnDelete }))
		w.start("p", "a")
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Pods.Certified).To(BeEquivalentTo(3)) })
	}

	It("replaces an authority and waits until each pod has its part", func() {
		encrypted()
		out, failed := u.background("rotate", "a", "--wait", "--timeout", "3m")
		w.eventually(func(g Gomega) {
			g.Expect(string(out.Contents())).To(ContainSubstring("generation 2: 0 of 3 pods (3 of generation 1)"))
		})
		Expect(w.getPolicy("p").Spec.Selector).NotTo(BeNil(), "no other field is taken away")
		Expect(out.Closed()).To(BeFalse())
		Expect(w.admin.DeleteAllOf(w.ctx, &corev1.Pod{}, inNamespace(w.ns), gracePeriod0)).To(Succeed())
		w.eventually(func(g Gomega) { g.Expect(out.Closed()).To(BeTrue()) })
		Expect(failed()).To(Succeed())
		Expect(string(out.Contents())).To(And(
			ContainSubstring("spec.certificateAuthority.replaceIssuedBefore is "), ContainSubstring(w.ns+"/a (generation 1)"),
			HaveSuffix("generation 2: 3 of 3 pods; up to date\n"),
		))
		w.upToDate("p", "a", metav1.ConditionTrue, v1alpha1.ReasonUpToDate)

		_, _, err := u.run("rotate", "--all")
		Expect(err).NotTo(HaveOccurred(), "it may be asked for again")
		w.eventually(func(g Gomega) { g.Expect(w.status("a").Authority.Generation).To(BeEquivalentTo(3)) })
	})

	It("prints a policy that changes nothing but the field when anything applies it", func() {
		encrypted()
		w.settle()
		before := w.getPolicy("p")
		out, _, err := u.run("rotate", "a", "--dry-run")
		Expect(err).NotTo(HaveOccurred())
		Expect(w.getPolicy("p").ManagedFields).To(HaveLen(len(before.ManagedFields)), "it writes nothing")
		printed := &unstructured.Unstructured{}
		Expect(yamlObject(out, printed)).To(Succeed())
		Expect(w.admin.Apply(w.ctx, client.ApplyConfigurationFromUnstructured(printed), client.FieldOwner("kustomize-controller"), client.ForceOwnership)).To(Succeed())
		after := w.getPolicy("p")
		Expect(after.Spec.CertificateAuthority.ReplaceIssuedBefore).NotTo(BeNil())
		after.Spec.CertificateAuthority.ReplaceIssuedBefore = nil
		Expect(after.Spec).To(Equal(before.Spec))

		earlier := "2026-01-01T00:00:00Z" // an apply of the very same value conflicts with nobody
		Expect(yamlObject(out, printed)).To(Succeed())
		Expect(unstructured.SetNestedField(printed.Object, earlier, "spec", "certificateAuthority", "replaceIssuedBefore")).To(Succeed())
		Expect(w.admin.Apply(w.ctx, client.ApplyConfigurationFromUnstructured(printed), client.FieldOwner("kustomize-controller"), client.ForceOwnership)).To(Succeed())
		_, _, err = u.run("rotate", "a")
		Expect(err).To(MatchError(And(ContainSubstring("kustomize-controller"), ContainSubstring("--dry-run"))), "Git would take it back")
	})

	It("asks for a revocation, and takes over the default that the policy's creator owns", func() {
		encrypted()
		w.updatePolicy("p", func(p *v1alpha1.RayTLSPolicy) { p.Spec.Paused = true })
		_, _, err := u.run("revoke", "a")
		Expect(err).To(MatchError(ContainSubstring("--yes")))
		Expect(w.getPolicy("p").Spec.CertificateAuthority.RevokeIssuedBefore).To(BeNil())
		for _, now := range []bool{true, false} {
			args := []string{"revoke", "a", "--yes"}
			if now {
				args = append(args, "--now")
			}
			_, notes, err := u.run(args...)
			Expect(err).NotTo(HaveOccurred())
			Expect(notes).To(ContainSubstring("is paused"))
			Expect(w.getPolicy("p").Spec.CertificateAuthority.RevokeIssuedBefore).NotTo(BeNil())
			Expect(w.getPolicy("p").Spec.CertificateAuthority.RevokeNow).To(Equal(now))
		}
	})

	It("revokes an authority once the restart is approved, and at once if told to", func() {
		encrypted()
		out, failed := u.background("revoke", "a", "--yes", "--wait", "--timeout", "3m")
		w.eventually(func(g Gomega) {
			g.Expect(w.status("a").PendingRestart).To(HaveValue(HaveField("Action", v1alpha1.ActionRevoke)))
			g.Expect(string(out.Contents())).To(ContainSubstring("to approve it, run `raytls approve a "))
		})
		shown, _, err := u.run("approve", "a", "--restart", w.status("a").PendingRestart.ID)
		Expect(err).NotTo(HaveOccurred())
		Expect(shown).To(ContainSubstring("all 3 pods together, with an unrelated authority"))
		w.eventually(func(g Gomega) { g.Expect(out.Closed()).To(BeTrue()) })
		Expect(failed()).To(Succeed(), string(out.Contents()))
		Expect(w.status("a").Authority).To(And(HaveField("Generation", BeEquivalentTo(2)), HaveField("RevokedBeforeGeneration", BeEquivalentTo(2)), HaveField("Earlier", BeEmpty())))

		out, failed = u.background("revoke", "--all", "--now", "--yes", "--wait", "--timeout", "3m")
		w.eventually(func(g Gomega) { g.Expect(out.Closed()).To(BeTrue()) })
		Expect(failed()).To(Succeed(), string(out.Contents()))
		Expect(w.status("a").Authority.RevokedBeforeGeneration).To(BeEquivalentTo(3))
	})

	It("approves the restart that it shows", func() {
		w.run("a")
		w.run("b")
		w.policy("p", selecting())
		w.says("p", "a", v1alpha1.ReasonAwaitingApproval)
		w.says("p", "b", v1alpha1.ReasonAwaitingApproval)
		id := w.status("a").PendingRestart.ID
		out, _, err := u.run("status", "a")
		Expect(err).NotTo(HaveOccurred())
		Expect(out).To(ContainSubstring("raytls approve a -n " + w.ns + " --kubeconfig " + u.kubeconfig + " --restart " + id))
		_, _, err = u.run("approve", "a", "--restart", "ffffff")
		Expect(cli.ExitCode(err)).To(Equal(2), "%v", err)

		_, _, err = u.run("approve", "b")
		Expect(err).NotTo(HaveOccurred())
		w.encrypted("p", "b")
		progress, failed := u.background("approve", "a", "--restart", id, "--wait", "--timeout", "3m")
		w.eventually(func(g Gomega) { g.Expect(progress.Closed()).To(BeTrue()) })
		Expect(failed()).To(Succeed())
		Expect(string(progress.Contents())).To(ContainSubstring("all 3 pods, with TLS"))
		w.encrypted("p", "a")
		Expect(w.getPolicy("p").Spec.Rollout.Approvals).To(HaveLen(2), "the first approval stays")
		_, _, err = u.run("approve", "a")
		Expect(cli.ExitCode(err)).To(Equal(2), "%v", err)
	})

	It("shows what each pod runs with, without reading a Secret", func() {
		encrypted()
		w.run("plain", label(v1alpha1.LabelExclude, v1alpha1.ExcludeTrue))
		var found struct {
			Clusters []struct {
				Name    string
				Current bool
				Status  v1alpha1.RayClusterTLSStatus
				Pods    []struct{ Name, State, Serial, Issuer string }
			}
			Unread []string
		}
		w.eventually(func(g Gomega) {
			out, notes, err := u.run("status", "--pods", "-o", "json")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(json.Unmarshal([]byte(out), &found)).To(Succeed())
			g.Expect(found.Clusters).To(HaveLen(2))
			g.Expect(found.Clusters[0].Current).To(BeTrue())
			g.Expect(notes).To(ContainSubstring("PodDisruptionBudget"), "this user may not read them")
		})
		Expect(found.Clusters[0].Status).To(Equal(w.status("a")))
		Expect(found.Clusters[0].Pods).To(HaveLen(3))
		for _, pod := range found.Clusters[0].Pods {
			Expect(pod.State).To(Equal("TLS"))
			Expect(pod.Issuer).To(Equal(w.status("a").Issuer.ID))
			Expect(pod.Serial).To(MatchRegexp(`^[0-9a-f]{32}$`))
		}
		Expect(found.Clusters[1].Pods).To(HaveLen(3))
		Expect(found.Clusters[1].Pods[0].State).To(Equal("Plaintext"))
		out, _, err := u.run("status", "a", "-o", "csv")
		Expect(err).NotTo(HaveOccurred())
		rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		Expect(err).NotTo(HaveOccurred())
		Expect(rows).To(HaveLen(4))
	})
})

func yamlObject(text string, into *unstructured.Unstructured) error {
	into.Object = nil
	return sigsyaml.Unmarshal([]byte(text), &into.Object)
}
