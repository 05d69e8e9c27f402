package migration

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"

	"github.com/raytls/raytls/api/v1alpha1"
	"github.com/raytls/raytls/internal/injection"
	"github.com/raytls/raytls/internal/jsonpatch"
	"github.com/raytls/raytls/internal/manifest"
	"github.com/raytls/raytls/internal/pki"
)

// publishedCA is the SHA-256 of the CA certificate in KubeRay's sample, the same in all its revisions. Its private key
// stands beside it, for all the world to read.
const publishedCA = "6f49f331ff2b1a765a94f36cc04c49fe1f0eaa2cd58b11d977565c0a6b058c62"

// checkSecrets judges the CAs that are in the input as the operator would, and labels them so that policies may sign with them.
func (m *migration) checkSecrets() {
	for _, o := range m.objects {
		if m.isCA(o) {
			m.checkSecret(o)
			metadata := jsonpatch.Map(o.Object["metadata"])
			if jsonpatch.Map(metadata["labels"]) == nil {
				metadata["labels"] = map[string]any{}
			}
			jsonpatch.Map(metadata["labels"])[v1alpha1.LabelCA] = v1alpha1.CATrue
		}
	}
	for _, done := range m.migrated {
		if find(m.objects, "", injection.KindSecret, done.stanza.secret, done.object) == nil {
			m.notef("%[1]s: the CA is in Secret %[2]s, which is not in the input. It has to stay where it is, with ca.crt and ca.key (or tls.crt and tls.key), and the policy signs with it when it is labelled: "+
				"`kubectl %[3]slabel secret %[2]s %[4]s=%[5]s`.",
				done.object, done.stanza.secret, namespaceFlag(done.object), v1alpha1.LabelCA, v1alpha1.CATrue)
		}
	}
}

func (m *migration) checkSecret(o *manifest.Object) {
	data := map[string][]byte{}
	for _, key := range []string{"ca.crt", "ca.key", "tls.crt", "tls.key"} {
		if text, ok := jsonpatch.Map(o.Object["stringData"])[key].(string); ok {
			data[key] = []byte(text)
			continue
		}
		encoded, ok := jsonpatch.Map(o.Object["data"])[key].(string)
		if !ok {
			continue
		}
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			m.report(o, "data["+key+"]", "is not base64")
			return
		}
		data[key] = decoded
	}
	certificate, key := data["ca.crt"], data["ca.key"]
	if key == nil {
		certificate, key = data["tls.crt"], data["tls.key"]
	}
	if certificate == nil || key == nil {
		m.report(o, "data", "holds neither ca.crt and ca.key nor tls.crt and tls.key, which is where the operator looks for the CA")
		return
	}
	if _, err := pki.ParseParent(certificate, key, m.now); err != nil {
		m.report(o, "data", "%v", err)
		return
	}
	if block, _ := pem.Decode(certificate); block != nil && fmt.Sprintf("%x", sha256.Sum256(block.Bytes)) == publishedCA {
		m.notef("%s: this is the CA of KubeRay's sample, whose private key is published. Encrypted pods will not trust it, but whoever else does can be deceived by anybody. "+
			"Make a CA of your own, or take certificateAuthority out of the policy: then the operator makes one.", o)
	}
}
