package digest_test

import (
	"bytes"
	"io"
	"testing"

	oracle "github.com/icholy/digest"
	"pgregory.net/rapid"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
)

var (
	algorithms = []string{"", "MD5", "md5", "SHA-256", "sha-256", "SHA-512-256"}
	text       = rapid.StringMatching(`[ !#-\[\]-~äöüß"\\]{1,40}`)
	user       = rapid.StringMatching(`[ !#-9;-\[\]-~äöüß"\\]{1,20}`)
	uri        = rapid.StringMatching(`sips?:([a-z0-9%.+-]{1,10}@)?[a-z0-9.]{1,15}(:[0-9]{2,5})?(;[a-z]{1,5}(=[a-z0-9]{1,5})?){0,2}`)
)

// drawQuestion makes one challenge of the given algorithm.
func drawQuestion(t *rapid.T, algorithm string) *messages.AuthChallenge {
	params := map[string]string{"realm": text.Draw(t, "realm"), "nonce": text.Draw(t, "nonce")}
	if algorithm != "" {
		params["algorithm"] = algorithm
	}
	if qop := rapid.SampledFrom([]string{"", "auth", "auth-int", "auth,auth-int"}).Draw(t, "qop"); qop != "" {
		params["qop"] = qop
	}
	if rapid.Bool().Draw(t, "has opaque") {
		params["opaque"] = text.Draw(t, "opaque")
	}
	if rapid.Bool().Draw(t, "userhash") {
		params["userhash"] = "true"
	}
	return &messages.AuthChallenge{
		Method: "REGISTER", RequestUri: uri.Draw(t, "uri"),
		Challenges: []*messages.Challenge{{
			Space: messages.Space_ORIGIN, Scheme: "Digest", Realm: params["realm"],
			NonceCount: rapid.Uint32Range(1, 1<<31-1).Draw(t, "count"), Params: params,
		}},
	}
}

func answerValue(t *rapid.T, q *messages.AuthChallenge, c digest.Credential, cnonce string) string {
	a, refusal := digest.Answer(q, c, fixed(cnonce))
	if refusal != nil {
		t.Fatalf("refused: %s", refusal.GetReason())
	}
	return a.GetMutations()[0].GetValue()
}

// TestAgreesWithOracle compares with an implementation that shares no code with
// ours: DIG-01, DIG-03, DIG-09, DIG-12, CHA-32.
func TestAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuestion(t, rapid.SampledFrom(algorithms).Draw(t, "algorithm"))
		ch := q.GetChallenges()[0]
		body := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "body")
		q.BodyHashes = map[string]string{}
		for _, name := range []string{"MD5", "SHA-256", "SHA-512-256"} {
			q.BodyHashes[name] = digest.BodyHash(name, string(body))
		}
		name, pass, cnonce := user.Draw(t, "user"), text.Draw(t, "password"), text.Draw(t, "cnonce")
		params := ch.GetParams()
		theirs := &oracle.Challenge{
			Realm: ch.GetRealm(), Nonce: params["nonce"], Opaque: params["opaque"], Algorithm: params["algorithm"],
			Userhash: params["userhash"] == "true",
		}
		switch params["qop"] {
		case "auth", "auth-int":
			theirs.QOP = []string{params["qop"]}
		case "auth,auth-int":
			theirs.QOP = []string{"auth", "auth-int"}
		}
		want, err := oracle.Digest(theirs, oracle.Options{
			Method: q.GetMethod(), URI: q.GetRequestUri(), Count: int(ch.GetNonceCount()), Username: name, Password: pass, Cnonce: cnonce,
			GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		p := reparse(t, answerValue(t, q, password(name, pass), cnonce))
		if got, _ := p.Get("response"); got != want.Response {
			t.Fatalf("response = %s, want %s", got, want.Response)
		}
		if got, _ := p.Get("username"); got != want.Username {
			t.Fatalf("username = %q, want %q", got, want.Username)
		}
	})
}

// TestAnswerReparses: whatever was offered, the header says what was meant, and
// HA1 and password lead to the same header.
func TestAnswerReparses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		algorithm := rapid.SampledFrom([]string{"MD5", "MD5-sess", "SHA-256-sess", "SHA-512-256"}).Draw(t, "algorithm")
		q := drawQuestion(t, algorithm)
		ch := q.GetChallenges()[0]
		params := ch.GetParams()
		if params["qop"] == "" {
			params["qop"] = "auth"
		}
		name, pass, cnonce := user.Draw(t, "user"), text.Draw(t, "password"), text.Draw(t, "cnonce")
		value := answerValue(t, q, password(name, pass), cnonce)
		hashed := digest.Credential{Username: name, HA1: messages.NewSecret(digest.HA1(algorithm, name, ch.GetRealm(), pass))}
		if other := answerValue(t, q, hashed, cnonce); other != value {
			t.Fatalf("DIG-15 by password %s\nby HA1 %s", value, other)
		}
		p := reparse(t, value)
		for name, want := range map[string]string{
			"realm": ch.GetRealm(), "nonce": params["nonce"], "opaque": params["opaque"], "algorithm": algorithm,
			"uri": q.GetRequestUri(), "cnonce": cnonce,
		} {
			if got, _ := p.Get(name); got != want {
				t.Fatalf("%s = %q, want %q", name, got, want)
			}
		}
		if len(challenge.Split(value)) != 1 {
			t.Fatalf("more than one: %s", value)
		}
	})
}

// TestOrderOfParameters: the answer does not depend on where the server puts
// its parameters.
func TestOrderOfParameters(t *testing.T) {
	params := []string{`realm="a\"b"`, `nonce="n"`, `qop="auth-int,auth"`, `algorithm=SHA-256`, `opaque="o"`, `stale=true`}
	rapid.Check(t, func(t *rapid.T) {
		raw := func(params []string) string {
			s := "Digest "
			for i, p := range params {
				if i > 0 {
					s += ", "
				}
				s += p
			}
			return s
		}
		c := password("alice", "s3cr3t")
		want := answerValue(t, question(raw(params)), c, "c")
		if got := answerValue(t, question(raw(rapid.Permutation(params).Draw(t, "order"))), c, "c"); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	for _, algorithm := range []string{"MD5", "SHA-256", "SHA-512-256"} {
		for name, c := range map[string]digest.Credential{
			"password": password("alice", "s3cr3t"),
			"HA1":      {Username: "alice", HA1: messages.NewSecret(digest.HA1(algorithm, "alice", "example.com", "s3cr3t"))},
		} {
			b.Run(algorithm+"/"+name, func(b *testing.B) {
				q := question(dig(algorithm, "auth"))
				source := fixed("MTIzNDU2Nzg5MDEyMzQ1Ng==")
				b.ReportAllocs()
				for b.Loop() {
					if _, refusal := digest.Answer(q, c, source); refusal != nil {
						b.Fatal(refusal)
					}
				}
			})
		}
	}
}
