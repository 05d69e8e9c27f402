package status

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/cli/clitest"
	"github.com/raytls/raytls/internal/gencert"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/kuberay"
)

var update = flag.Bool("update", false, "write the golden files")

const current, before, foreign = "c3c3c3c3c3c3c3c3", "b2b2b2b2b2b2b2b2", "f0f0f0f0f0f0f0f0"

// train is a RayCluster with the injection.
func train(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	template := func(container string) map[string]any {
		return map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": container, "image": "rayproject/ray:2.60.0"}}}}
	}
	spec := map[string]any{
		"headGroupSpec":    map[string]any{"rayStartParams": map[string]any{}, "template": template("ray-head")},
		"workerGroupSpecs": []any{map[string]any{"groupName": "gpu", "replicas": int64(2), "minReplicas": int64(0), "maxReplicas": int64(9), "template": template("ray-worker")}},
	}
	injected, err := injection.Edit{Scope: injection.All(), Revision: injection.Revision}.Render(spec, "train")
	if err != nil {
		t.Fatal(err)
	}
	c := clitest.RayCluster("train")
	c.Object["spec"] = injected
	return c
}

// podOfTrain is a pod as KubeRay makes it of a template of the cluster.
func podOfTrain(t *testing.T, name, group string, edits ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	spec := jsonpatch.Map(train(t).Object["spec"])
	template, kind := jsonpatch.Map(jsonpatch.Map(spec["headGroupSpec"])["template"]), kuberay.NodeTypeHead
	if group != "" {
		template, kind = jsonpatch.Map(jsonpatch.Map(jsonpatch.List(spec["workerGroupSpecs"])[0])["template"]), "worker"
	}
	text, err := json.Marshal(template["spec"])
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ml", Name: name, UID: types.UID(name), CreationTimestamp: *clitest.Ago(20 * time.Hour),
			Labels:          map[string]string{kuberay.LabelCluster: "train", kuberay.LabelNodeType: kind, kuberay.LabelGroup: group},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "ray.io/v1", Kind: "RayCluster", Name: "train", UID: "cluster-train", Controller: &yes}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if err := json.Unmarshal(text, &pod.Spec); err != nil {
		t.Fatal(err)
	}
	pod.Spec.NodeName = "node-" + name
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}

// certified has the init container report a certificate of that authority, which ends after that time.
func certified(authority string, left time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		message, err := gencert.Report{
			Authority: authority, Issuer: "1551551551551551", Serial: fmt.Sprintf("%032x", len(pod.Name)),
			IssuedAt: pod.CreationTimestamp.Time, NotAfter: clitest.Now().Add(left),
		}.Message()
		if err != nil {
			panic(err)
		}
		ended(0, message)(pod)
	}
}

func ended(code int32, message string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
			Name: injection.InitContainerName, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}},
		}}
	}
}

// plain is a pod of the template before.
func plain(pod *corev1.Pod) {
	pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName, Containers: []corev1.Container{{Name: "ray-worker", Image: "rayproject/ray:2.60.0"}}}
}

// rolling is what the operator reports while it replaces an authority.
func rolling(s *v1alpha1.RayClusterTLSStatus) {
	s.Authority.Earlier = []v1alpha1.EarlierAuthority{{Generation: 2, ID: before, Pods: 1, ExpiryTime: clitest.In(8000 * time.Hour)}}
	s.Pods = v1alpha1.PodCounts{Total: 8, Certified: 2, Plaintext: 1, Outdated: 2}
	s.EarliestExpiryTime, s.RestartBy = clitest.Ago(time.Hour), clitest.Ago(time.Hour)
	s.ObservedOnWire = v1alpha1.ObservedOnWire{Time: *clitest.Ago(time.Minute), PodUID: "train-head", Head: v1alpha1.WireTLS, Port: 6379, AuthorityGeneration: 3, ExpiryTime: clitest.In(8000 * time.Hour)}
	s.PendingRestart = &v1alpha1.PendingRestart{
		ID: "3f2a9c", Action: v1alpha1.ActionRoll, Reason: v1alpha1.ReasonAwaitingApproval,
		Message: "the cluster loses its state with its head; to approve it, run: kubectl patch raytlspolicy default",
	}
	clitest.Set(s, clitest.Condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonPodsOutdated, "2 of 8 pods"))
	clitest.Set(s, clitest.Condition(v1alpha1.ConditionEncrypted, metav1.ConditionFalse, v1alpha1.ReasonCertificateExpired, "the certificate of pod train-gpu-expired ended"))
}

