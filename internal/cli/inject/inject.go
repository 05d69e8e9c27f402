// Package inject is the command that prints manifests with the injection, or without it.
package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/input"
	"github.com/raytls/raytls/internal/hazard"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/kuberay"
	"github.com/raytls/raytls/internal/manifest"
	"github.com/raytls/raytls/internal/policy"
)

// portsNote comes before the first note that speaks of a RayCluster, so that nobody takes "injected" for "closed".
const portsNote = "TLS does not close ports 8265 and 52365 of Ray pods: anyone who can reach them can run code in the cluster without a certificate. " +
	"Close them with KubeRay's authOptions and a NetworkPolicy: https://github.com/raytls/raytls/blob/main/docs/tasks/close-http-ports.md"

// New makes the command.
func New() *cobra.Command {
	var files *[]string
	var policyFile string
	var remove bool
	command := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Print manifests with the RayClusters in them injected, as the operator would write them",
		Long: `Prints every document of the input, with each RayCluster as the operator would write it.

Whoever commits what runs can commit this: applied to a cluster that the operator has injected, it changes nothing. A
cluster without pods becomes encrypted by it. In a running one it converts nothing: enabling is the operator's.

What the policy says about the init container and about additionalContainers is part of it. The policy is the one in
the input that covers the cluster, or that of --policy; without any, the defaults are taken, or what the cluster was
injected with. A policy is needed all the same: without one in the namespace nobody makes keys.

A whole RayCluster inside another object, such as an AppWrapper, is injected there. RayJobs, RayServices and RayCronJobs are
printed unchanged, and so are other kinds that make RayClusters from a template: their clusters get names later, and what is
injected names the cluster's Secret. The operator's admission webhook encrypts these clusters at creation. A note says so.

All fields survive, those too that this version does not know, and so do comments, quotes and the order of keys. Anchors
that the injection changes are written out. JSON is printed as YAML with sorted keys. Notes go to standard error. On an
error nothing is printed. The first note says which ports TLS does not close.`,
		Example: "  raytls inject -f cluster.yaml -f policy.yaml > injected.yaml\n" +
			"  kustomize build . | raytls inject -f -\n" +
			"  raytls inject --remove -f injected.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			documents, err := input.Files(cmd, *files)
			if err != nil {
				return err
			}
			i := injector{notes: cmd.ErrOrStderr(), remove: remove}
			if err := i.findPolicies(cmd, documents, policyFile); err != nil {
				return err
			}
			if err := i.all(documents); err != nil {
				return err
			}
			return manifest.Write(cmd.OutOrStdout(), documents)
		},
	}
	files = input.Flag(command)
	command.Flags().StringVar(&policyFile, "policy", "", "A file with one RayTLSPolicy, whose parameters are taken for every RayCluster, whatever it covers.")
	command.Flags().BoolVar(&remove, "remove", false, "Print the manifests without the injection.")
	command.MarkFlagsMutuallyExclusive("policy", "remove")
	return command
}

// injector injects the RayClusters of an input.
type injector struct {
	notes  io.Writer
	remove bool
	// given is the policy of --policy.
	given *v1alpha1.RayTLSPolicy
	// policies are those of the input.
	policies []*v1alpha1.RayTLSPolicy
	// toldPorts reports whether portsNote is printed already.
	toldPorts bool
}

func (i *injector) findPolicies(cmd *cobra.Command, documents []*manifest.Document, file string) (err error) {
	if i.policies, err = policiesIn(documents); err != nil || file == "" {
		return err
	}
	documents, err = input.File(cmd, file)
	if err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	given, err := policiesIn(documents)
	if err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	if len(given) != 1 {
		return fmt.Errorf("--policy: %s holds %d RayTLSPolicies; one is needed", file, len(given))
	}
	i.given = given[0]
	return nil
}

// policiesIn decodes strictly: what a misspelt field asks for would be missing in the output.
func policiesIn(documents []*manifest.Document) ([]*v1alpha1.RayTLSPolicy, error) {
	var policies []*v1alpha1.RayTLSPolicy
	for _, o := range manifest.Objects(documents) {
		if !o.Is(v1alpha1.GroupVersion.Group, "RayTLSPolicy") {
			continue
		}
		found := &v1alpha1.RayTLSPolicy{}
		text, err := json.Marshal(o.Object)
		if err == nil {
			err = yaml.UnmarshalStrict(text, found)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o, err)
		}
		if err := checkPolicy(found); err != nil {
			return nil, fmt.Errorf("%s: the API server refuses it: %w", o, err)
		}
		policies = append(policies, found)
	}
	return policies, nil
}

