package pki

import (
	"crypto/rsa"
	"crypto/x509"
	"net"
	"net/netip"
	"time"
)

const leafBackdating = 5 * time.Minute

// LeafOptions describe a new leaf.
type LeafOptions struct {
	// CommonName is for people, cut to 64 characters. No verifier reads it.
	CommonName string
	// DNSNames and IPs become the subject alternative names. A leaf needs at least one.
	DNSNames []string
	IPs      []netip.Addr
	// KeyAlgorithm of the leaf's own key.
	KeyAlgorithm KeyAlgorithm
	// Validity counts from Now. The leaf ends with its issuer at the latest.
	Validity time.Duration
	// Now is the moment of issue, cut to whole seconds.
	Now time.Time
}

// NewLeaf makes a key and its certificate for serverAuth and clientAuth. The certificate is valid from five minutes before
// Now, or from the issuer's own start if that is later. certPEM holds the leaf without its chain, keyPEM a PKCS#8 key.
func (i *Issuer) NewLeaf(options LeafOptions) (certPEM, keyPEM []byte, err error) {
	key, err := generateKey(options.KeyAlgorithm)
	if err != nil {
		return nil, nil, err
	}
	addresses, err := addressesOf(options)
	if err != nil {
		return nil, nil, err
	}
	notBefore, notAfter, err := validity(options.Now, leafBackdating, options.Validity, &i.ca)
	if err != nil {
		return nil, nil, err
	}
	keyID, err := subjectKeyID(key.Public())
	if err != nil {
		return nil, nil, err
	}
	usage := x509.KeyUsageDigitalSignature
	if _, isRSA := key.(*rsa.PrivateKey); isRSA {
		usage |= x509.KeyUsageKeyEncipherment
	}
	certificate, err := i.sign(&x509.Certificate{
		Subject:               subject(roleLeaf, options.CommonName, keyID, options.Now),
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              usage,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		MaxPathLen:            -1,
		SubjectKeyId:          keyID,
		DNSNames:              options.DNSNames,
		IPAddresses:           addresses,
	}, key.Public())
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return encodeCertificate(certificate.Raw), keyPEM, err
}

func addressesOf(options LeafOptions) ([]net.IP, error) {
	if len(options.DNSNames) == 0 && len(options.IPs) == 0 {
		return nil, refuse(ReasonOptions, "a leaf needs a DNS name or an IP address")
	}
	addresses := make([]net.IP, 0, len(options.IPs))
	for _, address := range options.IPs {
		if !address.IsValid() || address.Zone() != "" {
			return nil, refuse(ReasonOptions, "%q is not an IP address that a certificate can hold", address)
		}
		addresses = append(addresses, address.Unmap().AsSlice())
	}
	return addresses, nil
}
