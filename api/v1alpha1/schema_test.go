package v1alpha1

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

const (
	policies = "raytlspolicies"
	clusters = "rayclustertlses"

	// The API server's limits: the cost of one rule on one object, and of all of them.
	ruleLimit, objectLimit = 1_000_000, 10_000_000
)

// served is a CRD as an API server uses it.
type served struct {
	structural *schema.Structural
	openapi    validation.SchemaValidator
	rules      *cel.Validator
}

// crd reads a generated CRD, and fails the test if an API server would refuse it, for instance for the cost of its rules.
func crd(t *testing.T, plural string) served {
	t.Helper()
	text, err := os.ReadFile("../../charts/raytls/files/crds/raytls.io_" + plural + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &v1); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	v1.Status.StoredVersions = []string{GroupVersion.Version}
	var internal apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &internal, nil); err != nil {
		t.Fatal(err)
	}
	if errs := crdvalidation.ValidateCustomResourceDefinition(t.Context(), &internal); len(errs) != 0 {
		t.Fatalf("the API server would refuse the CRD: %v", errs.ToAggregate())
	}
	props := internal.Spec.Validation
	structural, err := schema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	openapi, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return served{structural, openapi, cel.NewValidator(structural, true, ruleLimit)}
}

// object returns the kind with one part, a spec or a status, as YAML.
func object(t *testing.T, kind, part, text string) map[string]any {
	t.Helper()
	var value map[string]any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"apiVersion": GroupVersion.String(), "kind": kind, "metadata": map[string]any{"name": "x", "namespace": "y"}, part: value,
	}
}

// refusal fills in the defaults and returns the API server's errors.
func (s served) refusal(t *testing.T, o map[string]any) string {
	t.Helper()
	// Numbers as the API server decodes them.
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := utiljson.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(o, s.structural)
	defaulting.Default(o, s.structural)
	errs := validation.ValidateCustomResource(nil, o, s.openapi)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, o)...)
	if len(errs) == 0 {
		errs, _ = s.rules.Validate(t.Context(), (*field.Path)(nil), s.structural, o, nil, objectLimit)
	}
	if len(errs) == 0 {
		return ""
	}
	return errs.ToAggregate().Error()
}

func TestDefaultsAreThoseOfTheSchema(t *testing.T) {
	s := crd(t, policies)
	o := object(t, "RayTLSPolicy", "spec", `{selector: {}}`)
	defaulting.Default(o, s.structural)
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var got RayTLSPolicy
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := (&RayTLSPolicySpec{Selector: got.Spec.Selector}).WithDefaults()
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("WithDefaults and the schema differ (-WithDefaults +schema):\n%s", diff)
	}
	// Go cannot tell false from absent, and a user shall see it.
	spec, _ := o["spec"].(map[string]any)
	pod, _ := spec["podCertificate"].(map[string]any)
	authority, _ := spec["certificateAuthority"].(map[string]any)
	if spec["paused"] != false || pod["headServiceShortName"] != false || authority["revokeNow"] != false {
		t.Errorf("the schema fills in booleans as well, got paused %v, headServiceShortName %v, revokeNow %v", spec["paused"], pod["headServiceShortName"], authority["revokeNow"])
	}
}

