package digest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
)

// question asks for a REGISTER that was challenged with 401.
func question(challenges ...string) *messages.AuthChallenge {
	q := &messages.AuthChallenge{
		Ref: "ref", Purpose: messages.Purpose_REGISTRATION, Method: "REGISTER", RequestUri: "sip:example.com", StatusCode: 401,
	}
	for i, raw := range challenges {
		p, err := challenge.Parse(raw)
		if err != nil {
			panic(err)
		}
		q.Challenges = append(q.Challenges, &messages.Challenge{
			Index: uint32(i), Space: messages.Space_ORIGIN, Scheme: p.Scheme, Realm: p.Realm(), NonceCount: 1, Params: p.Map(), Raw: raw,
		})
	}
	return q
}

func dig(algorithm, qop string) string {
	return fmt.Sprintf(`Digest realm="example.com", nonce="n1", algorithm=%s, qop="%s"`, algorithm, qop)
}

func password(user, pass string) digest.Credential {
	return digest.Credential{Username: user, Password: messages.NewSecret(pass)}
}

func stored(ha1 string) digest.Credential {
	return digest.Credential{Username: "alice", HA1: messages.NewSecret(ha1)}
}

func fixed(cnonce string) digest.CnonceSource {
	return func(int, bool, string, string) string { return cnonce }
}

func mustAnswer(t testing.TB, q *messages.AuthChallenge, c digest.Credential, cnonce string) *messages.AuthAnswer {
	t.Helper()
	a, refusal := digest.Answer(q, c, fixed(cnonce))
	if refusal != nil {
		t.Fatalf("refused: %s", refusal.GetReason())
	}
	if b, _ := digest.Answer(unparsed(q), c, fixed(cnonce)); !proto.Equal(a, b) {
		t.Fatalf("the challenges that are not taken apart are answered by %v, want %v", b, a)
	}
	if a.GetRef() != q.GetRef() || len(a.GetMutations()) != len(a.GetAnswered()) || len(a.GetProofs()) != len(a.GetAnswered()) {
		t.Fatalf("answer is not whole: %v", a)
	}
	return a
}

// unparsed is the same question as the DigestActor is asked it.
func unparsed(q *messages.AuthChallenge) *messages.AuthChallenge {
	u := proto.CloneOf(q)
	for _, c := range u.GetChallenges() {
		c.Scheme, c.Params = "", nil
	}
	return u
}

// reparse reads an Authorization value with the challenge parser: both have the
// grammar of a scheme with parameters, and ours always has realm and nonce.
func reparse(t interface {
	Helper()
	Fatalf(string, ...any)
}, value string,
) challenge.Parsed {
	t.Helper()
	p, err := challenge.Parse(value)
	if err != nil {
		t.Fatalf("%v in %s", err, value)
	}
	return p
}

// TestVectorsThroughAnswer sends each vector through the whole path, with the
// password and with its HA1.
func TestVectorsThroughAnswer(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run("DIG-01 "+v.Name, func(t *testing.T) {
			raw := fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm=%s`, strings.ReplaceAll(v.Realm, `"`, `\"`), v.Nonce, v.name())
			if v.QOP != "" {
				raw += `, qop="` + v.QOP + `"`
			}
			q := question(raw)
			q.Method, q.RequestUri = v.Method, v.URI
			if v.NC != "" {
				if _, err := fmt.Sscanf(v.NC, "%08x", &q.Challenges[0].NonceCount); err != nil {
					t.Fatal(err)
				}
			}
			if v.Body != "" {
				q.BodyHashes = map[string]string{v.Algorithm: digest.BodyHash(v.Algorithm, v.Body)}
			}
			ha1 := digest.Credential{Username: v.Username, HA1: messages.NewSecret(strings.ToUpper(digest.HA1(v.Algorithm, v.Username, v.Realm, v.Password)))}
			for _, c := range []digest.Credential{password(v.Username, v.Password), ha1} {
				a := mustAnswer(t, q, c, v.Cnonce)
				p := reparse(t, a.GetMutations()[0].GetValue())
				for name, want := range map[string]string{
					"response": v.Response, "nc": v.NC, "cnonce": v.Cnonce, "qop": v.QOP, "username": v.Username,
					"realm": v.Realm, "nonce": v.Nonce, "uri": v.URI, "algorithm": v.name(),
				} {
					if got, _ := p.Get(name); got != want {
						t.Errorf("%s = %q, want %q", name, got, want)
					}
				}
				// The records take the request's body for the response's.
				if got := a.GetProofs()[0].GetRspauth(); got != v.Rspauth && v.Body == "" {
					t.Errorf("AIN-03 rspauth = %s, want %s", got, v.Rspauth)
				}
			}
		})
	}
}

