package store

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/messages"
)

func envelopes(tb testing.TB) [][]byte {
	var all [][]byte
	for _, e := range []*messages.Envelope{
		{},
		{Stream: "p/alice", Version: 1, Epoch: 1, AtUnixNano: 1_795_385_473_073_488_594},
		{Stream: "p/alice", Version: 1 << 40, Epoch: 7, Previous: 1<<63 + 5, AtUnixNano: -1, Profile: messages.NewProfileEvent(&messages.AttemptStarted{Attempt: 3, Cseq: 9})},
		{Stream: "s/1", Version: 2, Previous: 1, Session: messages.NewSessionEvent(&messages.SessionEnded{Status: 200, Reason: "hangup"})},
	} {
		b, err := e.MarshalVT()
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// The header says what the decoded envelope says, for every envelope that this
// or any other release could have written.
func FuzzHeader(f *testing.F) {
	for _, b := range envelopes(f) {
		f.Add(b)
		f.Add(append(b, b...))                         // the last field counts
		f.Add(append([]byte{0x7a, 2, 'x', 'y'}, b...)) // an unknown one is skipped
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e messages.Envelope
		decoded := e.UnmarshalVT(b) == nil
		h, err := parseHeader(b)
		if !decoded {
			return // whoever decodes it finds that
		}
		if err != nil {
			// Such as a field number of 30 bits, which nobody writes.
			if proto.Unmarshal(b, &e) == nil {
				t.Fatalf("%x: %v", b, err)
			}
			return
		}
		if string(h.stream) != e.Stream || h.version != e.Version || h.previous != e.Previous || int64(h.atNanos) != e.AtUnixNano {
			t.Fatalf("%x is %v, its header %q %+v", b, &e, h.stream, h)
		}
	})
}
