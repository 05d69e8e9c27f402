package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/keys"
	"github.com/raytls/raytls/internal/kube"
	"github.com/raytls/raytls/internal/policy"
	"github.com/raytls/raytls/internal/rollout"
)

// encryptedFacts are those of a cluster that is on record as encrypted, with a head and a worker that have certificates, and the
// keys of its Secrets.
func encryptedFacts(t *testing.T) (*Facts, keys.Store) {
	t.Helper()
	p := &v1alpha1.RayTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "default", Generation: 2}}
	p.Spec.Selector = &metav1.LabelSelector{}
	spec := p.Spec.WithDefaults()
	f := &Facts{
		Key: types.NamespacedName{Namespace: "ml", Name: "train"}, Now: epoch(),
		Object: object(t, `{"metadata":{"namespace":"ml","name":"train","uid":"u","generation":7},"spec":{
			"headGroupSpec":{"template":{"spec":{"containers":[{"name":"ray-head","image":"ray:1"}]}}},
			"workerGroupSpecs":[{"groupName":"small","replicas":1,"template":{"spec":{"containers":[{"name":"ray-worker","image":"ray:1"}]}}}]}}`),
		Policy: &spec, Policies: []*v1alpha1.RayTLSPolicy{p}, Decision: policy.Decision{Policy: p, Goal: v1alpha1.GoalEncrypted},
	}
	injected, err := injection.Apply(jsonpatch.Map(f.Object.Object["spec"]), injection.Options{ClusterName: "train"}, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	f.Object.Object["spec"], f.Spec = injected, injected
	f.Templates = injection.Inspect(injected, "train")
	f.Ray.Provisioned, f.Ray.FaultTolerant = true, true
	f.Ray.Replicas = map[string]int32{"small": 1}
	f.TLS = &v1alpha1.RayClusterTLS{Status: v1alpha1.RayClusterTLSStatus{
		PolicyRef: v1alpha1.PolicyReference{Name: "default"}, Injection: v1alpha1.InjectionStatus{Revision: 1, Groups: []string{"small"}},
	}}
	store, _, _, err := keys.Next(keys.Store{Cluster: f.Key}, f.KeySettings(), keys.Parent{}, keys.Pods{}, epoch())
	if err != nil {
		t.Fatal(err)
	}
	f.Keys = store
	for _, group := range []string{"", "small"} {
		end := epoch().AddDate(1, 0, 0)
		f.Pods = append(f.Pods, Pod{
			Pod:    rollout.Pod{Name: "pod-" + group, UID: "uid-" + group, Group: group, Injected: true, Certified: true, Ready: true, Created: epoch().Add(-time.Hour)},
			Report: &gencert.Report{Authority: store.Authority.ID(), Issuer: store.Issuer.ID(), IssuedAt: epoch().Add(-time.Hour), NotAfter: end},
		})
	}
	return f, store
}

