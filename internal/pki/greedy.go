package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Eight generations need ten certificates: leaf, issuer, seven bridges and a root.
const maxPathCertificates = 16

// VerifyGreedy decides whether a peer that trusts bundle takes chain (leaf first) at a moment, both as server and as
// client, the way BoringSSL does with X509_V_FLAG_TRUSTED_FIRST and X509_V_FLAG_PARTIAL_CHAIN, gRPC's setting: at each
// step a certificate of the bundle is preferred, then the first one of the chain that fits by name and key identifier,
// and a choice is never taken back. From the first trusted certificate on the path still runs on as far as the bundle
// goes, and every certificate on it has to be valid.
//
// Where several certificates of the bundle fit, BoringSSL's choice depends on how it sorts; here all of them have to
// do. Where BoringSSL is more lenient than Go, OpenSSL or the profile, this is not: it never accepts what BoringSSL
// refuses, and refuses some that BoringSSL accepts (a trusted leaf, pathlen and usage of the trusted certificate,
// extensions that this project never writes).
func VerifyGreedy(chain []*x509.Certificate, bundle []*x509.Certificate, at time.Time) error {
	if len(chain) == 0 {
		return refuse(ReasonMalformed, "the chain is empty")
	}
	presented, err := newNodes("chain", chain)
	if err != nil {
		return err
	}
	trusted, err := newNodes("bundle", bundle)
	if err != nil {
		return err
	}
	path, anchors, err := walk(presented, trusted)
	if err != nil {
		return err
	}
	for index, n := range path {
		if err := n.checkOnPath(index, at); err != nil {
			return err
		}
		if index > 0 {
			if err := checkIssued(path[index-1], n); err != nil {
				return err
			}
		}
	}
	for _, anchor := range anchors {
		if err := checkIssued(path[len(path)-1], anchor); err != nil {
			return err
		}
		if err := anchor.checkOnPath(len(path), at); err != nil {
			return err
		}
	}
	return checkTrusted(anchors, trusted, at)
}

// walk follows the chain up to the last certificate that is not trusted, and gives every trusted one that could come
// next.
func walk(presented, trusted []*node) (path, anchors []*node, err error) {
	// BoringSSL hands the whole chain, the leaf too, to the search.
	unused := slices.Clone(presented)
	current := presented[0]
	path = []*node{current}
	for len(path) < maxPathCertificates {
		if current.selfSigned() {
			return nil, nil, refuse(ReasonSelfSigned, "%s is self-signed and not trusted; verifiers stop there", current.label)
		}
		if anchors := issuersOf(current, trusted); len(anchors) > 0 {
			return path, anchors, nil
		}
		next := slices.IndexFunc(unused, func(candidate *node) bool { return candidate.mayHaveIssued(current) })
		if next < 0 {
			return nil, nil, refuse(ReasonNoIssuer, "neither the bundle nor the chain holds the issuer of %s", current.label)
		}
		current = unused[next]
		unused = slices.Delete(unused, next, next+1)
		path = append(path, current)
	}
	return nil, nil, refuse(ReasonPathLength, "the chain is longer than %d certificates", maxPathCertificates)
}

// checkTrusted follows the bundle from the anchors on: BoringSSL goes on there and checks signatures and times, and
// nothing else.
func checkTrusted(anchors, trusted []*node, at time.Time) error {
	seen := map[*node]bool{}
	for queue := slices.Clone(anchors); len(queue) > 0; {
		current := queue[0]
		queue = queue[1:]
		if seen[current] {
			continue
		}
		seen[current] = true
		if err := checkTime(current.certificate, at, current.label); err != nil {
			return err
		}
		if err := current.checkExtensions(); err != nil {
			return err
		}
		if current.selfSigned() && bytes.Equal(current.certificate.RawSubject, current.certificate.RawIssuer) {
			continue
		}
		for _, issuer := range issuersOf(current, trusted) {
			if err := checkIssued(current, issuer); err != nil {
				return err
			}
			queue = append(queue, issuer)
		}
	}
	return nil
}

