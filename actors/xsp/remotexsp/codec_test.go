package remotexsp

import (
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// TestFramingOfARealBatch: what remote sends by default is far below the bound.
func TestFramingOfARealBatch(t *testing.T) {
	b := &remote.MessageBatch{TypeNames: []string{"muster.v1.AuthAnswer"}}
	for i := range int32(1000) {
		b.Targets = append(b.Targets, "inbox-ABCDEFGHIJKLMNOPQRSTUVWXYZ")
		b.Senders = append(b.Senders, &actor.PID{Address: "xsp.example.test:7100", Id: "answerer"})
		b.Envelopes = append(b.Envelopes, &remote.MessageEnvelope{Target: i, Sender: i + 1, SenderRequestId: 1 << 31, MessageData: make([]byte, maxAnswer)})
	}
	wire, err := proto.Marshal(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: b}})
	if err != nil {
		t.Fatal(err)
	}
	if n := framing(wire); n > maxFraming/5 {
		t.Errorf("%d bytes besides the messages", n)
	}
	if len(wire) > maxBatch {
		t.Errorf("%d bytes are above the limit", len(wire))
	}
}

// FuzzCodec: whatever arrives is read or dropped, and never ends the stream.
func FuzzCodec(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x02, 0x1a, 0x00})
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(remote.RemoteMessage)
		if err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, m); err != nil {
			t.Fatal(err)
		}
		for _, e := range m.GetMessageBatch().GetEnvelopes() {
			if u, ok := unwrap(m.GetMessageBatch(), e); ok {
				decodeReply(u)
			}
		}
		if n := framing(wire); n < 0 || n > len(wire) {
			t.Errorf("framing of %d bytes is %d", len(wire), n)
		}
	})
}
