package text

import (
	"fmt"
	"strings"
	"testing"
)

func TestNothingSteersATerminal(t *testing.T) {
	t.Parallel()
	// ESC and CSI as one byte and as two, a carriage return, and the mark that turns the direction of writing round.
	const hostile = "a\x1b[2Jb\u009b31mc\rd\u202ee\nf"
	var written strings.Builder
	if n, err := fmt.Fprint(Writer(&written), hostile); err != nil || n != len(hostile) {
		t.Errorf("wrote %d of %d bytes: %v", n, len(hostile), err)
	}
	for name, got := range map[string]string{"Readable": Readable(hostile), "Writer": written.String(), "Line": Line(hostile)} {
		if strings.ContainsAny(got, "\x1b\u009b\r\u202e") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := Line(hostile); strings.Contains(got, "\n") {
		t.Errorf("a line has an end within: %q", got)
	}
	if got := Readable("a\nb"); got != "a\nb" {
		t.Errorf("the end of a line is lost: %q", got)
	}
}