func issuersOf(n *node, candidates []*node) []*node {
	var issuers []*node
	for _, candidate := range candidates {
		if candidate.mayHaveIssued(n) {
			issuers = append(issuers, candidate)
		}
	}
	return issuers
}

// checkIssued refuses names that only match when case and spaces are ignored (Go compares bytes), and bad signatures.
func checkIssued(child, issuer *node) error {
	if !bytes.Equal(child.certificate.RawIssuer, issuer.certificate.RawSubject) {
		return refuse(ReasonNoIssuer, "%s names its issuer with other bytes than %s names itself", child.label, issuer.label)
	}
	if err := checkSignature(child.certificate, issuer.certificate); err != nil {
		return fmt.Errorf("%s under %s: %w", child.label, issuer.label, err)
	}
	return nil
}

func checkSignature(child, issuer *x509.Certificate) error {
	if err := checkPublicKey(issuer.PublicKey); err != nil {
		return err
	}
	switch child.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return refuse(ReasonSignature, "the signature algorithm %s is not accepted", child.SignatureAlgorithm)
	}
	if err := issuer.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature); err != nil {
		return refuse(ReasonSignature, "the signature is not the issuer's: %v", err)
	}
	return nil
}

// node is a certificate with what the search needs of it.
type node struct {
	certificate     *x509.Certificate
	label           string
	subject, issuer foldedName
	hasKeyUsage     bool
}

func newNodes(where string, certificates []*x509.Certificate) ([]*node, error) {
	nodes := make([]*node, 0, len(certificates))
	for index, certificate := range certificates {
		label := fmt.Sprintf("certificate %d of the %s", index+1, where)
		if err := checkKeyIDs(certificate); err != nil {
			return nil, fmt.Errorf("%s: %w", label, err)
		}
		nodes = append(nodes, &node{
			certificate: certificate,
			label:       label,
			subject:     foldName(certificate.RawSubject),
			issuer:      foldName(certificate.RawIssuer),
			hasKeyUsage: hasExtension(certificate, oidKeyUsage),
		})
	}
	return nodes, nil
}

// mayHaveIssued is BoringSSL's X509_check_issued: names, key identifiers where both sides have one, keyCertSign.
func (n *node) mayHaveIssued(child *node) bool {
	return n.subject.fits(child.issuer) && n.keyIDFits(child) && n.maySign()
}

func (n *node) keyIDFits(child *node) bool {
	keyID, wanted := n.certificate.SubjectKeyId, child.certificate.AuthorityKeyId
	return len(keyID) == 0 || len(wanted) == 0 || bytes.Equal(keyID, wanted)
}

func (n *node) maySign() bool {
	return !n.hasKeyUsage || n.certificate.KeyUsage&x509.KeyUsageCertSign != 0
}

// selfSigned is BoringSSL's EXFLAG_SS, which does not look at the signature, or more than that where a name is opaque.
func (n *node) selfSigned() bool { return n.mayHaveIssued(n) }

// checkOnPath checks what must hold for the certificate at this distance from the leaf, up to and including the
// first trusted one.
func (n *node) checkOnPath(index int, at time.Time) error {
	if err := n.checkExtensions(); err != nil {
		return err
	}
	if err := checkPublicKey(n.certificate.PublicKey); err != nil {
		return fmt.Errorf("%s: %w", n.label, err)
	}
	if err := n.checkUsages(); err != nil {
		return err
	}
	if err := n.checkRole(index); err != nil {
		return err
	}
	return checkTime(n.certificate, at, n.label)
}

func (n *node) checkRole(index int) error {
	certificate := n.certificate
	isCA := certificate.BasicConstraintsValid && certificate.IsCA
	if index == 0 {
		if isCA || certificate.MaxPathLen > 0 || certificate.MaxPathLenZero {
			return refuse(ReasonProfile, "%s is a CA where a leaf is expected", n.label)
		}
		if n.hasKeyUsage && certificate.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			return refuse(ReasonKeyUsage, "%s lacks digitalSignature", n.label)
		}
		return nil
	}
	if !isCA || !n.maySign() {
		return refuse(ReasonNotCA, "%s is not a CA and cannot issue", n.label)
	}
	if below := index - 1; certificate.MaxPathLen >= 0 && below > certificate.MaxPathLen {
		return refuse(ReasonPathLength, "%s has pathlen:%d and %d CA certificates below it", n.label, certificate.MaxPathLen, below)
	}
	return nil
}

