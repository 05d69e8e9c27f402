package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"testing"
	"time"
)

// verdict is what the three verifiers say to one chain.
type verdict struct {
	reason    string
	chain     []*forgery
	bundle    []*forgery
	at        time.Time // default: the clock
	want      Reason    // of the greedy verifier; empty: accepted
	boringSSL bool      // BoringSSL accepts
	goAccepts bool      // Go's verifier accepts
}

// corpus is built anew for each test; keys are random, verdicts are not.
func corpus(t *testing.T) map[string]verdict {
	t.Helper()
	var (
		root    = forge{name: "root"}.make(t)
		ca      = forge{name: "issuer", signer: root, pathLength: pathLength(0)}.make(t)
		leaf    = forge{name: "leaf", signer: ca, leaf: true}.make(t)
		other   = forge{name: "other"}.make(t)
		grand   = forge{name: "brought"}.make(t)
		middle  = forge{name: "authority", signer: grand, pathLength: pathLength(1)}.make(t)
		midCA   = forge{name: "mid issuer", signer: middle, pathLength: pathLength(0)}.make(t)
		midLeaf = forge{name: "leaf", signer: midCA, leaf: true}.make(t)

		oldRoot     = forge{name: "gen 1"}.make(t)
		oldCA       = forge{name: "issuer 1", signer: oldRoot, pathLength: pathLength(0)}.make(t)
		oldLeaf     = forge{name: "leaf", signer: oldCA, leaf: true}.make(t)
		newRoot     = forge{name: "gen 2"}.make(t)
		newCA       = forge{name: "issuer 2", signer: newRoot, pathLength: pathLength(0)}.make(t)
		newLeaf     = forge{name: "leaf", signer: newCA, leaf: true}.make(t)
		forward     = forge{name: "gen 2", key: newRoot.key, signer: oldRoot}.make(t)
		reverse     = forge{name: "gen 1", key: oldRoot.key, signer: newRoot}.make(t)
		narrowRoot  = forge{name: "narrow 1", pathLength: pathLength(1)}.make(t)
		narrowNext  = forge{name: "gen 2", key: newRoot.key, signer: narrowRoot}.make(t)
		narrowNew   = forge{name: "narrow 2", pathLength: pathLength(1)}.make(t)
		narrowBack  = forge{name: "gen 1", key: oldRoot.key, signer: narrowNew}.make(t)
		expiredRoot = forge{name: "root", key: root.key, from: -9 * day, to: -day}.make(t)
		futureRoot  = forge{name: "root", key: root.key, from: day}.make(t)

		anonRoot  = forge{name: "anonymous", keyID: []byte{}, authority: []byte{}}.make(t)
		anonCA    = forge{name: "issuer", signer: anonRoot, authority: []byte{}, pathLength: pathLength(0)}.make(t)
		anonLeaf  = forge{name: "leaf", signer: anonCA, leaf: true}.make(t)
		imposter  = forge{name: "anonymous", keyID: []byte{}, authority: []byte{}}.make(t)
		crossA    = forge{name: "ring a"}.make(t)
		crossB    = forge{name: "ring b", signer: crossA}.make(t)
		crossBack = forge{name: "ring a", key: crossA.key, signer: crossB}.make(t)
		ringCA    = forge{name: "issuer", signer: crossB}.make(t)
		ringLeaf  = forge{name: "leaf", signer: ringCA, leaf: true}.make(t)

		unrelated    = forge{name: "unrelated"}.make(t)
		expiredOther = forge{name: "other", key: other.key, from: -9 * day, to: -day}.make(t)
	)
	oldStyle := forge{rawName: name(asn1.TagT61String, "old CA")}.make(t)
	oldStyleMiddle := forge{name: "authority", signer: oldStyle}.make(t)
	oldStyleLeaf := forge{name: "leaf", signer: oldStyleMiddle, leaf: true}.make(t)
	oldStyleImposter := forge{name: "old CA", key: oldStyle.key, to: -time.Hour}.make(t)
	leafWith := func(f forge) *forgery {
		f.name, f.signer, f.leaf = "leaf", ca, true
		return f.make(t)
	}
	caWith := func(f forge) (leafUnder, made *forgery) {
		f.name = "issuer"
		if f.signer == nil {
			f.signer = root
		}
		made = f.make(t)
		return forge{name: "leaf", signer: made, leaf: true}.make(t), made
	}
	wrongAKI, wrongAKICA := caWith(forge{authority: []byte("not the root's key")})
	wrongKey, wrongKeyCA := caWith(forge{signerKey: other.key})
	notCA, notCACert := caWith(forge{leaf: true})
	noSign, noSignCA := caWith(forge{keyUsage: x509.KeyUsageCRLSign})
	noUsage, noUsageCA := caWith(forge{keyUsage: -1})
	clientCA, clientCACert := caWith(forge{extUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	expiredBelow, expiredCA := caWith(forge{from: -9 * day, to: -day})
	futureBelow, futureCA := caWith(forge{from: day})
	_, constrainedCA := caWith(forge{extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: ipConstraint()}}})
	constrained := forge{name: "leaf", signer: constrainedCA, leaf: true, address: net.IPv4(10, 0, 0, 1)}.make(t)
	softly, softlyCA := caWith(forge{extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: ipConstraint()}}})
	serialAKI, serialAKICA := caWith(forge{extra: []pkix.Extension{{Id: oidAuthorityKeyID, Value: keyIDAndSerial(t, root.certificate.SubjectKeyId)}}})
	plainCert, plainCertCA := caWith(forge{leaf: true, keyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature})
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521Root := forge{name: "p521 root", key: p521}.make(t)
	p521Child := forge{name: "p521 child", signer: p521Root}.make(t)
	critical, criticalCA := caWith(forge{extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}})
	pathZero := forge{name: "path 0", signer: root, pathLength: pathLength(0)}.make(t)
	underZero := forge{name: "issuer", signer: pathZero}.make(t)
	underZeroLeaf := forge{name: "leaf", signer: underZero, leaf: true}.make(t)
	twoPaths := forge{name: "issuer", key: ca.key, signer: other, pathLength: pathLength(0)}.make(t)
	spelled := forge{name: "ISSUER", key: ca.key, signer: other}.make(t)
	rsaKey := newTestKey(t, RSA2048)
	rsaRoot := forge{name: "rsa root", key: rsaKey}.make(t)
	rsaLeaf := forge{name: "leaf", signer: rsaRoot, leaf: true}.make(t)

	list := func(forgeries ...*forgery) []*forgery { return forgeries }
	return map[string]verdict{
		"plain":                {"leaf, issuer and the root's certificate", list(leaf, ca), list(root), time.Time{}, "", true, true},
		"root sent along":      {"a trusted root in the chain does no harm: the bundle is asked first", list(leaf, ca, root), list(root), time.Time{}, "", true, true},
		"unordered chain":      {"order matters only between certificates that fit", list(leaf, unrelated, ca), list(root), time.Time{}, "", true, true},
		"more in the bundle":   {"others in the bundle are not looked at, expired ones neither", list(leaf, ca), list(other, expiredOther, root, unrelated), time.Time{}, "", true, true},
		"partial chain":        {"an authority under a brought root is an anchor by itself", list(midLeaf, midCA), list(middle), time.Time{}, "", true, true},
		"partial chain, whole": {"the brought root beside it changes nothing", list(midLeaf, midCA), list(middle, grand), time.Time{}, "", true, true},
		"brought root alone":   {"the authority in the chain reaches a trusted brought root", list(midLeaf, midCA, middle), list(grand), time.Time{}, "", true, true},
		"missing issuer":       {"nothing to get from the leaf to the root", list(leaf), list(root), time.Time{}, ReasonNoIssuer, false, false},
		"missing authority":    {"the brought root is two steps away", list(midLeaf, midCA), list(grand), time.Time{}, ReasonNoIssuer, false, false},
		"other cluster":        {"another cluster's root", list(leaf, ca), list(other), time.Time{}, ReasonNoIssuer, false, false},
		"empty bundle":         {"nothing is trusted", list(leaf, ca, root), nil, time.Time{}, ReasonSelfSigned, false, false},
		"issuer is trusted":    {"a trusted issuer ends the search", list(leaf), list(ca), time.Time{}, "", true, true},
		"leaf is trusted":      {"the leaf itself in the bundle: never what we publish", list(leaf), list(leaf), time.Time{}, ReasonNoIssuer, true, true},

		"forward bridge":                {"a new pod's chain at an old pod", list(newLeaf, newCA, forward), list(oldRoot), time.Time{}, "", true, true},
		"forward bridge at a new pod":   {"the same chain at a new pod: trusted first", list(newLeaf, newCA, forward), list(newRoot, reverse), time.Time{}, "", true, true},
		"reverse bridge":                {"an old pod's chain at a new pod", list(oldLeaf, oldCA), list(newRoot, reverse), time.Time{}, "", true, true},
		"reverse bridge, order":         {"the bundle's order does not matter", list(oldLeaf, oldCA), list(reverse, newRoot), time.Time{}, "", true, true},
		"root before bridge":            {"a self-signed root in the chain hides the bridge", list(newLeaf, newCA, newRoot, forward), list(oldRoot), time.Time{}, ReasonSelfSigned, false, true},
		"root after bridge":             {"behind the bridge it is never reached", list(newLeaf, newCA, forward, newRoot), list(oldRoot), time.Time{}, "", true, true},
		"old root and bridge":           {"both in the bundle fit and both do", list(oldLeaf, oldCA), list(oldRoot, reverse, newRoot), time.Time{}, "", true, true},
		"forward bridge, narrow anchor": {"a root with pathlen:1 can never be bridged to: Go counts bridge and issuer below it", list(newLeaf, newCA, narrowNext), list(narrowRoot), time.Time{}, ReasonPathLength, true, false},
		"reverse bridge, narrow anchor": {"the bridge in the bundle is the anchor, the root above it is not asked", list(oldLeaf, oldCA), list(narrowNew, narrowBack), time.Time{}, "", true, true},
		"no backtracking in the chain":  {"the first of two issuers leads nowhere and the second would do", list(leaf, twoPaths, ca), list(root), time.Time{}, ReasonNoIssuer, false, true},
		"first in the chain does":       {"the first of two issuers leads to the root", list(leaf, ca, twoPaths), list(root), time.Time{}, "", true, true},
		"names by other case":           {"BoringSSL ignores case and takes the wrong one first", list(leaf, spelled, ca), list(root), time.Time{}, ReasonNoIssuer, false, true},

		"expired in the bundle first": {"one name, one key, two lives", list(leaf, ca), list(expiredRoot, root), time.Time{}, ReasonExpired, false, true},
		"expired in the bundle last":  {"which one is taken depends on how BoringSSL sorts", list(leaf, ca), list(root, expiredRoot), time.Time{}, ReasonExpired, true, true},
		"future in the bundle first":  {"the same with one that is not valid yet", list(leaf, ca), list(futureRoot, root), time.Time{}, ReasonNotYetValid, false, true},
		"expired anchor":              {"anchors expire too", list(leaf, ca), list(expiredRoot), time.Time{}, ReasonExpired, false, false},
		"future anchor":               {"and start", list(leaf, ca), list(futureRoot), time.Time{}, ReasonNotYetValid, false, false},
		"expired above the anchor":    {"the search runs on beyond the first trusted certificate", list(midLeaf, midCA), list(middle, forge{name: "brought", key: grand.key, to: -time.Hour}.make(t)), time.Time{}, ReasonExpired, false, true},
		"expired issuer":              {"its leaf ends with it", list(expiredBelow, expiredCA), list(root), time.Time{}, ReasonExpired, false, false},
		"future issuer":               {"its leaf starts with it", list(futureBelow, futureCA), list(root), time.Time{}, ReasonNotYetValid, false, false},
		"expired leaf":                {"the leaf's own end", list(leafWith(forge{from: -9 * day, to: -day}), ca), list(root), time.Time{}, ReasonExpired, false, false},
		"future leaf":                 {"the leaf's own start", list(leafWith(forge{from: time.Minute}), ca), list(root), time.Time{}, ReasonNotYetValid, false, false},
		"last second":                 {"the second before notAfter still counts", list(leaf, ca), list(root), leaf.certificate.NotAfter.Add(-time.Second), "", true, true},
		"notAfter itself":             {"BoringSSL takes notAfter as expired, Go does not", list(leaf, ca), list(root), leaf.certificate.NotAfter, ReasonExpired, false, true},
		"notBefore itself":            {"notBefore is valid", list(leaf, ca), list(root), leaf.certificate.NotBefore, "", true, true},

		"same name, other key":             {"the AKI tells two roots of one name apart", list(leaf, ca), list(forge{name: "root"}.make(t), root), time.Time{}, "", true, true},
		"same name, other key, no key ids": {"without key ids the first by name is taken", list(anonLeaf, anonCA), list(imposter, anonRoot), time.Time{}, ReasonSignature, false, true},
		"same name, right key first":       {"the right one first: only because BoringSSL happens to keep the order", list(anonLeaf, anonCA), list(anonRoot, imposter), time.Time{}, ReasonSignature, true, true},
		"no key ids":                       {"one candidate by name", list(anonLeaf, anonCA), list(anonRoot), time.Time{}, "", true, true},
		"wrong AKI":                        {"the signature is right and the key id is not", list(wrongAKI, wrongAKICA), list(root), time.Time{}, ReasonNoIssuer, false, true},
		"wrong key":                        {"the names are right and the signature is not", list(wrongKey, wrongKeyCA), list(root), time.Time{}, ReasonSignature, false, false},
		"pathlen below":                    {"pathlen:0 with a CA below it", list(underZeroLeaf, underZero, pathZero), list(root), time.Time{}, ReasonPathLength, false, false},
		"pathlen of the anchor":            {"BoringSSL does not ask the anchor", list(underZeroLeaf, underZero), list(pathZero), time.Time{}, ReasonPathLength, true, false},
		"issuer is no CA":                  {"a leaf signed by a leaf: its keyUsage already rules it out as issuer", list(notCA, notCACert), list(root), time.Time{}, ReasonNoIssuer, false, false},
		"issuer without keyCertSign":       {"it is not even tried", list(noSign, noSignCA), list(root), time.Time{}, ReasonNoIssuer, false, false},
		"issuer without keyUsage":          {"no extension means no restriction", list(noUsage, noUsageCA), list(root), time.Time{}, "", true, true},
		"issuer for clients only":          {"an EKU on a CA binds everything below", list(clientCA, clientCACert), list(root), time.Time{}, ReasonKeyUsage, false, false},
		"server leaf":                      {"Ray needs both usages", list(leafWith(forge{extUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), ca), list(root), time.Time{}, ReasonKeyUsage, false, false},
		"client leaf":                      {"Ray needs both usages", list(leafWith(forge{extUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), ca), list(root), time.Time{}, ReasonKeyUsage, false, false},
		"any usage":                        {"BoringSSL does not read anyExtendedKeyUsage as serverAuth", list(leafWith(forge{extUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}), ca), list(root), time.Time{}, ReasonKeyUsage, false, true},
		"no usage":                         {"no extension means no restriction", list(leafWith(forge{extUsages: []x509.ExtKeyUsage{}}), ca), list(root), time.Time{}, "", true, true},
		"leaf without digitalSignature":    {"a client must sign", list(leafWith(forge{keyUsage: x509.KeyUsageKeyEncipherment}), ca), list(root), time.Time{}, ReasonKeyUsage, false, true},
		"CA as leaf":                       {"an issuer presents itself: never what we publish", list(ca), list(root), time.Time{}, ReasonProfile, false, true},
		"CA for TLS as leaf":               {"the same with the usages of a leaf: both take it, we do not", list(forge{name: "issuer", signer: root, keyUsage: caKeyUsage | x509.KeyUsageDigitalSignature}.make(t)), list(root), time.Time{}, ReasonProfile, true, true},
		"self-signed leaf":                 {"not trusted", list(forge{name: "leaf", keyUsage: -1, leaf: true}.make(t)), list(root), time.Time{}, ReasonSelfSigned, false, false},
		"IP name constraint":               {"BoringSSL cannot read them and fails", list(constrained, constrainedCA), list(root), time.Time{}, ReasonProfile, false, true},
		"soft name constraint":             {"the same, not critical, over a leaf with names only", list(softly, softlyCA), list(root), time.Time{}, ReasonProfile, true, true},
		"AKI with a serial":                {"BoringSSL compares the serial number too", list(serialAKI, serialAKICA), list(root), time.Time{}, ReasonProfile, false, true},
		"ring in the chain":                {"two CAs that sign each other and lead nowhere", list(ringLeaf, ringCA, crossB, crossBack), list(root), time.Time{}, ReasonNoIssuer, false, false},
		"CA:FALSE with keyCertSign":        {"keyUsage alone makes no CA", list(plainCert, plainCertCA), list(root), time.Time{}, ReasonNotCA, false, false},
		"CA:FALSE as anchor":               {"BoringSSL does not ask the anchor", list(plainCert), list(plainCertCA), time.Time{}, ReasonNotCA, true, false},
		"P-521 leaf":                       {"verifies, but no handshake of gRPC's takes it", list(leafWith(forge{key: p521}), ca), list(root), time.Time{}, ReasonUnsupportedKey, true, true},
		"P-521 root":                       {"the same key above", list(forge{name: "leaf", signer: p521Root, leaf: true}.make(t)), list(p521Root), time.Time{}, ReasonUnsupportedKey, true, true},
		"P-521 above the anchor":           {"the same key where only BoringSSL still looks", list(forge{name: "leaf", signer: p521Child, leaf: true}.make(t)), list(p521Child, p521Root), time.Time{}, ReasonUnsupportedKey, true, true},
		"critical extension":               {"unknown and critical", list(critical, criticalCA), list(root), time.Time{}, ReasonProfile, false, false},
		"ring":                             {"two trusted CAs that sign each other: no end, but no harm either", list(ringLeaf, ringCA), list(crossB, crossBack), time.Time{}, "", true, true},
		"old string type above":            {"a brought root named in T61String, as old CAs are", list(oldStyleLeaf), list(oldStyleMiddle, root), time.Time{}, "", true, true},
		"old string type below":            {"the same name in two string types is one name to BoringSSL", list(oldStyleLeaf), list(oldStyleMiddle, oldStyleImposter), time.Time{}, ReasonNoIssuer, false, true},
		"RSA root":                         {"RSA above ECDSA", list(rsaLeaf), list(rsaRoot), time.Time{}, "", true, true},
		"P-384":                            {"P-384 leaf", list(leafWith(forge{key: newTestKey(t, ECDSAP384)}), ca), list(root), time.Time{}, "", true, true},
	}
}

// keyIDAndSerial is an authority key identifier whose serial number is nobody's.
func keyIDAndSerial(t *testing.T, keyID []byte) []byte {
	t.Helper()
	value, err := asn1.Marshal(struct {
		KeyID  []byte `asn1:"tag:0"`
		Serial int    `asn1:"tag:2"`
	}{keyID, 1})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// name is a distinguished name with one common name of a string type.
func name(tag int, text string) []byte {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type attributeSET []attribute
	raw, err := asn1.Marshal([]attributeSET{{{asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.RawValue{Tag: tag, Bytes: []byte(text)}}}})
	if err != nil {
		panic(err)
	}
	return raw
}

// ipConstraint permits 10.0.0.0/8.
func ipConstraint() []byte {
	return []byte{0x30, 0x0e, 0xa0, 0x0c, 0x30, 0x0a, 0x87, 0x08, 10, 0, 0, 0, 255, 0, 0, 0}
}

func (v verdict) inputs() (chain, bundle []*x509.Certificate, at time.Time) {
	at = v.at
	if at.IsZero() {
		at = clock()
	}
	return certificatesOf(v.chain), certificatesOf(v.bundle), at
}

func certificatesOf(forgeries []*forgery) []*x509.Certificate {
	certificates := make([]*x509.Certificate, 0, len(forgeries))
	for _, f := range forgeries {
		certificates = append(certificates, f.certificate)
	}
	return certificates
}

func TestVerifyGreedy(t *testing.T) {
	for name, v := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			t.Log(v.reason)
			chain, bundle, at := v.inputs()
			wantReason(t, verifyGreedy(chain, bundle, at), v.want)
			if v.want == "" && !v.goAccepts {
				t.Error("a chain that the greedy verifier accepts has to be one that Go accepts")
			}
			if err := goVerify(chain, bundle, at); (err == nil) != v.goAccepts {
				t.Errorf("Go's verifier: %v, want accepted=%t", err, v.goAccepts)
			}
		})
	}
}