// eight pods, each in a state of its own.
func eight(t *testing.T) []client.Object {
	t.Helper()
	const life = 8000 * time.Hour
	return []client.Object{
		podOfTrain(t, "train-head", "", certified(current, life)),
		podOfTrain(t, "train-gpu-new", "gpu", certified(current, life)),
		podOfTrain(t, "train-gpu-earlier", "gpu", certified(before, life)),
		podOfTrain(t, "train-gpu-foreign", "gpu", certified(foreign, life)),
		podOfTrain(t, "train-gpu-expired", "gpu", certified(current, -time.Hour)),
		podOfTrain(t, "train-gpu-waits", "gpu", func(pod *corev1.Pod) { pod.CreationTimestamp = *clitest.Ago(time.Second) }),
		podOfTrain(t, "train-gpu-fails", "gpu", ended(1, "raytls-init: \x1b[2Jno openssl\u009b31m")),
		podOfTrain(t, "train-gpu-plain", "gpu", plain),
	}
}

func objects(t *testing.T) []client.Object {
	t.Helper()
	stranger := podOfTrain(t, "a-stranger", "gpu", func(pod *corev1.Pod) { pod.OwnerReferences = nil })
	return append(eight(t), clitest.Policy("default"), train(t), clitest.Record("train", rolling), stranger)
}

func TestStatusOfOneCluster(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"cluster.txt": nil, "cluster-wide.txt": {"-o", "wide"}, "cluster.json": {"-o", "json"}, "cluster.yaml": {"-o", "yaml"}, "cluster.csv": {"-o", "csv"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, notes, err := clitest.Run(t.Context(), New(clitest.Open(clitest.Client(t, objects(t)...), nil)), "", append([]string{"train"}, args...)...)
			if err != nil || notes != "" {
				t.Fatalf("%v, with the notes %q", err, notes)
			}
			clitest.Golden(t, *update, name, out)
			if strings.ContainsAny(out, "\x1b\u009b\r") {
				t.Errorf("what a pod wrote steers the terminal: %q", out)
			}
		})
	}
}

func TestStatusOfAllClusters(t *testing.T) {
	t.Parallel()
	elsewhere := clitest.RayCluster("serve")
	elsewhere.SetNamespace("other")
	more := append(objects(t), clitest.RayCluster("new"), clitest.Record("good"), clitest.RayCluster("good"), elsewhere)
	for name, args := range map[string][]string{
		"clusters.txt": nil, "clusters-wide.txt": {"-o", "wide"}, "clusters.json": {"-o", "json"}, "clusters.csv": {"-o", "csv"},
		"clusters-all.txt": {"-A"}, "pods.txt": {"-A", "--pods"}, "pods.csv": {"--pods", "-o", "csv"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := clitest.Run(t.Context(), New(clitest.Open(clitest.Client(t, more...), nil)), "", args...)
			if err != nil {
				t.Fatal(err)
			}
			clitest.Golden(t, *update, name, out)
		})
	}
}

// JSON's escapes change no value, so what a pod wrote can be read back.
func TestStatusEscapes(t *testing.T) {
	t.Parallel()
	value := "a\x1b\u009b\u202e\U000e0001\nb"
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var back string
	safe := escape(text)
	if err := json.Unmarshal(safe, &back); err != nil || back != value {
		t.Errorf("%q became %q: %v", value, back, err)
	}
	if strings.ContainsAny(string(safe), "\x1b\u009b\u202e\U000e0001") {
		t.Errorf("%q", safe)
	}
}

func readReport(t *testing.T, objects []client.Object, edit func(client.WithWatch) client.Client) report {
	t.Helper()
	fake := clitest.Client(t, objects...)
	var c client.Client = fake
	if edit != nil {
		c = edit(fake)
	}
	out, _, err := clitest.Run(t.Context(), New(clitest.Open(c, nil)), "", "train", "-o", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	var found report
	if err := yaml.UnmarshalStrict([]byte(out), &found); err != nil || len(found.Clusters) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	return found
}

// While the operator does not run, its report is of another time. The command computes what it would say.
func TestStatusComputesWhatTheOperatorWould(t *testing.T) {
	t.Parallel()
	const life = 8000 * time.Hour
	good := func(edits ...func(*v1alpha1.RayClusterTLSStatus)) []client.Object {
		return []client.Object{
			clitest.Policy("default"), train(t), clitest.Record("train", edits...), podOfTrain(t, "train-head", "", certified(current, life)),
			podOfTrain(t, "train-gpu-a", "gpu", certified(current, life)), podOfTrain(t, "train-gpu-b", "gpu", certified(current, life)),
		}
	}
	for name, c := range map[string]struct {
		reason  string
		objects []client.Object
		current bool
		// computed is Encrypted's reason; empty if nothing is computed.
		computed string
	}{
		"current": {"the operator has said it", good(), true, ""},
		"plaintext since": {
			"a pod is not as it was reported", append(good(), podOfTrain(t, "train-gpu-c", "gpu", plain)), false, v1alpha1.ReasonEnabling,
		},
		"ended since": {"a certificate has ended", slices.Concat(good()[:3], []client.Object{
			podOfTrain(t, "train-head", "", certified(current, -time.Second)), podOfTrain(t, "train-gpu-a", "gpu", certified(current, life)), podOfTrain(t, "train-gpu-b", "gpu", certified(current, life)),
		}), false, v1alpha1.ReasonCertificateExpired},
		"policy since":  {"the policy was changed", good(func(s *v1alpha1.RayClusterTLSStatus) { s.PolicyRef.Generation = 0 }), false, v1alpha1.ReasonEncrypted},
		"cluster since": {"the RayCluster was changed", good(func(s *v1alpha1.RayClusterTLSStatus) { s.ObservedGeneration = 0 }), false, v1alpha1.ReasonEncrypted},
		"never":         {"the operator was never there", []client.Object{clitest.Policy("default"), train(t)}, false, v1alpha1.ReasonNoPods},
		"no policy":     {"nobody would say anything", []client.Object{train(t)}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := readReport(t, c.objects, nil).Clusters[0]
			computed := ""
			if got.Computed != nil {
				computed = got.Computed.Conditions[0].Reason
			}
			if got.Current != c.current || computed != c.computed {
				t.Errorf("%s: current %t, computed %q: %+v", c.reason, got.Current, computed, got.Computed)
			}
		})
	}
}

