package pki

import "fmt"

// Reason says what kind of refusal an Error is. It is itself an error, so errors.Is(err, ReasonExpired) works
// through any wrapping.
type Reason string

// Reasons are stable words: callers map them to condition reasons and metrics.
const (
	// ReasonMalformed: the input is not the PEM or DER it has to be.
	ReasonMalformed Reason = "Malformed"
	// ReasonTooLarge: the input is over a cap on bytes or on the number of certificates.
	ReasonTooLarge Reason = "TooLarge"
	// ReasonEncryptedKey: the private key is protected by a passphrase.
	ReasonEncryptedKey Reason = "EncryptedKey"
	// ReasonUnsupportedKey: the key's type or size is one that Ray's gRPC or this project does not serve.
	ReasonUnsupportedKey Reason = "UnsupportedKey"
	// ReasonKeyMismatch: the private key does not belong to the certificate.
	ReasonKeyMismatch Reason = "KeyMismatch"
	// ReasonNotCA: basicConstraints does not make the certificate a CA.
	ReasonNotCA Reason = "NotCA"
	// ReasonKeyUsage: keyUsage or extendedKeyUsage does not allow what the certificate is used for.
	ReasonKeyUsage Reason = "KeyUsage"
	// ReasonNoSubjectKeyID: the subject key identifier is missing.
	ReasonNoSubjectKeyID Reason = "NoSubjectKeyID"
	// ReasonNoSubject: the distinguished name is empty.
	ReasonNoSubject Reason = "NoSubject"
	// ReasonPathLength: pathLenConstraint leaves no room for the certificates below.
	ReasonPathLength Reason = "PathLength"
	// ReasonExpired: notAfter has been reached.
	ReasonExpired Reason = "Expired"
	// ReasonNotYetValid: notBefore lies in the future.
	ReasonNotYetValid Reason = "NotYetValid"
	// ReasonNoIssuer: no certificate at hand issued this one.
	ReasonNoIssuer Reason = "NoIssuer"
	// ReasonSelfSigned: the chain runs into a self-signed certificate that is not trusted.
	ReasonSelfSigned Reason = "SelfSigned"
	// ReasonSignature: a signature is wrong, or made with an algorithm that is not accepted.
	ReasonSignature Reason = "Signature"
	// ReasonProfile: the certificate is not one that this package would have made.
	ReasonProfile Reason = "Profile"
	// ReasonOptions: the caller asked for something that cannot be made, such as a negative validity.
	ReasonOptions Reason = "Options"
	// ReasonGoVerifier: the greedy verifier accepts a pair and Go's own verifier does not.
	ReasonGoVerifier Reason = "GoVerifier"
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
