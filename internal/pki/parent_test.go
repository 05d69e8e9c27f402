package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newTestParent(t testing.TB, f forge) *Parent {
	t.Helper()
	certPEM, keyPEM := parentPair(t, f)
	parent, err := ParseParent(certPEM, keyPEM, clock())
	if err != nil {
		t.Fatalf("ParseParent: %v", err)
	}
	return parent
}

func parentPair(t testing.TB, f forge) (certPEM, keyPEM []byte) {
	t.Helper()
	made := f.make(t)
	keyPEM, err := encodeKey(made.key)
	if err != nil {
		t.Fatal(err)
	}
	return encodeCertificate(made.certificate.Raw), keyPEM
}

func TestParseParent(t *testing.T) {
	ecKey, isEC := newTestKey(t, ECDSAP256).(*ecdsa.PrivateKey)
	rsaKey, isRSA := newTestKey(t, RSA2048).(*rsa.PrivateKey)
	if !isEC || !isRSA {
		t.Fatal("generateKey gives other types than it says")
	}
	sec1DER, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	sec1 := block("EC PRIVATE KEY", sec1DER)
	pkcs1 := block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))
	// The OID of P-256, as openssl ecparam -genkey puts it before the key.
	parameters := block("EC PARAMETERS", []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7})
	ecCert, ecPKCS8 := parentPair(t, forge{name: "ec", key: ecKey})
	rsaCert, rsaPKCS8 := parentPair(t, forge{name: "rsa", key: rsaKey})
	certManagerCert, certManagerKey := parentPair(t, forge{name: "cert-manager", keyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign})
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")})
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	type pair struct {
		reason    string
		cert, key []byte
		want      Reason
	}
	with := func(reason string, f forge, want Reason) pair {
		f.name = "brought"
		certPEM, keyPEM := parentPair(t, f)
		return pair{reason, certPEM, keyPEM, want}
	}
	cases := map[string]pair{
		"PKCS#8, ECDSA":            {"as cert-manager writes it", ecCert, ecPKCS8, ""},
		"PKCS#8, RSA":              {"as openssl req -newkey writes it", rsaCert, rsaPKCS8, ""},
		"PKCS#1":                   {"as openssl genrsa -traditional writes it", rsaCert, pkcs1, ""},
		"SEC 1":                    {"as openssl ec writes it", ecCert, sec1, ""},
		"SEC 1 with parameters":    {"as openssl ecparam -genkey writes it", ecCert, join(parameters, sec1), ""},
		"cert-manager's key usage": {"more usages than needed", certManagerCert, certManagerKey, ""},
		"chain, own first":         {"tls.crt of an intermediate", join(ecCert, rsaCert), ecPKCS8, ""},
		"text before":              {"openssl x509 -text", join([]byte("Certificate:\n    Data:\n"), ecCert), ecPKCS8, ""},
		"P-384":                    with("the other curve", forge{key: newTestKey(t, ECDSAP384)}, ""),
		"pathlen 2":                with("just room enough", forge{pathLength: pathLength(2)}, ""),
		"no key usage":             with("no extension means no restriction", forge{keyUsage: -1}, ""),

		"chain, own last":       {"the first certificate is another's", join(rsaCert, ecCert), ecPKCS8, ReasonKeyMismatch},
		"mismatch":              {"another key", ecCert, rsaPKCS8, ReasonKeyMismatch},
		"no certificate":        {"an empty value", nil, ecPKCS8, ReasonMalformed},
		"no key":                {"an empty value", ecCert, nil, ReasonMalformed},
		"not PEM":               {"DER or garbage", []byte("garbage"), ecPKCS8, ReasonMalformed},
		"key not PEM":           {"DER or garbage", ecCert, sec1DER, ReasonMalformed},
		"key in ca.crt":         {"a key among the certificates", join(ecCert, ecPKCS8), ecPKCS8, ReasonMalformed},
		"certificate in ca.key": {"a certificate beside the key", ecCert, join(ecPKCS8, ecCert), ReasonMalformed},
		"swapped":               {"the files in each other's place", ecPKCS8, ecCert, ReasonMalformed},
		"two keys":              {"which one?", ecCert, join(ecPKCS8, rsaPKCS8), ReasonMalformed},
		"public key":            {"not a private key", ecCert, block("PUBLIC KEY", []byte("x")), ReasonMalformed},
		"only parameters":       {"the key itself is missing", ecCert, parameters, ReasonMalformed},
		"damaged certificate":   {"a block that decoders skip", join(bytes.Replace(ecCert, []byte("MII"), []byte("!!!"), 1), rsaCert), rsaPKCS8, ReasonMalformed},
		"certificate not X.509": {"garbage in the block", encodeCertificate([]byte("x")), ecPKCS8, ReasonMalformed},
		"key not PKCS#8":        {"garbage in the block", ecCert, block(blockPKCS8, []byte("x")), ReasonMalformed},
		"key not PKCS#1":        {"garbage in the block", ecCert, block("RSA PRIVATE KEY", []byte("x")), ReasonMalformed},
		"key not SEC 1":         {"garbage in the block", ecCert, block("EC PRIVATE KEY", []byte("x")), ReasonMalformed},
		"encrypted PKCS#8":      {"a passphrase nobody gave us", ecCert, block("ENCRYPTED PRIVATE KEY", []byte("x")), ReasonEncryptedKey},
		"encrypted PKCS#1":      {"the old form of it", rsaCert, encrypted, ReasonEncryptedKey},
		"huge certificate":      {"over the cap", bytes.Repeat([]byte("A"), maxParentCertBytes+1), ecPKCS8, ReasonTooLarge},
		"huge key":              {"over the cap", ecCert, bytes.Repeat([]byte("A"), maxKeyBytes+1), ReasonTooLarge},
		"P-521":                 with("gRPC refuses it", forge{key: p521}, ReasonUnsupportedKey),
		"Ed25519":               with("gRPC refuses it", forge{key: edKey}, ReasonUnsupportedKey),
		"RSA 1024":              with("too short", forge{key: small}, ReasonUnsupportedKey),
		"a leaf":                with("a server's certificate", forge{leaf: true}, ReasonNotCA),
		"no keyCertSign":        with("a CA for revocation lists only", forge{keyUsage: x509.KeyUsageCRLSign}, ReasonKeyUsage),
		"no SKI":                with("verifiers could not find it by key", forge{keyID: []byte{}}, ReasonNoSubjectKeyID),
		"huge SKI":              with("it would be copied into every authority", forge{keyID: make([]byte, maxKeyIDBytes+1)}, ReasonNoSubjectKeyID),
		"pathlen 0":             with("no room for the authority", forge{pathLength: pathLength(0)}, ReasonPathLength),
		"pathlen 1":             with("no room for the issuer", forge{pathLength: pathLength(1)}, ReasonPathLength),
		"expired":               with("notAfter is past", forge{from: -9 * day, to: -time.Second}, ReasonExpired),
		"expires now":           with("notAfter is now", forge{to: time.Nanosecond}, ReasonExpired),
		"not yet valid":         with("notBefore is to come", forge{from: time.Hour}, ReasonNotYetValid),
	}
	anonymousCert, anonymousKey := parentPair(t, forge{})
	cases["no subject"] = pair{"an empty name", anonymousCert, anonymousKey, ReasonNoSubject}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			_, err := ParseParent(test.cert, test.key, clock())
			wantReason(t, err, test.want)
			if err == nil {
				return
			}
			t.Log(err)
			for _, line := range strings.Split(string(test.key), "\n") {
				if len(line) > 20 && strings.Contains(err.Error(), line) {
					t.Error("the error quotes the key")
				}
			}
		})
	}
}