func TestVerifyGreedyRefusesNothingAtAll(t *testing.T) {
	wantReason(t, verifyGreedy(nil, nil, clock()), ReasonMalformed)
}

func TestNamesInTheSearch(t *testing.T) {
	several, err := asn1.Marshal(pkix.RDNSequence{{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "root"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "x"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	plain := name(asn1.TagPrintableString, "the root")
	for reason, test := range map[string]struct {
		other []byte
		want  bool
	}{
		"itself":                 {plain, true},
		"another string type":    {name(asn1.TagUTF8String, "the root"), true},
		"case and spaces":        {name(asn1.TagUTF8String, " The  ROOT "), true},
		"another name":           {name(asn1.TagPrintableString, "theroot"), false},
		"an old string type":     {name(asn1.TagT61String, "another"), true},
		"a part of two values":   {several, true},
		"what cannot be read":    {[]byte{1}, true},
		"bytes behind the name":  {append(name(asn1.TagPrintableString, "another"), 5, 0), true},
		"an empty name":          {[]byte{0x30, 0}, false},
		"a name with more parts": {append([]byte{0x30, plain[1] * 2}, append(plain[2:], plain[2:]...)...), false},
	} {
		if got := foldName(plain).fits(foldName(test.other)); got != test.want {
			t.Errorf("%s: fits=%t, want %t", reason, got, test.want)
		}
	}
}
