package pki

import "testing"

func newTestParent(t testing.TB, f forge) *Parent {
	t.Helper()
	made := f.make(t)
	keyPEM, err := encodeKey(made.key)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := ParseParent(encodeCertificate(made.certificate.Raw), keyPEM, clock())
	if err != nil {
		t.Fatalf("ParseParent: %v", err)
	}
	return parent
}
