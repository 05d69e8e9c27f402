package keys

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/raytls/raytls/internal/pki"
)

// maxGenerations is how many generations of an authority work together at most. Each adds a bridge to chains and bundles.
const maxGenerations = 8

// SettleTime is how long the pods and the CA Secret must have been as they are before an earlier authority counts as unused. A pod
// may mount a version of the Secret that was replaced within that time.
const SettleTime = time.Hour

// earlier is an authority that was replaced, as long as there may be pods of it. Its private key is gone.
type earlier struct {
	generation int64
	// root is what its pods trust.
	root *x509.Certificate
	// until is when it is over: no leaf of it lasts longer by any clock.
	until time.Time
	// bridge is the reverse bridge: the present authority signed it, and new pods trust it.
	bridge *x509.Certificate
	// specimen is a leaf and its issuer of this authority, by which the bridges are verified.
	specimen []*x509.Certificate
}

func (e *earlier) id() string { return pki.IDOf(e.root) }

// storedEarlier is how an authority's Secret holds an earlier one. Certificates are PEM.
type storedEarlier struct {
	Generation int64     `json:"generation"`
	Until      time.Time `json:"until"`
	Root       string    `json:"root"`
	Bridge     string    `json:"bridge"`
	Specimen   string    `json:"specimen"`
}

// over is when the authority is over: a clock that is behind still takes its last leaf for valid.
func (s Store) over() time.Time {
	if tolerant := s.leavesEnd.Add(s.Settings.tolerance()); tolerant.Before(s.Authority.NotAfter()) {
		return tolerant
	}
	return s.Authority.NotAfter()
}

// readBridges reads what an authority's Secret holds of the authorities before it. Secrets of format 1 hold nothing.
func (s *Store) readBridges(data map[string][]byte) error {
	s.leavesEnd = s.Authority.NotAfter()
	if text := data[keyLeavesEnd]; len(text) > 0 {
		end, err := time.Parse(time.RFC3339, string(text))
		if err != nil {
			return fmt.Errorf("its %s is no time", keyLeavesEnd)
		}
		s.leavesEnd = end.UTC()
	}
	if text := data[keyForward]; len(text) > 0 {
		var err error
		if s.forward, err = pki.ParseBundle(text); err != nil {
			return fmt.Errorf("its %s cannot be read: %w", keyForward, err)
		}
		leadsTo := s.Authority.ID()
		for _, bridge := range s.forward {
			if pki.IDOf(bridge) != leadsTo {
				return fmt.Errorf("its %s does not lead to the authority", keyForward)
			}
			leadsTo = pki.SignerOf(bridge)
		}
	}
	var stored []storedEarlier
	if text := data[keyEarlier]; len(text) > 0 && json.Unmarshal(text, &stored) != nil {
		return fmt.Errorf("its %s cannot be read", keyEarlier)
	}
	below := s.Generation
	for _, one := range stored {
		if one.Generation >= below {
			return fmt.Errorf("the generations in its %s are not in order", keyEarlier)
		}
		read, err := one.read(s.Authority)
		if err != nil {
			return fmt.Errorf("generation %d in its %s cannot be used: %w", one.Generation, keyEarlier, err)
		}
		s.earlier, below = append(s.earlier, read), read.generation
	}
	return nil
}

func (s *storedEarlier) read(authority *pki.Authority) (earlier, error) {
	out := earlier{generation: s.Generation, until: s.Until.UTC()}
	var err error
	if out.root, err = pki.ParseAuthorityCertificate([]byte(s.Root)); err != nil {
		return out, err
	}
	if out.bridge, err = pki.ParseAuthorityCertificate([]byte(s.Bridge)); err != nil {
		return out, err
	}
	if out.specimen, err = pki.ParseBundle([]byte(s.Specimen)); err != nil {
		return out, err
	}
	return out, pki.CheckBridge(out.bridge, authority.Certificate(), out.root)
}

// writeBridges is the counterpart of readBridges.
func (s Store) writeBridges(data map[string][]byte) error {
	if s.leavesEnd.Before(s.Authority.NotAfter()) {
		data[keyLeavesEnd] = s.leavesEnd.UTC().AppendFormat(nil, time.RFC3339)
	}
	if len(s.forward) > 0 {
		data[keyForward] = pki.EncodeBundle(s.forward...)
	}
	if len(s.earlier) == 0 {
		return nil
	}
	var stored []storedEarlier
	for _, e := range s.earlier {
		stored = append(stored, storedEarlier{
			Generation: e.generation, Until: e.until, Root: string(pki.EncodeBundle(e.root)),
			Bridge: string(pki.EncodeBundle(e.bridge)), Specimen: string(pki.EncodeBundle(e.specimen...)),
		})
	}
	var err error
	data[keyEarlier], err = json.Marshal(stored)
	return err
}

// chain is what pods present behind their leaf, in PEM: the issuer, and the bridges by which pods of earlier authorities accept it.
func (s Store) chain(issuer *pki.Issuer) []byte {
	return slices.Concat(issuer.CertificatePEM(), pki.EncodeBundle(s.forward...))
}