// all injects every RayCluster, and gives the errors of all of them. Each object that has to do with a RayCluster gets a note.
func (i *injector) all(documents []*manifest.Document) error {
	var failed error
	found := false
	for _, o := range manifest.Objects(documents) {
		wrapped := o.Wrapped()
		for _, cluster := range append([]*manifest.Object{o}, wrapped.Objects...) {
			spec, at := cluster.ClusterSpec()
			if spec == nil {
				continue
			}
			found = true
			done, err := i.one(cluster, spec)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", cluster, err))
				continue
			}
			if err := i.tellPorts(); err != nil {
				return err
			}
			if err := i.notef("%s: %s", cluster, done); err != nil {
				return err
			}
			if err := i.warn(cluster, at, spec); err != nil {
				return err
			}
		}
		for _, template := range wrapped.Templates {
			found = true
			if err := i.tellPorts(); err != nil {
				return err
			}
			if err := i.notef("%s: printed unchanged; %s is a template, and the RayClusters made from it get their names later. The operator's admission webhook encrypts them at creation "+
				"if a RayTLSPolicy covers them by its selector; a targetRef cannot name a %s", o, template.Path, o.GetKind()); err != nil {
				return err
			}
			if err := i.warn(o, template.Path, template.Spec); err != nil {
				return err
			}
		}
		for _, path := range wrapped.Texts {
			found = true
			if err := i.notef("%s: printed unchanged; %s is text with a RayCluster in it: give the command that manifest itself", o, path); err != nil {
				return err
			}
		}
	}
	if failed != nil {
		return failed
	}
	if !found {
		return i.notef("nothing is injected: the input has no RayCluster")
	}
	return i.sizes(documents)
}

// tellPorts notes once what TLS does not close, except where TLS is taken out.
func (i *injector) tellPorts() error {
	if i.toldPorts || i.remove {
		return nil
	}
	i.toldPorts = true
	return i.notef("%s", portsNote)
}

// warn notes what TLS breaks in the spec at a path, which the operator and its webhook tell too.
func (i *injector) warn(o *manifest.Object, at string, spec map[string]any) error {
	if i.remove {
		return nil
	}
	metadata, err := metadataOf(o)
	if err != nil {
		return nil //nolint:nilerr // it is an error of its own where it matters
	}
	if policy.Excluded(metadata) {
		return nil
	}
	subject := policy.Subject{Object: metadata}
	if o.GetKind() != string(v1alpha1.TargetRayCluster) {
		subject.Owners = []v1alpha1.TargetReference{{Kind: v1alpha1.TargetKind(o.GetKind()), Name: o.GetName()}}
	} else if owner, owned := kuberay.Owner(metadata); owned {
		subject.Owners = []v1alpha1.TargetReference{owner}
	}
	found := i.given
	if found == nil {
		found = policy.Decide(subject, i.near(metadata)).Policy
	}
	var options hazard.Options
	if found != nil {
		asked := found.Spec.WithDefaults()
		options = hazard.OptionsOf(&asked)
	} else if templates := injection.Inspect(spec, o.GetName()); len(templates) > 0 && templates[0].Parameters != nil {
		options.Additional = templates[0].Parameters.AdditionalContainers
	}
	for _, h := range hazard.Find(spec, options) {
		if err := i.notef("%s: WARNING: %s.%s", o, at, strings.TrimPrefix(h.String(), "spec.")); err != nil {
			return err
		}
	}
	return nil
}

// near are the policies that may be in the cluster's namespace. Where one names none, whoever applies both chooses the same.
func (i *injector) near(metadata *metav1.ObjectMeta) []*v1alpha1.RayTLSPolicy {
	return slices.DeleteFunc(slices.Clone(i.policies), func(p *v1alpha1.RayTLSPolicy) bool {
		return p.Namespace != "" && metadata.Namespace != "" && p.Namespace != metadata.Namespace
	})
}

