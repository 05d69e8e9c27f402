package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Eight generations need ten certificates: leaf, issuer, seven bridges and a root.
const maxPathCertificates = 16

// verifyGreedy decides whether a peer that trusts bundle accepts chain (leaf first) at a moment, as server and as client.
// It models BoringSSL with X509_V_FLAG_TRUSTED_FIRST and X509_V_FLAG_PARTIAL_CHAIN, which is gRPC's setting. At each step,
// BoringSSL prefers a certificate of the bundle, then the first of the chain that fits by name and key identifier. It
// never takes a choice back. After the first trusted certificate, the path continues as far as the bundle goes, and
// every certificate on it must be valid.
//
// If several certificates of the bundle fit, BoringSSL's choice depends on its sorting, so here all of them must pass.
// This verifier never accepts what BoringSSL refuses. It refuses more: a trusted leaf, pathlen and usage of the trusted
// certificate, and extensions that this project never writes.
func verifyGreedy(chain, bundle []*x509.Certificate, at time.Time) error {
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
	return checkAbove(anchors, trusted, at)
}

// walk follows the chain to the last certificate that is not trusted, and returns every trusted one that may come next.
func walk(presented, trusted []*node) (path, anchors []*node, err error) {
	// BoringSSL searches the whole chain, including the leaf.
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

// checkAbove follows the bundle from the anchors, where BoringSSL checks only signatures and times.
func checkAbove(anchors, trusted []*node, at time.Time) error {
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
	return slices.DeleteFunc(slices.Clone(candidates), func(candidate *node) bool { return !candidate.mayHaveIssued(n) })
}

// checkIssued refuses names that differ in case or spaces, because Go compares bytes, and bad signatures.
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

// node is a certificate with its parsed names.
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

// mayHaveIssued is BoringSSL's X509_check_issued: names, keyCertSign, and key identifiers if both sides have one.
func (n *node) mayHaveIssued(child *node) bool {
	keyID, wanted := n.certificate.SubjectKeyId, child.certificate.AuthorityKeyId
	return n.subject.fits(child.issuer) && n.maySign() && (len(keyID) == 0 || len(wanted) == 0 || bytes.Equal(keyID, wanted))
}

func (n *node) maySign() bool {
	return !n.hasKeyUsage || n.certificate.KeyUsage&x509.KeyUsageCertSign != 0
}

// selfSigned is BoringSSL's EXFLAG_SS, which ignores the signature. It also covers certificates with an opaque name.
func (n *node) selfSigned() bool { return n.mayHaveIssued(n) }

// checkOnPath checks a certificate at this distance from the leaf, up to and including the first trusted one.
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

// checkUsages requires both usages in a list of usages, because every Ray process is server and client. BoringSSL does
// not accept anyExtendedKeyUsage in their place.
func (n *node) checkUsages() error {
	usages := n.certificate.ExtKeyUsage
	if hasExtension(n.certificate, oidExtKeyUsage) && !(slices.Contains(usages, x509.ExtKeyUsageServerAuth) && slices.Contains(usages, x509.ExtKeyUsageClientAuth)) {
		return refuse(ReasonKeyUsage, "%s is not for serverAuth and clientAuth both", n.label)
	}
	return nil
}

// checkExtensions accepts only critical extensions that both verifiers understand. It refuses constraints on names and
// policies: BoringSSL fails on IP constraints.
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
	return slices.ContainsFunc(certificate.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
}

// checkKeyIDs refuses an authority key identifier with more than a key id. BoringSSL also compares issuer and serial,
// which the standard library does not show.
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

// foldedName is a name without what BoringSSL ignores in comparisons: ASCII case and runs of spaces. An unusual name is
// opaque and fits any other; checkIssued then requires the same bytes.
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
		if !slices.Contains([]int{asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String}, value.Tag) {
			return foldedName{opaque: true}
		}
		text := strings.ToLower(strings.Join(strings.Fields(string(value.Bytes)), " "))
		fmt.Fprintf(&folded, "%s=%q,", set[0].Type, text)
	}
	return foldedName{text: folded.String()}
}
