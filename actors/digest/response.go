package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"strings"
)

// hash is one of the hash functions that RFC 8760 §2.1 registers for SIP.
type hash int

const (
	hashMD5 hash = iota
	hashSHA256
	hashSHA512256
)

// algorithm is a value of the algorithm parameter.
type algorithm struct {
	hash hash
	sess bool
}

// algorithmByName ignores case, and takes absence for MD5 (DIG-10).
func algorithmByName(name string) (algorithm, bool) {
	const sess = "-sess"
	var a algorithm
	if n := len(name) - len(sess); n > 0 && strings.EqualFold(name[n:], sess) {
		a.sess = true
		name = name[:n]
	}
	switch {
	case name == "", strings.EqualFold(name, "MD5"):
		a.hash = hashMD5
	case strings.EqualFold(name, "SHA-256"):
		a.hash = hashSHA256
	case strings.EqualFold(name, "SHA-512-256"):
		a.hash = hashSHA512256
	default:
		return algorithm{}, false
	}
	return a, true
}

// String is the key of AuthChallenge.body_hashes.
func (h hash) String() string {
	return [...]string{"MD5", "SHA-256", "SHA-512-256"}[h]
}

// hexLen is the length of a hash in hex digits (DIG-11).
func (h hash) hexLen() int {
	if h == hashMD5 {
		return 2 * md5.Size
	}
	return 2 * sha256.Size
}

// hashFrom replaces data[start:] by its hash in lower-case hex: what is hashed is
// written where the hash shall stand, and needs no place of its own.
func (h hash) hashFrom(data []byte, start int) []byte {
	switch h {
	case hashSHA256:
		sum := sha256.Sum256(data[start:])
		return hex.AppendEncode(data[:start], sum[:])
	case hashSHA512256:
		sum := sha512.Sum512_256(data[start:])
		return hex.AppendEncode(data[:start], sum[:])
	default:
		sum := md5.Sum(data[start:])
		return hex.AppendEncode(data[:start], sum[:])
	}
}

// appendSumOf appends H(a:b:c...) in lower-case hex.
func (h hash) appendSumOf(dst []byte, parts ...string) []byte {
	start := len(dst)
	for i, p := range parts {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = append(dst, p...)
	}
	return h.hashFrom(dst, start)
}

func (h hash) sumOf(parts ...string) string {
	var room [256]byte
	return string(h.appendSumOf(room[:0], parts...))
}

// intoSession makes an HA1 the H(A1) of a -sess algorithm.
func (h hash) intoSession(ha1 []byte, nonce, cnonce string) []byte {
	ha1 = append(ha1, ':')
	ha1 = append(ha1, nonce...)
	ha1 = append(ha1, ':')
	ha1 = append(ha1, cnonce...)
	return h.hashFrom(ha1, 0)
}

// HA1 is H(user:realm:password) in lower-case hex, for a -sess algorithm as
// well: it is what a server stores. An unknown algorithm gives "".
func HA1(algorithm, user, realm, password string) string {
	a, ok := algorithmByName(algorithm)
	if !ok {
		return ""
	}
	return a.hash.sumOf(user, realm, password)
}

// SessionHA1 is H(A1) of the -sess algorithms (RFC 7616 §3.4.2, DIG-02), made
// from an HA1 and the nonce and client nonce of the session's first answer.
func SessionHA1(algorithm, ha1, nonce, cnonce string) string {
	a, ok := algorithmByName(algorithm)
	if !ok {
		return ""
	}
	return a.hash.sumOf(ha1, nonce, cnonce)
}

// BodyHash is H(body) in lower-case hex, as auth-int uses it. An unknown
// algorithm gives "".
func BodyHash(algorithm, body string) string {
	a, ok := algorithmByName(algorithm)
	if !ok {
		return ""
	}
	return a.hash.sumOf(body)
}

// Exchange is everything that a response depends on.
type Exchange struct {
	Algorithm string
	// HA1 is that of HA1; for a -sess algorithm Response derives the session's.
	HA1 string
	// Method is empty for the proof of a server (rspauth, RFC 7616 §3.5).
	Method string
	URI    string
	Nonce  string
	// QOP is "auth", "auth-int", or empty for the form of RFC 2617 §3.2.2.1,
	// which has neither NC nor Cnonce.
	QOP string
	// NC has eight hex digits.
	NC     string
	Cnonce string
	// BodyHash is H(body) in lower-case hex, for auth-int; empty stands for the
	// hash of an empty body (DIG-03).
	BodyHash string
}

// Response is the response parameter of an answer (RFC 7616 §3.4.1, DIG-01) or,
// without a method, the rspauth parameter of its proof. An unknown algorithm
// gives "".
func Response(x Exchange) string {
	a, ok := algorithmByName(x.Algorithm)
	if !ok {
		return ""
	}
	if a.sess {
		x.HA1 = a.hash.sumOf(x.HA1, x.Nonce, x.Cnonce)
	}
	var room [512]byte
	return string(a.hash.appendResponse(room[:0], &x, []byte(x.HA1), []byte(x.NC)))
}

// appendResponse appends the response for an HA1 that is already the session's
// where there is one. HA1 and NC of the exchange are not looked at.
func (h hash) appendResponse(dst []byte, x *Exchange, ha1, nc []byte) []byte {
	start := len(dst)
	dst = append(dst, ha1...)
	dst = append(dst, ':')
	dst = append(dst, x.Nonce...)
	dst = append(dst, ':')
	if x.QOP != qopNone {
		dst = append(dst, nc...)
		dst = append(dst, ':')
		dst = append(dst, x.Cnonce...)
		dst = append(dst, ':')
		dst = append(dst, x.QOP...)
		dst = append(dst, ':')
	}
	return h.hashFrom(h.appendHA2(dst, x), start)
}

// appendHA2 appends H(A2) (RFC 7616 §3.4.3).
func (h hash) appendHA2(dst []byte, x *Exchange) []byte {
	if x.QOP != qopAuthInt {
		return h.appendSumOf(dst, x.Method, x.URI)
	}
	if x.BodyHash != "" {
		return h.appendSumOf(dst, x.Method, x.URI, x.BodyHash)
	}
	return h.appendSumOf(dst, x.Method, x.URI, h.sumOf(""))
}