// Bundle is what pods trust, in PEM: the authority, and the bridges by which they accept pods of earlier ones.
func (s Store) Bundle() []byte {
	out := s.Authority.CertificatePEM()
	for i := range s.earlier {
		out = append(out, pki.EncodeBundle(s.earlier[i].bridge)...)
	}
	return out
}

// peers are the pods of earlier authorities that a new pod may meet.
func (s Store) peers() []pki.Peer {
	var out []pki.Peer
	for i := range s.earlier {
		e := &s.earlier[i]
		behind := s.forward[min(int64(len(s.forward)), s.Generation-e.generation):]
		out = append(out, pki.Peer{Chain: slices.Concat(e.specimen, behind), Bundle: []*x509.Certificate{e.root}})
	}
	return out
}

// GenerationOf is the number of the authority with that ID; 0 for one that is not known.
func (s Store) GenerationOf(id string) int64 {
	if s.Authority == nil {
		return 0
	}
	if s.Authority.ID() == id {
		return s.Generation
	}
	for i := range s.earlier {
		if s.earlier[i].id() == id {
			return s.earlier[i].generation
		}
	}
	for i, bridge := range s.forward {
		if pki.SignerOf(bridge) == id {
			return s.Generation - int64(i) - 1
		}
	}
	return 0
}

// Covers reports whether a pod that was created at that time can only have a certificate of the present authority, whatever version
// of the CA Secret it has mounted.
func (s Store) Covers(created time.Time) bool {
	return s.Issuer != nil && created.After(s.Issuer.IssuedAt().Add(s.Settings.settles()+s.Settings.tolerance()))
}

// unused are the generations that no pod has a certificate of, or can get one of.
func (s Store) unused(pods Pods, now time.Time) []int64 {
	if pods.Settled.IsZero() || now.Before(pods.Settled.Add(s.Settings.settles())) || s.issuerDue(now) != "" {
		return nil
	}
	return s.unclaimed(pods)
}

// unclaimed are the generations that no certified pod has. A pod that does not say may have any.
func (s Store) unclaimed(pods Pods) []int64 {
	var out []int64
	for i := range s.earlier {
		if !slices.Contains(pods.InUse, s.earlier[i].id()) && !slices.Contains(pods.InUse, "") {
			out = append(out, s.earlier[i].generation)
		}
	}
	return out
}

// oldest is the lowest generation that pods may have certificates of.
func (s Store) oldest() int64 {
	if last := len(s.earlier); last > 0 {
		return s.earlier[last-1].generation
	}
	return s.Generation
}

// without leaves out the generations that are unused or over, and the bridges that have ended.
func (s Store) without(unused []int64, now time.Time) Store {
	s.earlier = slices.DeleteFunc(slices.Clone(s.earlier), func(e earlier) bool {
		return slices.Contains(unused, e.generation) || !now.Before(e.until)
	})
	// A bridge never ends after the bridge in front of it.
	if i := slices.IndexFunc(s.forward, func(c *x509.Certificate) bool { return !now.Before(c.NotAfter) }); i >= 0 {
		s.forward = s.forward[:i]
	}
	return s.trim()
}

// trim leaves out forward bridges that no pod needs, so that there are no more than generations that work together.
func (s Store) trim() Store {
	s.forward = s.forward[:min(len(s.forward), max(maxGenerations-1, int(s.Generation-s.oldest())))]
	return s
}

// bridge connects the store's new authority with the one before, and with those before that one.
func (s Store) bridge(before Store, now time.Time) (Store, error) {
	s.forward, s.earlier, s.since = nil, nil, time.Time{}
	if before.Authority == nil {
		return s, nil
	}
	options := pki.BridgeOptions{To: s.Authority.Certificate(), Now: now}
	if len(before.forward) > 0 {
		options.Through = before.forward[0]
	}
	bridge, err := before.Authority.Bridge(options)
	if errors.Is(err, pki.ReasonExpired) {
		return s, nil // and so has every leaf under it
	}
	if err != nil {
		return s, fmt.Errorf("making the bridge to the new authority: %w", err)
	}
	s.forward, s.since = append([]*x509.Certificate{bridge}, before.forward...), before.trustedSince()
	replaced := earlier{generation: before.Generation, root: before.Authority.Certificate(), until: before.over()}
	if now.Add(time.Second).Before(replaced.until) {
		if replaced.specimen, err = before.Authority.Specimen(replaced.until, now); err != nil {
			return s, fmt.Errorf("making a specimen of the earlier authority: %w", err)
		}
		s.earlier = append(s.earlier, replaced)
	}
	s.earlier = append(s.earlier, before.earlier...)
	for i := range s.earlier {
		e := &s.earlier[i]
		if e.bridge, err = s.Authority.Bridge(pki.BridgeOptions{To: e.root, Until: e.until, Now: now}); err != nil {
			return s, fmt.Errorf("making the bridge to generation %d: %w", e.generation, err)
		}
	}
	return s.trim(), nil
}