// checkUsages wants both usages wherever there is a list: every Ray process is server and client. BoringSSL does not
// take anyExtendedKeyUsage for them.
func (n *node) checkUsages() error {
	if !hasExtension(n.certificate, oidExtKeyUsage) {
		return nil
	}
	for _, wanted := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if !slices.Contains(n.certificate.ExtKeyUsage, wanted) {
			return refuse(ReasonKeyUsage, "%s is not for serverAuth and clientAuth both", n.label)
		}
	}
	return nil
}

// checkExtensions lets critical through only what both verifiers understand, and refuses constraints on names and
// policies: BoringSSL fails hard on IP constraints.
func (n *node) checkExtensions() error {
	understood := []asn1.ObjectIdentifier{oidKeyUsage, oidBasicConstraints, oidSubjectAltName, oidExtKeyUsage}
	unused := []asn1.ObjectIdentifier{
		{2, 5, 29, 30}, // nameConstraints
		{2, 5, 29, 31}, // cRLDistributionPoints
		{2, 5, 29, 32}, // certificatePolicies
		{2, 5, 29, 33}, // policyMappings
		{2, 5, 29, 36}, // policyConstraints
		{2, 5, 29, 54}, // inhibitAnyPolicy
	}
	for _, extension := range n.certificate.Extensions {
		if extension.Critical && !slices.ContainsFunc(understood, extension.Id.Equal) {
			return refuse(ReasonProfile, "%s has the critical extension %s", n.label, extension.Id)
		}
		if slices.ContainsFunc(unused, extension.Id.Equal) {
			return refuse(ReasonProfile, "%s has the extension %s, which verifiers treat differently", n.label, extension.Id)
		}
	}
	return nil
}

func hasExtension(certificate *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, extension := range certificate.Extensions {
		if extension.Id.Equal(id) {
			return true
		}
	}
	return false
}

// checkKeyIDs refuses an authority key identifier with more than a key id: BoringSSL compares issuer and serial too,
// and the standard library does not show them.
func checkKeyIDs(certificate *x509.Certificate) error {
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(oidAuthorityKeyID) {
			continue
		}
		keyIDOnly, err := asn1.Marshal(struct {
			KeyID []byte `asn1:"tag:0"`
		}{certificate.AuthorityKeyId})
		if err != nil {
			return fmt.Errorf("encoding a key identifier: %w", err)
		}
		if !bytes.Equal(keyIDOnly, extension.Value) {
			return refuse(ReasonProfile, "the authority key identifier holds more than a key id")
		}
	}
	return nil
}

// foldedName is equal for names that BoringSSL's comparison, which ignores ASCII case and runs of spaces, may call
// equal. A name of unusual build is opaque and fits any other: checkIssued then insists on the same bytes.
type foldedName struct {
	text   string
	opaque bool
}

func (n foldedName) fits(other foldedName) bool {
	return n.opaque || other.opaque || n.text == other.text
}

func foldName(raw []byte) foldedName {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type attributeSET []attribute
	var sequence []attributeSET
	if rest, err := asn1.Unmarshal(raw, &sequence); err != nil || len(rest) > 0 {
		return foldedName{opaque: true}
	}
	var folded strings.Builder
	for _, set := range sequence {
		if len(set) != 1 {
			return foldedName{opaque: true}
		}
		value := set[0].Value
		switch value.Tag {
		case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String:
		default:
			return foldedName{opaque: true}
		}
		text := strings.ToLower(strings.Join(strings.Fields(string(value.Bytes)), " "))
		fmt.Fprintf(&folded, "%s=%q,", set[0].Type, text)
	}
	return foldedName{text: folded.String()}
}
