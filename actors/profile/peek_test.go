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
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/words"
	"github.com/sipmuster/muster/messages"
)

// checkPeek compares Peek with Unpack.
func checkPeek(t *testing.T, w *profile.Words, id string, s profile.State) {
	t.Helper()
	packed := w.Pack(id, 1<<40, &s)
	want, _ := w.Unpack(id, packed)
	want.CallID, want.FromTag, want.Challenge, want.Dropped = "", "", challenge.State{}, nil
	want.Binding.ServiceRoute = nil
	all := want.Attempt
	want.Attempt = profile.Attempt{Open: all.Open, GuardAt: all.GuardAt, AnswerBy: all.AnswerBy}
	if all.Open {
		want.Attempt.Round = all.Round
	}
	got := profile.State{CallID: "of another profile", Gone: true}
	w.Peek(id, packed, &got)
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Fatalf("packed under %q (-unpacked +peeked)\n%s", id, diff)
	}
}

func TestPeekSeesWhatUnpackSees(t *testing.T) {
	for _, w := range []*profile.Words{{}, {Texts: new(words.Table)}} {
		for _, id := range []string{"", "sip:alice@example.test", "other"} {
			var s profile.State
			n := 0
			fill(t, reflect.ValueOf(&s).Elem(), &n)
			for range 2 { // the second time, texts have numbers
				checkPeek(t, w, id, s)
			}
			checkPeek(t, w, id, profile.State{})
		}
	}
	w := &profile.Words{Texts: new(words.Table)}
	for n := range 1000 {
		id, s := usual(n)
		checkPeek(t, w, id, s)
	}
}

// TestPeekAtOddStates leaves fields out at random, and fills others with texts
// that are packed in every form.
func TestPeekAtOddStates(t *testing.T) {
	const id = "sip:deadbeef@example.test"
	rng := rand.New(rand.NewPCG(1, 2))
	w := &profile.Words{Texts: new(words.Table)}
	text := func() string {
		all := [...]string{"", id, "deadbeef", "x", "abcd", "ABCD", strings.Repeat("ab", 40), strings.Repeat("Zz+/", 9), strings.Repeat("y", 300), "acme"}
		return all[rng.IntN(len(all))]
	}
	texts := func() []string {
		list := make([]string, rng.IntN(3))
		for i := range list {
			list[i] = text()
		}
		return list
	}
	number := func() uint32 { return uint32(rng.IntN(3) * rng.IntN(1<<20)) }
	moment := func() time.Time {
		if rng.IntN(2) == 0 {
			return time.Time{}
		}
		return time.UnixMilli(rng.Int64N(1 << 41)).UTC()
	}
	for range 20000 {
		s := profile.State{
			Spec: profile.Spec{AOR: text(), Registrar: text(), Username: text(), ContactUser: text(), RegistrationHandler: text(), Register: rng.IntN(2) == 0},
			Row:  text(), Source: text(), CallID: text(), FromTag: text(), CSeq: number(), MinSeconds: number(), Failures: number(),
			NextAt: moment(), Halted: rng.IntN(2) == 0, Removing: rng.IntN(2) == 0, Dropped: texts(), Reason: messages.Reason(text()),
		}
		s.Binding = profile.Binding{Until: moment(), MaybeUntil: moment(), ServiceRoute: texts()}
		s.Attempt = profile.Attempt{Number: uint64(number()), Round: number(), GuardAt: moment(), Handler: text(), Open: rng.IntN(2) == 0, AnswerBy: moment(), Targets: texts()}
		for i := range rng.IntN(4) {
			r := challenge.Realm{Space: messages.Space(rng.IntN(3)), Name: text(), Count: number(), Pinned: rng.IntN(2) == 0}
			for range rng.IntN(3) {
				r.Raws = append(r.Raws, fmt.Sprintf(`Digest realm=%q, nonce=%q, opaque=%q`, text(), text(), text()), text())
			}
			s.Challenge.Realms = append(s.Challenge.Realms, r)
			s.Attempt.Answers = append(s.Attempt.Answers, &messages.NonceCount{Space: r.Space, Realm: [2]string{r.Name, text()}[i%2], Count: number()})
		}
		checkPeek(t, w, id, s)
	}
}

func BenchmarkPeek(b *testing.B) {
	w := &profile.Words{Texts: new(words.Table)}
	for n := range 2 {
		id, s := usual(n)
		w.Pack(id, 5, &s)
	}
	id, s := usual(2)
	packed := w.Pack(id, 5, &s)
	b.ReportAllocs()
	for b.Loop() {
		if w.Peek(id, packed, &s); !s.Exists() {
			b.Fatal(s)
		}
	}
}

// TestSnapshotsKeepNothing decodes snapshots in one memory, full ones and empty
// ones in turns.
func TestSnapshotsKeepNothing(t *testing.T) {
	var full profile.State
	n := 0
	fill(t, reflect.ValueOf(&full).Elem(), &n)
	_, registered := usual(1)
	states := []profile.State{full, registered, {}, full, {Spec: profile.Spec{AOR: "sip:b@example.test"}}, registered, full}
	var snapshots profile.Snapshots
	var decoded []profile.State
	for _, s := range states {
		b, err := profile.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := snapshots.Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		decoded = append(decoded, got)
		if _, err := snapshots.Unmarshal(b[:len(b)/2]); err == nil && len(b) > 1 {
			t.Log("half of a snapshot is one by accident")
		}
	}
	if diff := cmp.Diff(states, decoded, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	_, s := usual(1)
	encoded, err := profile.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	var snapshots profile.Snapshots
	for name, unmarshal := range map[string]func([]byte) (profile.State, error){"one": profile.Unmarshal, "many": snapshots.Unmarshal} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := unmarshal(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
