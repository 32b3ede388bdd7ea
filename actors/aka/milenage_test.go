package aka_test

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/aka"
)

// vectorSet is a record of testdata/milenage.json.
type vectorSet struct {
	Name, K, Op, Opc, Rand, Sqn, Amf, Autn string
	MacA                                   string `json:"f1_mac_a"`
	MacS                                   string `json:"f1star_mac_s"`
	Res                                    string `json:"f2_res"`
	Ck                                     string `json:"f3_ck"`
	Ik                                     string `json:"f4_ik"`
	Ak                                     string `json:"f5_ak"`
	AkStar                                 string `json:"f5star_ak"`
	Auts                                   string `json:"auts_for_sqn_ms_eq_sqn_amf0"`
	AutsB64                                string `json:"auts_b64"`
	Nonce                                  string `json:"sip_nonce_b64"`
	SIP                                    struct {
		Username, Realm, URI, Method, Qop, Nc, Cnonce string
		V1                                            string `json:"akav1_md5_response"`
		V1Rspauth                                     string `json:"akav1_rspauth"`
		V2Password                                    string `json:"akav2_md5_password_b64"`
		V2                                            string `json:"akav2_md5_response"`
		Resync                                        string `json:"auts_empty_password_response"`
	}
}

func vectors(t testing.TB) []vectorSet {
	t.Helper()
	b, err := os.ReadFile("testdata/milenage.json")
	if err != nil {
		t.Fatal(err)
	}
	var sets []vectorSet
	if err := json.Unmarshal(b, &sets); err != nil {
		t.Fatal(err)
	}
	if len(sets) != 7 {
		t.Fatalf("%d sets, want 7", len(sets))
	}
	return sets
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func (v vectorSet) keys(t testing.TB) aka.Keys {
	t.Helper()
	k, err := aka.KeysFromOPc(unhex(v.K), unhex(v.Opc))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (v vectorSet) sqn() aka.SQN { return aka.SQN(unhex(v.Sqn)) }

// before is the state of a USIM that accepts this set's SQN as the next.
func (v vectorSet) before() (s aka.State) {
	n := v.sqn().Uint64()
	s.SEQ[n%32] = n>>5 - 1
	return s
}

func TestMilenageVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			k := v.keys(t)
			fromOP, err := aka.KeysFromOP(unhex(v.K), unhex(v.Op))
			if err != nil || !fromOP.Equal(k) || fromOP.ID() != k.ID() {
				t.Errorf("OPc from OP: %v", err)
			}
			r := aka.Rand(unhex(v.Rand))
			macA, macS := k.F1(r, v.sqn(), aka.AMF(unhex(v.Amf)))
			_, zeroS := k.F1(r, v.sqn(), aka.AMF{})
			vector, ak := k.F2345(r)
			star, autn, auts := k.F5Star(r), k.Autn(r, v.sqn(), aka.AMF(unhex(v.Amf))), k.Auts(r, v.sqn())
			for name, x := range map[string]struct {
				got  []byte
				want string
			}{
				"f1": {macA[:], v.MacA}, "f1*": {macS[:], v.MacS}, "f2": {[]byte(vector.RES.Reveal()), v.Res},
				"f3": {[]byte(vector.CK.Reveal()), v.Ck}, "f4": {[]byte(vector.IK.Reveal()), v.Ik},
				"f5": {ak[:], v.Ak}, "f5*": {star[:], v.AkStar}, "AUTN": {autn[:], v.Autn}, "AUTS": {auts[:], v.Auts},
				"MAC-S of AUTS": {zeroS[:], v.Auts[12:]},
			} {
				if hex.EncodeToString(x.got) != x.want {
					t.Errorf("%s = %x, want %s", name, x.got, x.want)
				}
			}
		})
	}
}

// reference is Milenage written once more, from the formulas of 3GPP TS 35.206
// §4.1, on numbers of 128 bits.
type reference struct{ k, opc []byte }

func newReference(k, op []byte) reference {
	r := reference{k: k}
	r.opc = pad(new(big.Int).Xor(number(op), number(r.encrypt(op))))
	return r
}

