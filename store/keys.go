package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"

	"github.com/sipmuster/muster/messages"
)

// Shards is the number of shards, fixed for ever: it is part of the snapshot
// keys.
const Shards = 1024

// maxStreamName bounds a stream's name; bbolt allows keys of 32 KiB, but names
// live in memory.
const maxStreamName = 1024

// Bucket names. Those of the file, never to be changed.
const (
	bucketJournal   = "journal"
	bucketSnapshots = "snapshots"
	bucketMeta      = "meta"
	bucketSecrets   = "secrets"
)

// bucketNames lists all buckets of a journal file.
func bucketNames() []string {
	return []string{bucketJournal, bucketSnapshots, bucketMeta, bucketSecrets}
}

// Keys in the meta bucket.
const (
	metaFormat   = "format"
	metaShards   = "shards"
	metaCounters = "counters"
)

// Shard is where a stream belongs: FNV-1a of its name, folded to 1,024.
func Shard(stream string) uint16 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(stream) {
		h = (h ^ uint64(stream[i])) * prime
	}
	// FNV's low bits depend on the low bits of the input only.
	return uint16((h ^ h>>32) % Shards)
}

// journalKey orders the journal by sequence.
func journalKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// isJournalKey tells whether a key is the journalKey of a sequence.
func isJournalKey(key []byte, seq uint64) bool {
	return len(key) == recordKeySize && binary.BigEndian.Uint64(key) == seq
}

// parseJournalKey reads what journalKey wrote.
func parseJournalKey(key []byte) (uint64, error) {
	if len(key) != recordKeySize {
		return 0, &DamageError{Reason: fmt.Sprintf("a journal key of %d bytes", len(key))}
	}
	return binary.BigEndian.Uint64(key), nil
}

// snapshotKey orders snapshots by shard, then by stream.
func snapshotKey(stream string) []byte {
	key := make([]byte, 0, 2+len(stream))
	key = binary.BigEndian.AppendUint16(key, Shard(stream))
	return append(key, stream...)
}

// compareStreams is the order of the snapshot keys.
func compareStreams(a, b string) int {
	return cmp.Or(cmp.Compare(Shard(a), Shard(b)), strings.Compare(a, b))
}

// parseSnapshotKey reads what snapshotKey wrote; text makes the stream's name.
func parseSnapshotKey(key []byte, text func([]byte) string) (string, error) {
	if len(key) < 3 {
		return "", &DamageError{Reason: fmt.Sprintf("a snapshot key of %d bytes", len(key))}
	}
	stream := text(key[2:])
	if binary.BigEndian.Uint16(key) != Shard(stream) {
		return "", &DamageError{Stream: stream, Reason: "it stands under another shard"}
	}
	return stream, nil
}

// crcSize is what every record of the journal, the snapshots and the counters
// begins with.
const crcSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Every checksum begins with the name of its bucket.
var (
	journalCRC   = crc32.Checksum([]byte(bucketJournal), castagnoli)
	snapshotsCRC = crc32.Checksum([]byte(bucketSnapshots), castagnoli)
	metaCRC      = crc32.Checksum([]byte(bucketMeta), castagnoli)
)

// checksum covers the bucket and the key as well, so that a record which is
// found under another key does not pass.
func checksum(bucketCRC uint32, key, payload []byte) uint32 {
	return crc32.Update(crc32.Update(bucketCRC, castagnoli, key), castagnoli, payload)
}

// seal fills in the first four bytes of a record.
func seal(bucketCRC uint32, key, record []byte) {
	binary.BigEndian.PutUint32(record, checksum(bucketCRC, key, record[crcSize:]))
}

// unseal checks a record and gives its payload, which shares its memory.
func unseal(bucketCRC uint32, key, record []byte) ([]byte, bool) {
	if len(record) < crcSize ||
		binary.BigEndian.Uint32(record) != checksum(bucketCRC, key, record[crcSize:]) {
		return nil, false
	}
	return record[crcSize:], true
}

// decodeEnvelope checks and decodes one record of the journal. Nothing in the
// result shares memory with record.
func decodeEnvelope(key, record []byte) (*messages.Envelope, error) {
	seq, err := parseJournalKey(key)
	if err != nil {
		return nil, err
	}
	payload, ok := unseal(journalCRC, key, record)
	if !ok {
		return nil, &DamageError{Sequence: seq, Reason: "its checksum does not match"}
	}
	e := &messages.Envelope{}
	if err := e.UnmarshalVT(payload); err != nil {
		return nil, &DamageError{Sequence: seq, Reason: err.Error()}
	}
	return e, nil
}

// snapshot is the value in the snapshots bucket. A stream that has ended
// keeps an empty one, its tombstone, while the journal still has events of it:
// the versions of a stream go on where they stopped.
type snapshot struct {
	version uint64
	last    uint64 // the sequence of the event with that version
	state   []byte // nil for a tombstone
}

const (
	snapshotHead = crcSize + 8 + 8 + 1
	// kindState and kindTombstone follow the numbers, because a state may be
	// empty without being nil.
	kindState, kindTombstone = 1, 0
)

func encodeSnapshot(key []byte, s snapshot) []byte {
	record := make([]byte, crcSize, snapshotHead+len(s.state))
	record = binary.BigEndian.AppendUint64(record, s.version)
	record = binary.BigEndian.AppendUint64(record, s.last)
	if s.state == nil {
		record = append(record, kindTombstone)
	} else {
		record = append(append(record, kindState), s.state...)
	}
	seal(snapshotsCRC, key, record)
	return record
}

// decodeSnapshot checks and decodes one record of the snapshots. The state is
// a copy.
func decodeSnapshot(key, record []byte) (string, snapshot, error) {
	stream, err := parseSnapshotKey(key, func(b []byte) string { return string(b) })
	if err != nil {
		return "", snapshot{}, err
	}
	s, err := viewSnapshot(stream, key, record)
	if s.state != nil {
		s.state = append([]byte{}, s.state...)
	}
	return stream, s, err
}

// viewSnapshot checks and decodes the record of a stream's snapshot. The state
// shares memory with the record.
func viewSnapshot(stream string, key, record []byte) (snapshot, error) {
	payload, ok := unseal(snapshotsCRC, key, record)
	if !ok {
		return snapshot{}, &DamageError{Stream: stream, Reason: "its checksum does not match"}
	}
	if len(payload) < snapshotHead-crcSize {
		return snapshot{}, &DamageError{Stream: stream, Reason: "it is too short"}
	}
	s := snapshot{
		version: binary.BigEndian.Uint64(payload),
		last:    binary.BigEndian.Uint64(payload[8:]),
	}
	switch rest := payload[17:]; {
	case payload[16] == kindState:
		s.state = slices.Clip(rest) // not nil, even when empty
	case payload[16] != kindTombstone || len(rest) != 0:
		return snapshot{}, &DamageError{Stream: stream, Reason: "it is of an unknown kind"}
	}
	return s, nil
}

// snapshotDigest is what a snapshot adds to counters.snapshotSum. Checksums
// are added and not xored: CRC is linear, so that two equal changes would
// cancel each other out.
func snapshotDigest(record []byte) uint64 {
	if len(record) < crcSize {
		return math.MaxUint32
	}
	return uint64(binary.BigEndian.Uint32(record))
}