func TestParseParentFromOpenSSL(t *testing.T) {
	binary, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed: what it writes is not read")
	}
	req := "req -x509 -sha256 -days 3650 -subj /CN=brought "
	cases := map[string]struct {
		reason   string
		commands []string
		want     Reason
	}{
		"the guide's RSA root": {"openssl req -x509 -newkey", []string{req + "-nodes -newkey rsa:4096 -keyout ca.key -out ca.crt"}, ""},
		"genrsa, then req":     {"in two steps", []string{"genrsa -out ca.key 2048", req + "-key ca.key -out ca.crt"}, ""},
		"ecparam":              {"EC PARAMETERS before the key", []string{"ecparam -name prime256v1 -genkey -out ca.key", req + "-key ca.key -out ca.crt"}, ""},
		"P-384":                {"genpkey", []string{"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out ca.key", req + "-key ca.key -out ca.crt"}, ""},
		"encrypted":            {"with a passphrase", []string{req + "-newkey rsa:2048 -passout pass:secret -keyout ca.key -out ca.crt"}, ReasonEncryptedKey},
		"explicit parameters":  {"a curve spelled out is a curve unknown", []string{"ecparam -name prime256v1 -param_enc explicit -genkey -out ca.key", req + "-key ca.key -out ca.crt"}, ReasonMalformed},
		"Ed25519":              {"gRPC refuses it", []string{"genpkey -algorithm ed25519 -out ca.key", "req -x509 -days 9 -subj /CN=brought -key ca.key -out ca.crt"}, ReasonUnsupportedKey},
		"secp256k1":            {"a curve that Go does not know", []string{"ecparam -name secp256k1 -genkey -out ca.key", req + "-key ca.key -out ca.crt"}, ReasonMalformed},
		"no subject":           {"an empty name", []string{"genrsa -out ca.key 2048", "req -x509 -days 9 -subj / -key ca.key -out ca.crt"}, ReasonNoSubject},
		"not a CA":             {"basicConstraints says no", []string{req + "-nodes -newkey rsa:2048 -keyout ca.key -out ca.crt -addext basicConstraints=critical,CA:FALSE"}, ReasonNotCA},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Log(test.reason)
			directory := t.TempDir()
			for _, line := range test.commands {
				command := exec.Command(binary, strings.Fields(line)...)
				command.Dir = directory
				if output, err := command.CombinedOutput(); err != nil {
					t.Skipf("this openssl cannot do it: openssl %s: %v: %s", line, err, output)
				}
			}
			// openssl takes the start from the machine's clock.
			now := time.Now().Add(time.Second)
			parent, err := ParseParent(readFile(t, directory, "ca.crt"), readFile(t, directory, "ca.key"), now)
			wantReason(t, err, test.want)
			if err != nil {
				t.Log(err)
				return
			}
			authority := newTestAuthority(t, AuthorityOptions{Parent: parent, Now: now})
			issuer := newTestIssuer(t, authority, now)
			wantReason(t, Publishable(issuer, issuer.CertificatePEM(), authority.CertificatePEM(), nil, now), "")
			if issuer.NotBefore().Before(authority.NotBefore()) || !issuer.IssuedAt().Equal(now.Truncate(time.Second)) {
				t.Error("the start is not clipped to the parent's, or the moment of issue was lost by it")
			}
		})
	}
}

func readFile(t *testing.T, directory, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(directory, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
