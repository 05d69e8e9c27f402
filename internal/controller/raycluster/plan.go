package raycluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/controller/acceptance"
	"github.com/raytls/raytls/internal/controller/envfrom"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/record"
	"github.com/raytls/raytls/internal/rollout"
)

// plan decides the cluster's next step.
func (r *Reconciler) plan(ctx context.Context, st *state) error {
	st.describe()
	if st.unreadable != nil {
		return problemf(v1alpha1.ReasonError, "the RayCluster cannot be read: %v", st.unreadable)
	}
	if st.policy == nil || !st.cluster.DeletionTimestamp.IsZero() {
		return nil
	}
	if st.key.Namespace == r.Namespace {
		// A cluster's Secret could take the name of another cluster's authority here.
		return problemf(v1alpha1.ReasonInjectionConflict, "RayClusters in the operator's own namespace %s are not covered; create the cluster in another namespace", r.Namespace)
	}
	if by := ManagedElsewhere(st.object); by != "" {
		st.status.BlockedBy = by
		st.status.Reason, st.status.Message = v1alpha1.ReasonBlocked, fmt.Sprintf("spec.managedBy hands the cluster to %s, so it is left alone", by)
		return nil
	}
	progress, err := rollout.ParseProgress(st.cluster.Annotations[v1alpha1.AnnotationRollout])
	if err != nil {
		return problemf(v1alpha1.ReasonError, "annotation %s of the RayCluster: %v; remove it", v1alpha1.AnnotationRollout, err)
	}
	verdict := acceptance.Installed(st.policy, r.Images, r.Kinds.Served, st.now)
	st.fill(progress, verdict.Accepted)
	if err := r.mayEnable(ctx, st, verdict); err != nil {
		return err
	}
	st.planned = rollout.Make(&st.snapshot)
	if starts := st.snapshot.Progress == nil && st.planned.Progress != nil; starts {
		if st.snapshot.NoSlot, err = r.takeSlot(ctx, st); err != nil {
			return err
		}
		if st.snapshot.NoSlot != "" {
			st.planned = rollout.Make(&st.snapshot)
		}
	}
	if st.planned.Reason == v1alpha1.ReasonWaitingForSlot {
		st.again(st.now.Add(later)) // should the end of what it waits for go unnoticed
	}
	st.status.Reason, st.status.Message, st.status.BlockedBy = st.planned.Reason, st.planned.Message, st.planned.BlockedBy
	st.again(st.planned.Again)
	if st.planned.Reason == v1alpha1.ReasonEncrypted && st.parameters.Image != "" && !r.Images.Allows(st.parameters.Image) {
		return imageProblem(st.parameters.Image)
	}
	if st.planned.Reason == v1alpha1.ReasonEncrypted && !st.parameters.Equal(Parameters(st.policy)) {
		st.status.Message = "the policy's changed init container or additional containers reach this cluster's templates when it has no pods"
	}
	if st.paused() && (st.planned.Writes(&st.snapshot) || len(st.planned.Delete) > 0 || st.planned.Released) {
		st.status.Reason = v1alpha1.ReasonPaused
		st.status.Message = fmt.Sprintf("spec.paused keeps this from being done: %s", st.planned.Message)
	}
	return st.render(r.Images)
}

func (st *state) paused() bool { return st.policy != nil && st.policy.Paused }

