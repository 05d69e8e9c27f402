package main

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = `{"definitions": {
	"apps.v1.Deployment": {
		"type": "object", "description": "Left out.",
		"properties": {
			"metadata": {"type": "object"},
			"spec": {"$ref": "#/definitions/apps.v1.Spec"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}}
		},
		"x-kubernetes-group-version-kind": [{"group": "apps.example.com", "version": "v1", "kind": "Deployment"}]
	},
	"apps.v1.Spec": {"type": "object", "required": ["port"], "properties": {
		"port": {"type": "string", "format": "int-or-string"},
		"again": {"type": "array", "items": {"$ref": "#/definitions/apps.v1.Spec"}},
		"size": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"}
	}},
	"io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
	"core.v1.Pod": {
		"type": "object", "properties": {"metadata": {"type": "object"}},
		"x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]
	}
}}`

func TestConvert(t *testing.T) {
	schemas, err := convert([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"deployment-apps-v1.json", "pod-v1.json"}, slices.Sorted(maps.Keys(schemas))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	var got any
	if err := json.Unmarshal(schemas["deployment-apps-v1.json"], &got); err != nil {
		t.Fatal(err)
	}
	var want any
	if err := json.Unmarshal([]byte(`{"$ref": "#/definitions/apps.v1.Deployment", "definitions": {
		"apps.v1.Deployment": {"type": "object", "additionalProperties": false, "properties": {
			"metadata": {"type": "object"},
			"spec": {"$ref": "#/definitions/apps.v1.Spec"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}}
		}},
		"apps.v1.Spec": {"type": "object", "additionalProperties": false, "required": ["port"], "properties": {
			"port": {"type": ["string", "integer"]},
			"again": {"type": "array", "items": {"$ref": "#/definitions/apps.v1.Spec"}},
			"size": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"}
		}},
		"io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]}
	}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the Deployment's schema (-want +got):\n%s", diff)
	}
}

func TestConvertRefusesWhatIsNoOpenAPI(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":   `no`,
		"no kinds":  `{"definitions": {"a": {"type": "object"}}}`,
		"undefined": `{"definitions": {"a": {"properties": {"metadata": {"$ref": "#/definitions/b"}}, "x-kubernetes-group-version-kind": [{"version": "v1", "kind": "A"}]}}}`,
	} {
		if _, err := convert([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