// sizes notes which objects became too large for kubectl to apply them on its own side.
func (i *injector) sizes(documents []*manifest.Document) error {
	for _, o := range manifest.Objects(documents) {
		if spec, _ := o.ClusterSpec(); spec == nil && len(o.Wrapped().Objects) == 0 {
			continue
		}
		if note := sizeNote(o); note != "" {
			if err := i.notef("%s: %s", o, note); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *injector) notef(format string, args ...any) error {
	_, err := fmt.Fprintf(i.notes, format+"\n", args...)
	return err
}

func (i *injector) one(o *manifest.Object, spec map[string]any) (done string, err error) {
	if o.GetKind() != string(v1alpha1.TargetRayCluster) {
		return "printed unchanged; KubeRay names its clusters at random, so the operator's admission webhook encrypts them at creation", nil
	}
	if i.remove {
		plain, err := injection.Remove(spec, injection.All())
		if err != nil {
			return "", err
		}
		if !injection.AnyPiece(spec) {
			return "printed unchanged; it is not injected", nil
		}
		o.SetClusterSpec(plain)
		return "the injection is taken out", nil
	}
	if o.GetName() == "" {
		return "", errors.New("metadata.name: is missing, and what is injected names the cluster's Secret; " +
			"give it a name, or leave generateName to the operator's admission webhook, which injects at creation")
	}
	if err := o.CheckNames(); err != nil {
		return "", err
	}
	metadata, err := metadataOf(o)
	if err != nil {
		return "", err
	}
	if policy.Excluded(metadata) {
		return fmt.Sprintf("printed unchanged; its label %s takes it out", v1alpha1.LabelExclude), nil
	}
	if wrong := policy.InvalidExclude(metadata); wrong != "" {
		if err := i.notef("%s: %s", o, wrong); err != nil {
			return "", err
		}
	}
	return i.inject(o, metadata, spec)
}

func (i *injector) inject(o *manifest.Object, metadata *metav1.ObjectMeta, spec map[string]any) (done string, err error) {
	found, from, err := i.policyFor(metadata)
	if err != nil {
		return "", err
	}
	templates := injection.Inspect(spec, o.GetName())
	recorded := slices.IndexFunc(templates, func(t injection.Template) bool { return t.Parameters != nil })
	var asked v1alpha1.RayTLSPolicySpec
	var parameters injection.Parameters
	switch {
	case found != nil:
		asked = found.Spec.WithDefaults()
		parameters = policy.Parameters(&asked)
	case recorded >= 0:
		parameters, from = *templates[recorded].Parameters, "what it was injected with before"
	}
	if foreign := injection.ForeignTLS(spec, nil, parameters.AdditionalContainers...); len(foreign) > 0 {
		var all error
		for _, f := range foreign {
			all = errors.Join(all, fmt.Errorf("%s %s", f.Field, f.Message))
		}
		return "", all
	}
	candidate := policy.Candidate{
		Key: types.NamespacedName{Namespace: metadata.Namespace, Name: metadata.Name}, Spec: spec, ManagedBy: kuberay.ManagedBy(&o.Unstructured),
	}
	// Which images the administrator allows, and what is in ConfigMaps, only the operator knows.
	verdict := policy.Accept(policy.Acceptance{Spec: &asked, Images: policy.Allowlist{"*"}})
	injected, err := policy.Inject(candidate, &asked, verdict, parameters, policy.EnvFrom{})
	if outcome := kube.AsOutcome(err); outcome != nil && (outcome.Reason == v1alpha1.ReasonPaused || outcome.Reason == v1alpha1.ReasonBlocked) {
		return "printed unchanged; " + outcome.Message, nil // the operator would write nothing either
	}
	if err != nil {
		return "", err
	}
	if asIs(templates, parameters) {
		return "printed unchanged; it is injected with " + from, nil
	}
	o.SetClusterSpec(injected)
	return "injected with " + from, nil
}

// asIs reports whether the templates are what the operator would leave alone.
func asIs(templates []injection.Template, wanted injection.Parameters) bool {
	return len(templates) > 0 && !slices.ContainsFunc(templates, func(t injection.Template) bool {
		return t.State != injection.Injected || t.Revision != injection.Revision || !t.Parameters.Equal(wanted)
	})
}

// policyFor finds the policy that the cluster follows, and says where its parameters come from.
func (i *injector) policyFor(metadata *metav1.ObjectMeta) (found *v1alpha1.RayTLSPolicy, from string, err error) {
	if i.given != nil {
		return i.given, fmt.Sprintf("the parameters of RayTLSPolicy %s, given with --policy", i.given.Name), nil
	}
	near := i.near(metadata)
	namespaces := sets.New[string]()
	for _, p := range near {
		namespaces.Insert(p.Namespace)
	}
	if metadata.Namespace == "" && namespaces.Delete("").Len() > 1 {
		return nil, "", errors.New("metadata.namespace: is missing, and the input has policies of several namespaces; name the cluster's")
	}
	subject := policy.Subject{Object: metadata}
	if owner, owned := kuberay.Owner(metadata); owned {
		subject.Owners = []v1alpha1.TargetReference{owner}
	}
	if found = policy.Decide(subject, near).Policy; found == nil {
		return nil, "the defaults, since no RayTLSPolicy in the input covers it; it needs one in its namespace, which makes its keys", nil
	}
	return found, fmt.Sprintf("the parameters of RayTLSPolicy %s", found.Name), nil
}

func metadataOf(o *manifest.Object) (*metav1.ObjectMeta, error) {
	var metadata metav1.ObjectMeta
	text, err := json.Marshal(o.Object["metadata"])
	if err == nil {
		err = json.Unmarshal(text, &metadata)
	}
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	metadata.Namespace = o.GetNamespace()
	return &metadata, nil
}
