package sipadapter

import (
	"strings"
	"sync"

	"github.com/sipmuster/muster/actors/challenge"
)

// maxScanned is how many header lines scan reads.
const maxScanned = 40

// scanned are messages for scan to fill.
var scanned = sync.Pool{New: func() any { return &message{fields: make([]field, 0, maxScanned)} }}

// scan reads the response to a REGISTER in one pass, if nothing in it needs
// care. It gives the message that parseResponse gives, without the headers that
// mean nothing to a registration; when it returns false, parseResponse has to
// read it. Whatever has a second spelling is left to that: folded lines, compact
// names, odd case, bytes that are not plain, bodies.
//
// What a registration may keep is copied out of text, so that a nonce does not
// hold on to a datagram.
func (m *message) scan(text string, stream bool) bool {
	const start = "SIP/2.0 "
	if len(text) < len(start)+4 || text[:len(start)] != start {
		return false
	}
	code, rest := text[len(start):len(start)+3], text[len(start)+4:]
	if text[len(start)+3] != ' ' || !isDigit(code[0]) || !isDigit(code[1]) || !isDigit(code[2]) {
		return false
	}
	end := plainLine(rest)
	// sipgo takes three words for a Request-Line when the last begins like this.
	if end < 0 || end >= 3 && strings.EqualFold(rest[:3], "sip") {
		return false
	}
	status := int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	*m = message{version: "SIP/2.0", status: status, phrase: usualPhrase(status, rest[:end]), fields: m.fields[:0]}
	rest = rest[end+2:]
	for range maxScanned {
		end := plainLine(rest)
		if end < 0 {
			return false
		}
		l := rest[:end]
		if rest = rest[end+2:]; l == "" {
			return rest == "" && m.hasNoBody(stream)
		}
		if !m.scanLine(l) {
			return false
		}
	}
	return false
}

// scannedHeader is a header that a registration reads.
type scannedHeader struct {
	written, name string
	// kept is true for a value that outlives the datagram.
	kept bool
}

var scannedHeaders = [...]scannedHeader{
	{"Via", "via", false},
	{"From", "from", false},
	{"To", "to", false},
	{"Call-ID", "call-id", false},
	{"CSeq", "cseq", false},
	{"Contact", "contact", false},
	{"Expires", "expires", false},
	{"Min-Expires", "min-expires", false},
	{"Retry-After", "retry-after", false},
	{"Content-Length", "content-length", false},
	{"WWW-Authenticate", "www-authenticate", true},
	{"Proxy-Authenticate", "proxy-authenticate", true},
	{"Authentication-Info", "authentication-info", true},
	{"Proxy-Authentication-Info", "proxy-authentication-info", true},
	{"Service-Route", "service-route", true},
	{"Unsupported", "unsupported", true},
}

// scanLine takes one header line.
func (m *message) scanLine(l string) bool {
	name, value, ok := strings.Cut(l, ":")
	value = strings.Trim(value, " ")
	if !ok || len(value) > maxFieldSize {
		return false
	}
	for i := range scannedHeaders {
		if h := &scannedHeaders[i]; h.written == name {
			if h.kept {
				value = strings.Clone(value)
			}
			m.fields = append(m.fields, field{name: h.name, value: value, written: name})
			return true
		}
	}
	return meansNothing(name)
}

// meansNothing tells whether a header can be skipped: it is none that a
// registration reads, in any spelling.
func meansNothing(name string) bool {
	if len(name) < 2 || !challenge.IsToken(name) {
		return false
	}
	for i := range scannedHeaders {
		if h := &scannedHeaders[i]; len(h.written) == len(name) && strings.EqualFold(h.written, name) {
			return false
		}
	}
	return true
}

// plainLine is the length of the line that s begins with, or -1 when it has no
// end or a byte other than visible ASCII and blanks.
func plainLine(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			if c == '\r' && i+1 < len(s) && s[i+1] == '\n' {
				return i
			}
			return -1
		}
	}
	return -1
}

// hasNoBody tells whether the length says what is seen: nothing. On a stream it
// must say so.
func (m *message) hasNoBody(stream bool) bool {
	value, count := "", 0
	for i := range m.fields {
		if m.fields[i].name == "content-length" {
			value = m.fields[i].value
			count++
		}
	}
	return count == 1 && value == "0" || count == 0 && !stream
}

// usualPhrase does not hold on to the datagram for a phrase that everybody
// writes.
func usualPhrase(status int, phrase string) string {
	if usual := phrases[status]; usual == phrase {
		return usual
	}
	return strings.Clone(phrase)
}