func number(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

func pad(n *big.Int) []byte { return n.FillBytes(make([]byte, 16)) }

func (m reference) encrypt(b []byte) []byte {
	c, err := aes.NewCipher(m.k)
	if err != nil {
		panic(err)
	}
	out := make([]byte, 16)
	c.Encrypt(out, b)
	return out
}

// out is OUT1 (with an in of its own) to OUT5.
func (m reference) out(rnd, in []byte, r uint, c int64) []byte {
	opc := number(m.opc)
	temp := number(m.encrypt(pad(new(big.Int).Xor(number(rnd), opc))))
	turned := temp
	if in != nil {
		turned = number(in)
	}
	turned = new(big.Int).Xor(turned, opc)
	high := new(big.Int).Lsh(turned, r)
	high.And(high, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)))
	x := high.Or(high, new(big.Int).Rsh(turned, 128-r))
	x.Xor(x, big.NewInt(c))
	if in != nil {
		x.Xor(x, temp)
	}
	return pad(new(big.Int).Xor(number(m.encrypt(pad(x))), opc))
}

func (m reference) out1(rnd, sqn, amf []byte) []byte {
	half := append(append([]byte{}, sqn...), amf...)
	return m.out(rnd, append(half, half...), 64, 0)
}

func xored(a, b []byte) []byte {
	out := make([]byte, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] ^ b[i]
	}
	return out
}

func (m reference) autn(rnd, sqn, amf []byte) []byte {
	autn := append(xored(sqn, m.out(rnd, nil, 0, 1)), amf...)
	return append(autn, m.out1(rnd, sqn, amf)[:8]...)
}

// resync is what an HSS does with AUTS.
func (m reference) resync(rnd, auts []byte) (sqn []byte, genuine bool) {
	sqn = xored(auts[:6], m.out(rnd, nil, 96, 8))
	return sqn, bytes.Equal(m.out1(rnd, sqn, []byte{0, 0})[8:], auts[6:])
}

func TestReferenceAgreesWithTheVectors(t *testing.T) {
	for _, v := range vectors(t) {
		m, rnd := newReference(unhex(v.K), unhex(v.Op)), unhex(v.Rand)
		got := []string{
			hex.EncodeToString(m.opc), hex.EncodeToString(m.autn(rnd, unhex(v.Sqn), unhex(v.Amf))),
			hex.EncodeToString(m.out(rnd, nil, 0, 1)[8:]), hex.EncodeToString(m.out(rnd, nil, 32, 2)), hex.EncodeToString(m.out(rnd, nil, 64, 4)),
		}
		if diff := cmp.Diff([]string{v.Opc, v.Autn, v.Res, v.Ck, v.Ik}, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", v.Name, diff)
		}
		if sqn, ok := m.resync(rnd, unhex(v.Auts)); !ok || hex.EncodeToString(sqn) != v.Sqn {
			t.Errorf("%s: AUTS", v.Name)
		}
	}
}

// TestAgainstReference: whatever the keys and the state, a network that shares
// no code with the USIM agrees with it, and a resynchronisation ends in a
// challenge that is accepted.
func TestAgainstReference(t *testing.T) {
	random := rand.New(rand.NewPCG(3310, 4169))
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	for range 2000 {
		k, op, amf := fill(16), fill(16), fill(2)
		m := newReference(k, op)
		keys, err := aka.KeysFromOP(k, op)
		if err != nil {
			t.Fatal(err)
		}
		var state aka.State
		for range random.IntN(8) {
			state.SEQ[random.IntN(32)] = 1 + random.Uint64N(1<<random.IntN(42))
		}
		network := random.Uint64N(1 << 48)
		ask := func(rnd []byte, sqn uint64) aka.Result {
			six := aka.NewSQN(sqn)
			return aka.Authenticate(keys, state, aka.Nonce{Rand: aka.Rand(rnd), Autn: aka.Autn(m.autn(rnd, six[:], amf))}, 0)
		}
		rnd := fill(16)
		r := ask(rnd, network)
		if r.Finding == aka.SQNFailure {
			sqn, genuine := m.resync(rnd, r.Auts[:])
			if !genuine {
				t.Fatal("AKA-03: the network does not believe AUTS")
			}
			network = aka.SQN(sqn).Uint64() + 1<<5
			rnd = fill(16)
			r = ask(rnd, network)
		}
		if r.Finding != aka.Accepted {
			t.Fatalf("%s after a resynchronisation", r.Finding)
		}
		if !bytes.Equal([]byte(r.Vector.RES.Reveal()), m.out(rnd, nil, 0, 1)[8:]) {
			t.Fatal("RES differs")
		}
		state = r.State
		if again := ask(rnd, network); again.Finding != aka.SQNFailure {
			t.Fatalf("the same AUTN again: %s", again.Finding)
		}
	}
}
