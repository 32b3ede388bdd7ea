package signature_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/actors/signature"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

var (
	key    = messages.NewSecret("canary-key")
	moment = time.Unix(1795464000, 0)
)

var _ xsp.Authenticator = (*signature.Provider)(nil)

func provider(t *testing.T, o signature.Options) *signature.Provider {
	t.Helper()
	o.Key, o.KeyID, o.Now = key, "k1", func() time.Time { return moment }
	p, err := signature.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ask(index uint32, space messages.Space, scheme, realm, nonce string) *messages.Challenge {
	c := &messages.Challenge{Index: index, Space: space, Scheme: scheme, Realm: realm, Params: map[string]string{"realm": realm}}
	if nonce != "" {
		c.Params["nonce"] = nonce
	}
	return c
}

func question(challenges ...*messages.Challenge) *messages.AuthChallenge {
	return &messages.AuthChallenge{Ref: "r", Method: "REGISTER", RequestUri: "sip:example.test", StatusCode: 401, Challenges: challenges}
}

// TestAnswer holds a value that was computed with openssl:
//
//	printf 'REGISTER\nsip:example.test\na\nn1\n1795464000' | openssl dgst -sha256 -hmac canary-key
func TestAnswer(t *testing.T) {
	const sum = "9b43f7ffd00a8365598b56add4bbfbba050c81b6d2563c4fde146b998d2d0c6a"
	got, err := provider(t, signature.Options{Header: "X-Muster-Signature"}).Answer(t.Context(), question(
		ask(0, messages.Space_ORIGIN, "Digest", "a", "n0"),
		ask(1, messages.Space_ORIGIN, "hmac-sha256", "a", "n1"),
		ask(2, messages.Space_ORIGIN, "HMAC-SHA256", "b\r\nEvil: x", "n1"),
		ask(3, messages.Space_ORIGIN, "HMAC-SHA256", "b", "n\n1"),
	))
	if err != nil {
		t.Fatal(err)
	}
	want := &messages.AuthAnswer{
		Ref: "r", Answered: []uint32{1},
		Mutations: []*messages.HeaderMutation{
			{Op: messages.Op_SET, Name: "X-Muster-Signature", Value: "t=1795464000,v1=" + sum},
			{Op: messages.Op_SET, Name: "Authorization", Value: `HMAC-SHA256 keyid="k1", realm="a", nonce="n1", ts="1795464000", signature="` + sum + `"`},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSpacesAndRealms(t *testing.T) {
	got, err := provider(t, signature.Options{}).Answer(t.Context(), question(
		ask(0, messages.Space_PROXY, "HMAC-SHA256", "p", ""),
		ask(1, messages.Space_ORIGIN, "HMAC-SHA256", "a", ""),
		ask(2, messages.Space_ORIGIN, "HMAC-SHA256", "b", ""),
	))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, m := range got.GetMutations() {
		seen = append(seen, m.GetOp().String()+" "+m.GetName())
	}
	if diff := cmp.Diff([]string{"SET Proxy-Authorization", "SET Authorization", "ADD Authorization"}, seen); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !got.GetPreemptive() || len(got.GetAnswered()) != 3 {
		t.Errorf("%v: without a nonce the answer can be given early", got)
	}
}

func TestNothingToAnswerIsARefusal(t *testing.T) {
	_, err := provider(t, signature.Options{Scheme: "Acme"}).Answer(t.Context(), question(ask(0, messages.Space_ORIGIN, "HMAC-SHA256", "a", "n")))
	var refusal *xsp.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != "no challenge of the scheme Acme" {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]signature.Options{
		"key: is missing":                 {},
		"keyid: has control":              {Key: key, KeyID: "a\r\nb"},
		"scheme: is not a token":          {Key: key, Scheme: "a b"},
		"scheme: is not a token (RFC":     {Key: key, Scheme: "\u212aey"}, // lower case makes it "key"
		"header: is not the name":         {Key: key, Header: "X:"},
		"header: is not the name of a he": {Key: key, Header: "X\r\n"},
	} {
		if _, err := signature.New(o); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	if text := fmt.Sprintf("%+v", provider(t, signature.Options{})); strings.Contains(text, "canary") {
		t.Errorf("the key is printed: %s", text)
	}
}

// signed is the header of an answer to a challenge.
func signed(t testing.TB, p *signature.Provider, realm, nonce string) string {
	t.Helper()
	a, err := p.Answer(t.Context(), question(ask(0, messages.Space_ORIGIN, "HMAC-SHA256", realm, nonce)))
	if err != nil {
		t.Fatal(err)
	}
	return a.GetMutations()[0].GetValue()
}

func TestVerifyRoundTrip(t *testing.T) {
	p := provider(t, signature.Options{})
	for _, realm := range []string{"a", "", `say "hi"`, `back\slash`, "Größe, 日本"} {
		header := signed(t, p, realm, `n"1\`)
		r, n, err := signature.Verify(key, "REGISTER", "sip:example.test", header, moment.Add(-30*time.Second), 30*time.Second)
		if err != nil || r != realm || n != `n"1\` {
			t.Errorf("%s: %q %q %v", header, r, n, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	header := signed(t, provider(t, signature.Options{}), "a", "n1")
	replace := func(old, with string) string {
		if !strings.Contains(header, old) {
			t.Fatalf("%q is not in %s", old, header)
		}
		return strings.Replace(header, old, with, 1)
	}
	for _, tt := range []struct {
		name, method, uri, header string
		key                       messages.Secret
		later                     time.Duration
		want                      string
	}{
		{name: "another key", key: messages.NewSecret("other"), want: "wrong signature"},
		{name: "no key", key: messages.Secret{}, header: header, want: "not signed"},
		{name: "another method", method: "INVITE", want: "wrong signature"},
		{name: "another URI", uri: "sip:example.test;transport=udp", want: "wrong signature"},
		{name: "a URI with a line feed", uri: "sip:example.test\na", want: "not signed"},
		{name: "another realm", header: replace(`realm="a"`, `realm="b"`), want: "wrong signature"},
		{name: "another nonce", header: replace(`nonce="n1"`, `nonce="n2"`), want: "wrong signature"},
		{name: "another time", header: replace(`ts="1795464000"`, `ts="1795464001"`), want: "wrong signature"},
		{name: "a time that is none", header: replace(`ts="1795464000"`, `ts="x"`), want: "wrong signature"},
		{name: "no signature", header: `HMAC-SHA256 keyid="k1", realm="a", nonce="n1", ts="1795464000"`, want: "wrong signature"},
		{name: "a shorter signature", header: header[:len(header)-3] + `"`, want: "wrong signature"},
		{name: "two realms", header: replace(`realm="a"`, `realm="a", realm="b"`), want: "not signed"},
		{name: "moved parts", header: replace(`realm="a", nonce="n1"`, `realm="a`+"\n"+`n1", nonce=""`), want: "not signed"},
		{name: "too late", later: 61 * time.Second, want: "signed at another time"},
		{name: "too early", later: -61 * time.Second, want: "signed at another time"},
		{name: "nothing", header: " ", want: "not signed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := tt.key
			if tt.name != "no key" && k.Empty() {
				k = key
			}
			method, uri, value := or(tt.method, "REGISTER"), or(tt.uri, "sip:example.test"), or(tt.header, header)
			r, n, err := signature.Verify(k, method, uri, value, moment.Add(tt.later), time.Minute)
			if err == nil || err.Error() != tt.want || r != "" || n != "" {
				t.Errorf("got %q %q %v, want %q", r, n, err, tt.want)
			}
		})
	}
}

func or(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

// FuzzVerify: only what the key has signed is accepted, and what is accepted
// is what Answer makes of it.
func FuzzVerify(f *testing.F) {
	p, err := signature.New(signature.Options{Key: key, KeyID: "k1", Now: func() time.Time { return moment }})
	if err != nil {
		f.Fatal(err)
	}
	header := signed(f, p, "a", "n1")
	f.Add("REGISTER", "sip:example.test", header)
	f.Add("REGISTER", "sip:example.test", header+`, ts="1"`)
	f.Add("REGISTER", "sip:example.test", strings.ReplaceAll(header, `"`, ""))
	f.Add("INVITE", "sip:\n", `HMAC-SHA256 signature="", ts=`)
	f.Fuzz(func(t *testing.T, method, uri, value string) {
		realm, nonce, err := signature.Verify(key, method, uri, value, moment, time.Minute)
		if err != nil {
			if realm != "" || nonce != "" {
				t.Errorf("%q is refused with %q %q", value, realm, nonce)
			}
			return
		}
		if method != "REGISTER" || uri != "sip:example.test" || realm != "a" || nonce != "n1" {
			t.Errorf("%q %q %q is accepted with %q %q: nobody signed it", method, uri, value, realm, nonce)
		}
	})
}
