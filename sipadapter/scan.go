package sipadapter

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/sipmuster/muster/actors/challenge"
)

// maxScanned is how many header lines scan reads.
const maxScanned = 40

// scanned are messages for scan to fill.
var scanned = sync.Pool{New: func() any { return &message{fields: make([]field, 0, maxScanned)} }}

// release forgets a message that scan has filled, for the next one.
func (m *message) release() {
	clear(m.fields)
	*m = message{fields: m.fields[:0]}
	scanned.Put(m)
}

// scan reads the response to a REGISTER in one pass, if nothing in it needs
// care. It gives the message that parseResponse gives, without the headers that
// mean nothing to a registration; when it returns false, parseResponse has to
// read it. Whatever has a second spelling is left to that: folded lines, compact
// names, odd case, bytes that are not plain, bodies.
//
// The message is made of raw itself, which is as good as gone when the reader
// goes on. What a registration always keeps is copied here, and the rest by
// whoever keeps it.
func (m *message) scan(raw []byte, stream bool) bool {
	const start = "SIP/2.0 "
	text := unsafe.String(unsafe.SliceData(raw), len(raw))
	if len(text) < len(start)+4 || text[:len(start)] != start {
		return false
	}
	code, rest := text[len(start):len(start)+3], text[len(start)+4:]
	if text[len(start)+3] != ' ' || !isDigit(code[0]) || !isDigit(code[1]) || !isDigit(code[2]) {
		return false
	}
	end := plainLine(raw[len(raw)-len(rest):])
	// sipgo takes three words for a Request-Line when the last begins like this.
	if end < 0 || end >= 3 && strings.EqualFold(rest[:3], "sip") {
		return false
	}
	status := int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	*m = message{version: "SIP/2.0", status: status, phrase: phraseOf(status, rest[:end]), plain: true, bare: true, fields: m.fields[:0]}
	rest = rest[end+2:]
	for range maxScanned {
		end := plainLine(raw[len(raw)-len(rest):])
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
	// kept is true for a value of which a part always outlives the datagram.
	kept bool
	// rare is true for a header that hardly any response has.
	rare bool
}

var scannedHeaders = [...]scannedHeader{
	{written: "Via", name: "via"},
	{written: "From", name: "from"},
	{written: "To", name: "to"},
	{written: "Call-ID", name: "call-id"},
	{written: "CSeq", name: "cseq"},
	{written: "Contact", name: "contact"},
	{written: "Content-Length", name: "content-length"},
	{written: "Expires", name: "expires"},
	{written: "WWW-Authenticate", name: "www-authenticate", kept: true},
	{written: "Proxy-Authenticate", name: "proxy-authenticate", kept: true},
	{written: "Min-Expires", name: "min-expires", rare: true},
	{written: "Retry-After", name: "retry-after", rare: true},
	{written: "Authentication-Info", name: "authentication-info", kept: true, rare: true},
	{written: "Proxy-Authentication-Info", name: "proxy-authentication-info", kept: true, rare: true},
	{written: "Service-Route", name: "service-route", kept: true, rare: true},
	{written: "Unsupported", name: "unsupported", kept: true, rare: true},
}

// scannedByLength are scannedHeaders by the length of the name.
var scannedByLength = func() (t [len("Proxy-Authentication-Info") + 1][]scannedHeader) {
	for _, h := range scannedHeaders {
		t[len(h.written)] = append(t[len(h.written)], h)
	}
	return t
}()

// scanLine takes one header line. One that a registration does not read, in any
// spelling, is passed over.
func (m *message) scanLine(l string) bool {
	n := strings.IndexByte(l, ':')
	if n < 2 { // no name, or a compact one
		return false
	}
	name, value := l[:n], strings.Trim(l[n+1:], " ")
	if len(value) > maxFieldSize {
		return false
	}
	if n >= len(scannedByLength) {
		return challenge.IsToken(name)
	}
	for i := range scannedByLength[n] {
		h := &scannedByLength[n][i]
		if h.written != name {
			continue
		}
		if h.kept {
			value = strings.Clone(value)
		}
		m.bare = m.bare && !h.rare
		m.fields = append(m.fields, field{name: h.name, value: value, written: h.written})
		return true
	}
	oddCase := func(h scannedHeader) bool { return strings.EqualFold(h.written, name) }
	return !slices.ContainsFunc(scannedByLength[n], oddCase) && challenge.IsToken(name)
}

// plainLine is the length of the line that b begins with, or -1 when it has no
// end or a byte other than visible ASCII and blanks.
func plainLine(b []byte) int {
	i := plainLength(b)
	if i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n' {
		return i
	}
	return -1
}

// plainLength counts the bytes that are visible ASCII or blanks, up to the first that
// is not.
func plainLength(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if odd := notPlain(binary.LittleEndian.Uint64(b[i:])); odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] <= '~' {
		i++
	}
	return i
}

// notPlain looks at eight bytes at a time: the lowest bit that is set is the
// highest one of the first byte below ' ' or above '~'. What a borrow or a carry
// sets wrongly stands behind it.
func notPlain(eight uint64) uint64 {
	const each = 0x0101010101010101
	below := (eight - ' '*each) &^ eight
	above := eight + each | eight
	return (below | above) & (0x80 * each)
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

// phraseOf does not hold on to the datagram for a phrase that everybody writes.
func phraseOf(status int, phrase string) string {
	if usual := usualPhrase(status); usual == phrase {
		return usual
	}
	return strings.Clone(phrase)
}