// TestSpelling holds complete header values: DIG-04, DIG-05, DIG-07, DIG-08,
// DIG-10, DIG-12, CHA-31, CHA-32.
func TestSpelling(t *testing.T) {
	for _, tt := range []struct {
		name, challenge string
		count           uint32
		want            string
	}{
		{
			"DIG-07 what is quoted", `Digest realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", qop="auth", algorithm="MD5", opaque="0f"`, 2,
			`Digest username="alice", realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", uri="sip:example.com", ` +
				`response="b7023c2ba78d3a4df2563215ec84f827", algorithm=MD5, cnonce="MTIzNDU2Nzg5MDEyMzQ1Ng==", qop=auth, nc=00000002, opaque="0f"`,
		},
		{
			"CHA-32 no qop, no count, no cnonce", `Digest realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e"`, 1,
			`Digest username="alice", realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", uri="sip:example.com", ` +
				`response="b8ff0fe1780ff9580be5c025a9601401"`,
		},
		{
			"DIG-10 algorithm as received, DIG-08 empty opaque", `Digest realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", algorithm=md5, opaque="", qop="auth-int,auth"`, 1,
			`Digest username="alice", realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", uri="sip:example.com", ` +
				`response="ca8cd9163eac6e2079cacced8fd74f4e", algorithm=md5, cnonce="MTIzNDU2Nzg5MDEyMzQ1Ng==", qop=auth, nc=00000001, opaque=""`,
		},
		{
			"DIG-12 userhash", `Digest realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", qop=auth, userhash=TRUE`, 1,
			`Digest username="` + userhash + `", realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", uri="sip:example.com", ` +
				`response="ca8cd9163eac6e2079cacced8fd74f4e", cnonce="MTIzNDU2Nzg5MDEyMzQ1Ng==", qop=auth, nc=00000001, userhash=true`,
		},
		{
			"DIG-12 userhash=false is omitted", `Digest realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", qop=auth, userhash=false, domain="sip:evil.test"`, 0,
			`Digest username="alice", realm="example.com", nonce="84a4cc6f3082121f32b42a2187831a9e", uri="sip:example.com", ` +
				`response="ca8cd9163eac6e2079cacced8fd74f4e", cnonce="MTIzNDU2Nzg5MDEyMzQ1Ng==", qop=auth, nc=00000001`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := question(tt.challenge)
			q.Challenges[0].NonceCount = tt.count
			a := mustAnswer(t, q, password("alice", "s3cr3t"), "MTIzNDU2Nzg5MDEyMzQ1Ng==")
			if diff := cmp.Diff(tt.want, a.GetMutations()[0].GetValue()); diff != "" {
				t.Errorf("header (-want +got)\n%s", diff)
			}
		})
	}
}

// userhash is MD5("alice:example.com").
const userhash = "e714bf7dde243fc2061a4e3d877edc0d"

func TestDIG04URIAsSent(t *testing.T) {
	const uri = `sip:%61lice@Example.COM:5060;transport=udp;x="1"?a=b`
	q := question(dig("MD5", "auth"))
	q.RequestUri = uri
	a := mustAnswer(t, q, password("alice", "s3cr3t"), "c")
	if got, _ := reparse(t, a.GetMutations()[0].GetValue()).Get("uri"); got != uri {
		t.Errorf("uri = %q", got)
	}
}

