package muster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// TestRowsKeepTheirHash: a journal of an earlier release knows the rows of a
// file by it; with another one every profile would count as changed.
func TestRowsKeepTheirHash(t *testing.T) {
	d := actors.Declaration{ID: "a", AOR: "sip:a@example.test", Registrar: "r", Username: "u"}
	const before = "be7abc178362f7c2"
	if got := rowOf(d); got != before {
		t.Errorf("hash %s, want %s", got, before)
	}
	hashes := map[string]string{}
	for _, handlers := range [][2]string{{"", ""}, {"digest", ""}, {"", "digest"}, {"digest", "digest"}, {"x", ""}, {"", "x"}} {
		d.RegistrationHandler, d.SessionHandler = handlers[0], handlers[1]
		h := rowOf(d)
		if other, taken := hashes[h]; taken {
			t.Errorf("%q has the hash of %q", handlers, other)
		}
		hashes[h] = handlers[0] + "," + handlers[1]
	}
}

// TestRowHashIsThatOfThePlainForm compares with the words that fmt makes.
func TestRowHashIsThatOfThePlainForm(t *testing.T) {
	plain := func(d actors.Declaration) string {
		h := sha256.New()
		handlers := [2]string{cmp.Or(d.RegistrationHandler, messages.DigestHandler), cmp.Or(d.SessionHandler, messages.DigestHandler)}
		fmt.Fprintf(h, "%q %q %q %q %d %q %q %t %t", d.AOR, d.Registrar, d.Username, d.ContactUser,
			d.Expires/time.Second, handlers[0], handlers[1], d.NoRegister, d.Disabled)
		if d.RegistrationHandler == messages.DigestHandler || d.SessionHandler == messages.DigestHandler {
			fmt.Fprintf(h, " %q %q", d.RegistrationHandler, d.SessionHandler)
		}
		return hex.EncodeToString(h.Sum(nil)[:8])
	}
	rapid.Check(t, func(t *rapid.T) {
		text, handler := rapid.String(), rapid.SampledFrom([]string{"", "digest", "x", "x>digest"})
		d := actors.Declaration{
			AOR: text.Draw(t, "aor"), Registrar: text.Draw(t, "registrar"), Username: text.Draw(t, "username"),
			ContactUser: text.Draw(t, "contact_user"), Expires: time.Duration(rapid.Int64().Draw(t, "expires")),
			RegistrationHandler: handler.Draw(t, "registration"), SessionHandler: handler.Draw(t, "session"),
			NoRegister: rapid.Bool().Draw(t, "no"), Disabled: rapid.Bool().Draw(t, "disabled"),
		}
		if got, want := rowOf(d), plain(d); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func TestChecksOfTexts(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "sip:alice@example.test": "", "zoë": "", strings.Repeat("a", 256): "",
		"a\x00": "has control characters", "a\x7f": "has control characters", "é\n": "has control characters",
		"\xff": "has control characters", "\u0085": "has control characters",
		strings.Repeat("a", 257): "is longer than 256 bytes",
	} {
		if got := checkText(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestCredentialsArePacked: what comes out is what went in.
func TestCredentialsArePacked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		c := actors.Credential{
			Username: text.Draw(t, "username"), Password: messages.NewSecret(text.Draw(t, "password")), HA1: messages.NewSecret(text.Draw(t, "ha1")),
		}
		all := newCredentials()
		all.set("alice", c)
		got, known := all.Credential("alice")
		if known == isEmpty(c) || known && !equal(got, c) {
			t.Fatalf("known %v", known)
		}
		if all.put("alice", c) {
			t.Fatal("the same credential counts as changed")
		}
	})
}

// TestCredentialsOfAMillionAreSmall: 1,000,000 profiles have to fit.
func TestCredentialsOfAMillionAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("a million credentials")
	}
	const profiles, id, password = 1_000_000, "user-0000000", "pw-user-0000000"
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	all := newCredentials()
	for i := range profiles {
		all.set(fmt.Sprintf("user-%07d", i), actors.Credential{Password: messages.NewSecret(fmt.Sprintf("pw-user-%07d", i))})
	}
	per := float64(heap()-before) / profiles
	if t.Logf("%.1f bytes each", per); per > float64(len(id)+len(password)+30) {
		t.Errorf("%.1f bytes for a credential with %d of id and password", per, len(id)+len(password))
	}
	if _, known := all.Credential(id); !known {
		t.Error("the first is not there")
	}
}