func TestStatus(t *testing.T) {
	type conditions struct{ encrypted, certified, upToDate, stalled string }
	wait := kube.Waitf(v1alpha1.ReasonWaitingForSlot, "later")
	for name, c := range map[string]struct {
		reason string
		change func(*Facts)
		err    error
		want   conditions
	}{
		"at rest": {
			"everything is as asked", func(*Facts) {}, nil,
			conditions{"True Encrypted", "True Certified", "True UpToDate", "False NothingToDo"},
		},
		"a worker in plaintext": {
			"nothing is encrypted while a pod is not", func(f *Facts) { f.Pods[1].Injected, f.Pods[1].Certified, f.Pods[1].Report = false, false, nil }, nil,
			conditions{"False Enabling", "False CertificatesPending", "True UpToDate", "False NothingToDo"},
		},
		"an altered worker": {
			"somebody has to correct what alters pods", func(f *Facts) {
				f.Pods[1].Injected, f.Pods[1].Certified, f.Pods[1].Report = false, false, nil
				f.Pods[1].Pieces, f.Pods[1].Differs = true, "container ray-worker has another value of RAY_USE_TLS"
			}, nil,
			conditions{"False PodsAltered", "False CertificatesPending", "True UpToDate", "True PodsAltered"},
		},
		"an altered worker, no policy": {
			"and so without a policy", func(f *Facts) {
				f.Policy, f.Decision = nil, policy.Decision{}
				f.Pods[1].Pieces, f.Pods[1].Differs = true, "init container raytls-init has another command"
			}, nil,
			conditions{"False PodsAltered", "False CertificatesPending", "Unknown NotCovered", "True PodsAltered"},
		},
		"another init image": {
			"the administrator has not allowed what makes the certificate", func(f *Facts) { f.Pods[1].InitImage = "anybody's" }, nil,
			conditions{"False NotAccepted", "True Certified", "False NotAccepted", "True NotAccepted"},
		},
		"suspended": {
			"nothing runs", func(f *Facts) { f.Pods, f.Ray.Suspended = nil, true }, nil,
			conditions{"False Suspended", "False NoPods", "True UpToDate", "False NothingToDo"},
		},
		"no pods": {
			"KubeRay says why", func(f *Facts) { f.Pods, f.Ray.PodsMissing = nil, "exceeded quota" }, nil,
			conditions{"False NoPods", "False NoPods", "True UpToDate", "False NothingToDo"},
		},
		"ended": {
			"peers refuse an ended certificate", func(f *Facts) {
				f.Pods[1].Report.NotAfter = epoch()
			}, nil,
			conditions{"False CertificateExpired", "False CertificateExpired", "True UpToDate", "True CertificateExpired"},
		},
		"no openssl": {
			"somebody has to choose another image", func(f *Facts) {
				f.Pods[1].Certified, f.Pods[1].Report, f.Pods[1].Failure = false, nil, "no openssl"
			}, nil,
			conditions{"False CertificateFailed", "False CertificateFailed", "True UpToDate", "True CertificateFailed"},
		},
		"other algorithm": {
			"an authority is not replaced yet, and that is said", func(f *Facts) { f.Policy.CertificateAuthority.KeyAlgorithm = v1alpha1.KeyRSA4096 }, nil,
			conditions{"True Encrypted", "True Certified", "False AuthorityChangePending", "False NothingToDo"},
		},
		"other containers": {
			"templates of a running cluster stay, and that is said", func(f *Facts) { f.Policy.AdditionalContainers = []string{"notebook"} }, nil,
			conditions{"True Encrypted", "True Certified", "False TemplateChangePending", "False NothingToDo"},
		},
		"other authority": {
			"pods of another authority cannot talk to the others", func(f *Facts) { f.Pods[1].Report.Authority = "ab" }, nil,
			conditions{"False OutdatedAuthority", "False OutdatedAuthority", "False PodsOutdated", "True OutdatedAuthority"},
		},
		"odd exclude": {
			"another value than true excludes nothing, and a user has to say what is meant", func(f *Facts) { f.Object.SetLabels(map[string]string{v1alpha1.LabelExclude: "yes"}) }, nil,
			conditions{"True Encrypted", "True Certified", "True UpToDate", "True InvalidExclude"},
		},
		"no policy": {
			"an encrypted cluster stays encrypted", func(f *Facts) { f.Policy, f.Decision = nil, policy.Decision{} }, nil,
			conditions{"True Encrypted", "True Certified", "Unknown NotCovered", "False NothingToDo"},
		},
		"error": {
			"an error is reported", func(*Facts) {}, errors.New("connection refused"),
			conditions{"False Error", "True Certified", "True UpToDate", "False NothingToDo"},
		},
		"stale cache": {
			"a lagging cache is nothing to report", func(*Facts) {}, kube.ErrStale,
			conditions{"True Encrypted", "True Certified", "True UpToDate", "False NothingToDo"},
		},
		"outcome": {
			"an outcome says itself who acts", func(*Facts) {}, wait,
			conditions{"False WaitingForSlot", "True Certified", "True UpToDate", "False NothingToDo"},
		},
		"clocks differ": {
			"what works is not judged by that", func(f *Facts) { f.ClockSkew = "the clocks differ" }, nil,
			conditions{"True Encrypted", "True Certified", "True UpToDate", "False NothingToDo"},
		},
		"clocks differ, key due": {
			"a key that waits is said, and somebody must act", func(f *Facts) {
				f.ClockSkew = "the clocks differ"
				f.Policy.CertificateAuthority.ReplaceIssuedBefore = &metav1.Time{Time: epoch().Add(time.Minute)}
				f.Now = epoch().Add(time.Minute)
			}, nil,
			conditions{"True Encrypted", "True Certified", "False ClockSkew", "True ClockSkew"},
		},
		"managed elsewhere": {
			"another controller runs it", func(f *Facts) { f.Ray.ManagedBy = "kueue.x-k8s.io/multikueue" }, nil,
			conditions{"False Blocked", "True Certified", "False Blocked", "True Blocked"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := encryptedFacts(t)
			c.change(f)
			d := Decide(f, Settings{Namespace: "raytls-system"})
			status := Status(f, &d, Done{Keys: store, Recorded: d.Writes(), Err: c.err})
			said := func(kind string) string {
				condition := meta.FindStatusCondition(status.Conditions, kind)
				if condition == nil || condition.ObservedGeneration != 7 || condition.Message == "" {
					t.Fatalf("condition %s is %v", kind, condition)
				}
				return string(condition.Status) + " " + condition.Reason
			}
			got := conditions{said(v1alpha1.ConditionEncrypted), said(v1alpha1.ConditionCertified), said(v1alpha1.ConditionUpToDate), said(v1alpha1.ConditionStalled)}
			if got != c.want {
				t.Errorf("%s: got %v, want %v", c.reason, got, c.want)
			}
			f.TLS.Status = status
			if d2 := Decide(f, Settings{Namespace: "raytls-system"}); c.err == nil {
				if second := Status(f, &d2, Done{Keys: store, Recorded: d2.Writes()}); !metaEqual(status, second) {
					t.Errorf("%s: at rest the status changes from %v to %v", c.reason, status, second)
				}
			}
		})
	}
}