func TestDIG05NonceCount(t *testing.T) {
	for count, want := range map[uint32]string{0: "00000001", 1: "00000001", 10: "0000000a", 0xdeadbeef: "deadbeef", 1<<32 - 1: "ffffffff"} {
		q := question(dig("MD5", "auth"))
		q.Challenges[0].NonceCount = count
		a := mustAnswer(t, q, password("alice", "s3cr3t"), "c")
		if got, _ := reparse(t, a.GetMutations()[0].GetValue()).Get("nc"); got != want {
			t.Errorf("count %d: nc = %s", count, got)
		}
	}
}

// TestHeaders: CHA-01, CHA-22 and GEN-10. Both spaces in one response, three
// realms, and each header name begins anew with SET.
func TestHeaders(t *testing.T) {
	q := question(dig("MD5", "auth"), `Digest realm="p", nonce="m", qop="auth"`, `Digest realm="b", nonce="o"`, `Digest realm="p2", nonce="m2"`)
	q.Challenges[1].Space, q.Challenges[3].Space = messages.Space_PROXY, messages.Space_PROXY
	q.Challenges[3].Index = 7
	a := mustAnswer(t, q, password("alice", "s3cr3t"), "c")
	var got []string
	for i, m := range a.GetMutations() {
		got = append(got, fmt.Sprint(a.GetAnswered()[i], " ", m.GetOp(), " ", m.GetName(), " ",
			reparse(t, m.GetValue()).Realm(), " ", a.GetProofs()[i].GetSpace()))
	}
	want := []string{
		"0 SET Authorization example.com ORIGIN",
		"1 SET Proxy-Authorization p PROXY",
		"2 ADD Authorization b ORIGIN",
		"7 ADD Proxy-Authorization p2 PROXY",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("CHA-22 (-want +got)\n%s", diff)
	}
}

// TestSameRealmInBothSpaces: 401 and 407 are separate spaces.
func TestSameRealmInBothSpaces(t *testing.T) {
	q := question(dig("MD5", "auth"), dig("MD5", "auth"))
	q.Challenges[1].Space = messages.Space_PROXY
	if a := mustAnswer(t, q, password("alice", "s3cr3t"), "c"); len(a.GetAnswered()) != 2 {
		t.Errorf("CHA-01 answered %v", a.GetAnswered())
	}
}

// TestCnonceSource: DIG-02 and DIG-14, who asks for a client nonce and how.
func TestCnonceSource(t *testing.T) {
	q := question(`Digest realm="a", nonce="n1", qop=auth, algorithm=MD5-sess`, `Digest realm="b", nonce="n2"`, `Digest realm="c", nonce="n3", qop=auth`)
	var asked []string
	_, refusal := digest.Answer(q, password("alice", "p"), func(i int, sess bool, realm, nonce string) string {
		asked = append(asked, fmt.Sprint(i, sess, realm, nonce))
		return "c"
	})
	if refusal != nil {
		t.Fatal(refusal)
	}
	if diff := cmp.Diff([]string{"0 true" + "a" + "n1", "2 false" + "c" + "n3"}, asked); diff != "" {
		t.Errorf("asked (-want +got)\n%s", diff)
	}
}

// TestNormalisation: DIG-13. With charset=UTF-8 the decomposed forms are the
// composed ones; without it they are hashed as they are.
func TestNormalisation(t *testing.T) {
	const composed, decomposed = "\u00e5sa", "a\u030asa"
	answer := func(raw, user, pass string) string {
		return mustAnswer(t, question(raw), password(user, pass), "c").GetMutations()[0].GetValue()
	}
	raw := dig("SHA-256", "auth")
	if answer(raw+", charset=utf-8", composed, composed) != answer(raw+", charset=UTF-8", decomposed, decomposed) {
		t.Error("DIG-13 not normalised")
	}
	if answer(raw, composed, composed) == answer(raw, decomposed, decomposed) {
		t.Error("DIG-13 normalised without charset")
	}
}

