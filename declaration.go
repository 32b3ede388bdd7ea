package muster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// normalised fills in what a declaration may leave out (design §9).
func normalised(d actors.Declaration) actors.Declaration {
	if d.ID == "" {
		d.ID = d.AOR
	}
	return d
}

// detached is a declaration whose texts are its own. Those of a file are parts of
// a line, which would stay in memory for as long as one of them, the password
// with it.
func detached(d actors.Declaration) actors.Declaration {
	for _, text := range [...]*string{
		&d.ID, &d.AOR, &d.Registrar, &d.Username, &d.ContactUser, &d.RegistrationHandler, &d.SessionHandler,
	} {
		*text = strings.Clone(*text)
	}
	return d
}

// validateDeclaration is the last line of defence for what reaches the farm,
// from wherever. Files and the API are checked with better words before.
func validateDeclaration(d actors.Declaration, known func(registrar string) bool, xsps []string) error {
	invalid := func(field, problem string) error {
		return fmt.Errorf("%w: profile %q: %s: %s", actors.ErrInvalid, d.ID, field, problem)
	}
	rest, isSIP := strings.CutPrefix(d.AOR, "sip:")
	user, host, found := strings.Cut(rest, "@")
	if name, _, password := strings.Cut(user, ":"); password && found {
		// The id may be the AOR, so it is not shown either.
		return fmt.Errorf("%w: aor: sip:%s:***@%s holds a password; give it as password", actors.ErrInvalid, name, host)
	}
	for _, text := range [...]struct{ field, value string }{
		{"id", d.ID}, {"aor", d.AOR}, {"username", d.Username}, {"contact_user", d.ContactUser},
	} {
		if problem := checkText(text.value); problem != "" {
			return invalid(text.field, problem)
		}
	}
	switch {
	case !isSIP || !found || user == "" || host == "" || strings.ContainsAny(rest, " <>\"?;"):
		return invalid("aor", "want a SIP URI with user and host, such as sip:alice@example.test")
	case !known(d.Registrar):
		return invalid("registrar", fmt.Sprintf("%q is not configured", d.Registrar))
	case strings.ContainsAny(d.ContactUser, " <>\"@?;:"):
		return invalid("contact_user", "want the user part of a SIP URI")
	case !d.Password.Empty() && !d.HA1.Empty():
		return invalid("ha1", "give either a password or an HA1")
	case d.Expires < 0 || d.Expires/time.Second > math.MaxUint32:
		return invalid("expires", "want 1 to 4294967295 seconds")
	}
	if err := actors.CheckHandler(d.RegistrationHandler, xsps); err != nil {
		return invalid("registration_handler", err.Error())
	}
	if err := actors.CheckHandler(d.SessionHandler, xsps); err != nil {
		return invalid("session_handler", err.Error())
	}
	return nil
}

// specOf is the part of a declaration that is recorded.
func specOf(d actors.Declaration) profile.Spec {
	return profile.Spec{
		AOR: d.AOR, Registrar: d.Registrar, Username: d.Username, ContactUser: d.ContactUser,
		Expires: d.Expires.Truncate(time.Second), RegistrationHandler: d.RegistrationHandler,
		SessionHandler: d.SessionHandler, Register: !d.NoRegister,
	}
}

// checkText tells what is wrong with a text, or "".
func checkText(text string) string {
	const maxText = 256
	if len(text) > maxText {
		return fmt.Sprintf("is longer than %d bytes", maxText)
	}
	for i := range len(text) {
		if text[i] >= ' ' && text[i] < unicode.MaxASCII {
			continue
		}
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
			return "has control characters"
		}
		break
	}
	return ""
}

// rowOf is a hash of a declaration without its secrets, by which a reload sees
// whether a row changed.
func rowOf(d actors.Declaration) string {
	sum := rowHash(d)
	return hex.EncodeToString(sum[:])
}

func rowHash(d actors.Declaration) [rowSize]byte {
	var space [512]byte
	b := space[:0]
	for _, text := range [...]string{d.AOR, d.Registrar, d.Username, d.ContactUser} {
		b = append(appendQuoted(b, text), ' ')
	}
	b = strconv.AppendInt(b, int64(d.Expires/time.Second), 10)
	// A row that leaves a handler to the registrar has the hash that it had when
	// that meant digest, so that an older journal knows it again.
	for _, handler := range [...]string{d.RegistrationHandler, d.SessionHandler} {
		b = appendQuoted(append(b, ' '), cmp.Or(handler, messages.DigestHandler))
	}
	b = strconv.AppendBool(append(b, ' '), d.NoRegister)
	b = strconv.AppendBool(append(b, ' '), d.Disabled)
	if d.RegistrationHandler == messages.DigestHandler || d.SessionHandler == messages.DigestHandler {
		for _, handler := range [...]string{d.RegistrationHandler, d.SessionHandler} {
			b = appendQuoted(append(b, ' '), handler)
		}
	}
	sum := sha256.Sum256(b)
	return [rowSize]byte(sum[:])
}

// appendQuoted is strconv.AppendQuote, which takes its time.
func appendQuoted(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= unicode.MaxASCII || c == '"' || c == '\\' {
			return strconv.AppendQuote(b, text)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}
