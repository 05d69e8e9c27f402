package pki

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"net"
	"net/netip"
	"time"
)

// LeafOptions says what leaf to make.
type LeafOptions struct {
	// CommonName is for people, no verifier reads it; cut to 64 characters.
	CommonName string
	// DNSNames and IPs become the subject alternative names; one at least.
	DNSNames []string
	IPs      []netip.Addr
	// KeyAlgorithm of the leaf's own key.
	KeyAlgorithm KeyAlgorithm
	// Validity from Now on; cut to the issuer's end.
	Validity time.Duration
	// Now is the moment of issue; fractions of a second are dropped.
	Now time.Time
}

// NewLeaf makes a key and its certificate for serverAuth and clientAuth, valid from five minutes before Now or the
// issuer's own start. The first result is the leaf alone, without its chain; the second a PKCS#8 key; both PEM.
func (i *Issuer) NewLeaf(options LeafOptions) (certPEM, keyPEM []byte, err error) {
	key, err := GenerateKey(options.KeyAlgorithm)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := i.signLeaf(key.Public(), options)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return encodeCertificate(certificate.Raw), keyPEM, nil
}

func (i *Issuer) signLeaf(public crypto.PublicKey, options LeafOptions) (*x509.Certificate, error) {
	addresses, err := addressesOf(options)
	if err != nil {
		return nil, err
	}
	notBefore, notAfter, err := validity(options.Now, leafBackdating, options.Validity, i.certificate)
	if err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(public)
	if err != nil {
		return nil, err
	}
	usage := x509.KeyUsageDigitalSignature
	if _, isRSA := public.(*rsa.PublicKey); isRSA {
		usage |= x509.KeyUsageKeyEncipherment
	}
	return sign(&x509.Certificate{
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
	}, i.certificate, public, i.key)
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
