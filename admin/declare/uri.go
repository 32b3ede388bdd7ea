package declare

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// maxURI bounds every URI that people write.
const maxURI = 1024

// URI is a SIP URI taken apart (RFC 3261 §19.1.1), as far as declarations and
// the configuration need it. It is not used to build messages.
type URI struct {
	// Scheme is "sip" or "sips".
	Scheme string
	// User is the user part as written, still escaped; empty without one.
	User string
	// Password tells that the user part carries a password.
	Password bool
	// Host is a name, an IPv4 address or an IPv6 address in brackets.
	Host string
	// Port is 0 when absent.
	Port int
	// Params are "name" or "name=value", as written.
	Params []string
	// Headers tells that there is a header part ("?Route=…"). Nothing ever
	// turns it into headers (S-54).
	Headers bool
}

// Transport is the value of the transport parameter in lower case, empty
// without one.
func (u URI) Transport() string {
	for _, p := range u.Params {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(name, "transport") {
			return strings.ToLower(value)
		}
	}
	return ""
}

// ParseURI reads a SIP or SIPS URI. Its errors never repeat the text.
func ParseURI(text string) (URI, error) {
	var u URI
	switch {
	case text == "":
		return u, errors.New("is empty")
	case len(text) > maxURI:
		return u, errors.New("is longer than " + strconv.Itoa(maxURI) + " bytes")
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f {
			return u, errors.New("contains a blank, a control character or a letter beyond ASCII at byte " + strconv.Itoa(i+1))
		}
	}
	scheme, rest, found := strings.Cut(text, ":")
	switch {
	case found && strings.EqualFold(scheme, "sip"):
		u.Scheme = "sip"
	case found && strings.EqualFold(scheme, "sips"):
		u.Scheme = "sips"
	default:
		return u, errors.New("is not a URI with the scheme sip or sips")
	}
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		user, password, hasPassword := strings.Cut(rest[:at], ":")
		if err := checkEscaped(user, userMarks); err != nil || user == "" {
			return u, errors.New("has a user part that RFC 3261 §25.1 does not allow")
		}
		if hasPassword && checkEscaped(password, passwordMarks) != nil {
			return u, errors.New("has a password that RFC 3261 §25.1 does not allow")
		}
		u.User, u.Password = user, hasPassword
		rest = rest[at+1:]
	}
	rest, _, u.Headers = strings.Cut(rest, "?")
	hostport, params, hasParams := strings.Cut(rest, ";")
	if err := u.setHostPort(hostport); err != nil {
		return u, err
	}
	if hasParams {
		u.Params = strings.Split(params, ";")
		for _, p := range u.Params {
			name, value, _ := strings.Cut(p, "=")
			if name == "" || checkEscaped(name, paramMarks) != nil || checkEscaped(value, paramMarks) != nil {
				return u, errors.New("has a parameter that RFC 3261 §25.1 does not allow")
			}
		}
	}
	return u, nil
}

func (u *URI) setHostPort(text string) error {
	host, port := text, ""
	if end := strings.LastIndexByte(text, ']'); strings.HasPrefix(text, "[") {
		if end < 0 {
			return errors.New("has an IPv6 address without the closing bracket")
		}
		host, port = text[:end+1], text[end+1:]
		addr, err := netip.ParseAddr(text[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return errors.New("has a wrong IPv6 address")
		}
	} else {
		if colon := strings.IndexByte(text, ':'); colon >= 0 {
			host, port = text[:colon], text[colon:]
		}
		if err := checkHost(host); err != nil {
			return err
		}
	}
	u.Host = host
	if port == "" {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(port, ":"))
	if port[0] != ':' || err != nil || n < 1 || n > 65535 || port[1] == '+' {
		return errors.New("has a port that is not a number from 1 to 65535")
	}
	u.Port = n
	return nil
}

// checkHost accepts a host name or an IPv4 address.
func checkHost(host string) error {
	if host == "" {
		return errors.New("has no host")
	}
	if len(host) > 253 {
		return errors.New("has a host name longer than 253 bytes")
	}
	digits := true
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("has a wrong host name")
		}
		for i := range len(label) {
			c := label[i]
			if !isAlnum(c) && c != '-' {
				return errors.New("has a wrong host name")
			}
			digits = digits && '0' <= c && c <= '9'
		}
	}
	if digits {
		if _, err := netip.ParseAddr(host); err != nil {
			return errors.New("has a wrong IPv4 address")
		}
	}
	return nil
}

// The characters that may stand unescaped beside letters and digits (RFC 3261
// §25.1: mark, user-unreserved, password, param-unreserved).
const (
	marks         = "-_.!~*'()"
	userMarks     = marks + "&=+$,;?/"
	passwordMarks = marks + "&=+$,"
	paramMarks    = marks + "[]/:&+$"
)

// checkEscaped checks unescaped characters and "%" HEXDIG HEXDIG.
func checkEscaped(text, allowed string) error {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if isAlnum(c) || strings.IndexByte(allowed, c) >= 0 {
			continue
		}
		if c != '%' || i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
			return errors.New("wrong character")
		}
		i += 2
	}
	return nil
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
