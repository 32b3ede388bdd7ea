package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
)

// redacted is what every printed form of a Secret shows.
const redacted = "[redacted]"

// ErrSecret is returned when something tries to encode a Secret.
var ErrSecret = errors.New("a secret is never encoded")

// Secret is a password, an HA1 or a token. It prints as a fixed word in every
// form that Go prints, and refuses to be encoded (S-62).
//
// The value is behind a pointer because fmt does not call methods everywhere:
// not on unexported fields, not for %p and not below a verb that does not fit.
// There it prints what reflection finds, which is an address.
type Secret struct {
	// Comparing addresses would be wrong: see Equal.
	_     [0]func()
	value *string
}

// NewSecret wraps a value.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal gives the value to the code that computes with it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty tells whether there is no value.
func (s Secret) Empty() bool { return s.value == nil }

// Equal tells whether two secrets have the same value. It takes longer the more
// of them agrees, so it is not for values that a stranger may try.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb reaches the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON fails: a secret does not belong in a document.
func (s Secret) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalText fails like MarshalJSON.
func (s Secret) MarshalText() ([]byte, error) { return nil, ErrSecret }

// UnmarshalJSON reads a JSON string: secrets are write-only (S-71).
func (s *Secret) UnmarshalJSON(b []byte) error {
	var value string
	if err := json.Unmarshal(b, &value); err != nil {
		return errors.New("a secret must be a JSON string")
	}
	*s = NewSecret(value)
	return nil
}
