package sipadapter

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// Faults of a URI. None quotes it: it may hold a password.
var (
	errScheme = errors.New("not a sip or sips URI")
	errURI    = errors.New("malformed SIP URI")
)

// uri is a SIP or SIPS URI, taken apart and otherwise as written (RFC 3261
// §19.1.1).
type uri struct {
	scheme   string // lower case
	user     string // with its password and escapes
	hasUser  bool
	host     string // with the brackets of an IPv6 reference
	port     int    // -1 when absent
	params   []uriParam
	headers  string // after the question mark
	noHeader string // the whole URI without its header part
}

type uriParam struct{ name, value string } // name in lower case

// parseURI takes a SIP or SIPS URI apart. Other schemes give errScheme.
func parseURI(s string) (uri, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) {
		return uri{}, errURI
	}
	u := uri{scheme: strings.ToLower(scheme), port: -1}
	if u.scheme != "sip" && u.scheme != "sips" {
		return u, errScheme
	}
	if strings.ContainsAny(rest, " \t\"<>") || hasControl(rest) {
		return u, errURI
	}
	// The user part may hold ";" and "?", so it is cut off first. A raw "@"
	// may stand nowhere else.
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		u.user, u.hasUser, rest = rest[:at], true, rest[at+1:]
		if u.user == "" || strings.IndexByte(rest, '@') >= 0 || strings.IndexByte(u.user, '[') >= 0 {
			return u, errURI
		}
	}
	var hasHeaders bool
	rest, u.headers, hasHeaders = strings.Cut(rest, "?")
	u.noHeader = s
	if hasHeaders {
		u.noHeader = s[:len(s)-len(u.headers)-1]
	}
	hostport, params, _ := strings.Cut(rest, ";")
	if !u.takeHostPort(hostport) {
		return u, errURI
	}
	for p := range strings.SplitSeq(params, ";") {
		if p != "" {
			name, value, _ := strings.Cut(p, "=")
			u.params = append(u.params, uriParam{strings.ToLower(unescape(name)), value})
		}
	}
	return u, nil
}

func (u *uri) takeHostPort(s string) bool {
	host, port, ok := cutPort(s)
	if !ok || !isHost(host) {
		return false
	}
	u.host = host
	if port != "" {
		n, ok := parseDigits(port, 65535)
		if !ok {
			return false
		}
		u.port = int(n)
	}
	return true
}

func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !isDigit(c) && c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

// cutPort splits host[:port]; the brackets of an IPv6 reference stay.
func cutPort(s string) (host, port string, ok bool) {
	end := 0
	if strings.HasPrefix(s, "[") {
		if end = strings.IndexByte(s, ']') + 1; end == 0 {
			return "", "", false
		}
	}
	colon := strings.IndexByte(s[end:], ':')
	if colon < 0 {
		return s, "", end == 0 || end == len(s)
	}
	host, port = s[:end+colon], s[end+colon+1:]
	if end > 0 && colon > 0 || port == "" {
		return "", "", false
	}
	for i := range len(port) {
		if !isDigit(port[i]) {
			return "", "", false
		}
	}
	return host, port, true
}

// isHost accepts names and addresses. An IPv6 reference is only checked for
// its characters: RFC 5118 §4.10 wants the spelling with a third colon, which
// an old grammar produced, to be tolerated.
func isHost(s string) bool {
	allowed := func(c byte) bool { return isAlphanum(c) || c == '.' || c == '-' || c == '_' }
	if strings.HasPrefix(s, "[") {
		if len(s) < 4 || s[len(s)-1] != ']' {
			return false
		}
		s = s[1 : len(s)-1]
		allowed = func(c byte) bool {
			return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':' || c == '.'
		}
	}
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

// numericHost reads the host of a URI or Via as an address, if it is one.
func numericHost(host string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return ip.Unmap(), err == nil && ip.Is6() == strings.HasPrefix(host, "[")
}

// sameHost compares names without case and addresses by value.
func sameHost(a, b string) bool {
	if a == b {
		return true
	}
	left, okLeft := numericHost(a)
	right, okRight := numericHost(b)
	if okLeft && okRight {
		return left == right
	}
	return strings.EqualFold(a, b)
}

func (u uri) param(name string) (string, bool) {
	for _, p := range u.params {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

// equal compares by RFC 3261 §19.1.4.
func (u uri) equal(v uri) bool {
	return u.scheme == v.scheme && u.hasUser == v.hasUser && // sip and sips never match
		unescape(u.user) == unescape(v.user) && // the user part keeps its case
		sameHost(u.host, v.host) &&
		u.port == v.port && // a default that is written differs from one that is not
		equalParams(u.params, v.params) && equalParams(v.params, u.params) &&
		equalHeaders(u.headers, v.headers)
}

// equalParams checks every parameter of a against b: one that is in both must
// match, and the five that decide where a request goes must be in both.
func equalParams(a, b []uriParam) bool {
	for _, p := range a {
		found := false
		for _, q := range b {
			if p.name != q.name {
				continue
			}
			if !strings.EqualFold(unescape(p.value), unescape(q.value)) {
				return false
			}
			found = true
		}
		switch p.name {
		case "transport", "user", "method", "ttl", "maddr":
			if !found {
				return false
			}
		}
	}
	return true
}

// equalHeaders: header parts are never ignored; their order is.
func equalHeaders(a, b string) bool {
	if a == b {
		return true
	}
	left, right := strings.Split(a, "&"), strings.Split(b, "&")
	if len(left) != len(right) {
		return false
	}
	seen := make(map[string]int, len(left))
	for _, h := range left {
		seen[headerKey(h)]++
	}
	for _, h := range right {
		key := headerKey(h)
		if seen[key] == 0 {
			return false
		}
		seen[key]--
	}
	return true
}

func headerKey(h string) string {
	name, value, _ := strings.Cut(h, "=")
	return strings.ToLower(unescape(name)) + "=" + unescape(value)
}

// unescape decodes the escapes of characters that need none. An escape of a
// reserved character or a control byte stays, in one spelling: it is not
// equivalent to the character itself (RFC 3261 §19.1.4).
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c, ok := escaped(s[i:])
		switch {
		case !ok:
			b.WriteByte(s[i])
		case isAlphanum(c) || strings.IndexByte("-_.!~*'()", c) >= 0:
			b.WriteByte(c)
			i += 2
		default:
			b.WriteString(strings.ToUpper(s[i : i+3]))
			i += 2
		}
	}
	return b.String()
}

// escaped reads the "%HH" at the start of s.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[1:3], 16, 8)
	return byte(n), err == nil
}

// escapeUser writes a user part so that it can stand in a URI. A "+", as in a
// telephone number, needs no escape (RFC 3261 §25.1, user-unreserved); valid
// escapes are kept, because the user comes from a URI.
func escapeUser(user string) string {
	const hex = "0123456789ABCDEF"
	clean := true
	for i := 0; i < len(user) && clean; i++ {
		_, ok := escaped(user[i:])
		clean = ok || isUserByte(user[i])
	}
	if clean {
		return user
	}
	var b strings.Builder
	for i := range len(user) {
		c := user[i]
		if _, ok := escaped(user[i:]); ok || isUserByte(c) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

func isUserByte(c byte) bool {
	return isAlphanum(c) || strings.IndexByte("-_.!~*'()&=+$,;?/", c) >= 0
}