// fill makes the planner's snapshot of what was gathered.
func (st *state) fill(progress *rollout.Progress, accepted bool) {
	c, policy := st.cluster, st.policy
	kept := record.ParseRestored(c.Annotations[v1alpha1.AnnotationRestored])
	s := rollout.Snapshot{
		Now: st.now, Goal: st.decision.Goal,
		Suspended: c.Spec.Suspend != nil && *c.Spec.Suspend, Provisioned: provisioned(c), Service: st.describeService(),
		Recreate: recreates(c), Observed: c.Status.ObservedGeneration >= c.Generation,
		Queued:    queued(c),
		Immediate: policy.Rollout.Enable == v1alpha1.EnableImmediate, Approval: approval(st.decision.Policy, c, st.service),
		Enabled: c.Annotations[v1alpha1.AnnotationInjection] != "", FailedAttempt: c.Annotations[v1alpha1.AnnotationEnableFailed],
		Restored: kept.Times, InjectedAt: kept.Since, Progress: progress, Deadline: time.Duration(policy.Rollout.ProgressDeadlineSeconds) * time.Second,
	}
	s.FailedBecause = c.Annotations[v1alpha1.AnnotationEnableFailedBecause]
	s.BlockedBy, s.BlockedWhy = blocked(c, st.jobs, st.service)
	if s.Service != nil && s.Service.Serving {
		s.Provisioned = true // KubeRay moves the traffic when the applications answer, which all pods need not be up for
	}
	for i := range st.pods {
		s.Pods = append(s.Pods, podFacts(&st.pods[i]))
	}
	for i := range st.ended {
		s.Ended = append(s.Ended, podFacts(&st.ended[i]))
	}
	// What was injected stays as it is until the cluster has no pods: a change of the policy restarts nobody.
	// Nor does a policy that is not accepted.
	st.parameters = Parameters(policy)
	old := recordedParameters(st.described)
	if old != nil && (s.Enabled || progress != nil) && (len(s.Pods) > 0 || !accepted) {
		st.parameters = *old
	}
	s.Attempt = injection.Hash(st.spec, st.parameters)
	s.Templates = templates(st.described, c, st.parameters, kept.Groups)
	if slices.ContainsFunc(s.Templates, func(t rollout.Template) bool { return t.Stripped }) {
		s.Manager = manager(st.object)
	}
	st.snapshot = s
}

// mayEnable says what is in the way of injecting a cluster that does not carry the injection yet.
func (r *Reconciler) mayEnable(ctx context.Context, st *state, verdict acceptance.Verdict) error {
	s := &st.snapshot
	if s.Goal != rollout.Encrypted || s.Enabled || s.Progress != nil {
		return nil
	}
	_, err := Inject(ctx, r.Live, verdict, st.key, st.spec, st.parameters)
	return err
}

// Inject renders the injection of all templates of a cluster that has none yet, for a policy of that verdict. What is in its
// way is an error whose text is for the user (UserError).
func Inject(ctx context.Context, live client.Reader, verdict acceptance.Verdict, key types.NamespacedName, spec map[string]any, parameters injection.Parameters) (map[string]any, error) {
	if !verdict.Accepted {
		return nil, problemf(v1alpha1.ReasonNotAccepted, "%s", verdict.Message)
	}
	if most := validation.DNS1123SubdomainMaxLength - len(injection.SecretName("")); len(key.Name) > most {
		return nil, problemf(v1alpha1.ReasonInjectionConflict, "metadata.name: longer than %d characters, which leaves no room for the name of the cluster's Secret; create the cluster under a shorter name", most)
	}
	if err := injection.CheckSize(spec); err != nil {
		return nil, applyProblem(err)
	}
	if foreign := injection.ForeignTLS(spec, nil, parameters.AdditionalContainers...); len(foreign) > 0 {
		return nil, problemf(v1alpha1.ReasonForeignTLS, "%s %s", foreign[0].Field, foreign[0].Message)
	}
	injected, err := injection.Edit{Scope: injection.All(), Revision: injection.Revision, Parameters: parameters}.Render(spec, key.Name)
	if err != nil {
		return nil, applyProblem(err)
	}
	return injected, foreignEnvFrom(ctx, live, key.Namespace, spec, parameters.AdditionalContainers)
}

// UserError says whether an error of Inject is something that the user has to mend.
func UserError(err error) bool {
	var user *problem
	return errors.As(err, &user)
}

// foreignEnvFrom looks for TLS that is set up by what the cluster's containers take their environment from.
func foreignEnvFrom(ctx context.Context, live client.Reader, namespace string, spec map[string]any, additional []string) error {
	foreign, err := envfrom.Foreign(ctx, live, namespace, spec, additional)
	if err != nil {
		return applyProblem(err)
	}
	if len(foreign) > 0 {
		p := problemf(v1alpha1.ReasonForeignTLS, "%s %s", foreign[0].Field, foreign[0].Message)
		p.again = later // what envFrom names is not watched
		return p
	}
	return nil
}

func imageProblem(image string) error {
	return problemf(v1alpha1.ReasonNotAccepted, "the templates carry the init image %s, which is not among those that the operator's administrator allows with --allowed-init-image", image)
}

