// Package text keeps what others wrote from steering the terminal that it is printed to.
package text

import (
	"io"
	"strings"
	"unicode"
)

// Readable replaces control characters but for the ends of lines.
func Readable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// Line is s on one line, without control characters.
func Line(s string) string { return Readable(strings.Join(strings.Fields(s), " ")) }

// Writer makes all that is written to it readable.
func Writer(to io.Writer) io.Writer { return writer{to} }

type writer struct{ to io.Writer }

func (w writer) Write(s []byte) (int, error) {
	if _, err := io.WriteString(w.to, Readable(string(s))); err != nil {
		return 0, err
	}
	return len(s), nil
}
