package challenge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        []string
	}{
		{"nothing", "", nil},
		{"blanks and commas", " ,\t, ", nil},
		{"one", ` Digest realm="a", nonce="n" `, []string{`Digest realm="a", nonce="n"`}},
		{
			"CHA-20 two in one line keep their order",
			`Digest realm="a", nonce="n", algorithm=SHA-256, Digest realm="a", nonce="n", algorithm=MD5`,
			[]string{`Digest realm="a", nonce="n", algorithm=SHA-256`, `Digest realm="a", nonce="n", algorithm=MD5`},
		},
		{
			"no blank after the comma",
			`Digest realm="a",nonce="n",Digest realm="b",nonce="m"`,
			[]string{`Digest realm="a",nonce="n"`, `Digest realm="b",nonce="m"`},
		},
		{"a comma and a scheme inside a realm", `Digest realm="a, Digest realm=\"x\"", nonce="n"`, []string{`Digest realm="a, Digest realm=\"x\"", nonce="n"`}},
		{"a list in a quoted qop", `Digest qop="auth, auth-int", realm="a", nonce="n"`, []string{`Digest qop="auth, auth-int", realm="a", nonce="n"`}},
		{"a list in an unquoted qop", `Digest qop=auth,auth-int,realm="a",nonce="n"`, []string{`Digest qop=auth,auth-int,realm="a",nonce="n"`}},
		{"blanks around equals", `Digest realm = "a" , nonce = "n"`, []string{`Digest realm = "a" , nonce = "n"`}},
		{"CHA-27 Basic first", `Basic realm="a", Digest realm="a", nonce="n"`, []string{`Basic realm="a"`, `Digest realm="a", nonce="n"`}},
		{"token68", `Negotiate YWJj==, Digest realm="a", nonce="n"`, []string{`Negotiate YWJj==`, `Digest realm="a", nonce="n"`}},
		{"a scheme alone", `NTLM, Digest realm="a", nonce="n", Kerberos`, []string{`NTLM`, `Digest realm="a", nonce="n"`, `Kerberos`}},
		{"trailing comma", `Digest realm="a", nonce="n",`, []string{`Digest realm="a", nonce="n"`}},
		{"folded", "Digest realm=\"a\",\r\n\tnonce=\"n\",\r\n Digest realm=\"b\", nonce=\"m\"", []string{"Digest realm=\"a\",\r\n\tnonce=\"n\"", `Digest realm="b", nonce="m"`}},
		{"unbalanced quotes swallow the rest", `Digest realm="a, nonce="n", Digest x`, []string{`Digest realm="a, nonce="n", Digest x`}},
		{"S-31 too long", strings.Repeat("a", 64<<10+1), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Split(tt.value)); diff != "" {
				t.Errorf("Split (-want +got)\n%s", diff)
			}
		})
	}
	t.Run("S-31 at most 64", func(t *testing.T) {
		if n := len(Split(strings.Repeat("a b=c,", 100))); n != 64 {
			t.Errorf("got %d challenges", n)
		}
	})
}

