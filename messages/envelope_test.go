package messages_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/messages"
)

// FuzzEnvelopeDecode: whatever stands in a journal, decoding neither panics
// nor invents, and what it accepts is written back with the same meaning.
func FuzzEnvelopeDecode(f *testing.F) {
	for _, g := range goldens {
		encoded, err := g.envelope().MarshalVT()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
		f.Add(encoded[:len(encoded)/2])
	}
	f.Add([]byte{0x32, 0x03, 0xba, 0x3e, 0x00})                         // an unknown event
	f.Add([]byte{0x3a, 0x03, 0xba, 0x3e, 0x00})                         // one of a session
	f.Add([]byte{0x32, 0x00, 0x3a, 0x00})                               // both kinds, empty
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}) // a length beyond the end
	f.Add(bytes.Repeat([]byte{0x0b}, 64))                               // groups in groups
	f.Fuzz(func(t *testing.T, in []byte) {
		e := &messages.Envelope{}
		if err := e.UnmarshalVT(in); err != nil {
			return
		}
		_ = e.TypeName()
		out, err := e.MarshalVT()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if n := e.SizeVT(); n != len(out) {
			t.Fatalf("SizeVT is %d, the encoding has %d bytes", n, len(out))
		}
		again := &messages.Envelope{}
		if err := again.UnmarshalVT(out); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if !proto.Equal(e, again) {
			t.Fatalf("read %v, wrote and read %v", e, again)
		}
		// The reference codec refuses strings that are not UTF-8; what it
		// accepts must mean the same to both. Unknown fields are left out: they
		// are kept as they came, and a number can be written in several ways.
		known := proto.UnmarshalOptions{DiscardUnknown: true}
		before, after := &messages.Envelope{}, &messages.Envelope{}
		if known.Unmarshal(in, before) != nil {
			return
		}
		if err := known.Unmarshal(out, after); err != nil || !proto.Equal(before, after) {
			t.Fatalf("it meant %v, after reading and writing it means %v: %v", before, after, err)
		}
	})
}
