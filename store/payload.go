package store

import (
	"encoding/binary"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sipmuster/muster/messages"
)

// The name of a stream begins with what it is a stream of. Envelope has one
// field for each kind.
const (
	profileStream = "p/"
	sessionStream = "s/"
)

// envelopeOverhead is more than a record adds to its event, apart from the
// stream's name: the checksum, four numbers, and three tags and lengths.
const envelopeOverhead = 64

// added are the events of one append: of a profile or of a session.
type added struct {
	profile []*messages.ProfileEvent
	session []*messages.SessionEvent
}

func (a added) len() int { return len(a.profile) + len(a.session) }

// put makes the event at index i that of the envelope.
func (a added) put(e *messages.Envelope, i int) {
	e.Profile, e.Session = nil, nil
	if len(a.session) > 0 {
		e.Session = a.session[i]
	} else {
		e.Profile = a.profile[i]
	}
}

// check refuses what could never be read back, and gives an upper bound for the
// size of the records.
func (a added) check(stream, kind string) (size int, err error) {
	if len(stream) > maxStreamName {
		return 0, fmt.Errorf("append: a stream name of %d bytes, want at most %d", len(stream), maxStreamName)
	}
	if len(stream) <= len(kind) || !strings.HasPrefix(stream, kind) {
		return 0, fmt.Errorf("append: stream %q, want %s and a name", stream, kind)
	}
	for _, e := range a.profile {
		if e.TypeName() == "" {
			return 0, fmt.Errorf("append %s: %w", stream, messages.ErrUnknownEvent)
		}
	}
	for _, e := range a.session {
		if e.TypeName() == "" {
			return 0, fmt.Errorf("append %s: %w", stream, messages.ErrUnknownEvent)
		}
	}
	size = a.size(stream)
	if a.len() > maxBatchEvents || size > maxBatchBytes {
		return 0, fmt.Errorf("append %s: %d events of %d bytes are more than one append may hold", stream, a.len(), size)
	}
	return size, nil
}

// size is an upper bound for the size of the records.
func (a added) size(stream string) int {
	size := a.len() * (len(stream) + envelopeOverhead)
	for _, e := range a.profile {
		size += e.SizeVT()
	}
	for _, e := range a.session {
		size += e.SizeVT()
	}
	return size
}

// payload is what one append adds, encoded by whoever appends, who has just made
// the events: the writer comes later, when they have left the processor's caches.
// It adds what it alone knows, where the stream and the journal stand.
type payload struct {
	n    int    // events
	hash uint64 // of the stream's name
	slot uint32 // of the stream, once the writer has looked it up
	// fields of an envelope as on the wire, each after its length in 4 bytes:
	// the stream, and the event of each.
	fields []byte
	slab   *slab // which the request is part of
}

const fieldLength = 4

func (p *payload) len() int { return p.n }

// roomFor is enough to encode events whose records have at most the given size.
func roomFor(stream string, size int) int { return size + len(stream) + envelopeOverhead }

// encode fills in the payload from events that were checked.
func (p *payload) encode(room []byte, stream string, a added) {
	// From the end, where MarshalToSizedBufferVT leaves an event. The room is large
	// enough, so that it cannot fail.
	at := len(room)
	for i := a.len() - 1; i >= 0; i-- {
		if len(a.session) > 0 {
			n, _ := a.session[i].MarshalToSizedBufferVT(room[:at])
			at = frame(room, at, n, fieldSession)
		} else {
			n, _ := a.profile[i].MarshalToSizedBufferVT(room[:at])
			at = frame(room, at, n, fieldProfile)
		}
	}
	n := copy(room[at-len(stream):at], stream)
	at = frame(room, at, n, fieldStream)
	p.n, p.hash, p.fields = a.len(), hashName(stream), room[at:]
}

// frame makes a field of the n bytes before end, and returns where it begins.
func frame(room []byte, end, n int, field byte) (at int) {
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], uint64(n))
	at = end - n - size - 1
	room[at] = field<<3 | byte(protowire.BytesType)
	copy(room[at+1:], length[:size])
	binary.LittleEndian.PutUint32(room[at-fieldLength:], uint32(end-at))
	return at - fieldLength
}

// cutField takes the first field off.
func cutField(fields []byte) (field, rest []byte) {
	end := fieldLength + int(binary.LittleEndian.Uint32(fields))
	return fields[fieldLength:end:end], fields[end:]
}

// appendNumber adds a field of an envelope unless it is zero, as MarshalVT does.
func appendNumber(b []byte, field byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, field<<3|byte(protowire.VarintType)), v)
}

// misplaced tells whether an envelope holds an event of another kind than its
// stream.
func misplaced(e *messages.Envelope) bool {
	if strings.HasPrefix(e.Stream, sessionStream) {
		return e.Profile != nil
	}
	return e.Session != nil
}
