package sipadapter

import (
	"strconv"
	"strings"
	"unsafe"

	"github.com/sipmuster/muster/messages"
)

// A usual REGISTER is one that needs no care: nothing in it has to be escaped,
// merged or refused, and it fits into a datagram. It is written straight into
// one buffer, byte for byte as build.go writes it, and is written again when it
// is sent again. All other requests are build.go's.

const (
	// registerRoom is what a usual REGISTER has besides the values of its fields
	// and the addresses in Via and Contact.
	registerRoom = 400
	// addressRoom is for each of the two addresses.
	addressRoom = 64
)

// isUsual accepts nothing that check or mutation.Check would refuse, but for a
// Route, for which looseRoute decides.
func isUsual(r *messages.SIPRequest, userAgent string) bool {
	size := registerRoom + 2*addressRoom + len(r.RequestURI) + len(r.From) + len(r.FromTag) + len(r.To) +
		len(r.CallID) + len(r.ContactUser) + len(userAgent)
	for _, m := range r.Mutations {
		size += len(m.GetName()) + len(m.GetValue()) + 4
	}
	for _, tag := range r.Supported {
		size += len(tag) + 2
	}
	for _, value := range r.Route {
		size += len(value) + len("Route: <>\r\n")
	}
	return size <= maxDatagram &&
		r.Method == "REGISTER" &&
		isPlainURI(r.RequestURI) && strings.IndexByte(r.RequestURI, '@') < 0 &&
		isPlainURI(r.From) && isPlainURI(r.To) && r.ToTag == "" &&
		isMade(r.FromTag, inToken) && isMade(r.CallID, inCallID) &&
		r.CSeq < 1<<31 &&
		isMade(r.ContactUser, inUser) && !r.NoContact &&
		len(r.Route) <= 1 && len(r.Headers) == 0 && r.ContentType == "" && len(r.Body) == 0 &&
		areTokens(r.Supported) && areUsual(r.Mutations)
}

func areTokens(list []string) bool {
	for _, s := range list {
		if !isMade(s, inToken) {
			return false
		}
	}
	return true
}

// looseRoute gives the value of the Route line for a route set of one proxy, if
// that is well formed and routes loosely. It is the same for all profiles behind
// the proxy.
func (a *Adapter) looseRoute(value string) (string, bool) {
	l, ok := a.routes.get(value)
	if !ok {
		r := messages.SIPRequest{RequestURI: "sip:invalid", Route: []string{value}}
		if isRoute(value) {
			if requestURI, routes := route(&r); requestURI == r.RequestURI && len(routes) == 1 {
				l = routes[0]
			}
		}
		a.routes.put(strings.Clone(value), l)
	}
	return l, l != ""
}

// areUsual accepts credentials, of which each SET is the first of its name: then
// the lines are the mutations in order.
func areUsual(mutations []*messages.HeaderMutation) bool {
	if len(mutations) > 2 {
		return false
	}
	for i, m := range mutations {
		name, value := m.GetName(), m.GetValue()
		switch {
		case name != "Authorization" && name != "Proxy-Authorization",
			m.GetOp() != messages.Op_SET && m.GetOp() != messages.Op_ADD,
			m.GetOp() == messages.Op_SET && i > 0 && mutations[0].GetName() == name,
			!isPlain(value) || value[0] == ' ' || value[len(value)-1] == ' ':
			return false
		}
	}
	return true
}

// Which strings a byte may stand in, as a usual REGISTER has them.
const (
	inToken  = 1 << iota // RFC 3261 §25.1
	inCallID             // visible, and no comma
	inURI                // visible, and nothing that ends a URI
	inUser               // needs no escape in the user part of a URI
)

var usualBytes = func() (t [256]uint8) {
	for c := byte(' '); c <= '~'; c++ {
		if c != ' ' && c != ',' {
			t[c] |= inCallID
		}
		if strings.IndexByte(" <>\"", c) < 0 {
			t[c] |= inURI
		}
		if isUserByte(c) {
			t[c] |= inUser
		}
		if isAlphanum(c) || strings.IndexByte("-.!%*_+`'~", c) >= 0 {
			t[c] |= inToken
		}
	}
	return t
}()

// isMade tells whether s is not empty and made of one class of bytes.
func isMade(s string, class uint8) bool {
	for i := range len(s) {
		if usualBytes[s[i]]&class == 0 {
			return false
		}
	}
	return s != ""
}

// isPlain tells whether s is not empty and made of visible ASCII and blanks.
func isPlain(s string) bool {
	return s != "" && plainLength(unsafe.Slice(unsafe.StringData(s), len(s))) == len(s)
}

// isPlainURI takes a sip URI that can stand between angle brackets and in a
// Request-Line.
func isPlainURI(s string) bool {
	return len(s) > len("sip:") && s[:len("sip:")] == "sip:" && isMade(s, inURI)
}

// registration is a usual REGISTER with what else goes into it.
type registration struct {
	*messages.SIPRequest
	sent      string // the value of our Via up to its parameters
	route     string // the value of its Route line, if it has one
	host      string // of our Contact URI, and what follows it
	userAgent string
}

// appendTo writes the request as it goes to one target.
func (r registration) appendTo(b []byte, over transport, k branchKey) []byte {
	b = append(append(append(b, "REGISTER "...), r.RequestURI...), " SIP/2.0\r\n"...)
	b = endVia(append(append(b, "Via: "...), r.sent...), over, k)
	if r.route != "" {
		b = append(append(append(b, "Route: "...), r.route...), "\r\n"...)
	}
	b = append(append(append(b, "Max-Forwards: "+maxForwards+"\r\nFrom: <"...), r.From...), ">;tag="...)
	b = append(append(append(b, r.FromTag...), "\r\nTo: <"...), r.To...)
	b = append(append(append(b, ">\r\nCall-ID: "...), r.CallID...), "\r\nCSeq: "...)
	b = append(strconv.AppendUint(b, uint64(r.CSeq), 10), " REGISTER\r\nContact: <sip:"...)
	b = append(append(append(append(b, r.ContactUser...), '@'), r.host...), '>')
	if r.Expires >= 0 {
		expires := min(r.Expires, 1<<32-1)
		b = strconv.AppendInt(append(b, ";expires="...), expires, 10)
		b = strconv.AppendInt(append(b, "\r\nExpires: "...), expires, 10)
	}
	for i, tag := range r.Supported {
		if i == 0 {
			b = append(b, "\r\nSupported: "...)
		} else {
			b = append(b, ", "...)
		}
		b = append(b, tag...)
	}
	if r.userAgent != "" {
		b = append(append(b, "\r\nUser-Agent: "...), r.userAgent...)
	}
	for _, m := range r.Mutations {
		b = append(append(append(append(b, "\r\n"...), m.GetName()...), ": "...), m.GetValue()...)
	}
	return append(b, "\r\nContent-Length: 0\r\n\r\n"...)
}
