package challenge

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// plainParse is Parse in the plainest form: byte by byte and without regard to
// memory. What Parse says of any text must be the same.
func plainParse(raw string) (Parsed, error) {
	if len(raw) > parseMaxBytes {
		return Parsed{}, errTooLong
	}
	if !utf8.ValidString(raw) {
		return Parsed{}, errEncoding
	}
	raw, ok := unfold(raw)
	if !ok {
		return Parsed{}, errControl
	}
	rest := strings.Trim(raw, " \t")
	n := TokenLength(rest)
	if n == 0 || n < len(rest) && rest[n] != ' ' && rest[n] != '\t' {
		return Parsed{}, errScheme
	}
	p := Parsed{Scheme: rest[:n]}
	if err := plainParams(&p, rest[n:]); err != nil {
		return Parsed{}, err
	}
	if err := p.validate(); err != nil {
		return Parsed{}, err
	}
	return p, nil
}

func plainParams(p *Parsed, s string) error {
	for {
		for s = trimLeft(s); s != "" && s[0] == ','; s = trimLeft(s[1:]) {
			continue // empty elements of the list (RFC 7230 §7)
		}
		if s == "" {
			return nil
		}
		if len(p.Params) == parseMaxParams {
			return errParams
		}
		n := TokenLength(s)
		if n == 0 {
			return errName
		}
		name := s[:n]
		s = trimLeft(s[n:])
		if s == "" || s[0] != '=' {
			if !plainContinuesQOP(p, name) {
				return errNoValue
			}
		} else {
			param := Param{Name: strings.ToLower(name)}
			var err error
			if param.Value, param.Quoted, s, err = plainValue(trimLeft(s[1:])); err != nil {
				return err
			}
			p.Params = append(p.Params, param)
			s = trimLeft(s)
		}
		if s != "" && s[0] != ',' {
			return errSeparator
		}
	}
}

func plainContinuesQOP(p *Parsed, value string) bool {
	if len(p.Params) == 0 || !isQOPValue(value) {
		return false
	}
	last := &p.Params[len(p.Params)-1]
	if last.Name != "qop" || last.Quoted {
		return false
	}
	last.Value += "," + value
	return true
}

func plainValue(s string) (value string, quoted bool, rest string, err error) {
	if s == "" || s[0] != '"' {
		n := 0
		for n < len(s) && s[n] != ',' && s[n] != ' ' && s[n] != '\t' {
			if s[n] == '"' {
				return "", false, "", errQuotes
			}
			n++
		}
		if n == 0 || s[0] == '=' {
			return "", false, "", errNoValue
		}
		return s[:n], false, s[n:], nil
	}
	var unescaped []byte
	from := 1 // moves only when there is something to unescape
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"' && from == 1:
			return s[1:i], true, s[i+1:], nil
		case s[i] == '"':
			return string(append(unescaped, s[from:i]...)), true, s[i+1:], nil
		case s[i] == '\\':
			unescaped = append(unescaped, s[from:i]...)
			i++
			from = i
		}
	}
	return "", true, "", errQuotes
}

