package siptest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/digest"
)

// credentials is one (Proxy-)Authorization line.
type credentials struct {
	proxy  bool
	scheme string
	params map[string]string
	fault  error
	nc     uint32 // 0 without one

	// Set when the request is recorded:
	replayed    bool   // the count did not rise
	firstCnonce string // of the first answer with this nonce
}

// spelling says what RFC 7616 §3.4 wants quoted and what not (DIG-07).
var spelling = map[string]bool{
	"username": true, "realm": true, "nonce": true, "uri": true, "response": true, "cnonce": true, "opaque": true,
	"algorithm": false, "qop": false, "nc": false, "userhash": false,
}

// parseCredentials is strict: a client is told of every departure from the
// grammar that a lenient server would hide.
func parseCredentials(value string, proxy bool) credentials {
	c := credentials{proxy: proxy, params: make(map[string]string, 12)}
	scheme, rest, found := strings.Cut(value, " ")
	c.scheme = scheme
	if !found {
		c.fault = errors.New("no parameters")
		return c
	}
	for _, part := range splitList(rest, ',') {
		if c.fault = c.addParam(part); c.fault != nil {
			return c
		}
	}
	if nc, present := c.params["nc"]; present {
		n, err := strconv.ParseUint(nc, 16, 32)
		if err != nil || len(nc) != 8 || n == 0 || nc != strings.ToLower(nc) {
			c.fault = errors.New("DIG-05: nc is not eight hex digits above 0")
			return c
		}
		c.nc = uint32(n)
	}
	return c
}

func (c *credentials) addParam(part string) error {
	name, value, found := strings.Cut(part, "=")
	name = strings.ToLower(strings.TrimSpace(name))
	value = strings.TrimSpace(value)
	if !found || name == "" || value == "" {
		return errors.New("a parameter without name or value")
	}
	if _, twice := c.params[name]; twice {
		return fmt.Errorf("%s stands twice", name)
	}
	quoted := value[0] == '"'
	if want, known := spelling[name]; known && want != quoted {
		return fmt.Errorf("DIG-07: quoting of %s", name)
	}
	if quoted {
		if end := closingQuote(value); end == 0 || end != len(value)-1 {
			return fmt.Errorf("quotes of %s", name)
		}
		value = unescape(value[1 : len(value)-1])
	}
	c.params[name] = value
	return nil
}

func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// guard is one protection space that a REGISTER must pass.
type guard struct {
	proxy bool
	realm string
}

func (g guard) challengeHeader() string {
	if g.proxy {
		return "Proxy-Authenticate"
	}
	return "WWW-Authenticate"
}

func (g guard) status() int {
	if g.proxy {
		return 407
	}
	return 401
}

// find picks the credentials for a guard. Two of them are a fault (CHA-06).
func (g guard) find(req *Request) (*credentials, error) {
	var found *credentials
	for i := range req.credentials {
		c := &req.credentials[i]
		if c.proxy != g.proxy || c.fault == nil && c.params["realm"] != g.realm {
			continue
		}
		if c.fault != nil {
			return nil, c.fault
		}
		if found != nil {
			return nil, errors.New("CHA-06: two credentials for one realm")
		}
		found = c
	}
	return found, nil
}

// checkForm compares credentials with what was offered.
func (r *Registrar) checkForm(req *Request, c *credentials) error {
	p := c.params
	for _, name := range []string{"username", "realm", "nonce", "uri", "response"} {
		if _, present := p[name]; !present {
			return fmt.Errorf("no %s", name)
		}
	}
	qop, hasQOP := p["qop"]
	_, hasNC := p["nc"]
	_, hasCnonce := p["cnonce"]
	switch {
	case !strings.EqualFold(c.scheme, "Digest"):
		return errors.New("scheme is not Digest")
	case p["uri"] != req.URI:
		return errors.New("DIG-04: uri differs from the Request-URI")
	case p["opaque"] != r.opaque:
		return errors.New("DIG-08: opaque is not the one given")
	case !slices.Contains(r.options.Algorithms, p["algorithm"]):
		return errors.New("DIG-08: algorithm was not offered in this spelling")
	case r.options.QOP == "" && (hasQOP || hasNC || hasCnonce):
		return errors.New("CHA-32: qop, nc or cnonce without an offer")
	case r.options.QOP != "" && !slices.Contains(splitList(strings.ReplaceAll(r.options.QOP, " ", ""), ','), qop):
		return errors.New("CHA-31: qop was not offered")
	case r.options.QOP != "" && (!hasNC || p["cnonce"] == ""):
		return errors.New("CHA-31: qop without nc or cnonce")
	}
	return nil
}

// proofs are the values for Authentication-Info.
type proofs struct{ qop, rspauth, cnonce, nc string }

// checkResponse recomputes the response. The client nonce of the first answer
// with a nonce fixes A1 of a -sess algorithm (DIG-02).
func (r *Registrar) checkResponse(req *Request, c *credentials) (proofs, bool) {
	p := c.params
	password, known := r.options.Password(p["username"])
	if !known {
		return proofs{}, false
	}
	algorithm := p["algorithm"]
	x := digest.Exchange{
		Algorithm: algorithm, HA1: digest.HA1(algorithm, p["username"], p["realm"], password),
		Method: req.Method, URI: p["uri"], Nonce: p["nonce"], QOP: p["qop"], NC: p["nc"], Cnonce: p["cnonce"],
	}
	if base := len(algorithm) - len("-sess"); base > 0 && strings.EqualFold(algorithm[base:], "-sess") {
		x.HA1 = digest.SessionHA1(algorithm, x.HA1, x.Nonce, c.firstCnonce)
		x.Algorithm = algorithm[:base]
	}
	if x.QOP == "auth-int" {
		x.BodyHash = digest.BodyHash(x.Algorithm, string(req.Message.Body()))
	}
	if subtle.ConstantTimeCompare([]byte(digest.Response(x)), []byte(p["response"])) != 1 {
		return proofs{}, false
	}
	out := proofs{qop: x.QOP, cnonce: x.Cnonce, nc: x.NC}
	if r.options.AuthInfo {
		x.Method, x.BodyHash = "", ""
		out.rspauth = digest.Response(x)
	}
	return out, true
}

// A nonce is its time of birth, a serial number and a keyed hash of both, so
// that unused ones need no memory.
const (
	nonceClear = 12 // bytes: 8 of time, 4 of serial
	nonceSum   = 8  // bytes of the hash
)

func (r *Registrar) newNonce(now time.Time) string {
	var b [nonceClear + nonceSum]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixNano()))
	binary.BigEndian.PutUint32(b[8:], r.nonces.Add(1))
	copy(b[nonceClear:], r.nonceSum(b[:nonceClear]))
	return hex.EncodeToString(b[:])
}

// fresh tells whether a nonce is ours and young.
func (r *Registrar) fresh(nonce string, now time.Time) bool {
	var b [nonceClear + nonceSum]byte
	if len(nonce) != 2*len(b) {
		return false
	}
	if _, err := hex.Decode(b[:], []byte(nonce)); err != nil {
		return false
	}
	if !hmac.Equal(b[nonceClear:], r.nonceSum(b[:nonceClear])) {
		return false
	}
	born := time.Unix(0, int64(binary.BigEndian.Uint64(b[:])))
	return now.Sub(born) < r.options.NonceLifetime
}

func (r *Registrar) nonceSum(plain []byte) []byte {
	mac := hmac.New(sha256.New, r.nonceKey.Load().([]byte))
	mac.Write(plain)
	return mac.Sum(nil)[:nonceSum]
}
