package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"

	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
)

// maxBytes is more than an API server can store.
const maxBytes = 2 << 20

// maxMetadata is the weight of the largest labels, annotations and owner references that are decoded, in bytes.
const maxMetadata = 1 << 20

// errTooHeavy is why an object is not decoded whole.
var errTooHeavy = &injection.ConflictError{Field: "the RayCluster", Message: fmt.Sprintf("takes more than %d MiB of memory to read: shorten its lists", injection.MaxWeight>>20)}

// tooLarge is why an object is too large to be worked on; nil if err says something else.
func tooLarge(err error) *injection.ConflictError {
	var large *injection.ConflictError
	errors.As(err, &large)
	return large
}

// decode reads what is looked at of a RayCluster: its spec, and of its metadata neither managed fields nor what nobody knows. It
// keeps numbers as they are written, and fields of the spec that this program does not know. With a
// *injection.ConflictError, the object has its names and times alone.
func decode(raw []byte) (*unstructured.Unstructured, error) {
	type text = json.RawMessage
	var parts struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name              string `json:"name"`
			GenerateName      string `json:"generateName"`
			Namespace         string `json:"namespace"`
			UID               string `json:"uid"`
			DeletionTimestamp string `json:"deletionTimestamp"`
			Labels            text   `json:"labels"`
			Annotations       text   `json:"annotations"`
			OwnerReferences   text   `json:"ownerReferences"`
		} `json:"metadata"`
		Spec text `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &parts); err != nil {
		return nil, fmt.Errorf("reading the RayCluster: %w", err)
	}
	metadata := map[string]any{}
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": parts.APIVersion, "kind": parts.Kind, "metadata": metadata}}
	for key, value := range map[string]string{
		"name": parts.Metadata.Name, "generateName": parts.Metadata.GenerateName, "namespace": parts.Metadata.Namespace,
		"uid": parts.Metadata.UID, "deletionTimestamp": parts.Metadata.DeletionTimestamp,
	} {
		if value != "" {
			metadata[key] = value
		}
	}
	lists := map[string]text{"labels": parts.Metadata.Labels, "annotations": parts.Metadata.Annotations, "ownerReferences": parts.Metadata.OwnerReferences}
	weight := int64(0)
	for _, list := range lists {
		weight += jsonpatch.WeighText(list)
	}
	if weight > maxMetadata || jsonpatch.WeighText(parts.Spec) > injection.MaxWeight {
		return object, errTooHeavy
	}
	for key, list := range lists {
		if err := decodeInto(metadata, key, list); err != nil {
			return nil, err
		}
	}
	if err := decodeInto(object.Object, "spec", parts.Spec); err != nil {
		return nil, err
	}
	if err := injection.CheckSize(specOf(object)); err != nil {
		delete(object.Object, "spec")
		return object, err
	}
	return object, nil
}

func decodeInto(parent map[string]any, key string, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return fmt.Errorf("reading %s of the RayCluster: %w", key, err)
	}
	parent[key] = value
	return nil
}

func specOf(object *unstructured.Unstructured) map[string]any {
	return jsonpatch.Map(object.Object["spec"])
}
