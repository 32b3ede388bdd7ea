package digest

import (
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/sipmuster/muster/actors/challenge"
)

// validUsername refuses what would make H(user:realm:password) ambiguous (a
// colon, DIG-13) or break the header (S-52).
func validUsername(name string) bool {
	return challenge.IsFieldValue(name) && strings.IndexByte(name, ':') < 0
}

// identity is the name that an answer is sent with.
type identity struct {
	sent     string
	userhash bool
}

// appendIdentity appends H(A1) without the session's part, and tells who
// answers. It applies what the challenge asks of user name and password: NFC
// when it speaks UTF-8 (RFC 7616 §4, DIG-13), and a hashed user name when it
// offers that (RFC 7616 §3.4.4, DIG-12). A stored HA1 is used as it is: it
// already holds the normalised name and password.
func appendIdentity(dst []byte, o *choice, c Credential) ([]byte, identity) {
	realm := o.challenge.GetRealm()
	name, password := c.Username, c.Password.Reveal()
	if o.utf8 {
		name, password = norm.NFC.String(name), norm.NFC.String(password)
	}
	id := identity{sent: name}
	if c.Password.Empty() {
		dst = append(dst, strings.ToLower(c.HA1.Reveal())...)
	} else {
		dst = o.algorithm.hash.appendSumOf(dst, name, realm, password)
	}
	if o.userhash {
		id.sent = o.algorithm.hash.sumOf(name, realm)
		id.userhash = true
	}
	return dst, id
}
