// Package blocks replaces the generated parts of pages.
package blocks

import (
	"fmt"
	"strings"
)

// Replace returns the text of a page with content between the lines <!-- NAME:begin --> and <!-- NAME:end -->. A page without both is
// an error.
func Replace(page, name, content string) (string, error) {
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("the page has no block from %q to %q", strings.TrimSpace(begin), end)
	}
	return before + begin + content + end + after, nil
}