func TestPolicySchema(t *testing.T) {
	s := crd(t, policies)
	repeat := func(n int, format string) string {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf(format, i))
		}
		return strings.Join(parts, ", ")
	}
	const quantity = "must be a quantity such as"
	for name, c := range map[string]struct {
		spec string
		// want are parts of the refusal; none for a spec that is accepted.
		want []string
	}{
		"selector":              {spec: `{selector: {}}`},
		"targetRef":             {spec: `{targetRef: {kind: RayCronJob, name: x}}`},
		"null is absent":        {spec: `{selector: {}, rollout: null, certificateAuthority: {validityDays: null}}`},
		"neither":               {`{}`, []string{"exactly one of selector and targetRef must be set", "selector: {} covers every RayCluster"}},
		"both":                  {`{selector: {}, targetRef: {kind: RayCluster, name: x}}`, []string{"exactly one of selector and targetRef must be set"}},
		"unknown kind":          {`{targetRef: {kind: Deployment, name: x}}`, []string{"spec.targetRef.kind", `"RayCluster"`}},
		"no name":               {`{targetRef: {kind: RayCluster}}`, []string{"spec.targetRef.name"}},
		"most labels":           {spec: `{selector: {matchLabels: {` + repeat(32, "k%d: v") + `}}}`},
		"too many labels":       {`{selector: {matchLabels: {` + repeat(33, "k%d: v") + `}}}`, []string{"spec.selector.matchLabels", "at most 32 labels"}},
		"long label":            {`{selector: {matchLabels: {k: ` + strings.Repeat("v", 64) + `}}}`, []string{"spec.selector.matchLabels", "its value at most 63"}},
		"too many requirements": {`{selector: {matchExpressions: [` + repeat(33, "{key: k%d, operator: Exists}") + `]}}`, []string{"spec.selector.matchExpressions", "at most 32 requirements"}},
		"too many values":       {`{selector: {matchExpressions: [{key: k, operator: In, values: [` + repeat(33, "v%d") + `]}]}}`, []string{"at most 32 values"}},
		"unknown operator":      {`{selector: {matchExpressions: [{key: k, operator: Like, values: [v]}]}}`, []string{"must be In, NotIn, Exists or DoesNotExist"}},

		"four leaf lives":            {spec: `{selector: {}, certificateAuthority: {validityDays: 1460}}`},
		"less than four":             {`{selector: {}, certificateAuthority: {validityDays: 1459}}`, []string{"spec.certificateAuthority.validityDays", "at least four times podCertificate.validityDays"}},
		"less by the default":        {`{selector: {}, podCertificate: {validityDays: 913}}`, []string{"at least four times podCertificate.validityDays"}},
		"longest lives":              {spec: `{selector: {}, certificateAuthority: {validityDays: 7300}, podCertificate: {validityDays: 1825}}`},
		"short authority":            {`{selector: {}, certificateAuthority: {validityDays: 89}, podCertificate: {validityDays: 1}}`, []string{"spec.certificateAuthority.validityDays", "90"}},
		"key that BoringSSL refuses": {`{selector: {}, podCertificate: {keyAlgorithm: Ed25519}}`, []string{"spec.podCertificate.keyAlgorithm", `"ECDSAP256"`}},
		"Secret without a name":      {`{selector: {}, certificateAuthority: {secretRef: {}}}`, []string{"spec.certificateAuthority.secretRef.name"}},
		"wildcard":                   {`{selector: {}, podCertificate: {headDNSNames: ["*.example.com"]}}`, []string{"spec.podCertificate.headDNSNames[0]"}},
		"address as a name":          {`{selector: {}, podCertificate: {headDNSNames: ["10.0.0.1"]}}`, []string{"spec.podCertificate.headDNSNames[0]"}},
		"same name twice":            {`{selector: {}, podCertificate: {headDNSNames: [a, a]}}`, []string{"Duplicate value"}},
		"revocation":                 {spec: `{selector: {}, certificateAuthority: {revokeIssuedBefore: "2026-11-27T00:00:00Z"}}`},
		"revocation at once":         {spec: `{selector: {}, certificateAuthority: {revokeIssuedBefore: "2026-11-27T00:00:00Z", revokeNow: true}}`},
		"revokeNow by default":       {spec: `{selector: {}, certificateAuthority: {revokeNow: false}}`},
		"revokeNow alone":            {`{selector: {}, certificateAuthority: {revokeNow: true}}`, []string{"spec.certificateAuthority.revokeNow", "revokeNow goes with revokeIssuedBefore"}},
		"revoked before a day":       {`{selector: {}, certificateAuthority: {revokeIssuedBefore: "2026-11-27"}}`, []string{"spec.certificateAuthority.revokeIssuedBefore"}},

		"unknown mode":           {`{selector: {}, issuance: {mode: Attested}}`, []string{"spec.issuance.mode", `"Script"`}},
		"pull policy alone":      {`{selector: {}, issuance: {initContainer: {imagePullPolicy: Always}}}`, []string{"spec.issuance.initContainer.imagePullPolicy", "imagePullPolicy goes with image"}},
		"relative scripts path":  {`{selector: {}, issuance: {initContainer: {scriptsPath: a/b}}}`, []string{"spec.issuance.initContainer.scriptsPath"}},
		"climbing scripts path":  {`{selector: {}, issuance: {initContainer: {scriptsPath: /a/../b}}}`, []string{"spec.issuance.initContainer.scriptsPath"}},
		"additional container":   {`{selector: {}, additionalContainers: ["Not A Name"]}`, []string{"spec.additionalContainers[0]"}},
		"concurrent clusters":    {`{selector: {}, rollout: {maxConcurrentClusters: -1}}`, []string{"spec.rollout.maxConcurrentClusters"}},
		"short deadline":         {`{selector: {}, rollout: {progressDeadlineSeconds: 9}}`, []string{"spec.rollout.progressDeadlineSeconds"}},
		"unknown enablePolicy":   {`{selector: {}, rollout: {enablePolicy: Never}}`, []string{"spec.rollout.enablePolicy", `"OnStopOrApproval"`}},
		"unknown deletionPolicy": {`{selector: {}, deletionPolicy: Delete}`, []string{"spec.deletionPolicy", `"Retain"`}},
		"rolls":                  {spec: `{selector: {}, rollout: {strategy: OnDelete, maxUnavailable: 1000, headRestart: Never, windows: [{schedule: "0 2 * * 6", durationMinutes: 240, timeZone: Europe/Berlin}, {schedule: "*/5 0-6 1,15 JAN MON", durationMinutes: 10080, timeZone: Etc/GMT+1}]}}`},
		"window by default":      {spec: `{selector: {}, rollout: {windows: [{schedule: "0 2 * * 6", durationMinutes: 1}]}}`},
		"unknown strategy":       {`{selector: {}, rollout: {strategy: Recreate}}`, []string{"spec.rollout.strategy", `"OnDelete"`}},
		"unknown headRestart":    {`{selector: {}, rollout: {headRestart: Sometimes}}`, []string{"spec.rollout.headRestart", `"IfFaultTolerant"`}},
		"none unavailable":       {`{selector: {}, rollout: {maxUnavailable: 0}}`, []string{"spec.rollout.maxUnavailable"}},
		"schedule with a zone":   {`{selector: {}, rollout: {windows: [{schedule: "TZ=UTC 0 2 * * 6", durationMinutes: 1}]}}`, []string{"spec.rollout.windows[0].schedule"}},
		"schedule of six":        {`{selector: {}, rollout: {windows: [{schedule: "0 0 2 * * 6", durationMinutes: 1}]}}`, []string{"spec.rollout.windows[0].schedule"}},
		"descriptor":             {`{selector: {}, rollout: {windows: [{schedule: "@hourly", durationMinutes: 1}]}}`, []string{"spec.rollout.windows[0].schedule"}},
		"window without length":  {`{selector: {}, rollout: {windows: [{schedule: "0 2 * * 6"}]}}`, []string{"spec.rollout.windows[0].durationMinutes"}},
		"zone that is a path":    {`{selector: {}, rollout: {windows: [{schedule: "0 2 * * 6", durationMinutes: 1, timeZone: ../x}]}}`, []string{"spec.rollout.windows[0].timeZone"}},
		"many windows":           {`{selector: {}, rollout: {windows: [` + repeat(33, `{schedule: "%d 2 * * 6", durationMinutes: 1}`) + `]}}`, []string{"spec.rollout.windows"}},
		"approvals":              {spec: `{selector: {}, rollout: {approvals: [{cluster: a, restart: 3f2a9c}, {cluster: b, restart: 3f2a9c3f2a9c3f2a}]}}`},
		"two for a cluster":      {`{selector: {}, rollout: {approvals: [{cluster: a, restart: 3f2a9c}, {cluster: a, restart: 3f2a9d}]}}`, []string{"spec.rollout.approvals[1]", "Duplicate value"}},
		"unreadable approval":    {`{selector: {}, rollout: {approvals: [{cluster: a, restart: "yes"}]}}`, []string{"spec.rollout.approvals[0].restart"}},

		"resources":       {spec: resources(`requests: {cpu: 1, memory: 0.5Gi}, limits: {cpu: 1500m, memory: 512Mi, ephemeral-storage: 1G}`)},
		"no resources":    {spec: resources(`requests: {}`)},
		"exponent":        {resources(`requests: {cpu: "1e-9999999"}`), []string{"resources.requests[cpu]", quantity}},
		"large exponent":  {resources(`limits: {memory: "1E9"}`), []string{"resources.limits[memory]", quantity}},
		"many digits":     {resources(`limits: {ephemeral-storage: "1000000000000000"}`), []string{"resources.limits[ephemeral-storage]", quantity}},
		"large integer":   {resources(`requests: {memory: 1000000000000000}`), []string{"resources.requests[memory]", quantity}},
		"negative":        {resources(`requests: {cpu: -1}`), []string{"resources.requests[cpu]", quantity}},
		"other resources": {resources(`limits: {cpu: 1, nvidia.com/gpu: 1}`), []string{"resources.limits", "only cpu, memory and ephemeral-storage can be limited"}},
		"claims":          {resources(`claims: [{name: x}]`), []string{"resources.claims", "claims are not supported"}},
		"endless":         {resources(`requests: {cpu: "` + strings.Repeat("1", 1_000_000) + `"}`), []string{"resources", "cost"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.refusal(t, object(t, "RayTLSPolicy", "spec", c.spec))
			if len(c.want) == 0 && got != "" {
				t.Errorf("want it accepted, got: %.500s", got)
			}
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("want %q in the refusal, got: %.500s", want, got)
				}
			}
		})
	}
}