// TestParseSpellings goes through what registrars really send; the shapes are
// those of OpenSIPS's and pjsip's tests, Kamailio, Asterisk, FreeSWITCH and
// Microsoft servers, with values of our own.
func TestParseSpellings(t *testing.T) {
	for _, tt := range []struct {
		name, raw                       string
		realm, nonce, algorithm, opaque string
		qop                             []string
		stale                           bool
	}{
		{name: "Kamailio", raw: `Digest realm="example.test", nonce="Zz1/+AB=", qop="auth"`, realm: "example.test", nonce: "Zz1/+AB=", qop: []string{"auth"}},
		{name: "Kamailio SHA-256", raw: `Digest realm="example.test", nonce="Zz1", qop="auth", algorithm=SHA-256`, realm: "example.test", nonce: "Zz1", algorithm: "SHA-256", qop: []string{"auth"}},
		{name: "Asterisk", raw: `Digest  realm="asterisk",nonce="1700/ab",opaque="0f",algorithm=MD5,qop="auth"`, realm: "asterisk", nonce: "1700/ab", opaque: "0f", algorithm: "MD5", qop: []string{"auth"}},
		{name: "DIG-07 quoted algorithm", raw: `Digest realm="a", nonce="n", algorithm="MD5"`, realm: "a", nonce: "n", algorithm: "MD5"},
		{name: "DIG-10 lower-case algorithm", raw: `Digest realm="a", nonce="n", algorithm=md5`, realm: "a", nonce: "n", algorithm: "md5"},
		{name: "DIG-07 unquoted qop and stale first", raw: `Digest stale=false,realm="[::1]",nonce="k+/9w",qop=auth,algorithm=MD5`, realm: "[::1]", nonce: "k+/9w", algorithm: "MD5", qop: []string{"auth"}},
		{name: "IPv6 realm and SHA-512-256", raw: `Digest realm="[::1]",nonce="ak/b",qop=auth,algorithm=SHA-512-256`, realm: "[::1]", nonce: "ak/b", algorithm: "SHA-512-256", qop: []string{"auth"}},
		{name: "IPv6 realm and SHA-256", raw: `Digest realm="[::1]",nonce="kp5X",qop=auth,algorithm=SHA-256`, realm: "[::1]", nonce: "kp5X", algorithm: "SHA-256", qop: []string{"auth"}},
		{name: "stale after an opaque", raw: `Digest realm="sip.test",qop="auth",opaque="12ef",nonce="145f",algorithm=MD5,stale=true`, realm: "sip.test", nonce: "145f", algorithm: "MD5", opaque: "12ef", qop: []string{"auth"}, stale: true},
		{name: "mixed case and folded with tabs", raw: "DiGeSt\r\n\trealm=\"a\",\r\n\tqop=\"auth-int, auth\",\r\n\tnonce=\"n\",\r\n\topaque=\"0\",\r\n\talgoriTHm=md5", realm: "a", nonce: "n", opaque: "0", algorithm: "md5", qop: []string{"auth-int", "auth"}},
		{name: "CHA-21 unknown algorithm is still a challenge", raw: `Digest realm="a", nonce="n", algorithm=CHACHA123`, realm: "a", nonce: "n", algorithm: "CHACHA123"},
		{name: "misspelt algorithm", raw: `Digest realm="a", nonce="n", algorithm=sha256-512`, realm: "a", nonce: "n", algorithm: "sha256-512"},
		{name: "lower-case scheme and upper-case names", raw: `digest REALM="a", Nonce="n", QOP="AUTH", STALE="TRUE"`, realm: "a", nonce: "n", qop: []string{"auth"}, stale: true},
		{name: "qop list with blanks and an unknown value", raw: `Digest realm="a", nonce="n", qop=" auth-conf ,auth,"`, realm: "a", nonce: "n", qop: []string{"auth-conf", "auth"}},
		{name: "unquoted qop list", raw: `Digest realm="a", qop=auth, auth-int, nonce="n"`, realm: "a", nonce: "n", qop: []string{"auth", "auth-int"}},
		{name: "empty qop", raw: `Digest realm="a", nonce="n", qop=""`, realm: "a", nonce: "n"},
		{name: "everything unquoted", raw: `Digest realm=sip.a_b.test,nonce=ab+/c==,opaque=x.y`, realm: "sip.a_b.test", nonce: "ab+/c==", opaque: "x.y"},
		{name: "trailing and doubled commas", raw: `Digest realm="a",, nonce="n", ,`, realm: "a", nonce: "n"},
		{name: "blanks around equals", raw: "Digest realm = \"a\" ,\tnonce\t=\t\"n\"", realm: "a", nonce: "n"},
		{name: "comma inside the realm", raw: `Digest realm="Example, Inc., Berlin", nonce="n"`, realm: "Example, Inc., Berlin", nonce: "n"},
		{name: "DIG-09 quoted pairs", raw: `Digest realm="a\"b\\c\d", nonce="n"`, realm: `a"b\cd`, nonce: "n"},
		{name: "DIG-09 quoted pair first and last", raw: `Digest realm="\"a\"", nonce="n", opaque="\""`, realm: `"a"`, nonce: "n", opaque: `"`},
		{name: "CHA-28 realm keeps blanks and case", raw: `Digest realm=" A b ", nonce="n"`, realm: " A b ", nonce: "n"},
		{name: "empty realm", raw: `Digest realm="", nonce="n"`, realm: "", nonce: "n"},
		{name: "UTF-8 realm", raw: `Digest realm="Größe", nonce="n", charset=UTF-8`, realm: "Größe", nonce: "n"},
		{name: "folded inside quotes", raw: "Digest realm=\"a\r\n  b\", nonce=\"n\"", realm: "a b", nonce: "n"},
		{name: "Basic needs no nonce", raw: `Basic realm="a"`, realm: "a"},
		{name: "NTLM", raw: `NTLM opaque="1", gssapi-data="T==", targetname="s.test", realm="SIP Communications Service"`, realm: "SIP Communications Service", opaque: "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse(tt.raw)
			if err != nil {
				t.Fatal(err)
			}
			opaque, _ := p.Get("opaque")
			want := []any{tt.realm, tt.nonce, tt.algorithm, tt.opaque, tt.qop, tt.stale}
			got := []any{p.Realm(), p.Nonce(), p.Algorithm(), opaque, p.QOP(), p.Stale()}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Parse (-want +got)\n%s", diff)
			}
			if got := Split(tt.raw); len(got) != 1 {
				t.Errorf("Split found %d challenges", len(got))
			}
		})
	}
}

