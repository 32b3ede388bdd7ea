package sipadapter

import (
	"bytes"
	"errors"
	"iter"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/mutation"
)

// Bounds on a received message (S-31).
const (
	maxMessage   = 65_535 // RFC 3261 §18.1.1
	maxFields    = 100
	maxFieldSize = 8 << 10
)

var (
	errMalformed = errors.New("malformed message")
	errOversize  = errors.New("message over a limit")
)

// message is a received request or response.
type message struct {
	request bool
	// method and target are the Request-Line as written; the method keeps its
	// case.
	method, target string
	version        string
	status         int
	phrase         string // the reason phrase as received
	fields         []field
	body           []byte
	// plain is set when all bytes are visible ASCII or blanks.
	plain bool
	// bare is set when it has no header that only a few responses to a REGISTER have.
	bare bool
	// faulty is set when a request must be answered 400: something in it is
	// wrong, yet there is enough to send an answer.
	faulty bool
}

// field is one header line: a canonical name in lower case, its value, unfolded
// and trimmed, and the name as written.
type field struct{ name, value, written string }

// isFieldValue is challenge.IsFieldValue for a part of the message.
func (m *message) isFieldValue(s string) bool { return m.plain || challenge.IsFieldValue(s) }

// all walks the values of one header in wire order.
func (m *message) all(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, f := range m.fields {
			if f.name == name && !yield(f.value) {
				return
			}
		}
	}
}

// one gives the value of a header that stands there exactly once.
func (m *message) one(name string) (string, bool) {
	value, count := "", 0
	for i := range m.fields {
		if f := &m.fields[i]; f.name == name {
			value = f.value
			count++
		}
	}
	return value, count == 1
}

// newParser is sipgo's parser without a single header parser: it splits lines
// and undoes folding, and one bad Contact cannot reject a message.
func newParser() *sip.Parser {
	return sip.NewParser(sip.WithHeadersParsers(map[string]sip.HeaderParser{}))
}

// isResponse tells a Status-Line from a Request-Line.
func isResponse(raw []byte) bool {
	return len(raw) >= 4 && bytes.EqualFold(raw[:4], []byte("SIP/"))
}

// parseResponse parses a response. Every fault is an error: a response that is
// not well formed is as good as lost.
func (a *Adapter) parseResponse(raw []byte, stream bool) (*message, error) {
	text := withReason(raw)
	parsed, n, err := a.parser.ParseHeaders(text, false)
	if err != nil {
		return nil, errMalformed
	}
	res, ok := parsed.(*sip.Response)
	if !ok {
		return nil, errMalformed
	}
	m := &message{version: res.SipVersion, status: res.StatusCode, phrase: res.Reason}
	if !threeDigits(raw) || !strings.EqualFold(m.version, "SIP/2.0") {
		return nil, errMalformed
	}
	if err := m.take(res.Headers()); err != nil {
		return nil, err
	}
	if !m.takeBody(text[n:], stream) {
		return nil, errMalformed
	}
	return m, nil
}

// threeDigits: RFC 3261 §7.2; a longer code must not be cut down to a valid
// one.
func threeDigits(raw []byte) bool {
	_, rest, _ := bytes.Cut(raw, []byte(" "))
	code, _, _ := bytes.Cut(rest[:min(len(rest), 5)], []byte(" "))
	code = bytes.TrimSuffix(code, []byte("\r\n"))
	return len(code) == 3 && isDigit(code[0]) && isDigit(code[1]) && isDigit(code[2])
}

// withReason gives a Status-Line without reason phrase the space that sipgo
// insists on. "SIP/2.0 200" is seen in the field.
func withReason(raw []byte) []byte {
	const bare = len("SIP/2.0 200")
	if len(raw) < bare+2 || raw[bare] != '\r' || raw[bare+1] != '\n' {
		return raw
	}
	fixed := make([]byte, 0, len(raw)+1)
	fixed = append(fixed, raw[:bare]...)
	fixed = append(fixed, ' ')
	return append(fixed, raw[bare:]...)
}

