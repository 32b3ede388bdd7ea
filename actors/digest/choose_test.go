package digest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
)

const (
	md5Hash    = "939e7578ed9e3c518a452acee763bce9"
	sha256Hash = "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"
)

func TestChoice(t *testing.T) {
	type want struct {
		answered []uint32
		reason   messages.Reason
	}
	alice := password("alice", "s3cr3t")
	for _, tt := range []struct {
		name       string
		challenges []string
		credential digest.Credential
		want
	}{
		{"CHA-20 topmost of a realm", []string{dig("SHA-256", "auth"), dig("MD5", "auth")}, alice, want{answered: []uint32{0}}},
		{"CHA-20 order is the server's", []string{dig("MD5", "auth"), dig("SHA-256", "auth")}, alice, want{answered: []uint32{0}}},
		{"CHA-21 unknown algorithm first", []string{dig("CHACHA123", "auth"), dig("SHA-256", "auth")}, alice, want{answered: []uint32{1}}},
		{"CHA-21 misspelt algorithm first", []string{dig("sha256-512", "auth"), dig("MD5", "auth")}, alice, want{answered: []uint32{1}}},
		{"CHA-21 unknown scheme first", []string{`Bearer realm="a", authz_server="https://x.test"`, dig("MD5", "auth")}, alice, want{answered: []uint32{1}}},
		{"CHA-22 every realm", []string{dig("MD5", "auth"), `Digest realm="b", nonce="m"`, `Digest realm="c", nonce="o", algorithm=X`}, alice, want{answered: []uint32{0, 1}}},
		{"CHA-23 nothing answerable", []string{dig("MD2", "auth"), dig("AKAv1-MD5", "auth")}, alice, want{reason: messages.ReasonChallengeUnsupported}},
		{"CHA-23 no challenge", nil, alice, want{reason: messages.ReasonChallengeUnsupported}},
		{"CHA-27 Basic alone", []string{`Basic realm="a"`}, alice, want{reason: messages.ReasonChallengeUnsupported}},
		{"CHA-27 Basic first", []string{`Basic realm="a"`, dig("MD5", "auth")}, alice, want{answered: []uint32{1}}},
		{"CHA-28 realms differ by case", []string{`Digest realm="a", nonce="n"`, `Digest realm="A", nonce="n"`}, alice, want{answered: []uint32{0, 1}}},
		{"CHA-31 only unknown qop", []string{dig("MD5", "auth-conf")}, alice, want{reason: messages.ReasonChallengeUnsupported}},
		{"CHA-31 only unknown qop, then another", []string{dig("SHA-256", "auth-conf"), dig("MD5", "auth-int")}, alice, want{answered: []uint32{1}}},
		{"CHA-32 no qop", []string{`Digest realm="a", nonce="n"`}, alice, want{answered: []uint32{0}}},
		{"CHA-32 -sess without qop", []string{`Digest realm="a", nonce="n", algorithm=MD5-sess`}, alice, want{reason: messages.ReasonChallengeUnsupported}},
		{"DIG-10 scheme and algorithm in any case", []string{`dIGEST realm="a", nonce="n", algorithm=sha-512-256-SESS, qop=AUTH`}, alice, want{answered: []uint32{0}}},
		{"DIG-13 colon in the user name", []string{dig("MD5", "auth")}, password("a:b", "p"), want{reason: messages.ReasonNoCredentials}},
		{"no user name", []string{dig("MD5", "auth")}, password("", "p"), want{reason: messages.ReasonNoCredentials}},
		{"CHA-28 anonymous is off", []string{dig("MD5", "auth")}, password("anonymous", ""), want{reason: messages.ReasonNoCredentials}},
		{"S-52 control byte in the user name", []string{dig("MD5", "auth")}, password("a\r\nb", "p"), want{reason: messages.ReasonNoCredentials}},
		{"DIG-15 HA1 of the other algorithm first", []string{dig("SHA-256", "auth"), dig("MD5", "auth")}, stored(md5Hash), want{answered: []uint32{1}}},
		{"DIG-15 HA1 for SHA-512-256", []string{dig("SHA-512-256", "auth"), dig("MD5", "auth")}, stored(sha256Hash), want{answered: []uint32{0}}},
		{"DIG-15 HA1 with -sess", []string{dig("SHA-256-sess", "auth")}, stored(sha256Hash), want{answered: []uint32{0}}},
		{"DIG-15 HA1 too short for all", []string{dig("SHA-256", "auth"), dig("X", "auth")}, stored(md5Hash), want{reason: messages.ReasonHA1Mismatch}},
		{"DIG-15 HA1 too long", []string{dig("MD5", "auth")}, stored(md5Hash + "00"), want{reason: messages.ReasonHA1Mismatch}},
		{"DIG-15 HA1 is not hex", []string{dig("MD5", "auth")}, stored("g39e7578ed9e3c518a452acee763bce9"), want{reason: messages.ReasonHA1Mismatch}},
		{"DIG-15 nothing to mismatch", []string{dig("X", "auth")}, stored(md5Hash), want{reason: messages.ReasonChallengeUnsupported}},
		{"a password goes before an HA1", []string{dig("SHA-256", "auth")}, digest.Credential{Username: "alice", Password: messages.NewSecret("p"), HA1: messages.NewSecret(md5Hash)}, want{answered: []uint32{0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, refusal := digest.Answer(question(tt.challenges...), tt.credential, fixed("c1"))
			if got := messages.Reason(refusal.GetReason()); got != tt.reason {
				t.Fatalf("refused for %q, want %q", got, tt.reason)
			}
			if diff := cmp.Diff(tt.answered, a.GetAnswered()); diff != "" {
				t.Errorf("answered (-want +got)\n%s", diff)
			}
			if refusal.GetRetryAfterSeconds() != 0 {
				t.Error("a refusal asks for a retry")
			}
		})
	}
}

// TestHostileEcho: what a challenge wants echoed must be safe to write (S-52),
// also when it did not come through the challenge parser.
func TestHostileEcho(t *testing.T) {
	for _, tt := range []struct{ name, realm, nonce, opaque string }{
		{"realm with CRLF", "a\r\nContact: x", "n", ""},
		{"nonce with NUL", "a", "n\x00", ""},
		{"opaque with DEL", "a", "n", "\x7f"},
		{"realm in Latin-1", "Gr\xf6\xdfe", "n", ""},
		{"no nonce", "a", "", ""},
	} {
		t.Run("S-52 "+tt.name, func(t *testing.T) {
			q := question()
			q.Challenges = []*messages.Challenge{{
				Space: messages.Space_ORIGIN, Scheme: "Digest", Realm: tt.realm,
				Params: map[string]string{"nonce": tt.nonce, "opaque": tt.opaque},
			}}
			if a, refusal := digest.Answer(q, password("alice", "p"), fixed("c")); a != nil || refusal == nil {
				t.Errorf("answered: %v", a)
			}
		})
	}
	t.Run("S-52 our own URI and cnonce", func(t *testing.T) {
		q := question(dig("MD5", "auth"))
		for _, cnonce := range []string{"", "a\nb"} {
			if a, _ := digest.Answer(q, password("alice", "p"), fixed(cnonce)); a != nil {
				t.Errorf("answered with cnonce %q", cnonce)
			}
		}
		q.RequestUri = "sip:a\r\nb"
		if a, _ := digest.Answer(q, password("alice", "p"), fixed("c")); a != nil {
			t.Error("answered with a URI of two lines")
		}
	})
	t.Run("unknown space", func(t *testing.T) {
		q := question(dig("MD5", "auth"))
		q.Challenges[0].Space = messages.Space_SPACE_UNSPECIFIED
		if a, _ := digest.Answer(q, password("alice", "p"), fixed("c")); a != nil {
			t.Error("answered")
		}
	})
}
