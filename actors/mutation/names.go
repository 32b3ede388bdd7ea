package mutation

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
)

// Canonical is the full header name in lower case; compact forms count (S-50).
// Nothing is trimmed.
func Canonical(name string) string {
	switch name { // the usual spellings, without an allocation
	case "Via", "v":
		return "via"
	case "From", "f":
		return "from"
	case "To", "t":
		return "to"
	case "Call-ID", "i":
		return "call-id"
	case "CSeq":
		return "cseq"
	case "Contact", "m":
		return "contact"
	case "Content-Length", "l":
		return "content-length"
	case "Expires":
		return "expires"
	case "Authorization":
		return authorization
	case "Proxy-Authorization":
		return proxyAuthorization
	}
	name = strings.ToLower(name)
	if full, ok := compactForms[name]; ok {
		return full
	}
	return name
}

// compactForms is the registry of compact header names (IANA, SIP Parameters).
var compactForms = map[string]string{
	"a": "accept-contact", "b": "referred-by", "c": "content-type",
	"d": "request-disposition", "e": "content-encoding", "f": "from",
	"i": "call-id", "j": "reject-contact", "k": "supported",
	"l": "content-length", "m": "contact", "n": "identity-info", "o": "event",
	"r": "refer-to", "s": "subject", "t": "to", "u": "allow-events",
	"v": "via", "x": "session-expires", "y": "identity",
}

const (
	authorization      = "authorization"
	proxyAuthorization = "proxy-authorization"
)

// never are the headers that no configuration can open, with what they decide.
var never = []struct {
	why   string
	names []string
}{
	{"decides where the request goes", []string{
		"via", "route", "record-route", "path", "service-route", "contact",
		"max-forwards", "max-breadth", // RFC 5393
		"request-disposition", "accept-contact", "reject-contact", // RFC 3841
	}},
	{"decides which transaction or dialog the request belongs to", []string{
		"call-id", "cseq", "rack", "rseq", "replaces", "join", "target-dialog",
	}},
	{"decides who the request claims to come from or to be for", []string{
		"from", "to", "p-asserted-identity", "p-preferred-identity",
		"p-served-user", "remote-party-id", "diversion", "history-info",
		"privacy", "referred-by",
	}},
	{"decides how long a binding or session lasts", []string{
		"expires", "min-expires", "session-expires", "min-se", "retry-after",
		"flow-timer",
	}},
	{"decides what the request asks for", []string{
		"event", "allow-events", "subscription-state", "refer-to", "refer-sub",
		"sip-etag", "sip-if-match",
	}},
	{"describes the body", []string{"mime-version", "te", "trailer"}},
	{"says when the request was made", []string{"date", "timestamp"}},
	{"belongs into a response", []string{
		"www-authenticate", "proxy-authenticate", "authentication-info",
		"proxy-authentication-info", "unsupported",
	}},
}

// forbidden tells what a header decides that can never be changed, or "". The
// name is canonical.
func forbidden(name string) string {
	if strings.HasPrefix(name, "content-") || strings.HasPrefix(name, "transfer-") {
		return "describes the body"
	}
	for _, n := range never {
		if slices.Contains(n.names, name) {
			return n.why
		}
	}
	return ""
}

// isOptionList tells the headers that say which extensions a request needs and
// knows. sec-agree is all that an answer may add to one.
func isOptionList(name string) bool {
	return name == "require" || name == "proxy-require" || name == "supported"
}

// Listable tells whether a configuration may list a header for an xSP, and the
// error tells the operator why not.
func Listable(name string) error {
	if !challenge.IsToken(name) {
		return fmt.Errorf("%.40q is not the name of a header (RFC 3261 §25.1)", name)
	}
	if strings.Contains(name, "*") {
		return fmt.Errorf("%.40q: headers are listed one by one, * stands for nothing", name)
	}
	canonical := Canonical(name)
	if why := forbidden(canonical); why != "" {
		return fmt.Errorf("%s %s and can never be changed", spelled(canonical), why)
	}
	if !strings.EqualFold(canonical, name) {
		return fmt.Errorf("%q is a compact form: write %s", name, spelled(canonical))
	}
	return nil
}

// spelled is a canonical name as SIP spells it, cut to what a log line holds.
func spelled(canonical string) string {
	const most = 40
	cut := ""
	if len(canonical) > most {
		canonical, cut = canonical[:most], "..."
	}
	words := strings.Split(canonical, "-")
	for i, w := range words {
		switch w {
		case "id", "mime", "www", "se", "sip", "uri":
			words[i] = strings.ToUpper(w)
		case "cseq", "rseq":
			words[i] = strings.ToUpper(w[:2]) + w[2:]
		case "rack":
			words[i] = "RAck"
		case "etag":
			words[i] = "ETag"
		case "":
		default:
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "-") + cut
}

// notAToken is the error for a name that is none. It shows the token that the
// name begins with and no more: an authenticator that wrote a whole header
// line into the name must not have its value logged.
func notAToken(name string) error {
	n := challenge.TokenLength(name)
	if n == 0 {
		return errors.New("the header name is not a token")
	}
	return fmt.Errorf("the header name that begins with %s is not a token", spelled(Canonical(name[:n])))
}

func isAlphanum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
