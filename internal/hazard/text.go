package hazard

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/raytls/raytls/internal/jsonpatch"
)

// text is what a container runs, or the value of one of its variables.
type text struct {
	field string
	// variable is the variable's name; empty for what runs.
	variable string
	text     string
}

// textsOf lists a container's command with its arguments, its hooks and probes, and its variables.
func textsOf(at string, c map[string]any) []text {
	var all []text
	add := func(field, variable string, words ...[]any) {
		var joined strings.Builder
		for _, word := range slices.Concat(words...) {
			joined.WriteString(jsonpatch.String(word))
			joined.WriteByte(' ')
		}
		if joined.Len() > 0 {
			all = append(all, text{field: field, variable: variable, text: strings.TrimSuffix(joined.String(), " ")})
		}
	}
	field := at + ".command"
	if c["command"] == nil {
		field = at + ".args"
	}
	add(field, "", jsonpatch.List(c["command"]), jsonpatch.List(c["args"]))
	for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		add(at+"."+probe+".exec", "", jsonpatch.List(jsonpatch.Map(jsonpatch.Map(c[probe])["exec"])["command"]))
	}
	for _, hook := range []string{"postStart", "preStop"} {
		add(at+".lifecycle."+hook+".exec", "", jsonpatch.List(jsonpatch.Map(jsonpatch.Map(jsonpatch.Map(c["lifecycle"])[hook])["exec"])["command"]))
	}
	for _, item := range jsonpatch.List(c["env"]) {
		if name := jsonpatch.Name(item); name != "" {
			add(fmt.Sprintf("%s.env[%s]", at, clip(name)), name, []any{jsonpatch.Map(item)["value"]})
		}
	}
	return all
}

// wordsOf splits a command line or a script into words, without regard to quotes. Variables are spelt $NAME.
func wordsOf(text string) []string {
	return strings.FieldsFunc(plainVariables(text), func(r rune) bool { return strings.ContainsRune(" \t\r\n\"'`;|&<>=,()\\[]", r) })
}

// plainVariables spells ${NAME} and $(NAME) as $NAME, and $(hostname …) as $HOSTNAME, or $HOST_IP where it gives addresses.
func plainVariables(text string) string {
	var out strings.Builder
	for {
		at := strings.IndexByte(text, '$')
		if at < 0 || at+1 >= len(text) {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(text[:at+1])
		text = text[at+1:]
		closing := byte('}')
		switch text[0] {
		case '{':
		case '(':
			closing = ')'
		default:
			continue
		}
		// A name is short; what is longer is no name, and looking further would be work without bound.
		end := strings.IndexByte(text[:min(len(text), maxName)], closing)
		if end < 0 {
			continue
		}
		name, isKnown := "", true
		switch inside := text[1:end]; {
		case isName(inside):
			name = inside
		case strings.HasPrefix(inside, "hostname -i"), strings.HasPrefix(inside, "hostname -I"):
			name = "HOST_IP"
		case strings.HasPrefix(inside, "hostname"):
			name = "HOSTNAME"
		default:
			isKnown = false
		}
		if isKnown {
			out.WriteString(name)
			text = text[end+1:]
		}
	}
}

const maxName = 64

func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !isNameRune(r) }) < 0
}

func isNameRune(r rune) bool {
	return r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// base is a program's name without its folder.
func base(word string) string { return word[strings.LastIndexByte(word, '/')+1:] }

// mentions lists the files in or below a folder that a text names.
func mentions(text, folder string) []string {
	folder = path.Clean(folder)
	if folder == "/" || folder == "." {
		return nil
	}
	inPath := func(r byte) bool { return isNameRune(rune(r)) || r == '.' || r == '-' }
	var found []string
	for rest := text; ; {
		at := strings.Index(rest, folder)
		if at < 0 || len(found) == Max {
			return found
		}
		before, after := rest[:at], rest[at+len(folder):]
		rest = after
		if before != "" && inPath(before[len(before)-1]) || after != "" && inPath(after[0]) {
			continue
		}
		end := strings.IndexFunc(after, func(r rune) bool { return r > 127 || !inPath(byte(r)) && r != '/' })
		if end < 0 {
			end = len(after)
		}
		if file := path.Clean(folder + after[:end]); !slices.Contains(found, file) {
			found = append(found, file)
		}
	}
}
