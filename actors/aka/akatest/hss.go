// Package akatest is the network's side of Digest AKA for tests: an HSS and the
// S-CSCF that asks it, without the SIP around them. A test registrar puts
// Challenge into a 401 and gives Verify what comes back.
//
// It is built on the Milenage of package aka, so what it agrees with proves the
// protocol and not the algorithm; the algorithm is held by the vectors of 3GPP
// and by SIPp, in the tests of aka and usim.
package akatest

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/sipmuster/muster/actors/aka"
	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
)

// What Verify has to say about an answer that is neither right nor a request to
// resynchronise.
var (
	// ErrNonce: the nonce was not given out, or was used up.
	ErrNonce = errors.New("unknown nonce")
	// ErrUser: the user name is not the subscriber's IMPI.
	ErrUser = errors.New("wrong user name")
	// ErrResponse: the response is wrong.
	ErrResponse = errors.New("wrong response")
	// ErrQOP: qop is there and was not offered, or the other way round.
	ErrQOP = errors.New("qop does not match the challenge")
	// ErrCount: a nonce count did not rise.
	ErrCount = errors.New("the nonce count did not rise")
	// ErrMACFailure: the response is empty, so the client does not believe us.
	ErrMACFailure = errors.New("the client found a wrong MAC")
	// ErrAUTS: MAC-S of auts is wrong.
	ErrAUTS = errors.New("wrong auts")
)

// HSS holds one subscriber. It is safe for concurrent use. The fields are set
// before the first use.
type HSS struct {
	// IMPI is the user name that is expected; empty accepts any.
	IMPI string
	// AMF goes into each AUTN; the zero value is legal.
	AMF aka.AMF
	// NoQOP challenges without qop; otherwise QOP is offered, "auth" when empty.
	NoQOP bool
	QOP   string
	// WrongMAC makes each AUTN invalid, as from a network that does not know K.
	WrongMAC bool

	keys aka.Keys

	mu    sync.Mutex
	sqn   uint64
	given map[string]*vector // by key
}

// vector is a challenge that was given out.
type vector struct {
	realm, algorithm string
	rand             aka.Rand
	shared           aka.Vector
	count            uint64
}

// New makes the HSS of a subscriber whose sequence numbers begin at 0.
func New(k, opc []byte) (*HSS, error) {
	keys, err := aka.KeysFromOPc(k, opc)
	if err != nil {
		return nil, err
	}
	return &HSS{keys: keys, given: map[string]*vector{}}, nil
}

// SQN is the sequence number of the latest challenge.
func (h *HSS) SQN() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sqn
}

// SetSQN makes the next challenge continue from a sequence number.
func (h *HSS) SetSQN(sqn uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sqn = sqn
}

// Challenge is the value of a WWW-Authenticate or Proxy-Authenticate header
// with the next sequence number: SEQ and IND both advance by one, as 3GPP TS
// 33.102 C.1 has it.
func (h *HSS) Challenge(realm, algorithm string) string {
	var r aka.Rand
	_, _ = rand.Read(r[:]) // never fails
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sqn = (h.sqn>>5+1)<<5 | (h.sqn+1)%aka.Indexes
	return h.challenge(realm, algorithm, r, h.sqn)
}

// ChallengeWith is Challenge for a given RAND and sequence number: a replay, one
// vector offered for several algorithms, or the data of a standard.
func (h *HSS) ChallengeWith(realm, algorithm string, r aka.Rand, sqn uint64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.challenge(realm, algorithm, r, sqn)
}

func (h *HSS) challenge(realm, algorithm string, r aka.Rand, sqn uint64) string {
	autn := h.keys.Autn(r, aka.NewSQN(sqn), h.AMF)
	if h.WrongMAC {
		autn[15] ^= 1
	}
	nonce := base64.StdEncoding.EncodeToString(append(r[:], autn[:]...))
	shared, _ := h.keys.F2345(r)
	h.given[key(nonce, algorithm)] = &vector{realm: realm, algorithm: algorithm, rand: r, shared: shared}
	value := fmt.Sprintf(`Digest realm=%q, nonce=%q, algorithm=%s`, realm, nonce, algorithm)
	if h.NoQOP {
		return value
	}
	return value + fmt.Sprintf(`, qop=%q`, h.qop())
}

// key keeps the algorithms apart in which one vector is offered at a time.
func key(nonce, algorithm string) string { return strings.ToUpper(algorithm) + " " + nonce }

func (h *HSS) qop() string {
	if h.QOP == "" {
		return "auth"
	}
	return h.QOP
}

