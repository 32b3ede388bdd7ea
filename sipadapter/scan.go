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

// scanLine takes one header line.
func (m *message) scanLine(l string) bool {
	name, value, ok := strings.Cut(l, ":")
	f := field{written: name, value: strings.Trim(value, " ")}
	if !ok || len(f.value) > maxFieldSize {
		return false
	}
	switch f.written {
	case "Via":
		f.name = "via"
	case "From":
		f.name = "from"
	case "To":
		f.name = "to"
	case "Call-ID":
		f.name = "call-id"
	case "CSeq":
		f.name = "cseq"
	case "Contact":
		f.name = "contact"
	case "Expires":
		f.name = "expires"
	case "Min-Expires":
		f.name = "min-expires"
	case "Retry-After":
		f.name = "retry-after"
	case "Content-Length":
		f.name = "content-length"
	case "WWW-Authenticate":
		f.name, f.value = "www-authenticate", strings.Clone(f.value)
	case "Proxy-Authenticate":
		f.name, f.value = "proxy-authenticate", strings.Clone(f.value)
	case "Authentication-Info":
		f.name, f.value = "authentication-info", strings.Clone(f.value)
	case "Proxy-Authentication-Info":
		f.name, f.value = "proxy-authentication-info", strings.Clone(f.value)
	case "Service-Route":
		f.name, f.value = "service-route", strings.Clone(f.value)
	case "Unsupported":
		f.name, f.value = "unsupported", strings.Clone(f.value)
	default:
		return meansNothing(f.written)
	}
	m.fields = append(m.fields, f)
	return true
}

// meansNothing tells whether a header can be skipped: it is none of those above
// in another spelling.
func meansNothing(name string) bool {
	if len(name) < 2 || !challenge.IsToken(name) {
		return false
	}
	for _, spelled := range [...]string{
		"Via", "From", "To", "Call-ID", "CSeq", "Contact", "Expires", "Min-Expires", "Retry-After", "Content-Length",
		"WWW-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Proxy-Authentication-Info",
		"Service-Route", "Unsupported",
	} {
		if len(spelled) == len(name) && strings.EqualFold(spelled, name) {
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
