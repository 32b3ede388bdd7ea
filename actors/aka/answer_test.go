package aka_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/aka"
	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
)

const (
	realm  = "ims.example"
	origin = messages.Space_ORIGIN
	proxy  = messages.Space_PROXY
)

// question asks for a REGISTER that was challenged with 401, in the first round.
func question(t testing.TB, raws ...string) *messages.AuthChallenge {
	t.Helper()
	q := &messages.AuthChallenge{
		Ref: "ref", ProfileId: "alice", Purpose: messages.Purpose_REGISTRATION, Method: "REGISTER",
		RequestUri: "sip:ims.example", StatusCode: 401, Round: 1,
	}
	for i, raw := range raws {
		p, err := challenge.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		q.Challenges = append(q.Challenges, &messages.Challenge{
			Index: uint32(i), Space: origin, Scheme: p.Scheme, Realm: p.Realm(), NonceCount: 1, Params: p.Map(), Raw: raw,
		})
	}
	return q
}

func nonceText(n aka.Nonce) string {
	return base64.StdEncoding.EncodeToString(append(n.Rand[:], n.Autn[:]...))
}

func raw(algorithm string, n aka.Nonce) string {
	return fmt.Sprintf(`Digest realm=%q, nonce=%q, algorithm=%s, qop="auth"`, realm, nonceText(n), algorithm)
}

func wrong(n aka.Nonce) aka.Nonce {
	n.Autn[15] ^= 1
	return n
}

// phone is a USIM with what it remembers.
type phone struct {
	t testing.TB
	aka.Subscriber
	state aka.State
	open  aka.Open
}

func newPhone(t testing.TB) *phone {
	t.Helper()
	return &phone{t: t, Subscriber: aka.Subscriber{IMPI: "alice@ims.example", Keys: testKeys}}
}

func (p *phone) ask(q *messages.AuthChallenge) (*messages.AuthAnswer, string) {
	p.t.Helper()
	out := aka.Answer(q, p.Subscriber, p.state, p.open, func() string { return "c" })
	p.state, p.open = out.State, out.Open
	if (out.Answer == nil) == (out.Refusal == nil) {
		p.t.Fatalf("neither or both: %v, %v", out.Answer, out.Refusal)
	}
	if a := out.Answer; a.GetPreemptive() || len(a.GetAnswered()) != len(a.GetMutations()) || a != nil && a.GetRef() != q.GetRef() {
		p.t.Fatalf("AKA-06: answer is not whole, or wants to be asked early: %v", a)
	}
	return out.Answer, out.Refusal.GetReason()
}

// kinds says of each header of an answer what it proves.
func kinds(t testing.TB, a *messages.AuthAnswer) (list []string) {
	t.Helper()
	for _, m := range a.GetMutations() {
		p, err := challenge.Parse(m.GetValue())
		if err != nil {
			t.Fatal(err)
		}
		response, _ := p.Get("response")
		_, auts := p.Get("auts")
		switch {
		case response == "" && !auts:
			list = append(list, "empty")
		case auts:
			list = append(list, "auts")
		default:
			list = append(list, "res")
		}
	}
	return list
}

func get(t testing.TB, a *messages.AuthAnswer, name string) string {
	t.Helper()
	if len(a.GetMutations()) == 0 {
		t.Fatal("no header")
	}
	p, err := challenge.Parse(a.GetMutations()[0].GetValue())
	if err != nil {
		t.Fatal(err)
	}
	v, _ := p.Get(name)
	return v
}