// checkParse compares Parse, Fields and NonceOf with plainParse.
func checkParse(t *testing.T, raw string) {
	t.Helper()
	want, wantErr := plainParse(raw)
	got, err := Parse(raw)
	if !errors.Is(err, wantErr) {
		t.Fatalf("Parse(%q): %v, want %v", raw, err, wantErr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Parse(%q) (-plain +fast)\n%s", raw, diff)
	}
	checkFields(t, raw, want, wantErr)
	if nonce := NonceOf(raw); nonce != want.Nonce() {
		t.Fatalf("NonceOf(%q) = %q, want %q", raw, nonce, want.Nonce())
	}
}

func checkFields(t *testing.T, raw string, want Parsed, wantErr error) {
	t.Helper()
	var f Fields
	if err := f.Read(raw); !errors.Is(err, wantErr) {
		t.Fatalf("Read(%q): %v, want %v", raw, err, wantErr)
	}
	if wantErr != nil {
		return
	}
	opaque, opaqueReceived := want.Get("opaque")
	gotOpaque, gotReceived := f.Opaque()
	expired := strings.EqualFold(want.Scheme, "Bearer") && want.value("error") == "invalid_token"
	type fields struct {
		Scheme, Realm, Nonce, Algorithm, QOP, Charset, Userhash, Opaque string
		Digest, Stale, Expired, OffersQOP, OpaqueReceived               bool
	}
	if diff := cmp.Diff(
		fields{
			want.Scheme, want.Realm(), want.Nonce(), want.Algorithm(), want.value("qop"), want.value("charset"), want.value("userhash"), opaque,
			want.IsDigest(), want.Stale(), expired, len(want.QOP()) > 0, opaqueReceived,
		},
		fields{
			f.Scheme, f.Realm(), f.Nonce(), f.Algorithm(), f.QOP(), f.Charset(), f.Userhash(), gotOpaque,
			f.Digest, f.Stale(), f.expired(), f.offersQOP(), gotReceived,
		},
	); diff != "" {
		t.Fatalf("Read(%q) (-plain +fast)\n%s", raw, diff)
	}
}

// plainSeeds are challenges as servers send them, and what comes close.
var plainSeeds = []string{
	`Digest realm="example.test", nonce="aSKq2GkipayRzGuqf7yEOGd6VBqfa+6j", qop="auth", algorithm=MD5`,
	`Digest realm="a\"b\\", nonce=n==, qop=auth,auth-int, stale=TRUE, opaque=""`,
	"DiGeSt\r\n\trealm=\"a\",\r\n\tNonce = \"n\"\t, algorithm=AKAv1-MD5,",
	`Bearer realm="a", error="invalid_token", scope="x y"`,
	`Digest realm="a", nonce="n", qop=auth, qop=x,auth-int, charset=UTF-8, userhash=true, stale=a, stale=true, opaque="o"`,
	`Digest realm="é", nonce="n", domain="sip:a sip:b"`,
	"Digest realm=\"a\x7f\", nonce=\"n\x00\"", `Digest realm="a", nonce="n", nonce="m"`, `Basic a`, `Digest`, ``, `=`, `a b="\`,
	"Digest realm=\"\xff\", nonce=\"n\"", "Digest realm=\"a\",nonce=\"n\"\nX: y", `Digest nonce="n"`, strings.Repeat("a", parseMaxBytes+1),
	"Digest realm=a,nonce=b" + strings.Repeat(",c=d", parseMaxParams),
}

// TestParseLikePlain changes, drops, repeats and joins bytes of challenges.
func TestParseLikePlain(t *testing.T) {
	const odd = "\"\\ ,=\t\r\n\x00\x7f\x80\xffaA'"
	rng := rand.New(rand.NewPCG(1, 2))
	for _, seed := range plainSeeds {
		checkParse(t, seed)
		for range 3000 {
			b := []byte(seed)
			for range 1 + rng.IntN(4) {
				if len(b) == 0 {
					break
				}
				i, j := rng.IntN(len(b)), rng.IntN(len(b))
				switch rng.IntN(4) {
				case 0:
					b[i] = odd[rng.IntN(len(odd))]
				case 1:
					b = append(b[:i:i], b[i+1:]...)
				case 2:
					b = append(b[:i:i], append([]byte(odd[rng.IntN(len(odd)):]), b[i:]...)...)
				default:
					b = append(b[:i:i], b[min(i, j):]...)
				}
			}
			checkParse(t, string(b))
		}
	}
}

func FuzzParseLikePlain(f *testing.F) {
	for _, seed := range plainSeeds {
		f.Add(seed)
	}
	f.Fuzz(checkParse)
}

func BenchmarkNonceOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if NonceOf(plainSeeds[0]) == "" {
			b.Fatal("no nonce")
		}
	}
}

func trimLeft(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}
