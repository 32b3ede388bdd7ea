package sipadapter

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/time/rate"
)

// InboundRequest is a well-formed request from outside, as Options.OnInbound
// sees it. The values are as received: treat them as hostile.
type InboundRequest struct {
	Method, RequestURI string
	From, To, CallID   string
	Transport          string // "udp" or "tcp"
	Source             string // "address:port"
}

// allowedMethods are the methods that get another answer than 405.
const allowedMethods = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO"

// newReplyLimit is a token bucket that holds a tenth of a second.
func newReplyLimit(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(0, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(perSecond/10, 1))
}

// receiveRequest answers without keeping any state: a repeat of a request gets
// the same answer again (RFC 3261 §8.2.7). Nothing but final responses leaves
// here, and never a 408 (RFC 4320 §4.1, §4.2).
func (a *Adapter) receiveRequest(raw []byte, o origin) {
	if !a.replies.Allow() {
		a.drop(dropRate)
		return
	}
	m, err := a.parseRequest(raw, o.stream != nil)
	switch {
	case errors.Is(err, errOversize):
		a.drop(dropOversize)
		return
	case err != nil:
		a.drop(dropMalformed)
		return
	case m.isACK():
		return // never answered (RFC 3261 §17)
	}
	status, extra := a.judge(m)
	if status == 0 {
		status, extra = a.answer(m, o)
	}
	packet, to, ok := a.reply(m, o, status, extra)
	if !ok {
		a.drop(dropUnanswerable)
		return
	}
	if o.stream != nil {
		_ = o.stream.send(packet)
		return
	}
	_ = o.socket.write(packet, to)
}

// isACK also looks at CSeq, for a Request-Line that cannot be read.
func (m *message) isACK() bool {
	_, method, _ := m.cseq()
	return m.method == "ACK" || m.method == "" && method == "ACK"
}

// judge finds what is wrong with a request; 0 means nothing is. Max-Forwards
// is only checked for its form: a server that is the target treats 0 like any
// other value (RFC 4475 §3.3.11), 483 is for proxies.
func (a *Adapter) judge(m *message) (status int, extra []line) {
	if _, version, ok := strings.Cut(m.version, "/"); ok && version != "2.0" {
		return 505, nil
	}
	if m.faulty || !wellFormed(m) {
		return 400, nil
	}
	u, err := parseURI(m.target)
	switch {
	case errors.Is(err, errScheme):
		return 416, nil
	case err != nil || u.headers != "": // RFC 3261 §19.1.1 table 1
		return 400, nil
	}
	// No extension is supported, so every required one is not (RFC 3261
	// §8.2.2.3).
	if required := optionTags(m, "require"); len(required) > 0 && m.method != "CANCEL" {
		return 420, []line{{"Unsupported", strings.Join(required, ", ")}}
	}
	return 0, nil
}

// wellFormed checks the headers that RFC 3261 §8.1.1 makes mandatory. A From
// tag, a branch and Max-Forwards may be missing, as in RFC 2543.
func wellFormed(m *message) bool {
	for _, name := range []string{"from", "to"} {
		value, ok := m.one(name)
		if !ok {
			return false
		}
		if n, ok := parseNameAddr(value); !ok || !validAddress(n.uri) {
			return false
		}
	}
	if callID, ok := m.one("call-id"); !ok || callID == "" {
		return false
	}
	if _, method, ok := m.cseq(); !ok || method != m.method {
		return false
	}
	for value := range m.all("via") {
		if !validVias(value) {
			return false
		}
	}
	for value := range m.all("max-forwards") {
		if _, ok := parseDigits(trim(value), 255); !ok {
			return false
		}
	}
	return count(m, "max-forwards") <= 1 && count(m, "content-length") <= 1
}

func validVias(list string) bool {
	for list != "" {
		_, rest, ok := parseVia(list)
		if !ok {
			return false
		}
		list = rest
	}
	return true
}

// validAddress accepts any scheme in From and To (RFC 4475 §3.3.4), and of SIP
// URIs only well-formed ones.
func validAddress(s string) bool {
	_, err := parseURI(s)
	return err == nil || errors.Is(err, errScheme)
}

func count(m *message, name string) int {
	n := 0
	for range m.all(name) {
		n++
	}
	return n
}

// answer is the verdict on a well-formed request.
func (a *Adapter) answer(m *message, o origin) (status int, extra []line) {
	if a.opts.OnInbound != nil {
		switch status := a.opts.OnInbound(inboundRequest(m, o)); {
		case status == 405: // RFC 3261 §21.4.6
			return status, []line{{"Allow", allowedMethods}}
		case status >= 200 && status <= 699:
			return status, nil
		}
	}
	to, _ := m.one("to")
	if _, inDialog := tag(to); inDialog {
		return 481, nil // there is no dialog (RFC 3261 §12.2.2)
	}
	switch m.method {
	case "OPTIONS":
		return 200, []line{{"Allow", allowedMethods}, {"Accept", "application/sdp"}, {"Supported", ""}}
	case "INVITE":
		return 480, nil
	}
	if slices.Contains(strings.Split(allowedMethods, ", "), m.method) {
		return 481, nil
	}
	return 405, []line{{"Allow", allowedMethods}}
}

func inboundRequest(m *message, o origin) InboundRequest {
	from, _ := m.one("from")
	to, _ := m.one("to")
	callID, _ := m.one("call-id")
	r := InboundRequest{
		Method: m.method, RequestURI: m.target, From: from, To: to, CallID: callID,
		Transport: string(transportUDP), Source: o.from.String(),
	}
	if o.stream != nil {
		r.Transport = string(transportTCP)
	}
	return r
}
