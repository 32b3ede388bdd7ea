package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/messages"
)

// SignatureHeader is the request header that holds the signature.
const SignatureHeader = "Muster-Signature"

// DefaultSkew is how far the time of a signature may be from the server's
// clock, in both directions.
const DefaultSkew = 5 * time.Minute

// ErrSignature is wrapped by every error of Verify; it is status 401.
var ErrSignature = errors.New("signature refused")

// Sign is the header value for a body sent at a time.
func Sign(secret messages.Secret, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(secret, t, body))
}

// Verify checks the value of Muster-Signature for a body, in constant time
// (S-66), and that it was made at most skew before or after now; no skew means
// DefaultSkew. An empty secret verifies nothing. It does not know which
// questions it has seen: see Handler.
func Verify(secret messages.Secret, header string, body []byte, now time.Time, skew time.Duration) error {
	_, err := verify(secret, header, body, now, skew)
	return err
}

// verify also returns the time that was signed.
func verify(secret messages.Secret, header string, body []byte, now time.Time, skew time.Duration) (int64, error) {
	if secret.Empty() {
		return 0, fmt.Errorf("%w: there is no secret to compare with", ErrSignature)
	}
	if skew <= 0 {
		skew = DefaultSkew
	}
	s, err := parseSignature(header)
	if err != nil {
		return 0, err
	}
	if !hmac.Equal(s.mac, mac(secret, s.time, body)) {
		return 0, fmt.Errorf("%w: it is not of this body and secret", ErrSignature)
	}
	switch age := now.Sub(time.Unix(s.unix, 0)); {
	case age > skew:
		return 0, fmt.Errorf("%w: it is too old", ErrSignature)
	case age < -skew:
		return 0, fmt.Errorf("%w: it is from the future, so one of the clocks is wrong", ErrSignature)
	}
	return s.unix, nil
}

// mac covers the time as it is spelled in the header.
func mac(secret messages.Secret, t string, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(secret.Reveal()))
	h.Write([]byte(t))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}

type signature struct {
	time string
	unix int64
	mac  []byte
}

// parseSignature reads t=...,v1=... in any order. Elements with other names are
// for versions to come.
func parseSignature(header string) (signature, error) {
	const longest = 512
	malformed := fmt.Errorf("%w: it is missing or not one", ErrSignature)
	if header == "" || len(header) > longest {
		return signature{}, malformed
	}
	var s signature
	for element := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(element), "=")
		switch name {
		case "t":
			unix, err := strconv.ParseUint(value, 10, 36) // to the year 4147
			if err != nil || s.time != "" {
				return signature{}, malformed
			}
			s.time, s.unix = value, int64(unix)
		case "v1":
			sum, err := hex.DecodeString(value)
			if err != nil || len(sum) != sha256.Size || s.mac != nil {
				return signature{}, malformed
			}
			s.mac = sum
		}
	}
	if s.time == "" || s.mac == nil {
		return signature{}, malformed
	}
	return s, nil
}
