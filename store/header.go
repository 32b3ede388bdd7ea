package store

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// header is what the store itself needs of an envelope; the event stays encoded.
type header struct {
	stream                     []byte // shares memory with the record
	version, previous, atNanos uint64
}

// Field numbers of messages.Envelope.
const (
	fieldStream   = 1
	fieldVersion  = 2
	fieldEpoch    = 3
	fieldPrevious = 4
	fieldAt       = 5
	fieldProfile  = 6
	fieldSession  = 7
)

var errHeader = errors.New("it is no envelope")

// decodeHeader checks one record of the journal and reads its header: a tenth of
// what decodeEnvelope costs. An event that cannot be decoded is for those to
// find who decode it.
func decodeHeader(key, record []byte) (header, error) {
	seq, err := parseJournalKey(key)
	if err != nil {
		return header{}, err
	}
	payload, ok := unseal(journalCRC, key, record)
	if !ok {
		return header{}, &DamageError{Sequence: seq, Reason: "its checksum does not match"}
	}
	h, err := parseHeader(payload)
	if err != nil {
		return header{}, &DamageError{Sequence: seq, Reason: err.Error()}
	}
	return h, nil
}

// parseHeader reads fields as Envelope.UnmarshalVT does: in any order, the last
// one counts, unknown ones are skipped.
func parseHeader(b []byte) (h header, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return header{}, errHeader
		}
		b = b[n:]
		var value uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return header{}, errHeader
		}
		b = b[n:]
		switch number {
		case fieldStream:
			h.stream = text
		case fieldVersion:
			h.version = value
		case fieldPrevious:
			h.previous = value
		case fieldAt:
			h.atNanos = value
		}
	}
	return h, nil
}