// refusing refuses to read these resources, and counts what is asked of Secrets.
func refusing(secrets *int, kinds ...string) func(client.WithWatch) client.Client {
	return func(c client.WithWatch) client.Client {
		refuse := func(object any) error {
			gvk := schema.GroupVersionKind{}
			if o, ok := object.(interface {
				GetObjectKind() schema.ObjectKind
			}); ok {
				gvk = o.GetObjectKind().GroupVersionKind()
			}
			kind := fmt.Sprintf("%T%s", object, gvk.Kind)
			if strings.Contains(kind, "Secret") {
				*secrets++
			}
			for _, k := range kinds {
				if strings.Contains(kind, k) {
					return apierrors.NewForbidden(schema.GroupResource{Resource: k}, "", errors.New("no"))
				}
			}
			return nil
		}
		return interceptor.NewClient(c, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
				if err := refuse(into); err != nil {
					return err
				}
				return c.Get(ctx, key, into, options...)
			},
			List: func(ctx context.Context, c client.WithWatch, into client.ObjectList, options ...client.ListOption) error {
				if err := refuse(into); err != nil {
					return err
				}
				return c.List(ctx, into, options...)
			},
		})
	}
}

func TestStatusNeedsFewRights(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason  string
		refused []string
		pods    int
		policy  string
	}{
		"all":      {"nobody needs a Secret", nil, 8, "default"},
		"policies": {"the operator names the policy", []string{"RayTLSPolicy"}, 8, ""},
		"pods":     {"what the operator reports is there", []string{"PodList"}, 0, "default"},
		"budgets":  {"a kind that matters to restarts alone", []string{"PodDisruptionBudget"}, 8, "default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secrets := 0
			found := readReport(t, objects(t), refusing(&secrets, c.refused...))
			got := found.Clusters[0]
			if secrets > 0 {
				t.Errorf("%s: %d requests for Secrets", c.reason, secrets)
			}
			if got.Status == nil || got.Status.Authority.Generation != 3 || len(got.Pods) != c.pods || got.Policy != c.policy {
				t.Errorf("%s: %d pods, policy %q, status %+v", c.reason, len(got.Pods), got.Policy, got.Status)
			}
			if len(found.Unread) != len(c.refused) || len(c.refused) > 0 && got.Computed != nil {
				t.Errorf("%s: unread %v, and what is missing looks as if it were not there: %+v", c.reason, found.Unread, got.Computed)
			}
		})
	}
	for kind, computes := range map[string]bool{"PodDisruptionBudget": true, "PodList": false, "RayTLSPolicy": false} {
		since := append(objects(t), podOfTrain(t, "train-gpu-z", "gpu", plain))
		if got := readReport(t, since, refusing(new(int), kind)).Clusters[0]; (got.Computed != nil) != computes {
			t.Errorf("without %s: computed %+v", kind, got.Computed)
		}
	}
	secrets := 0
	_, _, err := clitest.Run(t.Context(), New(clitest.Open(refusing(&secrets, "RayClusterTLSList")(clitest.Client(t, objects(t)...)), nil)), "", "train")
	if !apierrors.IsForbidden(err) {
		t.Errorf("without RayClusterTLSes there is nothing to show: %v", err)
	}
}

func TestStatusErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"missing":   {[]string{"trian"}, "RayCluster ml/trian does not exist"},
		"two":       {[]string{"a", "b"}, "name one RayCluster"},
		"all of it": {[]string{"train", "-A"}, "leave out --all-namespaces"},
		"pods":      {[]string{"train", "--pods"}, "leave out --pods"},
		"format":    {[]string{"-o", "xml"}, `there is no format "xml"; use wide, json, yaml, csv`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := clitest.Run(t.Context(), New(clitest.Open(clitest.Client(t, objects(t)...), nil)), "", c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
				t.Errorf("error %v, output %q", err, out)
			}
		})
	}
}