// parseRequest parses a request as far as it goes. What is wrong sets faulty,
// so that it can be answered; the error says that not even that is possible.
func (a *Adapter) parseRequest(raw []byte, stream bool) (*message, error) {
	m := &message{request: true}
	line, rest, ok := bytes.Cut(raw, []byte("\r\n"))
	if !ok || !m.takeRequestLine(string(line)) {
		m.faulty = true
	}
	// sipgo refuses a message for its Request-Line before it has read a header,
	// and then no answer could be built: it gets a harmless one to read.
	const harmless = "OPTIONS sip:invalid SIP/2.0\r\n"
	text := append([]byte(harmless), rest...)
	parsed, n, err := a.parser.ParseHeaders(text, false)
	if parsed == nil {
		return nil, errMalformed
	}
	if err != nil {
		m.faulty = true
	}
	req, ok := parsed.(*sip.Request)
	if !ok {
		return nil, errMalformed
	}
	if err := m.take(req.Headers()); errors.Is(err, errOversize) {
		return nil, err
	} else if err != nil {
		m.faulty = true
	}
	if !m.faulty && !m.takeBody(text[n:], stream) {
		m.faulty = true
	}
	return m, nil
}

// takeRequestLine splits method SP Request-URI SP version, with exactly one
// space between them (RFC 3261 §7.1).
func (m *message) takeRequestLine(line string) bool {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[1] == "" || !challenge.IsToken(parts[0]) || hasControl(parts[1]) {
		return false
	}
	m.method, m.target, m.version = parts[0], parts[1], parts[2]
	name, _, ok := strings.Cut(m.version, "/")
	return ok && strings.EqualFold(name, "SIP")
}

// take copies the header lines and checks their number and size.
func (m *message) take(headers []sip.Header) error {
	if len(headers) > maxFields {
		return errOversize
	}
	m.fields = make([]field, 0, len(headers))
	var fault error
	for _, h := range headers {
		value := h.Value()
		if len(value) > maxFieldSize {
			return errOversize
		}
		// sipgo ends lines at CR LF only, so a lone LF is still in there.
		if strings.IndexByte(value, '\n') >= 0 || !challenge.IsToken(h.Name()) {
			fault = errMalformed
			continue
		}
		m.fields = append(m.fields, field{mutation.Canonical(h.Name()), value, h.Name()})
	}
	return fault
}

// takeBody applies RFC 3261 §18.3: bytes past Content-Length are discarded, a
// message that is shorter is refused, and on a stream the length is mandatory.
func (m *message) takeBody(rest []byte, stream bool) bool {
	length, ok := m.contentLength()
	switch {
	case !ok, length > len(rest), length < 0 && stream:
		return false
	case length < 0:
		length = len(rest)
	}
	m.body = bytes.Clone(rest[:length])
	return true
}

// contentLength is -1 when absent. Two of them are refused even when they
// agree: on a stream the next reader might see another message.
func (m *message) contentLength() (int, bool) {
	value, count := "", 0
	for v := range m.all("content-length") {
		value = v
		count++
	}
	if count == 0 {
		return -1, true
	}
	n, ok := parseDigits(value, maxMessage)
	return int(n), ok && count == 1
}

// parseDigits reads a plain decimal number of at most limit.
func parseDigits(s string, limit uint64) (uint64, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= limit
}

// cseq reads the CSeq header: a number below 2**31 and a method that keeps its
// case (RFC 3261 §8.1.1.5).
func (m *message) cseq() (number uint32, method string, ok bool) {
	value, ok := m.one("cseq")
	if !ok {
		return 0, "", false
	}
	end := strings.IndexAny(value, " \t")
	if end < 0 {
		return 0, "", false
	}
	n, ok := parseDigits(value[:end], 1<<31-1)
	method = trim(value[end:])
	return uint32(n), method, ok && challenge.IsToken(method)
}

// tag reads the tag of a From or To value.
func tag(value string) (string, bool) {
	n, ok := parseNameAddr(value)
	if !ok {
		return "", false
	}
	return parameter(n.params, "tag")
}

// isKeepAlive tells whether a datagram is only a keep-alive.
func isKeepAlive(raw []byte) bool {
	if len(raw) > 0 && raw[0] > ' ' {
		return false
	}
	return len(bytes.Trim(raw, "\r\n\x00")) == 0
}
