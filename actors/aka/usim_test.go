package aka_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/aka"
)

var testKeys = mustKeys("465b5ce8b199b49faa5f0a2ee238a6bc", "cd63cb71954a9f4e48a5994e37a02baf")

func mustKeys(k, opc string) aka.Keys {
	keys, err := aka.KeysFromOPc(unhex(k), unhex(opc))
	if err != nil {
		panic(err)
	}
	return keys
}

// challenge is a genuine one for a sequence number.
func genuine(seq, ind uint64) aka.Nonce {
	r := aka.Rand{1, 2, 3, byte(seq), byte(ind)}
	return aka.Nonce{Rand: r, Autn: testKeys.Autn(r, aka.NewSQN(seq<<5|ind), aka.AMF{0x80})}
}

// TestSequenceNumbers is 3GPP TS 33.102 annex C.2 as a table. Each step is
// SEQ.IND and what the USIM says; a resynchronisation names SQN_MS.
func TestSequenceNumbers(t *testing.T) {
	const far = aka.DefaultDelta
	type step struct {
		seq, ind uint64
		want     string
	}
	for _, tt := range []struct {
		name  string
		delta uint64
		steps []step
	}{
		{"a fresh USIM accepts SEQ 1 and not SEQ 0", 0, []step{{0, 0, "ms 0.0"}, {0, 5, "ms 0.0"}, {1, 0, "ok"}}},
		{"a replay", 0, []step{{7, 1, "ok"}, {7, 1, "ms 7.1"}, {6, 1, "ms 7.1"}, {8, 1, "ok"}}},
		{"another IND has its own order", 0, []step{{7, 1, "ok"}, {5, 2, "ok"}, {6, 2, "ok"}, {6, 2, "ms 7.1"}, {4, 31, "ok"}}},
		{"SQN_MS is the highest of all", 0, []step{{9, 3, "ok"}, {9, 30, "ok"}, {2, 31, "ok"}, {2, 31, "ms 9.30"}}},
		{"a jump of delta", 0, []step{{far, 0, "ok"}, {2 * far, 1, "ok"}}},
		{"a jump beyond delta", 0, []step{{far + 1, 0, "ms 0.0"}, {1, 0, "ok"}, {far + 2, 9, "ms 1.0"}, {far + 1, 9, "ok"}}},
		{"delta counts from the highest, not from the own IND", 10, []step{{10, 0, "ok"}, {20, 0, "ok"}, {30, 1, "ok"}, {41, 1, "ms 30.1"}}},
		{"without a limit", 1 << 43, []step{{1<<43 - 1, 31, "ok"}, {1<<43 - 1, 31, fmt.Sprintf("ms %d.31", 1<<43-1)}}},
		{"after a resynchronisation", 0, []step{{100, 4, "ok"}, {3, 4, "ms 100.4"}, {101, 5, "ok"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s aka.State
			for _, st := range tt.steps {
				n := genuine(st.seq, st.ind)
				r := aka.Authenticate(testKeys, s, n, tt.delta)
				got := "ok"
				switch r.Finding {
				case aka.SQNFailure:
					star := testKeys.F5Star(n.Rand)
					ms := aka.SQN(xored(r.Auts[:6], star[:])).Uint64()
					got = fmt.Sprintf("ms %d.%d", ms>>5, ms%32)
					if r.State != s || !reflect.DeepEqual(r.Vector, aka.Vector{}) {
						t.Errorf("%d.%d is refused and changes the state or gives a vector", st.seq, st.ind)
					}
				case aka.MACFailure:
					got = r.Finding.String()
				case aka.Accepted:
				}
				if got != st.want {
					t.Errorf("%d.%d: %s, want %s", st.seq, st.ind, got, st.want)
				}
				s = r.State
			}
		})
	}
}

// AKA-02:
// TestAKA02TheMACComesFirst: nothing is said about SQN to whom does not know K,
// and each bit of AUTN counts.
func TestAKA02TheMACComesFirst(t *testing.T) {
	var s aka.State
	for bit := range 128 {
		n := genuine(1, 0)
		n.Autn[bit/8] ^= 1 << (bit % 8)
		r := aka.Authenticate(testKeys, s, n, 0)
		if r.Finding != aka.MACFailure || r.Auts != (aka.Auts{}) || !reflect.DeepEqual(r.Vector, aka.Vector{}) || r.State.SEQ != s.SEQ {
			t.Fatalf("bit %d: %+v", bit, r)
		}
	}
	// A genuine challenge ends the row of invalid ones, fresh or not.
	s.Invalid = 2
	for _, seq := range []uint64{1, 0} {
		if r := aka.Authenticate(testKeys, s, genuine(seq, 0), 0); r.State.Invalid != 0 {
			t.Errorf("SEQ %d: %s leaves %d", seq, r.Finding, r.State.Invalid)
		}
	}
}

func TestSeparationBitIsIgnored(t *testing.T) {
	for _, amf := range []aka.AMF{{}, {0x80}, {0x7f, 0xff}, {0xff, 0xff}} {
		r := aka.Rand{9}
		n := aka.Nonce{Rand: r, Autn: testKeys.Autn(r, aka.NewSQN(1<<5), amf)}
		if got := aka.Authenticate(testKeys, aka.State{}, n, 0).Finding; got != aka.Accepted {
			t.Errorf("AMF %x: %s", amf, got)
		}
	}
}

// AKA-01.
func TestAKA01Nonce(t *testing.T) {
	n := genuine(1, 0)
	raw := append(n.Rand[:], n.Autn[:]...)
	enc := base64.StdEncoding.EncodeToString
	for nonce, ok := range map[string]bool{
		enc(raw): true, enc(append(raw, "server data"...)): true,
		"": false, enc(raw[:31]): false, "not base64!" + enc(raw): false, strings.TrimRight(enc(raw), "="): false,
		base64.URLEncoding.EncodeToString(append([]byte{0xfb, 0xff}, raw...)): false,
	} {
		got, err := aka.ParseNonce(nonce)
		if (err == nil) != ok || ok && got != n {
			t.Errorf("%q: %v", nonce, err)
		}
	}
}

// AKA-08.
func TestAKA08StateIsStored(t *testing.T) {
	for name, s := range map[string]aka.State{
		"empty": {}, "one": {SEQ: [32]uint64{7: 1}}, "invalid": {Invalid: 2},
		"all": {SEQ: [32]uint64{0: 1<<43 - 1, 31: 5, 16: 1 << 42}, Invalid: 1},
	} {
		b, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back aka.State
		if err := back.UnmarshalBinary(b); err != nil || back != s {
			t.Errorf("%s: %v, %+v", name, err, back)
		}
		if len(b) > 200 {
			t.Errorf("%s: %d bytes", name, len(b))
		}
	}
	// The format is for ever.
	s := aka.State{SEQ: [32]uint64{1: 0x1234, 31: 2}, Invalid: 1}
	b, _ := s.MarshalBinary()
	if want := "010180000002" + "000000001234" + "000000000002"; fmt.Sprintf("%x", b) != want {
		t.Errorf("state is %x, want %s", b, want)
	}
}

// AKA-08.
func TestAKA08AnUnknownStateIsRefused(t *testing.T) {
	for name, stored := range map[string]string{
		"nothing": "", "version 0": "000000000000", "version 2": "020000000000", "cut": "010000000001" + "0000000000",
		"too long": "010000000000" + "00", "SEQ 0": "010000000001" + "000000000000", "SEQ of 44 bits": "010000000001" + "080000000000",
		"three invalid": "010300000000", "head only": "0100",
	} {
		before := aka.State{SEQ: [32]uint64{3: 9}}
		s := before
		if err := s.UnmarshalBinary(unhex(stored)); !errors.Is(err, aka.ErrState) || s != before {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
	}
}

// AKA-08.
func TestAKA08KeysAreNotPrinted(t *testing.T) {
	v, _ := testKeys.F2345(aka.Rand{})
	type holder struct{ keys aka.Keys }
	secrets := []string{"465b5ce8", "cd63cb71", "F[\\", string(unhex("465b5ce8")), "[70 91", fmt.Sprintf("%x", v.RES.Reveal()), v.RES.Reveal()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		for _, x := range []any{testKeys, &testKeys, holder{testKeys}, []aka.Keys{testKeys}, v, aka.Subscriber{Keys: testKeys}} {
			text := fmt.Sprintf(verb, x)
			for _, s := range secrets {
				if strings.Contains(strings.ToLower(text), strings.ToLower(s)) {
					t.Errorf("%s of %T shows a key", verb, x)
				}
			}
		}
	}
	if _, err := json.Marshal(testKeys); err == nil {
		t.Error("keys are encoded")
	}
	if id := testKeys.ID(); len(id) != 32 || id == mustKeys("465b5ce8b199b49faa5f0a2ee238a6bc", "cd63cb71954a9f4e48a5994e37a02bae").ID() {
		t.Errorf("id %s", id)
	}
}

func TestKeysOfAnotherSize(t *testing.T) {
	for _, n := range []int{0, 15, 17, 24, 32} {
		if _, err := aka.KeysFromOP(make([]byte, 16), make([]byte, n)); err == nil {
			t.Errorf("OP of %d bytes", n)
		}
		if _, err := aka.KeysFromOPc(make([]byte, n), make([]byte, 16)); err == nil {
			t.Errorf("K of %d bytes", n)
		}
	}
}
