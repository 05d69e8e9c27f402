package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const boringSSLVariable = "RAYTLS_BORINGSSL_VERIFY"

// original asks a verifier outside of Go. It returns whether the chain was accepted, and what was said.
type original func(t *testing.T, chain, bundle []*x509.Certificate, at time.Time) (bool, string)

func boringSSL(t *testing.T) original {
	t.Helper()
	binary := os.Getenv(boringSSLVariable)
	if binary == "" {
		t.Skipf("%s is not set: build the checker with hack/boringssl/build.sh and put its path there", boringSSLVariable)
	}
	directory := t.TempDir()
	return func(t *testing.T, chain, bundle []*x509.Certificate, at time.Time) (bool, string) {
		t.Helper()
		chainFile, bundleFile := filepath.Join(directory, "chain.pem"), filepath.Join(directory, "bundle.pem")
		writeFile(t, chainFile, EncodeBundle(chain...))
		writeFile(t, bundleFile, EncodeBundle(bundle...))
		return ask(t, 1, exec.Command(binary, chainFile, bundleFile, strconv.FormatInt(at.Unix(), 10)))
	}
}

func openSSL(t *testing.T, flags ...string) original {
	t.Helper()
	binary, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed: its verifier is not asked")
	}
	directory := t.TempDir()
	return func(t *testing.T, chain, bundle []*x509.Certificate, at time.Time) (bool, string) {
		t.Helper()
		leafFile, chainFile, bundleFile := filepath.Join(directory, "leaf.pem"), filepath.Join(directory, "chain.pem"), filepath.Join(directory, "bundle.pem")
		writeFile(t, leafFile, EncodeBundle(chain[0]))
		writeFile(t, bundleFile, EncodeBundle(bundle...))
		for _, purpose := range []string{"sslserver", "sslclient"} {
			arguments := append([]string{
				"verify", "-partial_chain", "-purpose", purpose, "-attime", strconv.FormatInt(at.Unix(), 10),
				"-no-CApath", "-no-CAstore", "-CAfile", bundleFile,
			}, flags...)
			if len(chain) > 1 {
				writeFile(t, chainFile, EncodeBundle(chain[1:]...))
				arguments = append(arguments, "-untrusted", chainFile)
			}
			if ok, said := ask(t, 2, exec.Command(binary, append(arguments, leafFile)...)); !ok {
				return false, said
			}
		}
		return true, "ok"
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask fails the test on any exit code but 0 (accepted) and the one that means refused.
func ask(t *testing.T, refused int, command *exec.Cmd) (accepted bool, said string) {
	t.Helper()
	output, err := command.CombinedOutput()
	said = strings.TrimSpace(string(output))
	var exit *exec.ExitError
	switch {
	case err == nil:
		return true, said
	case errors.As(err, &exit) && exit.ExitCode() == refused:
		return false, said
	default:
		t.Fatalf("%v: %v: %s", command, err, said)
		return false, said
	}
}

func TestCorpusAgainstBoringSSL(t *testing.T) {
	verify := boringSSL(t)
	for name, v := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			chain, bundle, at := v.inputs()
			accepted, said := verify(t, chain, bundle, at)
			if !accepted && v.want == "" {
				t.Errorf("the greedy verifier accepts what BoringSSL refuses: %s", said)
			}
			if accepted != v.boringSSL {
				t.Errorf("BoringSSL accepted=%t (%s), the corpus says %t", accepted, said, v.boringSSL)
			}
			if accepted && v.want != "" {
				t.Logf("stricter than BoringSSL: refused with %s", v.want)
			}
		})
	}
}

// The random chains find what the hand-written corpus did not think of: names and keys mixed freely, in every order.
func TestRandomChainsAgainstTheOriginals(t *testing.T) {
	verify := boringSSL(t)
	const rounds = 1500
	world := newWorld(t)
	var both, stricter, refused int
	for seed := range uint64(rounds) {
		random := rand.New(rand.NewPCG(seed, 1))
		chain, bundle := world.draw(t, random)
		err := verifyGreedy(chain, bundle, clock())
		accepted, said := verify(t, chain, bundle, clock())
		switch {
		case err == nil && !accepted:
			t.Errorf("seed %d: accepted here, refused by BoringSSL (%s):\n%s", seed, said, describe(chain, bundle))
		case err == nil:
			both++
		case accepted:
			stricter++
		default:
			refused++
		}
		if goErr := goVerify(chain, bundle, clock()); err == nil && goErr != nil {
			t.Errorf("seed %d: accepted here, refused by Go (%v):\n%s", seed, goErr, describe(chain, bundle))
		}
	}
	t.Logf("%d random chains: %d accepted by both, %d refused by both, %d refused here alone", rounds, both, refused, stricter)
	if both < rounds/20 || refused < rounds/20 {
		t.Errorf("too few of one kind to mean anything: %d accepted, %d refused", both, refused)
	}
}

// OpenSSL is what Debian's python3-grpcio links. Not strict here: some of the corpus has no key ids.
func TestCorpusAgainstOpenSSL(t *testing.T) {
	verify := openSSL(t)
	for name, v := range corpus(t) {
		if v.want != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			chain, bundle, at := v.inputs()
			if accepted, said := verify(t, chain, bundle, at); !accepted {
				t.Errorf("the greedy verifier accepts what OpenSSL refuses: %s", said)
			}
		})
	}
}

func TestOwnChainsAgainstOpenSSL(t *testing.T) {
	verify := openSSL(t, "-x509_strict")
	for _, algorithm := range KeyAlgorithms() {
		for _, brought := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, brought=%t", algorithm, brought), func(t *testing.T) {
				options := AuthorityOptions{KeyAlgorithm: algorithm}
				if brought {
					options.Parent = newTestParent(t, forge{name: "brought"})
				}
				authority := newTestAuthority(t, options)
				issuer := newTestIssuer(t, authority, clock())
				chain := []*x509.Certificate{newTestLeaf(t, issuer, clock()), issuer.Certificate()}
				bundle := []*x509.Certificate{authority.Certificate()}
				if ok, said := verify(t, chain, bundle, clock()); !ok {
					t.Errorf("openssl verify -x509_strict refuses our own chain: %s", said)
				}
				wrong := []*x509.Certificate{newTestAuthority(t, AuthorityOptions{}).Certificate()}
				if ok, _ := verify(t, chain, wrong, clock()); ok {
					t.Error("openssl accepts our chain under another authority: the question is not asked as meant")
				}
			})
		}
	}
}

func describe(chain, bundle []*x509.Certificate) string {
	var text strings.Builder
	for _, part := range []struct {
		name         string
		certificates []*x509.Certificate
	}{{"chain", chain}, {"bundle", bundle}} {
		for _, c := range part.certificates {
			fmt.Fprintf(&text, "%s: subject=%s issuer=%s ski=%.4x aki=%.4x ca=%t pathlen=%d usage=%d %s..%s\n", part.name,
				c.Subject.CommonName, c.Issuer.CommonName, c.SubjectKeyId, c.AuthorityKeyId, c.IsCA, c.MaxPathLen, c.KeyUsage,
				c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
		}
	}
	return text.String()
}
