package injection

import "testing"

func TestParametersMakeTheJourneyThroughTheRecord(t *testing.T) {
	spec := mustApply(t, withUsers(plain(t)), everyParameter(), All())
	for _, found := range Inspect(spec, "sample") {
		if !found.Parameters.Equal(everyParameter()) {
			t.Errorf("%s: recorded %+v", found.Path, found.Parameters)
		}
	}
	others := map[string]Parameters{
		"image": {Image: "x"}, "resources": {Resources: everyParameter().Resources}, "path": {ScriptsPath: "/x"}, "containers": {AdditionalContainers: []string{"x"}},
	}
	for name, other := range others {
		if other.Equal(Parameters{}) {
			t.Errorf("another %s renders another template", name)
		}
	}
	if !(Parameters{ImagePullPolicy: "Never", ScriptsPath: "/a/", AdditionalContainers: []string{"b", "a", "b"}}).Equal(Parameters{ScriptsPath: "/a", AdditionalContainers: []string{"a", "b"}}) {
		t.Error("spelling alone changes the template, and so would restart pods")
	}
}