// Verify checks the value of an Authorization or Proxy-Authorization header of
// a request without a body. When the client asks to resynchronise, resynced is
// true, and the next challenge continues from the client's sequence number.
// Without ok or resynced the error says why.
func (h *HSS) Verify(authorization, method string) (ok, resynced bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, v, err := h.find(authorization)
	if err != nil {
		return false, false, err
	}
	x, err := exchange(p, method)
	if err != nil {
		return false, false, err
	}
	if err := h.count(v, x); err != nil {
		return false, false, err
	}
	response, _ := p.Get("response")
	if response == "" {
		return false, false, ErrMACFailure
	}
	user, _ := p.Get("username")
	if auts, asks := p.Get("auts"); asks {
		x.HA1 = digest.HA1(x.Algorithm, user, v.realm, "")
		if !equal(response, digest.Response(x)) {
			return false, false, ErrResponse
		}
		if err := h.resync(v, p.Nonce(), auts); err != nil {
			return false, false, err
		}
		return false, true, nil
	}
	x.HA1 = digest.HA1(x.Algorithm, user, v.realm, v.password())
	if !equal(response, digest.Response(x)) {
		return false, false, ErrResponse
	}
	return true, false, nil
}

// count holds the nonce count to what RFC 7616 §3.4 asks.
func (h *HSS) count(v *vector, x digest.Exchange) error {
	if (x.QOP == "") != h.NoQOP {
		return ErrQOP
	}
	if x.QOP == "" {
		return nil
	}
	count, err := strconv.ParseUint(x.NC, 16, 32)
	if err != nil || len(x.NC) != 8 || count <= v.count {
		return ErrCount
	}
	v.count = count
	return nil
}

// Info is the value of the (Proxy-)Authentication-Info of a 2xx to credentials
// that Verify accepted; "" for others.
func (h *HSS) Info(authorization string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, v, err := h.find(authorization)
	if err != nil {
		return ""
	}
	x, err := exchange(p, "")
	if err != nil {
		return ""
	}
	user, _ := p.Get("username")
	x.HA1 = digest.HA1(x.Algorithm, user, v.realm, v.password())
	info := fmt.Sprintf(`rspauth=%q`, digest.Response(x))
	if x.QOP == "" {
		return info
	}
	return info + fmt.Sprintf(`, cnonce=%q, nc=%s, qop=%s`, x.Cnonce, x.NC, x.QOP)
}

// find takes credentials apart and finds the vector that they answer.
func (h *HSS) find(authorization string) (challenge.Parsed, *vector, error) {
	p, err := challenge.Parse(authorization)
	if err != nil {
		return challenge.Parsed{}, nil, err
	}
	v := h.given[key(p.Nonce(), p.Algorithm())]
	if v == nil || v.realm != p.Realm() {
		return challenge.Parsed{}, nil, ErrNonce
	}
	if user, _ := p.Get("username"); h.IMPI != "" && user != h.IMPI {
		return challenge.Parsed{}, nil, ErrUser
	}
	return p, v, nil
}

// resync is 3GPP TS 33.102 §6.3.5, with a MAC-S that must be right. The nonce
// has served.
func (h *HSS) resync(v *vector, nonce, auts string) error {
	raw, err := base64.StdEncoding.DecodeString(auts)
	if err != nil || len(raw) != len(aka.Auts{}) {
		return ErrAUTS
	}
	star := h.keys.F5Star(v.rand)
	ms := aka.SQN(raw[:6])
	for i := range ms {
		ms[i] ^= star[i]
	}
	_, macS := h.keys.F1(v.rand, ms, aka.AMF{})
	if subtle.ConstantTimeCompare(macS[:], raw[6:]) != 1 {
		return ErrAUTS
	}
	h.sqn = ms.Uint64()
	delete(h.given, key(nonce, v.algorithm))
	return nil
}

// password is written apart from that of package aka, as a check of it.
func (v *vector) password() string {
	if strings.EqualFold(v.algorithm[:6], "AKAv1-") {
		return v.shared.RES.Reveal()
	}
	secret := []byte(v.shared.RES.Reveal() + v.shared.IK.Reveal() + v.shared.CK.Reveal())
	mac := hmac.New(md5.New, secret)
	if strings.EqualFold(v.algorithm[6:], "SHA-256") {
		mac = hmac.New(sha256.New, secret)
	}
	_, _ = mac.Write([]byte("http-digest-akav2-password"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// exchange is what the response in some credentials depends on, but for HA1.
func exchange(p challenge.Parsed, method string) (digest.Exchange, error) {
	x := digest.Exchange{Method: method, Nonce: p.Nonce()}
	algorithm := p.Algorithm()
	if len(algorithm) < 7 || !strings.EqualFold(algorithm[:4], "AKAv") {
		return x, ErrNonce
	}
	x.Algorithm = algorithm[6:]
	x.URI, _ = p.Get("uri")
	x.QOP, _ = p.Get("qop")
	x.NC, _ = p.Get("nc")
	x.Cnonce, _ = p.Get("cnonce")
	return x, nil
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
