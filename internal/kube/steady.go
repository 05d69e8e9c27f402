package kube

import "regexp"

// varying finds what differs between two attempts that fail in the same way, and varied is what stands for it.
//
//nolint:gochecknoglobals // compiled once; nothing changes it
var varying = []struct {
	pattern *regexp.Regexp
	varied  string
}{
	// The local end of a connection: "read tcp 10.0.0.5:43210->10.96.0.1:443".
	{regexp.MustCompile(`(tcp|udp) (\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]+->`), "$1 $2->"},
	{regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`), "…"},
	{regexp.MustCompile(`(?i)\b((?:request|trace|correlation|audit)[-_ ]?id)("?\s*[:=]?\s*"?)[0-9A-Za-z_.+/=-]*[0-9][0-9A-Za-z_.+/=-]*`), "$1$2…"},
	{regexp.MustCompile(`\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))*(?: m=[+-][0-9.]+)?`), "…"},
	{regexp.MustCompile(`\b[0-9]+\.[0-9]+(?:h|m|s|ms|µs|us|ns)\b`), "…"},
	// A name that the API server completed, in quotes: "train-worker-x7k2p".
	{regexp.MustCompile(`"([a-z0-9.-]+-)[bcdfghjklmnpqrstvwxz2456789]{5}"`), `"$1…"`},
	{regexp.MustCompile(`\b0x[0-9a-f]{6,}\b`), "…"},
	// The thread in OpenSSL's errors: "40E7A2F0B27F0000:error:0A000086:SSL routines".
	{regexp.MustCompile(`\b[0-9A-F]{12,16}:error:`), "…:error:"},
}

// Steady replaces what varies between attempts in somebody else's message, such as request ids, local ports, times and generated
// names. A status that repeats the message is then not written anew for each attempt.
func Steady(message string) string {
	for _, v := range varying {
		message = v.pattern.ReplaceAllString(message, v.varied)
	}
	return message
}
