package profile_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/words"
	"github.com/sipmuster/muster/messages"
)

// usual is a registered profile as there are a million of them, and its
// challenge is what a Kamailio sends.
func usual(n int) (id string, s profile.State) {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	random := func(alphabet string, length int) string {
		b := make([]byte, length)
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(b)
	}
	const hex = "0123456789abcdef"
	const base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	user := fmt.Sprintf("u%07d", n)
	id = "sip:" + user + "@example.test"
	now := machinetest.Start.Add(time.Duration(rng.IntN(1e6)) * time.Millisecond)
	return id, profile.State{
		Spec: profile.Spec{
			AOR: id, Registrar: "kamailio-a", Username: user, RegistrationHandler: "digest", SessionHandler: "digest", Register: true,
		},
		Source: "file", Row: random(hex, 16), CallID: random(hex, 20), FromTag: random(hex, 12), CSeq: 2 + uint32(n%1000), LastStatus: 200, Proven: true,
		Binding: profile.Binding{Until: now.Add(time.Hour), Granted: time.Hour},
		NextAt:  now.Add(50 * time.Minute),
		Attempt: profile.Attempt{
			Number: 2 + uint64(n%1000), Round: 1, ExpiresSeconds: 3600, Handler: "digest", GuardAt: now.Add(2 * time.Minute),
			Answers: []*messages.NonceCount{{Space: messages.Space_ORIGIN, Realm: "example.test", Count: 1}},
		},
		Challenge: challenge.State{Realms: []challenge.Realm{{
			Space: messages.Space_ORIGIN, Name: "example.test", Count: 1, Answered: 1, Pinned: true, Cached: true, Strongest: 1,
			Raws: []string{`Digest realm="example.test", nonce="` + random(base64, 32) + `", qop="auth", algorithm=MD5`},
		}}},
	}
}

func checkPacked(t *testing.T, w *profile.Words, id string, s profile.State) string {
	t.Helper()
	packed := w.Pack(id, 1<<40, &s)
	back, version := w.Unpack(id, packed)
	if diff := cmp.Diff(s, back, protocmp.Transform()); diff != "" || version != 1<<40 {
		t.Fatalf("packed under %q, version %d (-want +got)\n%s", id, version, diff)
	}
	return packed
}

// TestPackedSize is what a million idle profiles are counted on.
func TestPackedSize(t *testing.T) {
	w := &profile.Words{Texts: new(words.Table)}
	longest := 0
	for n := range 1000 {
		id, s := usual(n)
		if packed := checkPacked(t, w, id, s); n > 1 {
			longest = max(longest, len(packed))
		}
	}
	if longest > 112 { // one of Go's sizes for what is in memory
		t.Errorf("a registered profile takes %d bytes", longest)
	}
}

// table is a Texts that remembers what it was shown.
type table struct {
	words.Table
	shown map[string]bool
}

func (w *table) Number(text, owner string) (uint64, bool) {
	w.shown[text] = true
	return w.Table.Number(text, owner)
}

// TestPackSharesNothingOfOneProfile: what is shared lasts as long as the node,
// so it must not grow with every profile or challenge.
func TestPackSharesNothingOfOneProfile(t *testing.T) {
	w := &table{shown: map[string]bool{}}
	packer := &profile.Words{Texts: w}
	var own []string
	for n := range 100 {
		id, s := usual(n)
		nonce := fmt.Sprintf("NONCE%032d", n)
		s.Challenge.Realms[0].Raws = []string{
			`Digest realm="example.test", nonce="` + nonce + `", opaque="` + nonce + `x", qop="auth"`,
			`Digest realm="example.test",Nonce="` + nonce + `",algorithm=SHA-256`,
			`Digest realm="example.test", nonce = "` + nonce + `"`,
			`Digest realm="example.test", nonce=` + nonce,
		}
		s.Spec.ContactUser = "contact of " + id
		checkPacked(t, packer, id, s)
		own = append(own, nonce, s.Spec.Username, s.Spec.ContactUser, s.CallID, s.FromTag, s.Row)
	}
	for text := range w.shown {
		for _, o := range own {
			if strings.Contains(text, o) {
				t.Errorf("%q is offered to be shared: it holds %q", text, o)
			}
		}
	}
	if len(w.shown) > 20 {
		t.Errorf("100 profiles show %d texts", len(w.shown))
	}
}

// TestPackKeepsEveryField fills every field of a State by reflection, as the
// test of the snapshot does.
func TestPackKeepsEveryField(t *testing.T) {
	for _, w := range []*profile.Words{{}, {Texts: new(words.Table)}} {
		for _, id := range []string{"", "sip:alice@example.test", "other"} {
			var s profile.State
			n := 0
			fill(t, reflect.ValueOf(&s).Elem(), &n)
			for range 2 {
				checkPacked(t, w, id, s)
			}
			checkPacked(t, w, id, profile.State{})
		}
	}
}

// TestPackOddTexts: texts that look like what is packed in a special form.
func TestPackOddTexts(t *testing.T) {
	const id = "sip:deadbeef@example.test"
	nonce := func(s string) string { return `Digest realm="a", nonce="` + s + `", qop="auth"` }
	texts := []string{
		id, "deadbeef", "sip:", "", "a", "abcd", "ABCD", "abc", "0a0b0c0G", strings.Repeat("ab", 64), strings.Repeat("ab", 65), strings.Repeat("x", 600),
		"AAAAAAAA", "AAAAAAA=", "AAAA\nAAAA", "AAAA\r\nAAAAAA", strings.Repeat("Zz+/", 32), strings.Repeat("Zz+/", 33), "\x00\xff", "Zz-_Zz-_",
	}
	w := &profile.Words{Texts: new(words.Table)}
	for _, text := range texts {
		var s profile.State
		s.CallID, s.FromTag, s.Spec.AOR, s.Spec.Username, s.Reason = text, text, text, text, messages.Reason(text)
		s.Binding.ServiceRoute, s.Dropped = []string{text, "", text}, []string{text}
		s.Binding.Until = time.UnixMilli(int64(len(text)) - 7).UTC()
		s.Challenge.Realms = []challenge.Realm{
			{Space: messages.Space(-1), Name: text, Raws: []string{text, nonce(text), nonce(text), nonce("x") + `, opaque="` + text + `"`}, Count: 1<<32 - 1},
			{Name: "empty"},
			{Space: messages.Space_PROXY, Name: "many", Raws: []string{strings.Repeat(`a nonce="`+text+`"`, 9), `nonce="`, `opaque="" nonce=""`}},
		}
		s.Attempt.Answers = []*messages.NonceCount{{Space: messages.Space_PROXY, Realm: text, Count: 7}, {Space: messages.Space(-1), Realm: text, Count: 8}}
		for _, id := range []string{id, text} {
			checkPacked(t, w, id, s)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	w := &profile.Words{Texts: new(words.Table)}
	for n := range 2 {
		id, s := usual(n)
		w.Pack(id, 5, &s)
	}
	id, s := usual(2)
	packed := w.Pack(id, 5, &s)
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			packed = w.Pack(id, 5, &s)
		}
		b.ReportMetric(float64(len(packed)), "bytes")
	})
	b.Run("unpack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, version := w.Unpack(id, packed); version != 5 {
				b.Fatal(version)
			}
		}
	})
}
