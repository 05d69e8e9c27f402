package gitops_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// KubeRay's own samples are what people start from.
func TestFluxAppliesKubeRaysSamples(t *testing.T) {
	w := newWorld(t)
	kuberay, err := env.kuberay()
	w.must(err)
	var clusters []*unstructured.Unstructured
	files := map[string]string{}
	w.must(filepath.WalkDir(filepath.Join(kuberay, "config", "samples"), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) != ".yaml" {
			return err
		}
		objects, err := readObjects(file)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if o.GroupVersionKind() == clusterKind {
				o.SetName(fmt.Sprintf("sample-%d", len(clusters)))
				files[o.GetName()] = filepath.Base(file)
				clusters = append(clusters, o)
			}
		}
		return nil
	}))
	policy := w.manifest("selector.yaml")
	w.does(ssa.CreatedAction, policy)
	w.admitted()
	w.ray.away = true // the images and volumes of the samples are nobody's here
	w.does(ssa.CreatedAction, clusters...)
	encrypted := 0
	for name, file := range files {
		c := w.get(clusterKind, name)
		if len(missingPieces(at(c, "spec", "headGroupSpec", "template", "spec"))) > 0 {
			w.reports(name, "Encrypted", "False/ForeignTLS")
			t.Logf("%s sets up TLS by itself", file)
			continue
		}
		encrypted++
		w.complete(name)
	}
	if encrypted < len(files)-2 || encrypted < 20 {
		t.Errorf("of %d samples only %d are encrypted", len(files), encrypted)
	}
	w.unchanged(append(clusters, policy)...)
}
