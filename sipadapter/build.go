package sipadapter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

const (
	// maxForwards is what RFC 3261 §8.1.1.6 recommends.
	maxForwards = "70"
	// maxDatagram is the size from which a request goes by TCP when the path
	// MTU is not known (RFC 3261 §18.1.1).
	maxDatagram = 1_300
	// maxHeaders and maxHeaderSize bound the further lines of a request.
	maxHeaders    = 64
	maxHeaderSize = 8 << 10
)

// check finds what would make the request malformed or let one field become
// another. No error quotes a value.
func check(r *messages.SIPRequest) error {
	fault := func(what string) error { return errors.New("request: " + what) }
	switch {
	case !challenge.IsToken(r.Method):
		return fault("method is not a token")
	case !isBracketable(r.RequestURI):
		return fault("malformed Request-URI")
	case r.Method == "REGISTER" && strings.IndexByte(r.RequestURI, '@') >= 0:
		return fault("the Request-URI of a REGISTER must have no user part (RFC 3261 §10.2)")
	case !isBracketable(r.From) || !challenge.IsToken(r.FromTag):
		return fault("malformed From")
	case !isBracketable(r.To) || r.ToTag != "" && !challenge.IsToken(r.ToTag):
		return fault("malformed To")
	case r.CallID == "" || !challenge.IsFieldValue(r.CallID) || strings.ContainsAny(r.CallID, " \t,"):
		return fault("malformed Call-ID")
	case r.CSeq >= 1<<31:
		return fault("CSeq is not below 2**31 (RFC 3261 §8.1.1.5)")
	case hasControl(r.ContactUser):
		return fault("malformed contact user")
	case slices.ContainsFunc(r.Supported, func(tag string) bool { return !challenge.IsToken(tag) }):
		return fault("malformed option tag")
	case !challenge.IsFieldValue(r.ContentType) || r.ContentType == "" && len(r.Body) > 0:
		return fault("malformed Content-Type")
	}
	for _, value := range r.Route {
		if !isRoute(value) {
			return fault("malformed Route")
		}
	}
	if r.Method == "INVITE" {
		if err := checkInvite(r); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	return checkHeaders(r.Headers)
}

// isRoute tells whether a value can be written as a Route line.
func isRoute(value string) bool {
	n, ok := parseNameAddr(value)
	return ok && challenge.IsFieldValue(value) && isBracketable(n.uri)
}

// checkInvite finds what only an INVITE can get wrong. Its Contact is where
// the dialog's requests will come, and must be as safe as the way there (RFC
// 3261 §8.1.1.8): ours is a sip URI.
func checkInvite(r *messages.SIPRequest) error {
	switch {
	case r.NoContact:
		return errors.New("an INVITE has a Contact (RFC 3261 §8.1.1.8)")
	case isSecure("<" + r.RequestURI + ">"), len(r.Route) > 0 && isSecure(r.Route[0]):
		return fmt.Errorf("a sips URI %w", errInsecure)
	case r.Branch != "" && !isBranchSeed(r.Branch), r.Resume && r.Branch == "":
		return errors.New("malformed branch")
	}
	return nil
}

func isSecure(nameAddr string) bool {
	n, _ := parseNameAddr(nameAddr)
	scheme, _, _ := strings.Cut(n.uri, ":")
	return strings.EqualFold(scheme, "sips")
}

// isBranchSeed takes at least the 96 bits that S-05 asks for.
func isBranchSeed(s string) bool {
	for i := range len(s) {
		if _, ok := unhex(s[i]); !ok {
			return false
		}
	}
	return len(s) >= 24 && len(s) <= 64
}

// checkHeaders finds lines that would contradict ours, or that are none. A name
// is only quoted when it is one of ours.
func checkHeaders(headers []messages.Header) error {
	if len(headers) > maxHeaders {
		return fmt.Errorf("request: %d headers, at most %d are allowed", len(headers), maxHeaders)
	}
	for _, h := range headers {
		name := mutation.Canonical(h.Name)
		switch {
		case isWritten(name):
			return errors.New("request: the header " + name + " is written by the adapter")
		case !challenge.IsToken(h.Name) || !challenge.IsFieldValue(h.Value):
			return errors.New("request: malformed header")
		case len(h.Name)+len(h.Value) > maxHeaderSize:
			return fmt.Errorf("request: a header over %d bytes", maxHeaderSize)
		}
	}
	return nil
}

// isWritten tells the headers that come from the other fields of a request. The
// name is canonical.
func isWritten(name string) bool {
	switch name {
	case "via", "from", "to", "call-id", "cseq", "contact", "route", "record-route", "max-forwards",
		"content-length", "content-type", "authorization", "proxy-authorization",
		"supported", "user-agent", "expires":
		return true
	}
	return false
}

// isBracketable tells whether a URI can stand between angle brackets and in a
// Request-Line.
func isBracketable(uri string) bool {
	scheme, rest, ok := strings.Cut(uri, ":")
	return ok && isScheme(scheme) && rest != "" && challenge.IsFieldValue(uri) && !strings.ContainsAny(uri, " \t<>\"")
}

// template is a request without its Via, the only line in which the attempts
// of one request differ (RFC 3263 §4.3).
type template struct {
	head string // the Request-Line
	tail string // everything after the Via
}

// size is the length of the packet for UDP.
func (t template) size(sentBy hostPort) int {
	return len(t.head) + len("Via: SIP/2.0/UDP ;branch=;rport\r\n") + len(sentBy.String()) + branchLength + len(t.tail)
}

// packet is what goes on the wire.
func (t template) packet(over transport, sentBy hostPort, k branchKey) []byte {
	b := make([]byte, 0, len(t.head)+len(t.tail)+128)
	b = append(b, t.head...)
	b = appendVia(b, over, sentBy, k)
	return append(b, t.tail...)
}

// appendVia writes the Via line. rport asks for the answer to come back to where
// the request came from (RFC 3581 §3).
func appendVia(b []byte, over transport, sentBy hostPort, k branchKey) []byte {
	return endVia(appendSent(append(b, "Via: "...), over, sentBy), over, k)
}

// endVia writes what follows sent-by.
func endVia(b []byte, over transport, k branchKey) []byte {
	b = k.appendTo(append(b, ";branch="...))
	if over == transportUDP {
		b = append(b, ";rport"...)
	}
	return append(b, "\r\n"...)
}

// appendSent writes the value of a Via up to its parameters.
func appendSent(b []byte, over transport, sentBy hostPort) []byte {
	if over == transportTCP {
		b = append(b, "SIP/2.0/TCP "...)
	} else {
		b = append(b, "SIP/2.0/UDP "...)
	}
	b = append(append(b, sentBy.host...), ':')
	return strconv.AppendUint(b, uint64(sentBy.port), 10)
}

// line is one header line of a request.
type line struct{ name, value string }

// requestLines are the Request-URI and the header lines of a request that check
// accepted, and whose mutations are checked as well. contact is our Contact
// URI.
func requestLines(r *messages.SIPRequest, contact, userAgent string) (requestURI string, lines []line) {
	requestURI, routes := route(r)
	lines = ownLines(r, routes, contact, userAgent)
	for _, h := range r.Headers {
		lines = append(lines, line{spelledOut(mutation.Canonical(h.Name), h.Name), trim(h.Value)})
	}
	return requestURI, mutate(lines, r.Mutations)
}

// serialise describes the body and writes everything down.
func serialise(r *messages.SIPRequest, requestURI string, lines []line) template {
	if r.ContentType != "" {
		lines = append(lines, line{"Content-Type", r.ContentType})
	}
	lines = append(lines, line{"Content-Length", strconv.Itoa(len(r.Body))})
	return template{
		head: r.Method + " " + requestURI + " SIP/2.0\r\n",
		tail: write(lines, r.Body),
	}
}

// ownLines are the header lines that come from the fields of a request.
func ownLines(r *messages.SIPRequest, routes []string, contact, userAgent string) []line {
	lines := make([]line, 0, 16)
	add := func(name, value string) { lines = append(lines, line{name, value}) }
	for _, value := range routes {
		add("Route", value)
	}
	add("Max-Forwards", maxForwards)
	add("From", "<"+r.From+">;tag="+r.FromTag)
	if r.ToTag == "" {
		add("To", "<"+r.To+">")
	} else {
		add("To", "<"+r.To+">;tag="+r.ToTag)
	}
	add("Call-ID", r.CallID)
	add("CSeq", strconv.FormatUint(uint64(r.CSeq), 10)+" "+r.Method)
	expires := ""
	if r.Expires >= 0 {
		expires = strconv.FormatInt(min(r.Expires, 1<<32-1), 10)
	}
	if !r.NoContact {
		value := "<" + contact + ">"
		if expires != "" && r.Method == "REGISTER" {
			value += ";expires=" + expires
		}
		add("Contact", value)
	}
	if expires != "" {
		add("Expires", expires)
	}
	if len(r.Supported) > 0 {
		add("Supported", strings.Join(r.Supported, ", "))
	}
	if userAgent != "" {
		add("User-Agent", userAgent)
	}
	return lines
}

func write(lines []line, body []byte) string {
	size := len(body) + 2
	for _, l := range lines {
		size += len(l.name) + len(l.value) + 4
	}
	var b strings.Builder
	b.Grow(size)
	for _, l := range lines {
		b.WriteString(l.name)
		b.WriteString(": ")
		b.WriteString(l.value)
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.String()
}

// route applies a pre-loaded route set (RFC 3261 §8.1.1.1, §12.2.1.1). Behind
// a strict router, one whose URI has no lr parameter, that URI is where the
// request goes, and the real target travels as the last Route.
func route(r *messages.SIPRequest) (requestURI string, routes []string) {
	if len(r.Route) == 0 {
		return r.RequestURI, nil
	}
	routes = make([]string, 0, len(r.Route)+1)
	for _, value := range r.Route {
		if !strings.Contains(value, "<") {
			value = "<" + value + ">"
		}
		routes = append(routes, value)
	}
	first, _ := parseNameAddr(routes[0])
	u, err := parseURI(first.uri)
	if err != nil {
		return r.RequestURI, routes
	}
	if _, loose := u.param("lr"); loose {
		return r.RequestURI, routes
	}
	return u.asRequestURI(), append(routes[1:], "<"+r.RequestURI+">")
}

// asRequestURI leaves out what a Request-URI must not have: the header part
// and the method parameter (RFC 3261 §19.1.1 table 1).
func (u uri) asRequestURI() string {
	var b strings.Builder
	b.WriteString(u.scheme + ":")
	if u.hasUser {
		b.WriteString(u.user + "@")
	}
	b.WriteString(u.host)
	if u.port >= 0 {
		fmt.Fprintf(&b, ":%d", u.port)
	}
	for _, p := range u.params {
		if p.name == "method" {
			continue
		}
		b.WriteString(";" + p.name)
		if p.value != "" {
			b.WriteString("=" + p.value)
		}
	}
	return b.String()
}
