package sipadapter

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

const (
	// maxContacts bounds what is kept of a contact list (S-31).
	maxContacts = 64
	// defaultExpires counts when an expiry is absent or malformed (RFC 3261
	// §10.2.1.1, §20.19).
	defaultExpires = 3600
)

// bindings fills in the contacts of a 2xx. Ours, a well-formed URI, is found by
// URI comparison (REG-11), wherever it stands, and the other contacts have no
// influence on its expiry (REG-12). room is for the first of them.
func bindings(m *message, ours string, out *messages.SIPResponse, room []messages.ContactBinding) {
	fallback := uint32(defaultExpires)
	if value, ok := m.one("expires"); ok {
		fallback = expiry(value)
	}
	for value := range m.all("contact") {
		if expires, ok := onlyOurs(value, ours, fallback); ok && len(out.Contacts) == 0 {
			out.Contact, out.ContactExpires = messages.ContactOurs, expires
			out.Contacts = append(room, messages.ContactBinding{URI: ours, Expires: expires})
			continue
		}
		for element := range elements(value) {
			n, ok := parseNameAddr(element)
			if !ok {
				continue
			}
			expires := fallback
			if p, ok := parameter(n.params, "expires"); ok {
				expires = expiry(p)
			}
			if out.Contact == messages.ContactMissing && sameURI(n.uri, ours) {
				out.Contact, out.ContactExpires = messages.ContactOurs, expires
			}
			if len(out.Contacts) < maxContacts && challenge.IsFieldValue(n.uri) {
				out.Contacts = append(out.Contacts, messages.ContactBinding{URI: strings.Clone(n.uri), Expires: expires})
			}
		}
	}
}

// onlyOurs reads a Contact as most registrars write it: ours and its expiry, if
// any, and nothing else.
func onlyOurs(value, ours string, fallback uint32) (expires uint32, ok bool) {
	rest, ok := cutBracketed(value, ours)
	if !ok || rest == "" {
		return fallback, ok
	}
	seconds, ok := strings.CutPrefix(rest, ";expires=")
	n, digits := parseDigits(seconds, math.MaxUint32)
	return uint32(n), ok && digits
}

// sameURI compares by RFC 3261 §19.1.4 with a well-formed URI that has no
// parameter twice, so that it equals itself.
func sameURI(s, wellFormed string) bool {
	if s == wellFormed {
		return true
	}
	u, err := parseURI(s)
	if err != nil {
		return false
	}
	v, err := parseURI(wellFormed)
	return err == nil && u.equal(v)
}

// expiry reads delta-seconds: malformed counts as 3600, more than 32 bits as
// 2**32-1 (RFC 3261 §10.2, §20.19; REG-14).
func expiry(value string) uint32 {
	value = trim(value)
	if n, ok := parseDigits(value, math.MaxUint32); ok {
		return uint32(n)
	}
	digits := value != ""
	for i := range len(value) {
		digits = digits && isDigit(value[i])
	}
	if digits {
		return math.MaxUint32
	}
	return defaultExpires
}

// redirects are the contacts of a 3xx, best q first (RFC 3261 §8.1.3.4), each
// once, without their header part: a stranger's header must not become one of
// ours (S-54).
func redirects(m *message) []string {
	type choice struct {
		uri string
		q   int
	}
	var found []choice
	for value := range m.all("contact") {
		for element := range elements(value) {
			n, ok := parseNameAddr(element)
			if !ok || len(found) == maxContacts {
				continue
			}
			u, err := parseURI(n.uri)
			if err != nil || !challenge.IsFieldValue(u.noHeader) ||
				slices.ContainsFunc(found, func(c choice) bool { return c.uri == u.noHeader }) {
				continue
			}
			q := 1000
			if p, ok := parameter(n.params, "q"); ok {
				q = quality(p)
			}
			found = append(found, choice{strings.Clone(u.noHeader), q})
		}
	}
	slices.SortStableFunc(found, func(x, y choice) int { return cmp.Compare(y.q, x.q) })
	var uris []string
	for _, c := range found {
		uris = append(uris, c.uri)
	}
	return uris
}

// quality reads a qvalue in thousandths (RFC 3261 §25.1); a malformed one is
// the worst.
func quality(s string) int {
	whole, fraction, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(fraction) > 3 {
		return 0
	}
	n, ok := parseDigits((fraction + "000")[:3], 999)
	if !ok {
		return 0
	}
	if whole == "1" {
		return 1000
	}
	return int(n)
}
