package sipadapter

import (
	"iter"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
)

func isAlphanum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func hasControl(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// trim removes the linear white space around s. Folding is undone by the
// parser.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// indexOutside finds the first byte of set that is neither inside a quoted
// string nor inside angle brackets, or -1.
func indexOutside(s, set string) int {
	quoted, angle := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quoted:
			switch c {
			case '\\':
				i++
			case '"':
				quoted = false
			}
		case !angle && (c == set[0] || len(set) > 1 && strings.IndexByte(set[1:], c) >= 0):
			return i
		case c == '"' && !angle:
			quoted = true
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		}
	}
	return -1
}

// elements walks a comma-separated list, trimmed and without empty elements
// (RFC 3261 §7.3.1).
func elements(list string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for list != "" {
			element := list
			if i := indexOutside(list, ","); i >= 0 {
				element, list = list[:i], list[i+1:]
			} else {
				list = ""
			}
			if element = trim(element); element != "" && !yield(element) {
				return
			}
		}
	}
}

// parameters walks a list of ";name=value": names in lower case, values
// unquoted, white space around ";" and "=" ignored. A parameter that is not a
// token is skipped.
func parameters(s string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for s != "" {
			part := s
			if i := indexOutside(s, ";"); i >= 0 {
				part, s = s[:i], s[i+1:]
			} else {
				s = ""
			}
			name, value, _ := strings.Cut(part, "=")
			if name = trim(name); !challenge.IsToken(name) {
				continue
			}
			if !yield(strings.ToLower(name), unquote(trim(value))) {
				return
			}
		}
	}
}

// parameter gives one parameter's first value.
func parameter(s, name string) (string, bool) {
	for n, v := range parameters(s) {
		if n == name {
			return v, true
		}
	}
	return "", false
}

// unquote removes surrounding quotes and quoting backslashes, if there are any.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// nameAddr is a name-addr or addr-spec with its header parameters (RFC 3261
// §20.10).
type nameAddr struct {
	uri    string
	params string // after the first semicolon
}

// parseNameAddr takes one element of a From, To, Contact or route list. In the
// form without angle brackets every parameter belongs to the header (RFC 3261
// §20).
func parseNameAddr(s string) (nameAddr, bool) {
	s = trim(s)
	if hasOpenQuote(s) {
		return nameAddr{}, false
	}
	open := -1
	if i := indexOutside(s, "<;"); i >= 0 && s[i] == '<' {
		open = i
	}
	if open < 0 {
		uri, params, _ := strings.Cut(s, ";")
		uri = trim(uri)
		return nameAddr{uri, params}, uri != "" && !strings.ContainsAny(uri, "\"<> \t")
	}
	end := strings.IndexByte(s[open:], '>')
	if end < 0 || !isDisplayName(trim(s[:open])) {
		return nameAddr{}, false
	}
	n := nameAddr{uri: trim(s[open+1 : open+end])}
	if n.uri == "" || strings.ContainsAny(n.uri, " \t<") {
		return nameAddr{}, false
	}
	rest := trim(s[open+end+1:])
	if rest != "" && rest[0] != ';' {
		return nameAddr{}, false
	}
	n.params = strings.TrimPrefix(rest, ";")
	return n, true
}

// hasOpenQuote finds a quoted string that never ends.
func hasOpenQuote(s string) bool {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		}
	}
	return quoted
}

// isDisplayName accepts a quoted string or tokens. Other text is tolerated as
// long as it holds nothing that could be mistaken for a separator.
func isDisplayName(s string) bool {
	if s == "" || s[0] == '"' && s[len(s)-1] == '"' {
		return true
	}
	return !strings.ContainsAny(s, "\"@,;:<>")
}
