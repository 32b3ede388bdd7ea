package siptest

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Request is what arrived.
type Request struct {
	// Message is as sipgo parsed it; most headers are parsed on access.
	Message *sip.Request
	// Method and URI stand in the first line; URI is not normalised.
	Method string
	URI    string
	// AOR is the address-of-record: the URI of To with a lower-case host and
	// without parameters.
	AOR    string
	CallID string
	CSeq   uint32
	Branch string
	// Source is "address:port", Transport "udp" or "tcp".
	Source    string
	Transport string
	At        time.Time
	// HadCredentials tells whether it carried (Proxy-)Authorization.
	HadCredentials bool
	// Retransmission counts from 1 when the same branch came before.
	Retransmission int
	// Serial numbers the new requests from 1; a retransmission has the number
	// of the request it repeats.
	Serial uint64

	vias        []string // header values, topmost first
	from, to    string   // header values
	cseq        string   // header value
	fault       error    // answered with 400
	lowCSeq     bool     // not higher than one before with this Call-ID
	contacts    []string // header values
	expires     string
	credentials []credentials
	line        int // in the log
	peer        peer
}

// peer is where a request came from and its answers go.
type peer interface {
	send(message []byte)
	// elsewhere sends from an address that the client did not talk to.
	elsewhere(message []byte)
	source() string
	transport() string
}

var (
	errIncomplete = errors.New("a header that every request has is missing")
	errResponse   = errors.New("a response")
)

// newParser leaves all headers but Content-Length as text. A registrar that
// judges its client reads them itself.
func newParser() *sip.Parser {
	all := sip.DefaultHeadersParser()
	return sip.NewParser(sip.WithHeadersParsers(map[string]sip.HeaderParser{
		"content-length": all["content-length"], "l": all["l"],
	}))
}

// parseRequest reads one message. A request that cannot even be answered is an
// error; one that can, but is wrong, has a fault.
func (r *Registrar) parseRequest(raw []byte, p peer, now time.Time) (*Request, error) {
	message, err := r.parser.ParseSIP(raw)
	if err != nil {
		return nil, err
	}
	m, ok := message.(*sip.Request)
	if !ok {
		return nil, errResponse
	}
	req := &Request{
		Message: m, Method: string(m.Method), URI: requestURI(raw),
		Source: p.source(), Transport: p.transport(), At: now, peer: p,
	}
	for _, h := range m.Headers() {
		req.take(h.Name(), h.Value())
	}
	if len(req.vias) == 0 || req.from == "" || req.to == "" || req.CallID == "" || req.cseq == "" {
		return nil, errIncomplete
	}
	uri, _ := nameAddr(req.to)
	req.AOR = canonicalAOR(uri)
	req.Branch, _ = parameter(splitList(req.vias[0], ',')[0], "branch")
	number, method, _ := strings.Cut(req.cseq, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	switch {
	case err != nil || n > maxCSeq:
		req.fault = errors.New("GEN-05: CSeq number")
	case strings.TrimSpace(method) != req.Method:
		req.fault = errors.New("GEN-05: CSeq method")
	case !strings.HasPrefix(req.Branch, "z9hG4bK"):
		req.fault = errors.New("GEN-06: branch")
	}
	req.CSeq = uint32(min(n, maxCSeq))
	return req, nil
}

// requestURI is the second word of the first line, as it stands there.
func requestURI(raw []byte) string {
	line, _, _ := bytes.Cut(raw, []byte("\r\n"))
	_, rest, _ := bytes.Cut(line, []byte(" "))
	uri, _, _ := bytes.Cut(rest, []byte(" "))
	return string(uri)
}

// key names the sequence of requests that CSeq orders.
func (req *Request) key() string {
	if req.Method == "REGISTER" {
		return req.CallID
	}
	return req.Method + " " + req.CallID
}

func (req *Request) take(name, value string) {
	switch strings.ToLower(name) {
	case "via", "v":
		req.vias = append(req.vias, value)
	case "from", "f":
		req.from = value
	case "to", "t":
		req.to = value
	case "call-id", "i":
		req.CallID = value
	case "cseq":
		req.cseq = value
	case "contact", "m":
		req.contacts = append(req.contacts, value)
	case "expires":
		req.expires = value
	case "authorization":
		req.HadCredentials = true
		req.credentials = append(req.credentials, parseCredentials(value, false))
	case "proxy-authorization":
		req.HadCredentials = true
		req.credentials = append(req.credentials, parseCredentials(value, true))
	}
}

// nameAddr takes "Alice" <sip:a@b>;p=1 apart into the URI and what follows it
// (RFC 3261 §20.10).
func nameAddr(value string) (uri, params string) {
	value = strings.TrimSpace(value)
	if strings.HasPrefix(value, `"`) {
		if end := closingQuote(value); end > 0 {
			value = value[end+1:]
		}
	}
	if open := strings.IndexByte(value, '<'); open >= 0 {
		uri, params, _ = strings.Cut(value[open+1:], ">")
		return strings.TrimSpace(uri), strings.TrimSpace(params)
	}
	uri, params, found := strings.Cut(value, ";")
	if found {
		params = ";" + params
	}
	return strings.TrimSpace(uri), strings.TrimSpace(params)
}

// closingQuote finds the end of the quoted string at the start of s, or 0.
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return 0
}

// canonicalAOR drops parameters and headers and lowers the host.
func canonicalAOR(uri string) string {
	if i := strings.IndexAny(uri, ";?"); i >= 0 {
		uri = uri[:i]
	}
	at := strings.LastIndexByte(uri, '@')
	return uri[:at+1] + strings.ToLower(uri[at+1:])
}

// splitList cuts at a separator outside of quotes and angle brackets.
func splitList(s string, separator byte) []string {
	if strings.IndexByte(s, separator) < 0 {
		return []string{s}
	}
	var list []string
	start, quoted, angle := 0, false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !angle:
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == separator && !angle:
			list = append(list, s[start:i])
			start = i + 1
		}
	}
	return append(list, s[start:])
}

// parameter finds ;name=value in a header value.
func parameter(value, name string) (string, bool) {
	for i, part := range splitList(value, ';') {
		if i == 0 {
			continue
		}
		key, v, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