// TestVectorsThroughAnswer: AKA-02, AKA-03, AKA-05 and AKA-07 with the SIP
// digests on top of the conformance data.
func TestVectorsThroughAnswer(t *testing.T) {
	for _, v := range vectors(t) {
		ask := func(algorithm string, state aka.State) *messages.AuthAnswer {
			t.Helper()
			q := question(t, fmt.Sprintf(`Digest realm=%q, nonce=%q, algorithm=%s, qop=%q`, v.SIP.Realm, v.Nonce, algorithm, v.SIP.Qop))
			q.Method, q.RequestUri = v.SIP.Method, v.SIP.URI
			out := aka.Answer(q, aka.Subscriber{IMPI: v.SIP.Username, Keys: v.keys(t)}, state, aka.Open{}, func() string { return v.SIP.Cnonce })
			if out.Refusal != nil {
				t.Fatalf("%s: refused: %s", v.Name, out.Refusal.GetReason())
			}
			return out.Answer
		}
		used := v.before()
		used.SEQ[v.sqn().Uint64()%32]++
		for _, tt := range []struct {
			id, algorithm string
			state         aka.State
			response      string
			rspauth, auts string
		}{
			{"AKA-02", "AKAv1-MD5", v.before(), v.SIP.V1, v.SIP.V1Rspauth, ""},
			{"AKA-05", "AKAv2-MD5", v.before(), v.SIP.V2, "", ""},
			{"AKA-03", "AKAv1-MD5", used, v.SIP.Resync, "", v.AutsB64},
		} {
			t.Run(tt.id+" "+v.Name, func(t *testing.T) {
				a := ask(tt.algorithm, tt.state)
				for name, want := range map[string]string{
					"response": tt.response, "auts": tt.auts, "username": v.SIP.Username, "realm": v.SIP.Realm, "nonce": v.Nonce,
					"uri": v.SIP.URI, "algorithm": tt.algorithm, "cnonce": v.SIP.Cnonce, "nc": v.SIP.Nc, "qop": v.SIP.Qop,
				} {
					if got := get(t, a, name); got != want {
						t.Errorf("%s = %q, want %q", name, got, want)
					}
				}
				if tt.rspauth != "" && a.GetProofs()[0].GetRspauth() != tt.rspauth {
					t.Errorf("AKA-07 rspauth = %s, want %s", a.GetProofs()[0].GetRspauth(), tt.rspauth)
				}
				if resync := tt.auts != ""; a.GetContinues() != resync || (len(a.GetProofs()) == 0) != resync {
					t.Errorf("continues %t with %d proofs", a.GetContinues(), len(a.GetProofs()))
				}
			})
		}
	}
}

