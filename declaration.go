package muster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
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
	const maxText = 256
	for field, text := range map[string]string{"id": d.ID, "aor": d.AOR, "username": d.Username, "contact_user": d.ContactUser} {
		if len(text) > maxText {
			return invalid(field, fmt.Sprintf("is longer than %d bytes", maxText))
		}
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
			return invalid(field, "has control characters")
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

// rowOf is a hash of a declaration without its secrets, by which a reload sees
// whether a row changed.
func rowOf(d actors.Declaration) string {
	h := sha256.New()
	// A row that leaves a handler to the registrar has the hash that it had when
	// that meant digest, so that an older journal knows it again.
	handlers := [2]string{cmp.Or(d.RegistrationHandler, messages.DigestHandler), cmp.Or(d.SessionHandler, messages.DigestHandler)}
	fmt.Fprintf(h, "%q %q %q %q %d %q %q %t %t", d.AOR, d.Registrar, d.Username, d.ContactUser,
		d.Expires/time.Second, handlers[0], handlers[1], d.NoRegister, d.Disabled)
	if d.RegistrationHandler == messages.DigestHandler || d.SessionHandler == messages.DigestHandler {
		fmt.Fprintf(h, " %q %q", d.RegistrationHandler, d.SessionHandler)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
