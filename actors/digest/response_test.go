package digest_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/digest"
)

type vector struct {
	Name      string
	Algorithm string
	Sess      bool
	Username  string
	Realm     string
	Password  string `json:"password_hex_or_text"`
	Hex       bool   `json:"password_is_hex"`
	Nonce     string
	NC        string
	Cnonce    string
	QOP       string
	Method    string
	URI       string
	Body      string
	HA1       string
	Response  string
	Rspauth   string
	Published string `json:"published_response"`
	Matches   *bool  `json:"matches_published"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Digest []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Digest
}

// name is the algorithm parameter of the vector.
func (v vector) name() string {
	if v.Sess {
		return v.Algorithm + "-sess"
	}
	return v.Algorithm
}

// TestVectors checks the arithmetic: DIG-01, DIG-02 (-sess), DIG-03 (auth-int),
// DIG-09 (a realm with a quote), DIG-11, CHA-32 (no qop), AIN-03 (rspauth).
func TestVectors(t *testing.T) {
	all := vectors(t)
	if len(all) != 16 {
		t.Fatalf("%d vectors, want 16", len(all))
	}
	for _, v := range all {
		t.Run("DIG-01 "+v.Name, func(t *testing.T) {
			if v.Hex {
				t.Fatal("a binary password is for AKA")
			}
			ha1 := digest.HA1(v.name(), v.Username, v.Realm, v.Password)
			final := ha1
			if v.Sess {
				final = digest.SessionHA1(v.name(), ha1, v.Nonce, v.Cnonce)
			}
			if final != v.HA1 {
				t.Errorf("DIG-02 HA1 = %s, want %s", final, v.HA1)
			}
			x := digest.Exchange{
				Algorithm: v.name(), HA1: ha1, Method: v.Method, URI: v.URI, Nonce: v.Nonce,
				QOP: v.QOP, NC: v.NC, Cnonce: v.Cnonce,
			}
			if v.Body != "" {
				x.BodyHash = digest.BodyHash(v.Algorithm, v.Body)
			}
			if got := digest.Response(x); got != v.Response {
				t.Errorf("response = %s, want %s", got, v.Response)
			}
			// The records compute rspauth over the request's body.
			x.Method = ""
			if got := digest.Response(x); got != v.Rspauth {
				t.Errorf("AIN-03 rspauth = %s, want %s", got, v.Rspauth)
			}
			if v.Matches != nil && *v.Matches != (v.Published == v.Response) {
				t.Errorf("the record contradicts itself")
			}
		})
	}
}

// TestCorrectedExample holds RFC 7616 §3.9.2 as errata 4897 corrects it: the
// printed values are SHA-512 cut to 256 bits.
func TestCorrectedExample(t *testing.T) {
	const (
		realm    = "api@example.org"
		user     = "Jäsøn Doe"
		response = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
		userhash = "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
		cnonce   = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
	)
	q := question(`Digest realm="` + realm + `", qop="auth", algorithm=SHA-512-256, nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", ` +
		`opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true`)
	q.Method, q.RequestUri = "GET", "/doe.json"
	a := mustAnswer(t, q, password(user, "Secret, or not?"), cnonce)
	p := reparse(t, a.GetMutations()[0].GetValue())
	for name, want := range map[string]string{"response": response, "username": userhash, "userhash": "true", "nc": "00000001"} {
		if got, _ := p.Get(name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
}

func TestUnknownAlgorithm(t *testing.T) {
	for _, name := range []string{"SHA-512", "AKAv1-MD5", "-sess", "sha256-512", "MD5 "} {
		if digest.HA1(name, "u", "r", "p")+digest.SessionHA1(name, "h", "n", "c")+
			digest.Response(digest.Exchange{Algorithm: name})+digest.BodyHash(name, "") != "" {
			t.Errorf("%q gives a hash", name)
		}
	}
	if !strings.HasPrefix(digest.BodyHash("SHA-256", ""), "e3b0c442") {
		t.Error("RFC 8760 §2.6: SHA-256 of nothing")
	}
}
