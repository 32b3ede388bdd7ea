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

// newReplyLimit is a token bucket that holds a tenth of a second.
func newReplyLimit(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(0, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(perSecond/10, 1))
}

// receiveRequest gives a request to the core, or answers it without keeping any
// state: a repeat gets the same answer again (RFC 3261 §8.2.7). Nothing but
// final responses leaves here, and never a 408 (RFC 4320 §4.1, §4.2).
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
	}
	status, lines := a.judge(m)
	switch {
	case m.isACK() && status == 0:
		a.takeACK(m, o)
		return
	case m.isACK(): // never answered (RFC 3261 §17)
		return
	case status == 0 && m.method == "CANCEL" && a.takeCancel(m, o):
		return
	}
	if status == 0 {
		var taken bool
		if taken, status = a.offer(m, o); taken {
			return
		}
	}
	if status == 0 {
		status, lines = a.answer(m, o)
	}
	a.reply(m, o, answer{status: status, lines: lines})
}

// reply answers a request that has no transaction.
func (a *Adapter) reply(m *message, o origin, r answer) {
	back, ok := wayBack(m, o)
	if !ok {
		a.drop(dropUnanswerable)
		return
	}
	_ = back.send(a.response(m, o, r))
}

// isACK also looks at CSeq, for a Request-Line that cannot be read.
func (m *message) isACK() bool {
	_, method, _ := m.cseq()
	return m.method == "ACK" || m.method == "" && method == "ACK"
}

// judge finds what is wrong with a request; 0 means nothing is. Max-Forwards
// is only checked for its form: a server that is the target treats 0 like any
// other value (RFC 4475 §3.3.11), 483 is for proxies.
func (a *Adapter) judge(m *message) (status int, lines []line) {
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
	// RFC 3261 §8.2.2.3: neither ACK nor CANCEL is refused for it.
	required := slices.DeleteFunc(optionTags(m, "require"), func(tag string) bool {
		return strings.EqualFold(tag, supportedTags)
	})
	if len(required) > 0 && m.method != "CANCEL" && m.method != "ACK" {
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

// answer is the verdict on a well-formed request that no session takes.
func (a *Adapter) answer(m *message, o origin) (status int, lines []line) {
	to, _ := m.one("to")
	_, inDialog := tag(to)
	if a.opts.OnInbound != nil {
		if status := a.opts.OnInbound(inboundRequest(m, o)); status >= 200 && status <= 699 {
			return status, capabilities(m.method, status, inDialog)
		}
	}
	switch {
	case inDialog: // there is no such dialog (RFC 3261 §12.2.2)
		status = 481
	case m.method == "OPTIONS":
		status = 200
	case m.method == "INVITE":
		status = 480
	case slices.Contains(strings.Split(outsideMethods, ", "), m.method):
		status = 481
	default:
		status = 405
	}
	return status, capabilities(m.method, status, inDialog)
}

func inboundRequest(m *message, o origin) InboundRequest {
	from, _ := m.one("from")
	to, _ := m.one("to")
	callID, _ := m.one("call-id")
	return InboundRequest{
		Method: m.method, RequestURI: m.target, From: from, To: to, CallID: callID,
		Transport: string(o.transport()), Source: o.from.String(),
	}
}
