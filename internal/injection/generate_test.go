package injection

import (
	"encoding/json"
	"fmt"

	"pgregory.net/rapid"
)

// The generators give specs as an API server could hold them, with fields nobody knows at every level, every shape of an
// empty parent, and numbers as any of Go's decoders leave them. They hold no TLS of anybody's.

func genNumber() *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		whole := rapid.Int64Range(-5, 1<<53).Draw(t, "number")
		switch rapid.IntRange(0, 2).Draw(t, "decoder") {
		case 0:
			return whole
		case 1:
			return float64(whole) / 4
		}
		return json.Number(fmt.Sprint(whole))
	})
}

func genValue(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Just[any](true), rapid.Just[any]("text"), rapid.Just[any](""), genNumber(),
		rapid.Just[any](map[string]any{}), rapid.Just[any]([]any{}),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	return rapid.OneOf(append(leaves,
		rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"a", "b/c", "d~e", ""}), genValue(depth-1), 0, 2), func(m map[string]any) any { return m }),
		rapid.Map(rapid.SliceOfN(genValue(depth-1), 0, 2), func(l []any) any { return append([]any{}, l...) }),
	)...)
}

// strange adds a field nobody knows, sometimes.
func strange(t *rapid.T, m map[string]any) map[string]any {
	if rapid.IntRange(0, 3).Draw(t, "strange") == 0 {
		m[rapid.SampledFrom([]string{"aFutureField", "x/y", "status"}).Draw(t, "key")] = genValue(2).Draw(t, "value")
	}
	return m
}

// parent sets a list field to a list, to nothing in one of its spellings, or not at all.
func parent(t *rapid.T, m map[string]any, key string, item func(i int) any) {
	switch rapid.IntRange(0, 4).Draw(t, key) {
	case 0:
	case 1:
		m[key] = nil
	case 2:
		m[key] = []any{}
	default:
		list := []any{}
		for i := range rapid.IntRange(1, 3).Draw(t, key+" length") {
			list = append(list, item(i))
		}
		m[key] = list
	}
}

func fillContainer(t *rapid.T, m map[string]any) map[string]any {
	parent(t, m, "env", func(i int) any {
		if rapid.Bool().Draw(t, "valueFrom") {
			return strange(t, map[string]any{"name": fmt.Sprint("FROM_", i), "valueFrom": map[string]any{"fieldRef": map[string]any{"fieldPath": "spec.nodeName"}}})
		}
		return strange(t, map[string]any{"name": fmt.Sprint("E", i), "value": rapid.SampledFrom([]string{"", "1", MountPath}).Draw(t, "value")})
	})
	parent(t, m, "volumeMounts", func(i int) any {
		return strange(t, map[string]any{"name": "data", "mountPath": fmt.Sprint("/data/", i)})
	})
	parent(t, m, "envFrom", func(int) any {
		return strange(t, map[string]any{"configMapRef": map[string]any{"name": "settings"}})
	})
	return strange(t, m)
}

func genContainer(t *rapid.T, name string) map[string]any {
	m := map[string]any{"name": name, "image": "rayproject/ray:2.52.0"}
	if rapid.Bool().Draw(t, "pull policy") {
		m["imagePullPolicy"] = "Always"
	}
	return fillContainer(t, m)
}

func genGroup(t *rapid.T) map[string]any {
	pod := map[string]any{}
	containers := []any{genContainer(t, "ray")}
	for i := range rapid.IntRange(0, 2).Draw(t, "sidecars") {
		containers = append(containers, genContainer(t, fmt.Sprint("sidecar-", i)))
	}
	pod["containers"] = containers
	parent(t, pod, "initContainers", func(i int) any { return genContainer(t, fmt.Sprint("init-", i)) })
	parent(t, pod, "volumes", func(i int) any {
		return strange(t, map[string]any{"name": fmt.Sprint("v", i), "emptyDir": map[string]any{}})
	})
	if rapid.Bool().Draw(t, "pod user") {
		pod["securityContext"] = strange(t, map[string]any{"runAsUser": genNumber().Draw(t, "uid")})
	}
	template := map[string]any{"spec": strange(t, pod)}
	parent(t, template, "metadata", func(int) any { return nil })
	group := map[string]any{"template": strange(t, template), "rayStartParams": map[string]any{}}
	if rapid.Bool().Draw(t, "multi-host") {
		group["numOfHosts"] = int64(4)
	}
	return strange(t, group)
}

func genSpec() *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		spec := map[string]any{"headGroupSpec": genGroup(t)}
		groups := []any{}
		for i := range rapid.IntRange(0, 4).Draw(t, "groups") {
			group := genGroup(t)
			group["groupName"] = fmt.Sprint("group-", i)
			groups = append(groups, group)
		}
		if len(groups) > 0 || rapid.Bool().Draw(t, "empty groups") {
			spec["workerGroupSpecs"] = groups
		}
		if rapid.Bool().Draw(t, "autoscaling set") {
			spec["enableInTreeAutoscaling"] = rapid.Bool().Draw(t, "autoscaling")
		}
		switch rapid.IntRange(0, 3).Draw(t, "autoscalerOptions") {
		case 0:
		case 1:
			spec["autoscalerOptions"] = nil
		case 2:
			spec["autoscalerOptions"] = map[string]any{}
		default:
			spec["autoscalerOptions"] = fillContainer(t, map[string]any{})
		}
		return strange(t, spec)
	})
}

func genParameters() *rapid.Generator[Parameters] {
	return rapid.Custom(func(t *rapid.T) Parameters {
		var p Parameters
		if rapid.Bool().Draw(t, "own image") {
			p.Image = "rayproject/ray:2.52.0"
			p.ImagePullPolicy = rapid.SampledFrom([]string{"", "Never"}).Draw(t, "pull policy")
		}
		if rapid.Bool().Draw(t, "scripts path") {
			p.ScriptsPath = "/opt/raytls"
		}
		if rapid.Bool().Draw(t, "resources") {
			p.Resources = everyParameter().Resources
		}
		p.RevokedBefore = rapid.SampledFrom([]int64{0, 0, 2, 1<<63 - 1}).Draw(t, "revoked before")
		p.AdditionalContainers = rapid.SliceOfN(rapid.SampledFrom([]string{"sidecar-0", "sidecar-1", "init-0", "ray"}), 0, 3).Draw(t, "additional")
		return p
	})
}

func genScope() *rapid.Generator[Scope] {
	return rapid.Custom(func(t *rapid.T) Scope {
		if rapid.Bool().Draw(t, "all") {
			return All()
		}
		return Only(rapid.Bool().Draw(t, "head"), rapid.SliceOfN(rapid.SampledFrom([]string{"group-0", "group-1", "gone"}), 0, 2).Draw(t, "groups")...)
	})
}

// applied draws parameters that fit the spec; an additional container that exists nowhere is the one conflict the
// generators can make.
func applied(t *rapid.T, spec map[string]any, scope Scope) (map[string]any, Parameters) {
	p := genParameters().Draw(t, "parameters")
	out, err := Apply(spec, options(p), scope)
	if err != nil {
		p.AdditionalContainers = nil
		if out, err = Apply(spec, options(p), scope); err != nil {
			t.Fatalf("a plain spec is refused: %v", err)
		}
	}
	return out, p
}
