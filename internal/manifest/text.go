package manifest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// part is the text of one YAML document.
type part struct {
	// separator is the line before the text; empty for the first part of a file that begins without one.
	separator string
	// line is the number of the text's first line in the file.
	line int
	text []byte
}

// decodeText gives a file's text as UTF-8 without a byte order mark. Windows' tools write UTF-16.
func decodeText(text []byte) ([]byte, error) {
	if order := utf16Order(text); order != nil {
		if len(text)%2 != 0 {
			return nil, fmt.Errorf("is UTF-16 with half a character at its end: save it as UTF-8")
		}
		units := make([]uint16, 0, len(text)/2)
		for i := 0; i < len(text); i += 2 {
			units = append(units, order.Uint16(text[i:]))
		}
		text = []byte(string(utf16.Decode(units)))
	}
	line := 1
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return nil, fmt.Errorf("line %d: holds the byte 0x%02x, which is not UTF-8: save the file as UTF-8", line, rest[0])
		case r == 0:
			return nil, fmt.Errorf("line %d: holds a NUL character: save the file as UTF-8", line)
		case r == '\n':
			line++
		}
		rest = rest[size:]
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// utf16Order is the order of bytes in UTF-16, which YAML tells by a mark or by a first character in ASCII; nil for other text.
func utf16Order(text []byte) binary.ByteOrder {
	switch {
	case len(text) < 2:
		return nil
	case text[0] == 0xff && text[1] == 0xfe, text[0] != 0 && text[1] == 0:
		return binary.LittleEndian
	case text[0] == 0xfe && text[1] == 0xff, text[0] == 0 && text[1] != 0:
		return binary.BigEndian
	}
	return nil
}

// split divides a file where kubectl does: at each line that begins with ---.
func split(text []byte) ([]part, error) {
	parts := []part{{line: 1}}
	for i, line := range bytes.SplitAfter(text, []byte("\n")) {
		last := &parts[len(parts)-1]
		after, separates := bytes.CutPrefix(bytes.TrimPrefix(line, []byte("\ufeff")), []byte("---"))
		if !separates {
			last.text = append(last.text, line...)
			continue
		}
		if rest := bytes.TrimSpace(after); len(rest) > 0 && rest[0] != '#' {
			return nil, fmt.Errorf("line %d: has text behind ---: put it in a line of its own", i+1)
		}
		separator := "---" + string(bytes.TrimRight(after, "\r\n \t"))
		parts = append(parts, part{separator: separator, line: i + 2})
	}
	if len(bytes.TrimSpace(parts[0].text)) == 0 && len(parts) > 1 {
		parts = parts[1:]
	}
	for i := range parts {
		parts[i].text = bytes.TrimPrefix(parts[i].text, []byte("\ufeff"))
	}
	return parts, nil
}

// helmActions finds what stands in Helm's templates and in no manifest. Jinja's {{ x }}, as in chat templates, is none of it.
func helmActions() *regexp.Regexp {
	return regexp.MustCompile(`\{\{-?\s*(?:/\*|\(|\$|\.[A-Za-z \t}|]|(?:include|template|toYaml|tpl|required|default|quote|printf|lookup|nindent|dict|if|else|range|with|end|define|block|fail)\b)`)
}

const renderFirst = "is a Helm template and not a manifest: give the command what Helm prints, as in `helm template . | raytls inject -f -`"

// explain gives the error of a part with the file's line, and says so if the part is a template.
func (p part) explain(err error) error {
	if at := helmActions().FindIndex(p.text); at != nil {
		return fmt.Errorf("line %d: %s", p.lineOf(at[0]), renderFirst)
	}
	for _, opening := range []string{"{{", "{%"} {
		if at := bytes.Index(p.text, []byte(opening)); at >= 0 {
			return fmt.Errorf("%w; line %d has %s: if the file is a template, give the command what its tool prints", p.shift(err), p.lineOf(at), opening)
		}
	}
	return p.shift(err)
}

// lineOf gives the file's line of a place in the part.
func (p part) lineOf(at int) int { return p.line + bytes.Count(p.text[:at], []byte("\n")) }

// shift turns line numbers of the part into those of the file.
func (p part) shift(err error) error {
	text := regexp.MustCompile(`\bline (\d+)`).ReplaceAllStringFunc(err.Error(), func(found string) string {
		n, convErr := strconv.Atoi(found[len("line "):])
		if convErr != nil {
			return found
		}
		return fmt.Sprintf("line %d", n+p.line-1)
	})
	return fmt.Errorf("%s", text)
}
