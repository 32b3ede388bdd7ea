package actors

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Bounds of one answer (S-44).
const (
	maxMutations   = 16
	maxAnswerBytes = 16 << 10
)

// checkAnswer weighs an authenticator's answer as a whole, before anything is
// written (S-45): only Authorization and Proxy-Authorization, by their
// canonical names, only for a realm and scheme that stood in the challenge of
// that space, and values that cannot become another header line. The errors
// name headers, never values.
func checkAnswer(a *messages.AuthAnswer, challenges map[uint32]*messages.Challenge) error {
	if len(a.GetMutations()) > maxMutations {
		return fmt.Errorf("%d mutations, at most %d are allowed", len(a.GetMutations()), maxMutations)
	}
	if len(a.GetMutations()) == 0 {
		return errors.New("the answer changes nothing")
	}
	for _, index := range a.GetAnswered() {
		if _, ok := challenges[index]; !ok {
			return fmt.Errorf("answers challenge %d, which was not asked", index)
		}
	}
	size := 0
	for _, m := range a.GetMutations() {
		size += len(m.GetName()) + len(m.GetValue())
		if size > maxAnswerBytes {
			return fmt.Errorf("the answer is larger than %d bytes", maxAnswerBytes)
		}
		if err := checkMutation(m, challenges); err != nil {
			return err
		}
	}
	return nil
}

func checkMutation(m *messages.HeaderMutation, challenges map[uint32]*messages.Challenge) error {
	var space messages.Space
	switch strings.ToLower(m.GetName()) { // S-50: no trimming, so a blank is another name
	case "authorization":
		space = messages.Space_ORIGIN
	case "proxy-authorization":
		space = messages.Space_PROXY
	default:
		return fmt.Errorf("header %q may not be changed", printable(m.GetName()))
	}
	switch m.GetOp() {
	case messages.Op_REMOVE:
		return nil
	case messages.Op_SET, messages.Op_ADD:
	default:
		return fmt.Errorf("header %s: unknown operation", m.GetName())
	}
	if !validValue(m.GetValue()) {
		return fmt.Errorf("header %s: the value has bytes that a header cannot hold", m.GetName())
	}
	parsed, err := challenge.Parse(m.GetValue())
	if err != nil {
		return fmt.Errorf("header %s: the value is not credentials", m.GetName())
	}
	for _, c := range challenges {
		if c.GetSpace() == space && c.GetRealm() == parsed.Realm() && strings.EqualFold(c.GetScheme(), parsed.Scheme) {
			return nil
		}
	}
	return fmt.Errorf("header %s: no challenge asked for this scheme and realm", m.GetName())
}

// validValue: no CR, LF, NUL or other control byte but HTAB, valid UTF-8
// (S-51).
func validValue(v string) bool {
	for i := range len(v) {
		if v[i] < 0x20 && v[i] != '\t' || v[i] == 0x7f {
			return false
		}
	}
	return v != "" && utf8.ValidString(v)
}

// printable cuts a name that may be hostile down to what a log line holds.
func printable(name string) string {
	const most = 40
	var b strings.Builder
	for _, r := range name {
		if b.Len() >= most {
			break
		}
		if r < 0x20 || r > 0x7e {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