func metaEqual(a, b v1alpha1.RayClusterTLSStatus) bool {
	return jsonpatch.Equal(jsonOf(a), jsonOf(b))
}

func TestLostRecordIsRebuilt(t *testing.T) {
	for name, covered := range map[string]bool{"under a policy": true, "without a policy": false} {
		f, store := encryptedFacts(t)
		f.TLS, f.AuthoritySecret = &v1alpha1.RayClusterTLS{}, secret()
		if !covered {
			f.Policy, f.Decision = nil, policy.Decision{}
		}
		d := Decide(f, Settings{Namespace: "raytls-system"})
		status := Status(f, &d, Done{Keys: store, Recorded: d.Writes()})
		if status.Injection.Revision != injection.Revision || len(status.Injection.Groups) != 1 || status.Injection.Since != nil {
			t.Errorf("%s: the record is %+v", name, status.Injection)
		}
		if d.Edited != nil || len(d.Plan.Delete) > 0 || d.Plan.Progress != nil {
			t.Errorf("%s: rebuilding it costs %+v", name, d.Plan)
		}
	}
}

func TestPendingRestart(t *testing.T) {
	f := plaintextFacts(t)
	d := Decide(f, Settings{Namespace: "raytls-system"})
	pending := Status(f, &d, Done{Keys: f.Keys, Recorded: d.Writes()}).PendingRestart
	if pending == nil || pending.Reason != v1alpha1.ReasonAwaitingApproval || pending.Action != v1alpha1.ActionEnable {
		t.Fatalf("a running cluster waits for approval: got %+v", pending)
	}
	command := `kubectl patch raytlspolicy default -n ml --type=merge -p '{"spec":{"rollout":{"approvals":[{"cluster":"train","restart":"` + pending.ID + `"}]}}}'`
	if !strings.HasSuffix(pending.Message, command) {
		t.Errorf("the message does not end with the command: %s", pending.Message)
	}
	f.Policy.Rollout.Approvals = []v1alpha1.Approval{{Cluster: "train", Restart: pending.ID}}
	if d = Decide(f, Settings{Namespace: "raytls-system"}); d.Plan.Progress == nil || d.Plan.Progress.Phase != v1alpha1.PhaseCanary {
		t.Errorf("the approved restart does not begin: %+v", d.Plan.Report)
	}
	f.Pods[0].UID = "another head"
	if d = Decide(f, Settings{Namespace: "raytls-system"}); d.Plan.Progress != nil {
		t.Error("an approval of one head's restart restarts another")
	}
}

func TestScriptsAreMadeOnlyForPodsThatMountThem(t *testing.T) {
	f, _ := encryptedFacts(t)
	baked := injection.Parameters{ScriptsPath: "/opt/raytls"}
	injected, err := injection.Apply(f.Spec, injection.Options{ClusterName: "train", Parameters: baked}, injection.All())
	if err != nil {
		t.Fatal(err)
	}
	f.Spec, f.Templates = injected, injection.Inspect(injected, "train")
	f.AuthoritySecret = secret()
	f.Policy, f.Decision = nil, policy.Decision{}
	d := Decide(f, Settings{Namespace: "raytls-system"})
	if !d.WantsKeys || d.WantsScripts {
		t.Errorf("a cluster whose policy is gone keeps its keys (%t) and needs no scripts that its image has (%t)", d.WantsKeys, d.WantsScripts)
	}
}