// TestSpelling holds whole header values.
func TestSpelling(t *testing.T) {
	n := genuine(1, 0)
	for _, tt := range []struct{ name, challenge, want string }{
		{
			"DIG-07, DIG-08 as received", `Digest realm="a \"b\" \\", nonce="` + nonceText(n) + `", algorithm="aKaV1-md5", opaque="", qop="auth-int,AUTH"`,
			`Digest username="alice@ims.example", realm="a \"b\" \\", nonce="` + nonceText(n) + `", uri="sip:ims.example", response="%s", ` +
				`algorithm=aKaV1-md5, cnonce="c", qop=auth, nc=00000001, opaque=""`,
		},
		{
			"CHA-32 without qop", `Digest realm="r", nonce="` + nonceText(n) + `", algorithm=AKAv1-SHA-256, opaque="x\"y"`,
			`Digest username="alice@ims.example", realm="r", nonce="` + nonceText(n) + `", uri="sip:ims.example", response="%s", ` +
				`algorithm=AKAv1-SHA-256, opaque="x\"y"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := newPhone(t).ask(question(t, tt.challenge))
			response := get(t, a, "response")
			if diff := cmp.Diff(fmt.Sprintf(tt.want, response), a.GetMutations()[0].GetValue()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if want := 32 + 32*strings.Count(tt.challenge, "SHA-256"); len(response) != want {
				t.Errorf("response of %d digits, want %d", len(response), want)
			}
		})
	}
}

// AKA-05:
// TestAKA05SHA256 computes what the vectors do not have, from the formulas.
func TestAKA05SHA256(t *testing.T) {
	n := genuine(1, 0)
	v, _ := testKeys.F2345(n.Rand)
	h := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	// HMAC by RFC 2104, for a key below the block size.
	key := make([]byte, 64)
	copy(key, v.RES.Reveal()+v.IK.Reveal()+v.CK.Reveal())
	var inner, outer []byte
	for _, b := range key {
		inner, outer = append(inner, b^0x36), append(outer, b^0x5c)
	}
	in := sha256.Sum256(append(inner, "http-digest-akav2-password"...))
	mac := sha256.Sum256(append(outer, in[:]...))
	for algorithm, password := range map[string]string{
		"AKAv1-SHA-256": v.RES.Reveal(), "AKAv2-SHA-256": base64.StdEncoding.EncodeToString(mac[:]),
	} {
		for _, qop := range []string{"auth", "auth-int"} {
			q := question(t, strings.Replace(raw(algorithm, n), `"auth"`, `"`+qop+`"`, 1))
			q.BodyHashes = map[string]string{"MD5": "no", "SHA-256": h("body")}
			a2 := "REGISTER:sip:ims.example"
			if qop == "auth-int" {
				a2 += ":" + h("body")
			}
			a, _ := newPhone(t).ask(q)
			middle := nonceText(n) + ":00000001:c:" + qop + ":"
			ha1 := h("alice@ims.example:" + realm + ":" + password)
			if got, want := get(t, a, "response"), h(ha1+":"+middle+h(a2)); got != want {
				t.Errorf("%s %s: response %s, want %s", algorithm, qop, got, want)
			}
			empty := ":sip:ims.example"
			if qop == "auth-int" {
				empty += ":" + h("")
			}
			if got, want := a.GetProofs()[0].GetRspauth(), h(ha1+":"+middle+h(empty)); got != want {
				t.Errorf("AKA-07 %s %s: rspauth %s, want %s", algorithm, qop, got, want)
			}
		}
	}
}

// CHA-26:
// TestCHA26Choice: AKAv2 before AKAv1, then SHA-256 before MD5, wherever they
// stand; what is not understood does not count.
func TestCHA26Choice(t *testing.T) {
	n := genuine(1, 0)
	other := func(params string) string { return fmt.Sprintf(`Digest realm=%q, qop="auth", %s`, realm, params) }
	for _, tt := range []struct {
		name   string
		offers []string
		v2     bool
		want   string // the algorithm, or the reason of a refusal
	}{
		{"AKAv2 below", []string{raw("AKAv1-SHA-256", n), raw("AKAv2-MD5", n)}, false, "AKAv2-MD5"},
		{"AKAv2 above", []string{raw("AKAv2-MD5", n), raw("AKAv1-SHA-256", n)}, false, "AKAv2-MD5"},
		{"SHA-256", []string{raw("AKAv2-MD5", n), raw("akav2-sha-256", n), raw("AKAv2-SHA-256", n)}, false, "akav2-sha-256"},
		{"one", []string{raw("AKAv1-MD5", n)}, false, "AKAv1-MD5"},
		{"S-12 not plain", []string{raw("SHA-256", n), raw("AKAv1-MD5", n), raw("MD5", n)}, false, "AKAv1-MD5"},
		{"S-12 only plain", []string{raw("SHA-256", n), raw("MD5", n), other(`nonce="x"`), raw("SHA-512-256", n)}, false, "challenge.unsupported"},
		{"S-12 AKAv2 only", []string{raw("AKAv1-SHA-256", n), raw("MD5", n)}, true, "algorithm.downgrade"},
		{"S-12 AKAv2 offered", []string{raw("AKAv1-SHA-256", n), raw("AKAv2-MD5", n)}, true, "AKAv2-MD5"},
		{"AKA-06 no -sess", []string{raw("AKAv1-MD5-sess", n), raw("AKAv3-MD5", n), raw("AKAv1-SHA-512-256", n)}, false, "challenge.unsupported"},
		{"AKA-01 a nonce that is none", []string{other(`nonce="abc", algorithm=AKAv2-MD5`), raw("AKAv1-MD5", n)}, false, "AKAv1-MD5"},
		{"CHA-31 unknown qop", []string{strings.Replace(raw("AKAv2-MD5", n), `"auth"`, `"token"`, 1), raw("AKAv1-MD5", n)}, false, "AKAv1-MD5"},
		{"CHA-27 another scheme", []string{strings.Replace(raw("AKAv1-MD5", n), "Digest", "Basic", 1)}, false, "challenge.unsupported"},
		{"nothing", nil, false, "challenge.unsupported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPhone(t)
			p.V2Only = tt.v2
			a, got := p.ask(question(t, tt.offers...))
			if a != nil {
				got = get(t, a, "algorithm")
				if len(a.GetAnswered()) != 1 {
					t.Errorf("answers %v of one realm", a.GetAnswered())
				}
			} else if p.state != (aka.State{}) {
				t.Error("a refusal changes the state")
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// AKA-03:
// TestAKA03Resynchronisation: auts, then a challenge that goes on from it.
func TestAKA03Resynchronisation(t *testing.T) {
	p := newPhone(t)
	for i, step := range []struct {
		seq  uint64
		want string
	}{{5, "res"}, {5, "auts"}, {4, "auts"}, {6, "res"}} {
		q := question(t, raw("AKAv1-MD5", genuine(step.seq, 0)))
		a, reason := p.ask(q)
		if got := fmt.Sprint(kinds(t, a), reason); got != "["+step.want+"]" {
			t.Fatalf("step %d: %s, want %s", i, got, step.want)
		}
		if a.GetContinues() != (step.want == "auts") {
			t.Errorf("step %d: continues %t", i, a.GetContinues())
		}
		if step.want == "auts" {
			want := digest.Response(digest.Exchange{
				Algorithm: "MD5", HA1: digest.HA1("MD5", p.IMPI, realm, ""), Method: "REGISTER", URI: "sip:ims.example",
				Nonce: q.GetChallenges()[0].GetParams()["nonce"], QOP: "auth", NC: "00000001", Cnonce: "c",
			})
			if got := get(t, a, "response"); got != want {
				t.Errorf("step %d: the response is not that of an empty password", i)
			}
		}
	}
}

// AKA-04:
// TestAKA04WrongMAC: two are answered, with nothing in it, the third is not; a
// genuine challenge ends the row.
func TestAKA04WrongMAC(t *testing.T) {
	p := newPhone(t)
	ask := func(n aka.Nonce) string {
		a, reason := p.ask(question(t, raw("AKAv2-MD5", n)))
		if a == nil {
			return reason
		}
		if len(a.GetProofs()) != 0 && kinds(t, a)[0] != "res" {
			t.Error("a proof is expected of a network that proved to be false")
		}
		return kinds(t, a)[0]
	}
	bad := wrong(genuine(1, 0))
	var got []string
	for _, n := range []aka.Nonce{bad, bad, bad, bad, genuine(1, 0), wrong(genuine(2, 0)), genuine(1, 0), bad, bad, bad, genuine(2, 0)} {
		got = append(got, ask(n))
	}
	want := []string{
		"empty", "empty", aka.ReasonInvalid, aka.ReasonInvalid, "res", "empty", "auts", "empty", "empty", aka.ReasonInvalid, "res",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestSeveralRealms: CHA-01 and CHA-22. Each has its own vector and header.
func TestSeveralRealms(t *testing.T) {
	p := newPhone(t)
	other := strings.Replace(raw("AKAv1-MD5", genuine(2, 1)), realm, "other", 1)
	q := question(t, raw("AKAv1-MD5", genuine(1, 0)), raw("AKAv1-MD5", genuine(3, 2)), other, raw("MD5", genuine(9, 9)), raw("AKAv1-MD5", wrong(genuine(4, 4))))
	q.Challenges[1].Space = proxy
	q.Challenges[4].Space, q.Challenges[4].Realm = proxy, "false"
	a, _ := p.ask(q)
	var got []string
	for i, m := range a.GetMutations() {
		got = append(got, fmt.Sprint(a.GetAnswered()[i], " ", m.GetOp(), " ", m.GetName(), " ", kinds(t, a)[i]))
	}
	want := []string{
		"0 SET Authorization res", "1 SET Proxy-Authorization res", "2 ADD Authorization res", "4 ADD Proxy-Authorization empty",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if p.state.SEQ[0] != 1 || p.state.SEQ[1] != 2 || p.state.SEQ[2] != 3 || p.state.Invalid != 1 {
		t.Errorf("state %+v", p.state)
	}
}

// AKA-06:
// TestAKA06Chain: a vector serves once more only in the chain that it was
// accepted in, for its own realm, with a higher count.
func TestAKA06Chain(t *testing.T) {
	n, m := genuine(1, 0), genuine(2, 1)
	for _, tt := range []struct {
		name   string
		change func(q *messages.AuthChallenge)
		want   string
	}{
		{"the proxy's nonce beside the registrar's", func(*messages.AuthChallenge) {}, "res,res"},
		{"no higher count", func(q *messages.AuthChallenge) { q.Challenges[0].NonceCount = 1 }, "auts,res"},
		{"the first round of another chain", func(q *messages.AuthChallenge) { q.Round = 1 }, "auts,res"},
		{"a repeated request of the first round", func(q *messages.AuthChallenge) { q.Round, q.StatusCode = 1, 0 }, "res,res"},
		{"before another chain", func(q *messages.AuthChallenge) { q.Round, q.StatusCode = 0, 0 }, "auts,res"},
		{"another space", func(q *messages.AuthChallenge) { q.Challenges[0].Space = origin }, "auts,res"},
		{"another realm", func(q *messages.AuthChallenge) { q.Challenges[0].Realm = "x" }, "auts,res"},
		{"another profile", func(q *messages.AuthChallenge) { q.ProfileId = "bob" }, "auts,res"},
		{"another purpose", func(q *messages.AuthChallenge) { q.Purpose = messages.Purpose_SESSION }, "auts,res"},
		{"another session", func(q *messages.AuthChallenge) { q.SessionId = "s" }, "auts,res"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPhone(t)
			first := question(t, raw("AKAv1-MD5", n))
			first.StatusCode, first.Challenges[0].Space = 407, proxy
			if a, reason := p.ask(first); reason != "" || kinds(t, a)[0] != "res" {
				t.Fatal(reason)
			}
			second := question(t, raw("AKAv1-MD5", n), strings.Replace(raw("AKAv1-MD5", m), realm, "second", 1))
			second.Round, second.Challenges[0].Space, second.Challenges[0].NonceCount = 2, proxy, 2
			tt.change(second)
			a, _ := p.ask(second)
			if got := strings.Join(kinds(t, a), ","); got != tt.want {
				t.Fatalf("%s, want %s", got, tt.want)
			}
			if tt.want != "res,res" {
				return
			}
			if nc := get(t, a, "nc"); nc != "00000002" || a.GetContinues() || len(a.GetProofs()) != 2 {
				t.Errorf("nc %s: %v", nc, a)
			}
			// The count that was used is used up.
			if a, _ := p.ask(second); kinds(t, a)[0] != "auts" {
				t.Error("the same count twice")
			}
		})
	}
}

// AKA-06:
// TestAKA06AnEarlierChain: its nonce does not come back to life in a later
// round of the next one.
func TestAKA06AnEarlierChain(t *testing.T) {
	p := newPhone(t)
	var got []string
	for _, step := range []struct {
		seq          uint64
		round, count uint32
	}{{1, 1, 1}, {2, 1, 1}, {1, 2, 2}, {2, 2, 2}} {
		q := question(t, raw("AKAv1-MD5", genuine(step.seq, 0)))
		q.Round, q.Challenges[0].NonceCount = step.round, step.count
		a, _ := p.ask(q)
		got = append(got, kinds(t, a)...)
	}
	if diff := cmp.Diff([]string{"res", "res", "auts", "res"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// AKA-06.
func TestAKA06OpenChainsAreBounded(t *testing.T) {
	p := newPhone(t)
	ask := func(i int, round, count uint32) string {
		q := question(t, raw("AKAv1-MD5", genuine(uint64(i+1), 0)))
		q.Purpose, q.SessionId, q.Round = messages.Purpose_SESSION, fmt.Sprint(i), round
		q.Challenges[0].NonceCount = count
		a, _ := p.ask(q)
		return kinds(t, a)[0]
	}
	for i := range 100 {
		if got := ask(i, 1, 1); got != "res" {
			t.Fatal(got)
		}
	}
	if old, recent := ask(0, 2, 2), ask(99, 2, 2); old != "auts" || recent != "res" {
		t.Errorf("the oldest chain: %s, the latest: %s", old, recent)
	}
}

// TestUnanswerable: what cannot be echoed or sent is not answered, and costs no
// sequence number.
func TestUnanswerable(t *testing.T) {
	for name, change := range map[string]func(p *phone, q *messages.AuthChallenge){
		"S-52 realm":         func(_ *phone, q *messages.AuthChallenge) { q.Challenges[0].Realm = "a\r\nb" },
		"S-52 opaque":        func(_ *phone, q *messages.AuthChallenge) { q.Challenges[0].Params["opaque"] = "\x00" },
		"S-52 line in nonce": func(_ *phone, q *messages.AuthChallenge) { q.Challenges[0].Params["nonce"] += "\r\n" },
		"S-52 URI":           func(_ *phone, q *messages.AuthChallenge) { q.RequestUri = "sip:\n" },
		"no space":           func(_ *phone, q *messages.AuthChallenge) { q.Challenges[0].Space = 0 },
		"no IMPI":            func(p *phone, _ *messages.AuthChallenge) { p.IMPI = "" },
		"DIG-13 colon":       func(p *phone, _ *messages.AuthChallenge) { p.IMPI = "a:b" },
		"no keys":            func(p *phone, _ *messages.AuthChallenge) { p.Keys = aka.Keys{} },
	} {
		p := newPhone(t)
		q := question(t, raw("AKAv1-MD5", genuine(1, 0)))
		change(p, q)
		if a, reason := p.ask(q); a != nil || reason == "" || p.state != (aka.State{}) {
			t.Errorf("%s: %v", name, a)
		}
	}
	for _, cnonce := range []string{"", "a\nb"} {
		q := question(t, raw("AKAv1-MD5", genuine(1, 0)))
		out := aka.Answer(q, newPhone(t).Subscriber, aka.State{}, aka.Open{}, func() string { return cnonce })
		if out.Answer != nil || out.State != (aka.State{}) {
			t.Errorf("answered with the client nonce %q", cnonce)
		}
	}
}

// FuzzAnswer: whatever stands in a challenge, there is no panic, the header can
// be read, and nothing secret is in it.
func FuzzAnswer(f *testing.F) {
	n := genuine(1, 0)
	f.Add(nonceText(n), "AKAv1-MD5", realm, "auth", "o", uint32(1), uint32(1), true)
	f.Add(nonceText(wrong(n)), "AKAv2-SHA-256", realm, "auth-int", "", uint32(2), uint32(2), false)
	f.Add(nonceText(genuine(0, 3)), "akav1-md5", `"\`, "", "\t", uint32(0), uint32(0), true)
	f.Add("AAAA", "MD5", "", "x", "", uint32(0), uint32(9), false)
	secret := func(t *testing.T, text string, v aka.Vector) {
		t.Helper()
		for _, s := range []string{
			string(unhex("465b5ce8b199b49faa5f0a2ee238a6bc")), string(unhex("cd63cb71954a9f4e48a5994e37a02baf")), v.RES.Reveal(), v.CK.Reveal(), v.IK.Reveal(),
		} {
			for _, form := range []string{s, hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte(s))} {
				if strings.Contains(text, form) {
					t.Fatalf("a secret of %d bytes is in the answer", len(s))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, nonce, algorithm, realm, qop, opaque string, count, round uint32, genuineAutn bool) {
		// Few random inputs have a right MAC, so half of them are given one.
		parsed, err := aka.ParseNonce(nonce)
		if err == nil && genuineAutn {
			parsed.Autn = testKeys.Autn(parsed.Rand, aka.SQN(parsed.Autn[:6]), aka.AMF(parsed.Autn[6:8]))
			nonce = nonceText(parsed)
		}
		q := &messages.AuthChallenge{Method: "REGISTER", RequestUri: "sip:a", Round: round, StatusCode: 401, Challenges: []*messages.Challenge{{
			Space: origin, Scheme: "Digest", Realm: realm, NonceCount: count,
			Params: map[string]string{"nonce": nonce, "algorithm": algorithm, "qop": qop, "opaque": opaque, "realm": realm},
		}}}
		p := newPhone(t)
		p.Delta = 1 << 43
		for range 4 {
			a, reason := p.ask(q)
			v, _ := testKeys.F2345(parsed.Rand)
			secret(t, fmt.Sprint(a, reason, p.open, p.Subscriber), v)
			if a == nil {
				continue
			}
			got, err := challenge.Parse(a.GetMutations()[0].GetValue())
			if err != nil || got.Realm() != realm || got.Nonce() != nonce || got.Algorithm() != algorithm {
				t.Fatalf("%v in %q", err, a.GetMutations()[0].GetValue())
			}
			q.Round, q.Challenges[0].NonceCount = q.Round+1, q.Challenges[0].NonceCount+1
		}
	})
}
