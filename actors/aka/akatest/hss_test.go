package akatest_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/aka"
	"github.com/sipmuster/muster/actors/aka/akatest"
)

type set struct {
	Name, K, Opc, Rand, Sqn, Amf string
	Nonce                        string `json:"sip_nonce_b64"`
	Auts                         string `json:"auts_b64"`
	SIP                          struct {
		Username, Realm, URI, Method, Qop, Nc, Cnonce string
		V1                                            string `json:"akav1_md5_response"`
		V1Rspauth                                     string `json:"akav1_rspauth"`
		V2                                            string `json:"akav2_md5_response"`
		Resync                                        string `json:"auts_empty_password_response"`
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func (s set) authorization(algorithm, response, more string) string {
	return fmt.Sprintf(`Digest username=%q, realm=%q, nonce=%q, uri=%q, response=%q, algorithm=%s, cnonce=%q, qop=%s, nc=%s%s`,
		s.SIP.Username, s.SIP.Realm, s.Nonce, s.SIP.URI, response, algorithm, s.SIP.Cnonce, s.SIP.Qop, s.SIP.Nc, more)
}

// TestVectors: the HSS gives out the nonces of the conformance data, and
// accepts the answers to them.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("../testdata/milenage.json")
	if err != nil {
		t.Fatal(err)
	}
	var sets []set
	if err := json.Unmarshal(b, &sets); err != nil || len(sets) != 7 {
		t.Fatal(len(sets), err)
	}
	for _, s := range sets {
		t.Run(s.Name, func(t *testing.T) {
			h, err := akatest.New(unhex(s.K), unhex(s.Opc))
			if err != nil {
				t.Fatal(err)
			}
			h.IMPI, h.AMF = s.SIP.Username, aka.AMF(unhex(s.Amf))
			sqn, err := strconv.ParseUint(s.Sqn, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			v1, v2 := s.authorization("AKAv1-MD5", s.SIP.V1, ""), s.authorization("AKAv2-MD5", s.SIP.V2, "")
			for _, step := range []struct {
				name, algorithm, authorization string
				ok, resynced                   bool
				err                            error
			}{
				{"AKAv1", "AKAv1-MD5", v1, true, false, nil},
				{"AKAv2", "AKAv2-MD5", v2, true, false, nil},
				{"an algorithm that was not asked", "AKAv2-MD5", s.authorization("AKAv1-SHA-256", s.SIP.V1, ""), false, false, akatest.ErrNonce},
				{"no qop", "AKAv1-MD5", strings.Replace(v1, "qop=", "noqop=", 1), false, false, akatest.ErrQOP},
				{"another user", "AKAv1-MD5", strings.Replace(v1, `username="`, `username="x`, 1), false, false, akatest.ErrUser},
				{"a wrong response", "AKAv1-MD5", s.authorization("AKAv1-MD5", s.SIP.V2, ""), false, false, akatest.ErrResponse},
				{"an empty response", "AKAv1-MD5", s.authorization("AKAv1-MD5", "", ""), false, false, akatest.ErrMACFailure},
				{"AUTS", "AKAv1-MD5", s.authorization("AKAv1-MD5", s.SIP.Resync, `, auts="`+s.Auts+`"`), false, true, nil},
				{"AUTS with RES", "AKAv1-MD5", s.authorization("AKAv1-MD5", s.SIP.V1, `, auts="`+s.Auts+`"`), false, false, akatest.ErrResponse},
				{"AUTS missing", "AKAv1-MD5", s.authorization("AKAv1-MD5", s.SIP.Resync, ""), false, false, akatest.ErrResponse},
				{"no credentials", "AKAv1-MD5", `Digest realm="r", nonce="n"`, false, false, akatest.ErrNonce},
			} {
				raw := h.ChallengeWith(s.SIP.Realm, step.algorithm, aka.Rand(unhex(s.Rand)), sqn)
				if !strings.Contains(raw, `nonce="`+s.Nonce+`"`) {
					t.Fatalf("challenge is %s, want the nonce %s", raw, s.Nonce)
				}
				ok, resynced, err := h.Verify(step.authorization, s.SIP.Method)
				if ok != step.ok || resynced != step.resynced || !errors.Is(err, step.err) {
					t.Errorf("%s: %t, %t, %v", step.name, ok, resynced, err)
				}
				if step.name == "AKAv1" && !strings.Contains(h.Info(v1), `rspauth="`+s.SIP.V1Rspauth+`"`) {
					t.Errorf("info is %s", h.Info(v1))
				}
				if step.resynced && h.SQN() != sqn {
					t.Errorf("after AUTS the SQN is %x, want %s", h.SQN(), s.Sqn)
				}
			}
			h.ChallengeWith(s.SIP.Realm, "AKAv1-MD5", aka.Rand(unhex(s.Rand)), sqn)
			for i, want := range []error{nil, akatest.ErrCount} {
				if _, _, err := h.Verify(v1, s.SIP.Method); !errors.Is(err, want) {
					t.Errorf("time %d: %v", i, err)
				}
			}
			broken := s.authorization("AKAv1-MD5", s.SIP.Resync, `, auts="AAAAAAAAAAAAAAAAAAA="`)
			h.ChallengeWith(s.SIP.Realm, "AKAv1-MD5", aka.Rand(unhex(s.Rand)), sqn)
			if _, resynced, err := h.Verify(broken, s.SIP.Method); !errors.Is(err, akatest.ErrAUTS) || resynced {
				t.Errorf("a false AUTS: resynced %t, %v", resynced, err)
			}
		})
	}
}

// TestSequence: SEQ rises with each challenge, and IND goes round.
func TestSequence(t *testing.T) {
	h, err := akatest.New(make([]byte, 16), make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 70; i++ {
		h.Challenge("r", "AKAv1-MD5")
		if seq, ind := h.SQN()>>5, h.SQN()%32; seq != i || ind != i%32 {
			t.Fatalf("challenge %d has %d.%d", i, seq, ind)
		}
	}
	if _, err := akatest.New(nil, nil); err == nil {
		t.Error("an HSS without keys")
	}
}