// TestVerifyInfo: AIN-03, AIN-05, AIN-06.
func TestVerifyInfo(t *testing.T) {
	q := question(dig("MD5", "auth"), `Digest realm="p", nonce="m", qop="auth-int"`, `Digest realm="old", nonce="o"`)
	q.Challenges[1].Space = messages.Space_PROXY
	proofs := mustAnswer(t, q, password("alice", "s3cr3t"), "c1").GetProofs()
	origin := messages.AuthInfo{Space: messages.Space_ORIGIN, Rspauth: proofs[0].GetRspauth(), QOP: "auth", Cnonce: "c1", NC: "00000001"}
	proxy := messages.AuthInfo{Space: messages.Space_PROXY, Rspauth: proofs[1].GetRspauth(), QOP: "auth-int", Cnonce: "c1", NC: "00000001"}
	with := func(i messages.AuthInfo, change func(*messages.AuthInfo)) messages.AuthInfo {
		change(&i)
		return i
	}
	for _, tt := range []struct {
		name   string
		info   messages.AuthInfo
		proofs []*messages.ExpectedProof
		want   string
	}{
		{"AIN-03 ours", origin, proofs, "verified"},
		{"AIN-05 the proxy's", proxy, proofs, "verified"},
		{"AIN-03 no qop", messages.AuthInfo{Space: messages.Space_ORIGIN, Rspauth: proofs[2].GetRspauth()}, proofs, "verified"},
		{"AIN-03 other hash", with(origin, func(i *messages.AuthInfo) { i.Rspauth = md5Hash }), proofs, "wrong"},
		{"AIN-03 hash cut short", with(origin, func(i *messages.AuthInfo) { i.Rspauth = i.Rspauth[:31] }), proofs, "wrong"},
		{"AIN-03 cnonce not ours", with(origin, func(i *messages.AuthInfo) { i.Cnonce = "c2" }), proofs, "wrong"},
		{"AIN-03 no cnonce", with(origin, func(i *messages.AuthInfo) { i.Cnonce = "" }), proofs, "wrong"},
		{"AIN-03 nc not ours", with(origin, func(i *messages.AuthInfo) { i.NC = "00000002" }), proofs, "wrong"},
		{"AIN-03 nc is no number", with(origin, func(i *messages.AuthInfo) { i.NC = "one" }), proofs, "wrong"},
		{"AIN-05 of the other space", with(origin, func(i *messages.AuthInfo) { i.Space = messages.Space_PROXY }), proofs, "wrong"},
		{"AIN-06 nothing expected", origin, nil, ""},
		{"AIN-06 nothing expected of the proxy", proxy, proofs[:1], ""},
		{"only a nextnonce", messages.AuthInfo{Space: messages.Space_ORIGIN, NextNonce: "n2"}, proofs, ""},
		{"auth-int over a body", with(proxy, func(i *messages.AuthInfo) { i.HasBody = true }), proofs, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := digest.VerifyInfo(tt.info, tt.proofs); got != tt.want {
				t.Errorf("verdict %q, want %q", got, tt.want)
			}
		})
	}
}

// TestChallengeWithoutClientNonceIsLeftOut: what is left of it does not get into
// the answer to the next one.
func TestChallengeWithoutClientNonceIsLeftOut(t *testing.T) {
	q := question(`Digest realm="a", nonce="n1", qop="auth"`, `Digest realm="b", nonce="n2"`)
	q.Challenges[0].Space = messages.Space_PROXY
	a, refusal := digest.Answer(q, password("alice", "s3cr3t"), fixed(""))
	if refusal != nil {
		t.Fatal(refusal)
	}
	want := mustAnswer(t, question(`Digest realm="b", nonce="n2"`), password("alice", "s3cr3t"), "")
	want.Answered[0] = 1
	if !proto.Equal(a, want) {
		t.Errorf("%v, want %v", a, want)
	}
}
