package aka

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/sipmuster/muster/messages"
)

// The management of sequence numbers (3GPP TS 33.102 annex C.3.2).
const (
	indBits = 5
	// Indexes is the number of IND values, a in the standard: how many vectors
	// may be used out of order.
	Indexes = 1 << indBits
	// DefaultDelta is the largest jump of SEQ that is accepted.
	DefaultDelta = 1 << 28
	maxSEQ       = 1<<(48-indBits) - 1
)

// Vector is what both sides share after a RAND. It is secret.
type Vector struct{ RES, CK, IK messages.Secret }

func newVector(res, ck, ik []byte) Vector {
	return Vector{messages.NewSecret(string(res)), messages.NewSecret(string(ck)), messages.NewSecret(string(ik))}
}

// password is what takes the place of a password in the digest: RES as it is
// (RFC 3310 §3.3), or the one of RFC 4169 §2.1, which ties the answer to AKAv2.
func (v Vector) password(a algorithm) string {
	if !a.v2 {
		return v.RES.Reveal()
	}
	newHash := map[string]func() hash.Hash{md5Name: md5.New, sha256Name: sha256.New}[a.hash]
	mac := hmac.New(newHash, []byte(v.RES.Reveal()+v.IK.Reveal()+v.CK.Reveal()))
	mac.Write([]byte("http-digest-akav2-password"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Nonce is the nonce of a challenge, taken apart.
type Nonce struct {
	Rand Rand
	Autn Autn
}

var errNonce = errors.New("the nonce is not base64 of at least 32 bytes")

// ParseNonce reads base64 of RAND, AUTN and whatever the server adds (RFC 3310
// §3.2, AKA-01).
func ParseNonce(nonce string) (Nonce, error) {
	raw, err := base64.StdEncoding.DecodeString(nonce)
	if err != nil || len(raw) < 32 {
		return Nonce{}, errNonce
	}
	return Nonce{Rand(raw[:16]), Autn(raw[16:32])}, nil
}

// State is what a USIM must remember for ever. The zero value is that of a
// fresh one.
type State struct {
	// SEQ holds the highest accepted SEQ for each IND; 0 when there is none.
	SEQ [Indexes]uint64
	// Invalid counts the challenges with a wrong MAC that were answered since
	// the last one with a right MAC. It is durable so that a crash loop is not
	// answered for ever (AKA-04).
	Invalid uint8
}

// highest is SQN_MS: the highest sequence number accepted for any IND.
func (s State) highest() SQN {
	var best uint64
	for ind, seq := range s.SEQ {
		if seq > 0 {
			best = max(best, seq<<indBits|uint64(ind))
		}
	}
	return NewSQN(best)
}

// NewSQN takes the low 48 bits of a number.
func NewSQN(n uint64) (sqn SQN) {
	var room [8]byte
	binary.BigEndian.PutUint64(room[:], n)
	copy(sqn[:], room[2:])
	return sqn
}

// Uint64 is the sequence number as a number.
func (s SQN) Uint64() uint64 {
	var room [8]byte
	copy(room[2:], s[:])
	return binary.BigEndian.Uint64(room[:])
}

// Finding is what a USIM says about a challenge.
type Finding int

// The findings.
const (
	// Accepted: the network is genuine and the challenge is fresh.
	Accepted Finding = iota
	// MACFailure: whoever made the challenge does not know K.
	MACFailure
	// SQNFailure: the challenge is genuine, and old or too far ahead.
	SQNFailure
)

// String is for tests.
func (f Finding) String() string {
	return [...]string{"accepted", "MAC failure", "SQN failure"}[f]
}

// Result is a finding and what comes with it.
type Result struct {
	Finding Finding
	// State is the next one; only Accepted changes the sequence numbers.
	State State
	// Vector is set when Accepted.
	Vector Vector
	// Auts is set on SQNFailure.
	Auts Auts
}

// Authenticate is the decision of a USIM (3GPP TS 33.102 §6.3.3): first the MAC,
// which makes everything else trustworthy, then the freshness of SQN by annex
// C.2: SEQ must be above the highest accepted for its IND and at most delta
// above the highest accepted for any. The optional limit on the age of a SEQ is
// not applied. A delta of 0 is DefaultDelta.
func Authenticate(k Keys, s State, n Nonce, delta uint64) Result {
	if delta == 0 {
		delta = DefaultDelta
	}
	vector, ak := k.F2345(n.Rand)
	sqn, amf := SQN(n.Autn[:6]), AMF(n.Autn[6:8])
	xor(sqn[:], ak[:])
	macA, _ := k.F1(n.Rand, sqn, amf)
	if subtle.ConstantTimeCompare(macA[:], n.Autn[8:]) != 1 {
		s.Invalid = min(s.Invalid+1, maxInvalid)
		return Result{Finding: MACFailure, State: s}
	}
	s.Invalid = 0
	ms := s.highest()
	ind, seq := sqn.Uint64()%Indexes, sqn.Uint64()>>indBits
	// Both are below 2^43, so the sum does not wrap for any delta that means
	// something; a larger one switches the limit off.
	if seq <= s.SEQ[ind] || delta <= maxSEQ && seq > ms.Uint64()>>indBits+delta {
		return Result{Finding: SQNFailure, State: s, Auts: k.Auts(n.Rand, ms)}
	}
	s.SEQ[ind] = seq
	return Result{Finding: Accepted, State: s, Vector: vector}
}

// ErrState says that a stored state cannot be read. The state is not replaced
// by an empty one, which would accept old challenges.
var ErrState = errors.New("the stored state of a USIM has an unknown version or is damaged")

// stateVersion is the first byte of a stored state. What follows: the count of
// invalid challenges, a set of the INDs with a SEQ (4 bytes), and each SEQ (6
// bytes) in the order of IND.
const stateVersion = 1

const stateHead = 6

// MarshalBinary implements encoding.BinaryMarshaler.
func (s State) MarshalBinary() ([]byte, error) {
	b := make([]byte, stateHead, stateHead+6*Indexes)
	b[0], b[1] = stateVersion, s.Invalid
	var set uint32
	for ind, seq := range s.SEQ {
		if seq == 0 {
			continue
		}
		set |= 1 << ind
		six := NewSQN(seq)
		b = append(b, six[:]...)
	}
	binary.BigEndian.PutUint32(b[2:], set)
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. Anything but what
// MarshalBinary writes is ErrState.
func (s *State) UnmarshalBinary(b []byte) error {
	if len(b) < stateHead || b[0] != stateVersion || b[1] > maxInvalid {
		return ErrState
	}
	next := State{Invalid: b[1]}
	set := binary.BigEndian.Uint32(b[2:])
	b = b[stateHead:]
	for ind := range next.SEQ {
		if set&(1<<ind) == 0 {
			continue
		}
		if len(b) < 6 {
			return ErrState
		}
		seq := SQN(b[:6]).Uint64()
		if seq == 0 || seq > maxSEQ {
			return ErrState
		}
		next.SEQ[ind], b = seq, b[6:]
	}
	if len(b) != 0 {
		return ErrState
	}
	*s = next
	return nil
}
