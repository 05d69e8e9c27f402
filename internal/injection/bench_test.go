package injection

import (
	"testing"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// BenchmarkApplyAndDiff is what enabling one cluster with a head, two groups and the autoscaler costs.
func BenchmarkApplyAndDiff(b *testing.B) {
	spec := plain(b)
	b.ReportAllocs()
	for b.Loop() {
		if len(jsonpatch.Diff(spec, mustApply(b, spec, Parameters{}, All()))) == 0 {
			b.Fatal("nothing to patch")
		}
	}
}

// BenchmarkInspect is what every reconcile of an injected cluster costs.
func BenchmarkInspect(b *testing.B) {
	spec := mustApply(b, plain(b), Parameters{}, All())
	b.ReportAllocs()
	for b.Loop() {
		if Inspect(spec, "sample")[0].State != Injected {
			b.Fatal("not recognised")
		}
	}
}
