package aka

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sipmuster/muster/messages"
)

const keySize = 16

// Keys are the secrets of one USIM: K, and OPc, which is derived from K and the
// operator's OP. The zero value has none.
type Keys struct{ k, opc messages.Secret }

var errKeySize = errors.New("a key has 16 bytes")

// KeysFromOP derives OPc (3GPP TS 35.206 §4.1).
func KeysFromOP(k, op []byte) (Keys, error) {
	if len(k) != keySize || len(op) != keySize {
		return Keys{}, errKeySize
	}
	block := newCipher(k)
	var opc [keySize]byte
	block.Encrypt(opc[:], op)
	xor(opc[:], op)
	return KeysFromOPc(k, opc[:])
}

// KeysFromOPc takes OPc as it is, which is how operators hand it out.
func KeysFromOPc(k, opc []byte) (Keys, error) {
	if len(k) != keySize || len(opc) != keySize {
		return Keys{}, errKeySize
	}
	return Keys{messages.NewSecret(string(k)), messages.NewSecret(string(opc))}, nil
}

// Empty tells whether there are no keys.
func (k Keys) Empty() bool { return k.k.Empty() && k.opc.Empty() }

// Equal tells whether two are the keys of one USIM.
func (k Keys) Equal(other Keys) bool { return k.k.Equal(other.k) && k.opc.Equal(other.opc) }

// ID names the USIM without telling its keys. Two subscribers with the same
// keys are one USIM with one set of sequence numbers: several public identities
// of one private identity are such a case.
func (k Keys) ID() string {
	mac := hmac.New(sha256.New, []byte(k.k.Reveal()))
	mac.Write([]byte("muster usim\x00" + k.opc.Reveal()))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// Format implements fmt.Formatter, so that no verb reaches the keys.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// MarshalJSON fails: keys do not belong in a document.
func (k Keys) MarshalJSON() ([]byte, error) { return nil, messages.ErrSecret }
