package injection

import (
	"cmp"
	"sync"

	"github.com/raytls/raytls/internal/gencert"
)

// scripts are a revision's texts in templates.
type scripts struct {
	bootstrap string
	configMap string
	file      map[Kind]string
	sha256    map[Kind]string
}

func scriptsOf(revision int) (scripts, error) {
	if revision == Revision {
		return newestScripts()
	}
	return hashScripts(revision)
}

// newestScripts hashes once, because an admission request needs them many times.
var newestScripts = sync.OnceValues(func() (scripts, error) { return hashScripts(Revision) }) //nolint:gochecknoglobals // a constant that takes computing

func hashScripts(revision int) (scripts, error) {
	found := scripts{
		bootstrap: gencert.Bootstrap(),
		file:      map[Kind]string{Head: gencert.HeadScript, Worker: gencert.WorkerScript},
		sha256:    map[Kind]string{},
	}
	var err error
	if found.configMap, err = gencert.ConfigMapName(revision); err != nil {
		return scripts{}, err
	}
	for kind, file := range found.file {
		if found.sha256[kind], err = gencert.SHA256(revision, file); err != nil {
			return scripts{}, err
		}
	}
	return found, nil
}

// command returns what the init container runs. The parameters are normalised.
func (s scripts) command(kind Kind, p Parameters) []string {
	folder := cmp.Or(p.ScriptsPath, ScriptsMountPath)
	return []string{
		"/bin/sh", "-c", s.bootstrap, InitContainerName, folder + "/" + s.file[kind], s.sha256[kind],
		"$(" + EnvNodeType + ")", // for the kubelet: the text has no variables
	}
}
