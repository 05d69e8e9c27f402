package pki

import "fmt"

// Reason is the kind of a refusal. It is itself an error, so errors.Is(err, ReasonExpired) works through any wrapping.
type Reason string

// The reasons.
const (
	ReasonMalformed      Reason = "Malformed"      // the input is not the PEM or DER that it has to be
	ReasonTooLarge       Reason = "TooLarge"       // the input has too many bytes or certificates
	ReasonEncryptedKey   Reason = "EncryptedKey"   // a passphrase protects the private key
	ReasonUnsupportedKey Reason = "UnsupportedKey" // Ray's gRPC or this project does not support the key's type or size
	ReasonKeyMismatch    Reason = "KeyMismatch"    // the private key does not belong to the certificate
	ReasonNotCA          Reason = "NotCA"          // basicConstraints does not make the certificate a CA
	ReasonKeyUsage       Reason = "KeyUsage"       // keyUsage or extendedKeyUsage does not allow the use
	ReasonNoSubjectKeyID Reason = "NoSubjectKeyID" // the subject key identifier is missing
	ReasonNoSubject      Reason = "NoSubject"      // the distinguished name is empty
	ReasonPathLength     Reason = "PathLength"     // pathLenConstraint leaves no room for the certificates below
	ReasonExpired        Reason = "Expired"        // notAfter has been reached
	ReasonNotYetValid    Reason = "NotYetValid"    // notBefore lies in the future
	ReasonNoIssuer       Reason = "NoIssuer"       // no certificate at hand issued this one
	ReasonSelfSigned     Reason = "SelfSigned"     // the chain ends in a self-signed certificate that is not trusted
	ReasonSignature      Reason = "Signature"      // a signature is wrong, or its algorithm is not accepted
	ReasonProfile        Reason = "Profile"        // this package would not have made the certificate
	ReasonOptions        Reason = "Options"        // the caller asked for an impossible certificate
	ReasonGoVerifier     Reason = "GoVerifier"     // Go's verifier refuses what the greedy verifier accepts
)

// Error returns the reason's word.
func (r Reason) Error() string { return string(r) }

// Error is a refusal: a reason for programs and a sentence for people. It never holds bytes of a private key.
type Error struct {
	Reason   Reason
	sentence string
}

// Error returns the sentence.
func (e *Error) Error() string { return e.sentence }

// Unwrap returns the reason, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.Reason }

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, sentence: fmt.Sprintf(format, args...)}
}
