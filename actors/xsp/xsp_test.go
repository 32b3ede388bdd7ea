package xsp_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// TestPackAndUnpackKeepEverything: what an authenticator says is what the node
// on the other end of a wire gets, field by field.
func TestPackAndUnpackKeepEverything(t *testing.T) {
	q := &messages.AuthChallenge{Ref: "r1"}
	full := &messages.AuthAnswer{
		Ref: "r1", Answered: []uint32{0, 2},
		Mutations:  []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: "x"}},
		Proofs:     []*messages.ExpectedProof{{Space: messages.Space_ORIGIN, Rspauth: "y"}},
		Preemptive: true, Continues: true,
	}
	// A field that is added to the message and not copied is seen here.
	for i := range full.ProtoReflect().Descriptor().Fields().Len() {
		if f := full.ProtoReflect().Descriptor().Fields().Get(i); !full.ProtoReflect().Has(f) {
			t.Errorf("field %s is not set in this test", f.Name())
		}
	}
	reply, ok := xsp.Pack(q, full, nil)
	if !ok {
		t.Fatal("an answer has no reply")
	}
	got, err := xsp.Unpack(q, reply)
	if err != nil || !proto.Equal(got, full) {
		t.Errorf("%v, %v; want %v", got, err, full)
	}
}

func TestRefusals(t *testing.T) {
	q := &messages.AuthChallenge{Ref: "r1"}
	for _, tt := range []struct{ after, want time.Duration }{
		{0, 0},
		{-time.Second, 0},
		{time.Millisecond, time.Second},
		{90 * time.Second, 90 * time.Second},
		{1 << 62, (1<<31 - 1) * time.Second},
	} {
		reply, ok := xsp.Pack(q, nil, xsp.Refuse("unknown", tt.after))
		if !ok {
			t.Fatal("a refusal has no reply")
		}
		_, err := xsp.Unpack(q, reply)
		var refusal *xsp.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != "unknown" || refusal.RetryAfter != tt.want {
			t.Errorf("refusal after %v arrives as %v", tt.after, err)
		}
	}
	if _, ok := xsp.Pack(q, nil, errors.New("down")); ok {
		t.Error("an error has a reply")
	}
	if _, ok := xsp.Pack(q, nil, nil); ok {
		t.Error("nothing has a reply")
	}
	if _, err := xsp.Unpack(q, &messages.AuthReply{Ref: "r2"}); !errors.Is(err, xsp.ErrMalformed) {
		t.Errorf("a reply to another question: %v", err)
	}
}

// TestPrintable cuts what strangers write (S-45).
func TestPrintable(t *testing.T) {
	if got := xsp.Printable("a\r\nb\x00ü"); got != "a??b??" {
		t.Errorf("%q", got)
	}
	if got := xsp.Printable(string(make([]byte, 1000))); len(got) != 120 {
		t.Errorf("%d characters", len(got))
	}
}
