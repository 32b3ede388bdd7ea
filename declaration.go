package muster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// digestHandler is the authenticator that every node has.
const digestHandler = "digest"

// normalised fills in what a declaration may leave out (design §9).
func normalised(d actors.Declaration) actors.Declaration {
	if d.ID == "" {
		d.ID = d.AOR
	}
	if d.RegistrationHandler == "" {
		d.RegistrationHandler = digestHandler
	}
	if d.SessionHandler == "" {
		d.SessionHandler = digestHandler
	}
	return d
}

// validateDeclaration is the last line of defence for what reaches the farm,
// from wherever. Files and the API are checked with better words before.
func validateDeclaration(d actors.Declaration, known func(registrar string) bool) error {
	invalid := func(field, problem string) error {
		return fmt.Errorf("%w: profile %q: %s: %s", actors.ErrInvalid, d.ID, field, problem)
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
	rest, isSIP := strings.CutPrefix(d.AOR, "sip:")
	user, host, found := strings.Cut(rest, "@")
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
	case d.RegistrationHandler != digestHandler:
		return invalid("registration_handler", fmt.Sprintf("%q is not available; want digest", d.RegistrationHandler))
	case d.SessionHandler != digestHandler:
		return invalid("session_handler", fmt.Sprintf("%q is not available; want digest", d.SessionHandler))
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
	fmt.Fprintf(h, "%q %q %q %q %d %q %q %t %t", d.AOR, d.Registrar, d.Username, d.ContactUser,
		d.Expires/time.Second, d.RegistrationHandler, d.SessionHandler, d.NoRegister, d.Disabled)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// credentials holds the secrets of all profiles in memory: those of files are
// read at each start, those of the API are sealed in the store.
type credentials struct {
	mu  sync.RWMutex
	all map[string]actors.Credential
}

// Credential implements actors.Credentials.
func (c *credentials) Credential(id string) (actors.Credential, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, ok := c.all[id]
	return found, ok
}

// set replaces a secret and tells whether it differs from what was known.
func (c *credentials) set(id string, next actors.Credential) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, known := c.all[id]
	if next.Password.Empty() && next.HA1.Empty() {
		delete(c.all, id)
		return known
	}
	c.all[id] = next
	return old != next
}

func (c *credentials) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, id)
}

func credentialOf(d actors.Declaration) actors.Credential {
	return actors.Credential{Username: d.Username, Password: d.Password, HA1: d.HA1}
}

// sealedCredential is the plaintext of a sealed secret. It exists only between
// encoding and sealing.
type sealedCredential struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	HA1      string `json:"ha1,omitempty"`
}

func encodeCredential(c actors.Credential) ([]byte, error) {
	return json.Marshal(sealedCredential{Username: c.Username, Password: c.Password.Reveal(), HA1: c.HA1.Reveal()})
}

func decodeCredential(b []byte) (actors.Credential, error) {
	var s sealedCredential
	if err := json.Unmarshal(b, &s); err != nil {
		// The error of json can quote its input.
		return actors.Credential{}, fmt.Errorf("a sealed secret is not readable")
	}
	return actors.Credential{Username: s.Username, Password: messages.NewSecret(s.Password), HA1: messages.NewSecret(s.HA1)}, nil
}
