package sipadapter

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
)

// cookie starts every branch (RFC 3261 §8.1.1.7).
const cookie = "z9hG4bK"

// branchLength is the length of a branch of ours: the cookie and 128 random
// bits in hexadecimal (S-05 asks for 96).
const branchLength = len(cookie) + 2*len(branchKey{})

// branchKey is what our branches differ in. It is drawn by us, so it also
// spreads evenly over the shards, whatever a peer sends.
type branchKey [16]byte

func (k branchKey) appendTo(b []byte) []byte {
	return hex.AppendEncode(append(b, cookie...), k[:])
}

// seedBranch turns the branch that a caller chose into a key. One of our own
// size goes on the wire as it is, any other by its digest.
func seedBranch(seed string) branchKey {
	if k, ok := parseBranch(cookie + seed); ok {
		return k
	}
	sum := sha256.Sum256([]byte(strings.ToLower(seed)))
	return branchKey(sum[:])
}

// attempt derives the branch for the nth way (see invitation.key), so that the one branch that
// the caller knows is enough to find them all.
func (k branchKey) attempt(n int) branchKey {
	if n == 0 {
		return k
	}
	sum := sha256.Sum256(append(k[:], byte(n)))
	return branchKey(sum[:])
}

// parseBranch reads a branch of ours.
func parseBranch[T string | []byte](s T) (branchKey, bool) {
	var k branchKey
	if len(s) != branchLength || string(s[:len(cookie)]) != cookie {
		return k, false
	}
	for i := range k {
		high, okHigh := unhex(s[len(cookie)+2*i])
		low, okLow := unhex(s[len(cookie)+2*i+1])
		if !okHigh || !okLow {
			return k, false
		}
		k[i] = high<<4 | low
	}
	return k, true
}

func unhex(c byte) (byte, bool) {
	v := hexDigits[c]
	return v, v < 16
}

// hexDigits are the values of hexadecimal digits; 16 is for all other bytes.
var hexDigits = func() (t [256]byte) {
	for c := range t {
		t[c] = 16
		if i := strings.IndexByte("0123456789abcdef", byte(c)); i >= 0 {
			t[c] = byte(i)
		} else if i := strings.IndexByte("ABCDEF", byte(c)); i >= 0 {
			t[c] = byte(i) + 10
		}
	}
	return t
}()

// findBranch looks for branches of ours in a datagram that is not parsed yet,
// so that a flood of strays costs a search and a hash (TRX-07). The result is
// confirmed from the parsed Via.
func findBranch(raw []byte, known func(branchKey) bool) bool {
	const tries = 4
	for range tries {
		i := bytes.Index(raw, []byte(cookie))
		if i < 0 {
			return false
		}
		raw = raw[i:]
		if len(raw) >= branchLength {
			if k, ok := parseBranch(raw[:branchLength]); ok && known(k) {
				return true
			}
		}
		raw = raw[len(cookie):]
	}
	return false
}

// entropy is crypto/rand read in blocks: one system call serves 256 branches.
type entropy struct {
	mu   sync.Mutex
	buf  [4096]byte
	left int
}

func (e *entropy) read(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left < len(p) {
		_, _ = rand.Read(e.buf[:]) // never fails since Go 1.24
		e.left = len(e.buf)
	}
	at := len(e.buf) - e.left
	copy(p, e.buf[at:at+len(p)])
	clear(e.buf[at : at+len(p)])
	e.left -= len(p)
}

func (e *entropy) branch() branchKey {
	var k branchKey
	e.read(k[:])
	return k
}
