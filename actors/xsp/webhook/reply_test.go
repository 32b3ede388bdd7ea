package webhook

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// TestReplyIsTheDocument holds the replies of design §8.
func TestReplyIsTheDocument(t *testing.T) {
	for _, tt := range []struct {
		document string
		want     *messages.AuthReply
	}{
		{
			`{"ref":"c0ffee","answered":[0],"mutations":[{"op":"SET","name":"Authorization","value":"Digest …"}]}`,
			&messages.AuthReply{
				Ref: "c0ffee", Answered: []uint32{0},
				Mutations: []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: "Digest …"}},
			},
		},
		{
			`{"ref":"c0ffee","refusal":{"reason":"unknown subscriber","retryAfterSeconds":600}}`,
			&messages.AuthReply{Ref: "c0ffee", Refusal: &messages.Refusal{Reason: "unknown subscriber", RetryAfterSeconds: 600}},
		},
		{
			`{"ref":"c0ffee","preemptive":true,"later":{"version":[1,2]},"proofs":[{"space":"PROXY","rspauth":"00","nonceCount":2}]}`,
			&messages.AuthReply{
				Ref: "c0ffee", Preemptive: true,
				Proofs: []*messages.ExpectedProof{{Space: messages.Space_PROXY, Rspauth: "00", NonceCount: 2}},
			},
		},
	} {
		got, err := decode([]byte(tt.document))
		if err != nil {
			t.Errorf("%s: %v", tt.document, err)
		}
		if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.document, diff)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		`{"ref":"c0ffee","answered":[0],"mutations":[{"op":"SET","name":"Authorization","value":"Digest x"}]}`,
		`{"ref":"c0ffee","refusal":{"reason":"unknown subscriber","retryAfterSeconds":600}}`,
		`{"ref":"c0ffee","proofs":[{"space":"ORIGIN"}],"preemptive":true}`,
		``, `null`, `[]`, `{}`, `{"ref":1}`, `{"answered":[-1]}`, `{"answered":[4294967296]}`, `{"mutations":[null]}`,
		"\x1f\x8b", `{"ref":"a","ref":"b"}`, `{"x":` + strings.Repeat(`[`, 8000), "{\"ref\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q := &messages.AuthChallenge{Ref: "c0ffee"}
		reply, err := decode(body)
		if err != nil {
			if !errors.Is(err, xsp.ErrMalformed) {
				t.Fatalf("not malformed: %v", err)
			}
			if len(err.Error()) > 80 {
				t.Fatalf("the error quotes: %v", err)
			}
			return
		}
		if len(body) > maxReply {
			t.Fatal("longer than a reply may be")
		}
		a, err := xsp.Unpack(q, reply)
		if (a == nil) == (err == nil) {
			t.Fatalf("%v and %v", a, err)
		}
		if a != nil && a.GetRef() != q.GetRef() {
			t.Fatalf("the answer to %q was taken", a.GetRef())
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-1": 0, "1.5": 0, "99999999999": 0,
		"0": time.Second, "1": time.Second, "30": 30 * time.Second, "3600": time.Hour, "86400": time.Hour,
		"Sun, 22 Nov 2026 20:02:00 GMT": 2 * time.Minute,
		"Sun, 22 Nov 2026 19:00:00 GMT": time.Second,
		"Sun, 22 Nov 2076 19:00:00 GMT": time.Hour,
	} {
		if got, ok := retryAfter(value, now); got != want || ok != (want != 0) {
			t.Errorf("Retry-After %q is %v, %v; want %v", value, got, ok, want)
		}
	}
}

func TestSightingsAreBounded(t *testing.T) {
	const most = 10
	s := newSightings(time.Minute, most)
	now := time.Unix(1_000_000, 0)
	type sent struct {
		ref    string
		signed int64
	}
	var all []sent
	for i := range 10 * most {
		now = now.Add(time.Second)
		q := sent{strings.Repeat("r", i), now.Unix()}
		if !s.fresh(q.ref, q.signed, now) {
			t.Fatalf("question %d is taken for a repeat", i)
		}
		all = append(all, q)
		for _, q := range all {
			if s.fresh(q.ref, q.signed, now) {
				t.Fatalf("after %d questions, that of %d is taken for a new one", i, q.signed)
			}
		}
		if n := len(s.young.refs) + len(s.old.refs); n > 2*most {
			t.Fatalf("%d refs are remembered", n)
		}
	}
}

// TestSightingsForgetWhatIsTooOld: time alone moves the floor only below what
// Verify takes.
func TestSightingsForgetWhatIsTooOld(t *testing.T) {
	s := newSightings(time.Minute, 1000)
	now := time.Unix(1_000_000, 0)
	for i := range 1000 {
		now = now.Add(time.Duration(i%7) * 20 * time.Second)
		early, late := now.Add(-time.Minute).Unix(), now.Add(time.Minute).Unix()
		for _, signed := range []int64{early, now.Unix(), late} {
			if ref := string(rune('a'+signed-early)) + strings.Repeat("r", i); !s.fresh(ref, signed, now) {
				t.Fatalf("a question at the edge is taken for a repeat, step %d", i)
			}
		}
		if len(s.young.refs)+len(s.old.refs) > 200 {
			t.Fatal("what is too old is kept")
		}
	}
}
