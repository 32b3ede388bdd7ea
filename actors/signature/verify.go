package signature

import (
	"crypto/hmac"
	"errors"
	"strconv"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Verify checks the value of an Authorization header in constant time and returns
// the realm and nonce that were signed. The server compares them with what it
// sent, which is what stops a replay, and picks the key by keyid.
func Verify(key messages.Secret, method, uri, header string, now time.Time, skew time.Duration) (realm, nonce string, err error) {
	credentials, err := challenge.Parse(header)
	if err != nil || key.Empty() || !echoable(method) || !echoable(uri) {
		return "", "", errors.New("not signed")
	}
	got := credentials.Map()
	want := sign(key, method, uri, got["realm"], got["nonce"], got["ts"])
	if !hmac.Equal([]byte(want), []byte(got["signature"])) {
		return "", "", errors.New("wrong signature")
	}
	ts, err := strconv.ParseInt(got["ts"], 10, 64)
	if err != nil || now.Sub(time.Unix(ts, 0)).Abs() > skew {
		return "", "", errors.New("signed at another time")
	}
	return got["realm"], got["nonce"], nil
}
