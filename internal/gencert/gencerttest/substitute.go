package gencerttest

import (
	"regexp"
	"strings"
)

// Substitutions returns, by name, what tools do to a manifest that they fill in. Each returns the text with every
// variable empty, as one that is not defined. A manifest survives a tool if its text comes back unchanged.
func Substitutions() map[string]func(text string) string {
	return map[string]func(string) string{
		"envsubst":         func(text string) string { return gnuVariable.ReplaceAllString(text, "") },
		"Flux's postBuild": func(text string) string { return fluxToken.ReplaceAllStringFunc(text, fluxReplace) },
	}
}

var (
	gnuVariable = regexp.MustCompile(`\$([A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})`)
	// Flux uses drone/envsubst: "$$" is an escaped dollar sign, a backslash escapes itself and a slash, and every "${"
	// begins a variable with a function, up to its closing brace. Without one, it refuses the manifest.
	fluxToken = regexp.MustCompile(`\$\$|\\[/\\]|\$\{[^}]*\}?`)
)

func fluxReplace(token string) string {
	if strings.HasPrefix(token, "${") {
		return ""
	}
	return token[1:]
}

// Expand returns a text of a container's command, args or env as the kubelet hands it on: $$ becomes $, and $(NAME) becomes
// the value of NAME if the container has that variable.
func Expand(text string, env map[string]string) string {
	return kubeletToken.ReplaceAllStringFunc(text, func(token string) string {
		if token == "$$" {
			return "$"
		}
		if value, found := env[token[2:len(token)-1]]; found {
			return value
		}
		return token
	})
}

var kubeletToken = regexp.MustCompile(`\$\$|\$\([^)]*\)`)
