package sipadapter

import (
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"
)

// answer is what a response adds to what it copies from its request.
type answer struct {
	status      int
	phrase      string // empty: the usual one
	tag         string // for a To that has none; empty: ownTag
	lines       []line
	contentType string
	body        []byte
}

// wayBack is where the responses to a request go (RFC 3261 §18.2.2): back over
// its connection, or to the address that its datagram came from. It fails when
// the request has no Via to answer to.
func wayBack(m *message, o origin) (wire, bool) {
	v, ok := m.topVia()
	switch {
	case !ok:
		return nil, false
	case o.stream != nil:
		return o.stream, true
	}
	return udpWire{o.socket, replyTo(v, o.from)}, true
}

// topVia is the first Via value, that of the hop before us.
func (m *message) topVia() (via, bool) {
	for value := range m.all("via") {
		v, _, ok := parseVia(value)
		return v, ok
	}
	return via{}, false
}

// response writes a response to a request that has a Via (RFC 3261 §8.2.6.2).
func (a *Adapter) response(m *message, o origin, r answer) []byte {
	lines := make([]line, 0, 16)
	add := func(name, value string) { lines = append(lines, line{name, value}) }
	v, _ := m.topVia()
	first := true
	for value := range m.all("via") {
		if first {
			value, first = received(value, v, o.from), false
		}
		add("Via", value)
	}
	for value := range m.all("from") {
		add("From", value)
	}
	for value := range m.all("to") {
		if r.status > 100 {
			value = a.tagged(value, m, r.tag)
		}
		add("To", value)
	}
	for value := range m.all("call-id") {
		add("Call-ID", value)
	}
	for value := range m.all("cseq") {
		add("CSeq", value)
	}
	lines = append(lines, r.lines...)
	if a.opts.UserAgent != "" {
		add("Server", a.opts.UserAgent)
	}
	if r.contentType != "" {
		add("Content-Type", r.contentType)
	}
	add("Content-Length", strconv.Itoa(len(r.body)))
	phrase := r.phrase
	if phrase == "" {
		phrase = reasonPhrase(r.status)
	}
	start := "SIP/2.0 " + strconv.Itoa(r.status) + " " + phrase + "\r\n"
	return []byte(start + write(lines, r.body))
}

// received notes in the top Via where the request came from (RFC 3261 §18.2.1,
// RFC 3581 §4). What a stranger wrote there himself is replaced.
func received(value string, v via, from netip.AddrPort) string {
	rest := ""
	if i := indexOutside(value, ","); i >= 0 {
		value, rest = value[:i], value[i:]
	}
	head, params, _ := strings.Cut(value, ";")
	var b strings.Builder
	b.WriteString(strings.TrimRight(head, " \t"))
	for params != "" {
		part := params
		if i := indexOutside(params, ";"); i >= 0 {
			part, params = params[:i], params[i+1:]
		} else {
			params = ""
		}
		name, _, _ := strings.Cut(part, "=")
		switch strings.ToLower(trim(name)) {
		case "received", "":
		case "rport":
			b.WriteString(";rport=" + strconv.Itoa(int(from.Port())))
		default:
			b.WriteString(";" + trim(part))
		}
	}
	_, symmetric := parameter(v.params, "rport")
	ip, numeric := numericHost(v.host)
	if symmetric || !numeric || ip != from.Addr().WithZone("") {
		b.WriteString(";received=" + from.Addr().WithZone("").String())
	}
	b.WriteString(rest)
	return b.String()
}

// replyTo is where a datagram goes (RFC 3261 §18.2.2, RFC 3581 §4): always to
// the address that the request came from. A maddr is ignored, because it would
// let anyone aim our answers.
func replyTo(v via, from netip.AddrPort) netip.AddrPort {
	if _, symmetric := parameter(v.params, "rport"); symmetric {
		return from
	}
	port := uint16(v.port)
	if port == 0 {
		port = defaultPort
	}
	return netip.AddrPortFrom(from.Addr(), port)
}

// tagged gives a To without a tag one.
func (a *Adapter) tagged(to string, m *message, with string) string {
	if _, ok := tag(to); ok {
		return to
	}
	if with == "" {
		with = a.ownTag(m)
	}
	return to + ";tag=" + with
}

// ownTag is the same for every repeat of a request, without anything being kept
// (RFC 3261 §8.2.7).
func (a *Adapter) ownTag(m *message) string {
	var h maphash.Hash
	h.SetSeed(a.tagSeed)
	for _, f := range m.fields {
		switch f.name {
		case "call-id", "cseq", "from", "via":
			_, _ = h.WriteString(f.value)
			_ = h.WriteByte(0)
		}
	}
	return strconv.FormatUint(h.Sum64(), 36)
}
