package sipadapter

import (
	"math"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Bounds on what is kept of a response (S-31).
const (
	maxChallenges    = 64
	maxChallengeSize = 8 << 10
	maxServiceRoutes = 16
	maxOptionTags    = 64
	maxAuthInfo      = 16
	maxPhrase        = 256
)

// translate turns a response into what the cores need of it. ours is the
// Contact URI of the request. Every number is range-checked, and what is malformed
// counts as absent (S-33).
func translate(m *message, ours string) *messages.SIPResponse {
	var out *messages.SIPResponse
	switch {
	case m.status >= 200 && m.status < 300:
		with := &withContact{}
		out = &with.SIPResponse
		bindings(m, ours, out, with.first[:0])
		out.Challenges = challenges(m, nil)
	default:
		with := &withChallenge{}
		out = &with.SIPResponse
		out.Challenges = challenges(m, with)
	}
	if m.status >= 300 && m.status < 400 {
		out.Redirects = redirects(m)
	}
	out.Status, out.Phrase, out.RetryAfter = m.status, shownPhrase(m), -1
	if !m.bare {
		rarities(m, out)
	}
	return out
}

// rarities fills in what only a few responses have.
func rarities(m *message, out *messages.SIPResponse) {
	if m.status >= 200 && m.status < 300 {
		out.ServiceRoute = serviceRoute(m)
	}
	if value, ok := m.one("min-expires"); ok {
		n, _ := parseDigits(trim(value), math.MaxUint32)
		out.MinExpires = uint32(n)
	}
	if value, ok := m.one("retry-after"); ok {
		out.RetryAfter = retryAfter(value)
	}
	out.Unsupported = optionTags(m, "unsupported")
	out.AuthInfo = authInfo(m)
}

// withContact and withChallenge are responses in one piece with what most of them
// have one of.
type (
	withContact struct {
		messages.SIPResponse
		first [1]messages.ContactBinding
	}
	withChallenge struct {
		messages.SIPResponse
		first [1]*messages.RecordedChallenge
		value messages.RecordedChallenge
	}
)

// shownPhrase is empty when the phrase is too long to be read or cannot be shown
// as it is.
func shownPhrase(m *message) string {
	if len(m.phrase) > maxPhrase || !m.isFieldValue(m.phrase) {
		return ""
	}
	return trim(m.phrase)
}

// challenges are in wire order, each as it stood there: whether one is broken
// is not decided here (CHA-20, CHA-21). A control byte, which sipgo accepts
// inside quotes, could come back in an answer and is not passed on (S-52). with,
// which may be nil, has room for the first.
func challenges(m *message, with *withChallenge) []*messages.RecordedChallenge {
	var out []*messages.RecordedChallenge
	for i := range m.fields {
		f := &m.fields[i]
		var space messages.Space
		switch f.name {
		case "www-authenticate":
			space = messages.Space_ORIGIN
		case "proxy-authenticate":
			space = messages.Space_PROXY
		default:
			continue
		}
		whole := [1]string{f.value}
		list := whole[:]
		if !isOneChallenge(f.value) {
			list = challenge.Split(f.value)
		}
		for _, raw := range list {
			switch {
			case len(out) == maxChallenges || len(raw) > maxChallengeSize || !m.isFieldValue(raw):
			case out == nil && with != nil:
				with.value.Space, with.value.Raw = space, raw
				with.first[0] = &with.value
				out = with.first[:]
			default:
				out = append(out, &messages.RecordedChallenge{Space: space, Raw: raw})
			}
		}
	}
	return out
}

// isOneChallenge tells whether a value is nothing but one challenge: behind each
// comma outside of quotes comes a parameter. False means only that challenge.Split
// has to look.
func isOneChallenge(value string) bool {
	if value == "" || len(value) > maxChallengeSize || !isVisible(value[0]) || !isVisible(value[len(value)-1]) {
		return false
	}
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '\\':
			return false
		case '"':
			n := strings.IndexByte(value[i+1:], '"')
			if n < 0 || strings.IndexByte(value[i+1:i+1+n], '\\') >= 0 {
				return false
			}
			i += n + 1
		case ',':
			rest := strings.TrimLeft(value[i+1:], " ")
			if n := challenge.TokenLength(rest); n == 0 || n == len(rest) || rest[n] != '=' {
				return false
			}
		}
	}
	return true
}

// isVisible tells the bytes that challenge.Split keeps at the ends.
func isVisible(c byte) bool { return c > ' ' && c != ',' }

// retryAfter reads delta-seconds with an optional comment and parameters (RFC
// 3261 §20.33): "120 (I'm in a meeting);duration=60". It is negative when
// malformed.
func retryAfter(value string) time.Duration {
	value = trim(value)
	end := 0
	for end < len(value) && isDigit(value[end]) {
		end++
	}
	rest := trim(value[end:])
	if rest != "" && rest[0] != '(' && rest[0] != ';' {
		return -1
	}
	seconds, ok := parseDigits(value[:end], math.MaxUint32)
	if !ok {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// serviceRoute keeps the order (RFC 3608 §6.1). One malformed element makes
// the whole list useless: leaving it out would send requests another way.
func serviceRoute(m *message) []string {
	var routes []string
	for value := range m.all("service-route") {
		for element := range elements(value) {
			n, ok := parseNameAddr(element)
			if !ok || !challenge.IsFieldValue(element) || !strings.Contains(element, "<") || len(routes) == maxServiceRoutes {
				return nil
			}
			if _, err := parseURI(n.uri); err != nil {
				return nil
			}
			routes = append(routes, element)
		}
	}
	return routes
}

// optionTags reads a list of option tags.
func optionTags(m *message, name string) []string {
	var tags []string
	for value := range m.all(name) {
		for element := range elements(value) {
			if challenge.IsToken(element) && len(tags) < maxOptionTags {
				tags = append(tags, element)
			}
		}
	}
	return tags
}

// authInfo reads Authentication-Info and Proxy-Authentication-Info (RFC 7615
// §3, RFC 7616 §3.5). A parameter that is there twice makes a header
// ambiguous, and it is left out.
func authInfo(m *message) []messages.AuthInfo {
	var out []messages.AuthInfo
	for _, f := range m.fields {
		info := messages.AuthInfo{HasBody: len(m.body) > 0}
		switch f.name {
		case "authentication-info":
			info.Space = messages.Space_ORIGIN
		case "proxy-authentication-info":
			info.Space = messages.Space_PROXY
		default:
			continue
		}
		if challenge.IsFieldValue(f.value) && len(out) < maxAuthInfo && readAuthInfo(f.value, &info) {
			out = append(out, info)
		}
	}
	return out
}

func readAuthInfo(list string, info *messages.AuthInfo) bool {
	seen := make(map[string]bool, 5)
	for element := range elements(list) {
		name, value, ok := strings.Cut(element, "=")
		name = strings.ToLower(trim(name))
		if !ok || !challenge.IsToken(name) || seen[name] {
			return false
		}
		seen[name] = true
		value = unquote(trim(value))
		switch name {
		case "nextnonce":
			info.NextNonce = value
		case "rspauth":
			info.Rspauth = value
		case "qop":
			info.QOP = value
		case "cnonce":
			info.Cnonce = value
		case "nc":
			info.NC = value
		}
	}
	return len(seen) > 0
}
