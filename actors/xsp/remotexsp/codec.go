package remotexsp

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what codec adds to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// maxFraming bounds what a batch has besides the messages in it: a thousand of
// them, each with a name, a target and a sender, have a tenth of that. Decoded,
// an empty envelope is fifty times as large as on the wire (S-44).
const maxFraming = 1 << 20

// codec reads what a peer sends. What cannot be read, or is all framing, comes
// out empty and is dropped by the filter instead of ending the stream.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m := v.(proto.Message)
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	wire := buffer.ReadOnlyData()
	if framing(wire) > maxFraming || proto.Unmarshal(wire, m) != nil {
		proto.Reset(m)
	}
	return nil
}

// framing is the size of a RemoteMessage without the data of the messages in
// its batch.
func framing(wire []byte) int {
	const batch, envelopes, data = 1, 3, 2 // the fields of remote.proto
	size := len(wire)
	fields(wire, batch, func(b []byte) {
		fields(b, envelopes, func(e []byte) {
			fields(e, data, func(d []byte) { size -= len(d) })
		})
	})
	return size
}

// fields visits the fields with a number and a length, until something is not
// protobuf.
func fields(wire []byte, number protowire.Number, visit func([]byte)) {
	for len(wire) > 0 {
		n, kind, tag := protowire.ConsumeTag(wire)
		if tag < 0 {
			return
		}
		length := protowire.ConsumeFieldValue(n, kind, wire[tag:])
		if length < 0 {
			return
		}
		if n == number && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(wire[tag:])
			visit(value)
		}
		wire = wire[tag+length:]
	}
}
