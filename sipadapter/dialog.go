package sipadapter

import (
	"math"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Bounds on what is kept of a dialog (S-31).
const (
	maxRecordRoutes = 16
	maxPassed       = 64
)

// dialogInfo reads what a message says about its dialog. What is malformed
// counts as absent, and no value holds a byte that could not be written into a
// message of ours (S-33, S-52).
func dialogInfo(m *message) *messages.DialogInfo {
	d := &messages.DialogInfo{
		RemoteTag:   remoteTag(m),
		RSeq:        reliable(m),
		Allow:       optionTags(m, "allow"),
		Supported:   optionTags(m, "supported"),
		Require:     optionTags(m, "require"),
		MinSE:       minSE(m),
		Headers:     passed(m),
		ContentType: contentType(m),
		Body:        m.body,
	}
	d.SessionExpires, d.Refresher = sessionExpires(m)
	// Without the proxies on the way the target is of no use: a request that
	// passed them by would go where the dialog is not (RFC 3261 §12.2.1.1).
	if routes, ok := recordRoutes(m); ok {
		d.RouteSet, d.Target = routes, remoteTarget(m)
	}
	return d
}

// remoteTag is the To tag of a response and the From tag of a request.
func remoteTag(m *message) string {
	name := "to"
	if m.request {
		name = "from"
	}
	value, _ := m.one(name)
	t, _ := tag(value)
	if !challenge.IsToken(t) {
		return ""
	}
	return t
}

// remoteTarget is the URI of a Contact that is the only one, without its header
// part (RFC 3261 §19.1.1 table 1; S-54).
func remoteTarget(m *message) string {
	target, count := "", 0
	for value := range m.all("contact") {
		for element := range elements(value) {
			if count++; count > 1 {
				return ""
			}
			n, ok := parseNameAddr(element)
			if !ok {
				continue
			}
			if u, err := parseURI(n.uri); err == nil && challenge.IsFieldValue(u.noHeader) {
				target = u.noHeader
			}
		}
	}
	return target
}

// recordRoutes is the route set: reversed from a response, because the caller
// meets the proxies in the other order (RFC 3261 §12.1.1, §12.1.2). One element
// that cannot be used makes the whole set useless.
func recordRoutes(m *message) ([]string, bool) {
	var routes []string
	for value := range m.all("record-route") {
		for element := range elements(value) {
			if len(routes) == maxRecordRoutes || !isRecordRoute(element) {
				return nil, false
			}
			routes = append(routes, element)
		}
	}
	if !m.request {
		slices.Reverse(routes)
	}
	return routes, true
}

// isRecordRoute takes a name-addr in angle brackets whose URI has no header
// part (RFC 3261 §20.30, §19.1.1 table 1).
func isRecordRoute(element string) bool {
	n, ok := parseNameAddr(element)
	if !ok || !strings.Contains(element, "<") || strings.ContainsAny(n.params, "<>") || !challenge.IsFieldValue(element) {
		return false
	}
	u, err := parseURI(n.uri)
	return err == nil && u.noHeader == n.uri
}

// reliable is the RSeq of a provisional response that asks for a PRACK (RFC
// 3262 §3, §7.1).
func reliable(m *message) uint32 {
	if m.request || m.status <= 100 || m.status >= 200 || !slices.Contains(optionTags(m, "require"), "100rel") {
		return 0
	}
	value, ok := m.one("rseq")
	if !ok {
		return 0
	}
	n, ok := parseDigits(trim(value), math.MaxInt32)
	if !ok {
		return 0
	}
	return uint32(n)
}

// sessionExpires reads the interval and who refreshes (RFC 4028 §4).
func sessionExpires(m *message) (seconds uint32, refresher string) {
	seconds, params := deltaSeconds(m, "session-expires")
	if seconds == 0 {
		return 0, ""
	}
	value, _ := parameter(params, "refresher")
	switch value = strings.ToLower(value); value {
	case "uac", "uas":
		refresher = value
	}
	return seconds, refresher
}

// minSE reads the smallest interval that the peer or a proxy takes (RFC 4028
// §5).
func minSE(m *message) uint32 {
	seconds, _ := deltaSeconds(m, "min-se")
	return seconds
}

// deltaSeconds reads a header of the form seconds;params, 0 when it is absent
// or malformed.
func deltaSeconds(m *message, name string) (seconds uint32, params string) {
	value, ok := m.one(name)
	if !ok {
		return 0, ""
	}
	digits, params, _ := strings.Cut(value, ";")
	n, ok := parseDigits(trim(digits), math.MaxUint32)
	if !ok {
		return 0, ""
	}
	return uint32(n), params
}

func contentType(m *message) string {
	value, ok := m.one("content-type")
	if !ok || !challenge.IsFieldValue(value) {
		return ""
	}
	return trim(value)
}

// passed are the lines that have a meaning end to end.
func passed(m *message) []messages.Header {
	var out []messages.Header
	for _, f := range m.fields {
		if len(out) == maxPassed {
			break
		}
		value := trim(f.value)
		if value == "" || isOwn(f.name) || !challenge.IsFieldValue(value) {
			continue
		}
		out = append(out, messages.Header{Name: spelledOut(f.name, f.written), Value: value})
	}
	return out
}

// isOwn tells the headers that mean something only on this hop or in this
// dialog, or that are read into fields of their own: a bridge that passed one
// on would lie. The name is canonical.
func isOwn(name string) bool {
	switch name {
	case "via", "route", "record-route", "path", "service-route", "max-forwards", "max-breadth",
		"proxy-require", "timestamp", "security-client", "security-server", "security-verify": // the hop
		return true
	case "from", "to", "call-id", "cseq", "contact", "rseq", "rack",
		"replaces", "join", "target-dialog": // the dialog
		return true
	case "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate",
		"authentication-info", "proxy-authentication-info": // whom the credentials are for
		return true
	case "allow", "supported", "require", "unsupported", "session-expires", "min-se",
		"expires", "min-expires", "retry-after", "flow-timer": // what each side negotiates
		return true
	case "content-length", "content-type": // the body
		return true
	case "server", "user-agent":
		return true
	}
	return false
}