// render makes the spec that the plan asks for.
func (st *state) render(images acceptance.Allowlist) error {
	e := st.planned.Edit
	if e == rollout.NoEdit {
		return nil
	}
	if e != rollout.RemoveAll && st.parameters.Image != "" && !images.Allows(st.parameters.Image) {
		return imageProblem(st.parameters.Image)
	}
	switch e {
	case rollout.RemoveAll:
		st.edit = injection.Edit{Remove: true, Scope: injection.All()}
	case rollout.Inject:
		groups := slices.DeleteFunc(slices.Clone(st.planned.Groups), func(g string) bool { return g == "" })
		st.edit = st.injects(injection.Only(len(groups) < len(st.planned.Groups), groups...))
	default:
		st.edit = st.injects(injection.All())
	}
	var err error
	st.edited, err = st.edit.Render(st.spec, st.key.Name)
	return applyProblem(err)
}

func (st *state) injects(scope injection.Scope) injection.Edit {
	return injection.Edit{Scope: scope, Revision: injection.Revision, Parameters: st.parameters}
}

func applyProblem(err error) error {
	var conflict *injection.ConflictError
	if errors.As(err, &conflict) {
		return problemf(v1alpha1.ReasonInjectionConflict, "%s: %s", conflict.Field, conflict.Message)
	}
	return err
}

// describe fills in what the status says of the cluster whatever is decided.
func (st *state) describe() {
	for _, t := range st.described {
		st.status.InjectionRevision = max(st.status.InjectionRevision, int32(t.Revision))
	}
	if st.authority != nil {
		if authority, _, err := parseAuthority(st.key, st.authority); err == nil {
			st.authorityID = authority.ID()
		}
	}
	counts := &st.status.Pods
	for i := range st.pods {
		counts.Total++
		facts, certificate := podFacts(&st.pods[i]), leaf(&st.pods[i])
		switch {
		case !facts.Injected:
			counts.Plaintext++
		case certificate == nil:
		case certificate.Authority != st.authorityID:
			counts.Old++
		default:
			counts.UpToDate++
		}
		if certificate != nil && (st.status.LeafNotAfter == nil || certificate.NotAfter.Before(st.status.LeafNotAfter.Time)) {
			st.status.LeafNotAfter = &metav1.Time{Time: certificate.NotAfter}
		}
	}
}

// record is what the plan asks to be on record on the cluster, as annotations; an empty value is for none.
func (st *state) record() map[string]string {
	p, have := &st.planned, st.cluster.Annotations
	want := map[string]string{
		v1alpha1.AnnotationEnableFailed:        p.FailedAttempt,
		v1alpha1.AnnotationEnableFailedBecause: cut(p.FailedBecause, maxMessage/2),
		v1alpha1.AnnotationApproved:            have[v1alpha1.AnnotationApproved],
		v1alpha1.AnnotationPolicy:              have[v1alpha1.AnnotationPolicy],
	}
	for _, key := range []string{v1alpha1.AnnotationInjection, v1alpha1.AnnotationRollout, v1alpha1.AnnotationRestored} {
		want[key] = ""
	}
	if p.Released {
		for key := range want {
			want[key] = ""
		}
		return want
	}
	if p.Approval != "" {
		want[v1alpha1.AnnotationApproved] = p.Approval
	}
	if p.Enabled || p.Progress != nil || p.FailedAttempt != "" {
		want[v1alpha1.AnnotationPolicy] = st.decision.Policy.Name
	}
	if p.Progress != nil {
		want[v1alpha1.AnnotationRollout] = p.Progress.String()
	}
	if p.Enabled {
		want[v1alpha1.AnnotationInjection] = strconv.Itoa(injection.Revision)
		want[v1alpha1.AnnotationRestored] = st.restoredText()
	}
	return want
}

// restoredText keeps the record as it is unless the plan injects.
func (st *state) restoredText() string {
	have := st.cluster.Annotations[v1alpha1.AnnotationRestored]
	if have != "" && st.planned.Edit != rollout.InjectAll {
		return have
	}
	made := record.Restored{Times: st.planned.Restored, Since: record.ParseRestored(have).Since}
	if have == "" {
		made.Since = st.now.UTC().Truncate(time.Second)
	}
	for _, t := range st.snapshot.Templates {
		if t.Group != "" {
			made.Groups = append(made.Groups, t.Group)
		}
	}
	return made.String()
}