func TestParseRefusals(t *testing.T) {
	many := "Digest realm=\"a\", nonce=\"n\""
	for i := range 31 {
		many += fmt.Sprintf(", p%d=1", i)
	}
	for _, tt := range []struct{ name, raw string }{
		{"empty", ""},
		{"scheme only", "Digest"},
		{"no scheme", `realm="a", nonce="n"`},
		{"comma after the scheme", `Digest,realm="a",nonce="n"`},
		{"CHA-29 no realm", `Digest nonce="n"`},
		{"CHA-29 no nonce", `Digest realm="a"`},
		{"CHA-29 empty nonce", `Digest realm="a", nonce=""`},
		{"CHA-29 two nonces", `Digest realm="a", nonce="n", nonce="n"`},
		{"CHA-29 two realms", `Digest realm="a", REALM="b", nonce="n"`},
		{"CHA-29 two realms of Basic", `Basic realm="a", realm="b"`},
		{"CHA-29 quote not closed", `Digest nonce="n", realm="a`},
		{"CHA-29 quote not opened", `Digest nonce="n", realm=a"`},
		{"CHA-29 escape at the end", `Digest nonce="n", realm="a\`},
		{"CHA-29 quote closed by an escape", `Digest nonce="n", realm="a\"`},
		{"text after a quoted value", `Digest realm="a"b, nonce="n"`},
		{"no comma", `Digest realm="a" nonce="n"`},
		{"no value", `Digest realm="a", nonce="n", opaque=`},
		{"no equals", `Digest realm="a", nonce="n", stale`},
		{"no name", `Digest realm="a", nonce="n", ="x"`},
		{"auth that follows no qop", `Digest realm="a", auth, nonce="n"`},
		{"two challenges", `Basic realm="a", Digest realm="a", nonce="n"`},
		{"newline inside an algorithm", "Digest realm=\"a\", nonce=\"n\", algorithm=SHA-256\nsess"},
		{"CR inside a realm", "Digest realm=\"a\rb\", nonce=\"n\""},
		{"CRLF inside a realm", "Digest realm=\"a\r\nContact: x\", nonce=\"n\""},
		{"S-52 NUL inside a realm", "Digest realm=\"a\x00b\", nonce=\"n\""},
		{"S-52 NUL behind a backslash", "Digest realm=\"a\\\x00b\", nonce=\"n\""},
		{"S-52 DEL", "Digest realm=\"a\x7f\", nonce=\"n\""},
		{"S-52 control byte between parameters", "Digest realm=\"a\",\x01 nonce=\"n\""},
		{"S-51 Latin-1", "Digest realm=\"Gr\xf6\xdfe\", nonce=\"n\""},
		{"S-31 33 parameters", many},
		{"S-31 over 8 KiB", `Digest realm="a", nonce="` + strings.Repeat("n", 8<<10) + `"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if p, err := Parse(tt.raw); err == nil {
				t.Errorf("accepted as %v", p)
			}
		})
	}
	t.Run("S-31 32 parameters pass", func(t *testing.T) {
		if _, err := Parse(many[:strings.LastIndex(many, ",")]); err != nil {
			t.Error(err)
		}
	})
}

// TestParseErrorsQuoteNothing: S-65, no fault repeats a byte of the peer.
func TestParseErrorsQuoteNothing(t *testing.T) {
	const canary = "canary"
	for _, raw := range []string{
		canary, canary + " " + canary, `Digest realm="` + canary, `Digest ` + canary + `="x"`, "Digest " + canary + "=\x00",
	} {
		if _, err := Parse(raw); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("Parse(%q) = %v", raw, err)
		}
	}
}

func TestMapKeepsTheFirst(t *testing.T) {
	p, err := Parse(`Digest realm="a", nonce="n", opaque="1", OPAQUE="2"`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"realm": "a", "nonce": "n", "opaque": "1"}
	if diff := cmp.Diff(want, p.Map()); diff != "" {
		t.Errorf("Map (-want +got)\n%s", diff)
	}
	if got, _ := p.Get("opaque"); got != "1" {
		t.Errorf("Get = %q", got)
	}
}

func TestAlgorithms(t *testing.T) {
	for _, tt := range []struct {
		name, canonical string
		strength        int
	}{
		{"", "MD5", 1},
		{"md5", "MD5", 1},
		{"MD5-sess", "MD5-SESS", 1},
		{"Sha-256", "SHA-256", 2},
		{"SHA-256-SESS", "SHA-256-SESS", 2},
		{"sha-512-256", "SHA-512-256", 3},
		{"SHA-512-256-sess", "SHA-512-256-SESS", 3},
		{"SHA-512", "SHA-512", 0},
		{"sha256-512", "sha256-512", 0},
		{"-sess", "-sess", 0},
		{"AKAv1-MD5", "AKAV1-MD5", 4},
		{"akav1-sha-256", "AKAV1-SHA-256", 5},
		{"AKAv2-MD5", "AKAV2-MD5", 7},
		{"AKAv2-SHA-256", "AKAV2-SHA-256", 8},
		{"AKAv3-MD5", "AKAv3-MD5", 0},
		{"AKAv2-AKAv1-MD5", "AKAv2-AKAv1-MD5", 0},
		{"AKAv1-", "AKAv1-", 0},
	} {
		if got := CanonicalAlgorithm(tt.name); got != tt.canonical {
			t.Errorf("CanonicalAlgorithm(%q) = %q, want %q", tt.name, got, tt.canonical)
		}
		if got := Strength(tt.name); got != tt.strength {
			t.Errorf("Strength(%q) = %d, want %d", tt.name, got, tt.strength)
		}
	}
}

func FuzzParseChallenge(f *testing.F) {
	for _, seed := range []string{
		`Digest realm="a", nonce="n", qop="auth,auth-int", algorithm=MD5, stale=TRUE`,
		"DiGeSt\r\n\trealm=\"a\",\r\n\tnonce=\"n\"",
		`Digest realm="a\"b\\", nonce=n==, qop=auth,auth-int, Basic realm="b", NTLM, Foo abc==`,
		`Digest realm="a, nonce="n", Digest x`,
		"Digest realm=\"a\x00\", nonce=\"n\"",
		`a b="\`, `a b=c,,`, `a b`, `,`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		parts := Split(value)
		// A part is one challenge: splitting it again changes nothing.
		for _, part := range parts {
			if again := Split(part); len(again) != 1 || again[0] != part {
				t.Fatalf("Split(%q) = %q", part, again)
			}
		}
		for _, raw := range append(parts, value) {
			p, err := Parse(raw)
			if err != nil {
				continue
			}
			written := serialise(p)
			if again := Split(written); len(again) != 1 || again[0] != written {
				t.Fatalf("Split(%q) = %q", written, again)
			}
			q, err := Parse(written)
			if err != nil {
				t.Fatalf("Parse(%q): %v", written, err)
			}
			if diff := cmp.Diff(p, q); diff != "" {
				t.Fatalf("%q -> %q (-first +second)\n%s", raw, written, diff)
			}
		}
	})
}

// serialise writes a challenge in a form that Parse reads back to the same
// value.
func serialise(p Parsed) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var params []string
	for _, param := range p.Params {
		value := param.Value
		if param.Quoted {
			value = `"` + escape.Replace(value) + `"`
		}
		params = append(params, param.Name+"="+value)
	}
	return p.Scheme + " " + strings.Join(params, ", ")
}

func BenchmarkParse(b *testing.B) {
	const raw = `Digest realm="example.test", nonce="Zz1/+ABCDEFGHIJKLMNOPQRSTUVWXYZ=", qop="auth", algorithm=SHA-256`
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}
