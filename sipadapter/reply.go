package sipadapter

import (
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"
)

// reply writes a response and says where a datagram goes. It fails when the
// request has no Via to answer to.
func (a *Adapter) reply(m *message, o origin, status int, extra []line) ([]byte, netip.AddrPort, bool) {
	top, first := "", true
	for value := range m.all("via") {
		if first {
			top, first = value, false
		}
	}
	v, _, ok := parseVia(top)
	if !ok {
		return nil, netip.AddrPort{}, false
	}
	lines := make([]line, 0, 12)
	first = true
	for value := range m.all("via") {
		if first {
			value, first = received(value, v, o.from), false
		}
		lines = append(lines, line{"Via", value})
	}
	for value := range m.all("from") {
		lines = append(lines, line{"From", value})
	}
	for value := range m.all("to") {
		lines = append(lines, line{"To", a.tagged(value, m)})
	}
	for value := range m.all("call-id") {
		lines = append(lines, line{"Call-ID", value})
	}
	for value := range m.all("cseq") {
		lines = append(lines, line{"CSeq", value})
	}
	lines = append(lines, extra...)
	if a.opts.UserAgent != "" {
		lines = append(lines, line{"Server", a.opts.UserAgent})
	}
	lines = append(lines, line{"Content-Length", "0"})
	start := "SIP/2.0 " + strconv.Itoa(status) + " " + reasonPhrase(status) + "\r\n"
	return []byte(start + write(lines, nil)), replyTo(v, o.from), true
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

// tagged gives a To without a tag one that is the same for every repeat of the
// request (RFC 3261 §8.2.7).
func (a *Adapter) tagged(to string, m *message) string {
	if _, ok := tag(to); ok {
		return to
	}
	var h maphash.Hash
	h.SetSeed(a.tagSeed)
	for _, f := range m.fields {
		switch f.name {
		case "call-id", "cseq", "from", "via":
			_, _ = h.WriteString(f.value)
			_ = h.WriteByte(0)
		}
	}
	return to + ";tag=" + strconv.FormatUint(h.Sum64(), 36)
}

// reasonPhrase names the codes that leave here (RFC 3261 §21); what a hook
// adds gets the name of its class.
func reasonPhrase(status int) string {
	switch status {
	case 200:
		return "OK"
	case 400:
		return "Bad Request"
	case 405:
		return "Method Not Allowed"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 486:
		return "Busy Here"
	case 505:
		return "Version Not Supported"
	}
	return [...]string{"OK", "Redirected", "Request Failure", "Server Failure", "Global Failure"}[status/100-2]
}