func resources(text string) string {
	return `{selector: {}, issuance: {initContainer: {resources: {` + text + `}}}}`
}

func TestRayClusterTLSSchema(t *testing.T) {
	s := crd(t, clusters)
	if _, ok := s.structural.Properties["spec"]; ok {
		t.Error("a RayClusterTLS has no spec: nobody asks for anything with it")
	}
	for name, c := range map[string]struct{ status, want string }{
		"all": {status: `
observedGeneration: 7
policyRef: {name: default, generation: 3}
conditions: [{type: Encrypted, status: "True", reason: Encrypted, message: m, lastTransitionTime: "2026-11-26T00:00:00Z", observedGeneration: 7}]
injection: {revision: 1, since: "2026-11-26T00:00:00Z", groups: [a], failedHash: h, failedTime: "2026-11-26T00:00:00Z", failedMessage: m, restoredTimes: ["2026-11-26T00:00:00Z"]}
rollout: {goal: Encrypted, phase: Canary, phaseStartTime: "2026-11-26T00:00:00Z", deadlineStartTime: "2026-11-26T00:00:00Z", canaries: [{group: a, pod: p}]}
authority: {generation: 1, id: a, issuedTime: "2026-11-26T00:00:00Z", expiryTime: "2036-11-26T00:00:00Z"}
issuer: {id: i, expiryTime: "2028-11-26T00:00:00Z"}
pods: {total: 4, certified: 4, plaintext: 0, outdated: 1}
earliestExpiryTime: "2027-11-26T00:00:00Z"
restartBy: "2027-11-26T00:00:00Z"
expiryStage: LastThird
podCertificate: {workerHash: a, workerSince: "2026-11-26T00:00:00Z", headHash: b, headSince: "2026-11-26T00:00:00Z"}
pendingRestart: {id: 3f2a9c, action: Enable, reason: Blocked, blockedBy: RayJob/train, message: m}
`},
		"none": {status: `{}`},
		"revoked": {status: `
rollout: {goal: Encrypted, phase: Revoke, phaseStartTime: "2026-11-26T00:00:00Z"}
authority: {generation: 1, revokedBeforeGeneration: 2}
pendingRestart: {id: 3f2a9c, action: Revoke, reason: AwaitingApproval, message: m}
`},
		"nothing revoked": {`authority: {generation: 1, revokedBeforeGeneration: 1}`, "status.authority.revokedBeforeGeneration"},
		"phase":           {`rollout: {goal: Encrypted, phase: Soon, phaseStartTime: "2026-11-26T00:00:00Z"}`, "status.rollout.phase"},
		"no phase time":   {`rollout: {goal: Encrypted, phase: Head}`, "status.rollout.phaseStartTime"},
		"two canaries":    {`rollout: {goal: Encrypted, phase: Canary, phaseStartTime: "2026-11-26T00:00:00Z", canaries: [{group: a, pod: p}, {group: a, pod: q}]}`, "Duplicate value"},
		"long failure":    {`injection: {failedMessage: ` + strings.Repeat("x", 513) + `}`, "status.injection.failedMessage"},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.refusal(t, object(t, "RayClusterTLS", "status", c.status))
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("want %q in the refusal, got: %.500s", c.want, got)
			}
		})
	}
}

// A zero in a status is information, so it is written.
func TestStatusWritesZeros(t *testing.T) {
	for _, c := range []struct {
		status any
		want   string
	}{
		{RayTLSPolicyStatus{}, `{"clusters":0,"encryptedClusters":0,"pods":0,"plaintextPods":0,"outdatedPods":0}`},
		{RayClusterTLSStatus{}, `{"pods":{"total":0,"certified":0,"plaintext":0,"outdated":0}}`},
	} {
		got, err := json.Marshal(c.status)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != c.want {
			t.Errorf("want %s, got %s", c.want, got)
		}
	}
}
