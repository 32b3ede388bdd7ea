package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/messages"
)

// Report is what Verify found in a journal file.
type Report struct {
	FileBytes  int64     `json:"file_bytes"`
	Epoch      uint64    `json:"epoch"`
	First      uint64    `json:"first"`
	Last       uint64    `json:"last"`
	Checkpoint uint64    `json:"checkpoint"`
	Events     int       `json:"events"`
	Streams    int       `json:"streams"`
	Snapshots  int       `json:"snapshots"`
	Secrets    int       `json:"secrets"`
	Findings   []Finding `json:"findings"`
}

// OK tells whether nothing was found.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Finding is one thing that is wrong.
type Finding struct {
	// Sequence is the record of the journal, 0 when it is not about one.
	Sequence uint64 `json:"sequence,omitempty"`
	Stream   string `json:"stream,omitempty"`
	Text     string `json:"text"`
}

// String is one line for a person.
func (f Finding) String() string {
	switch {
	case f.Sequence != 0 && f.Stream != "":
		return fmt.Sprintf("record %d, stream %q: %s", f.Sequence, f.Stream, f.Text)
	case f.Sequence != 0:
		return fmt.Sprintf("record %d: %s", f.Sequence, f.Text)
	case f.Stream != "":
		return fmt.Sprintf("stream %q: %s", f.Stream, f.Text)
	}
	return f.Text
}

// Verify reads a journal file that no node is running on, or a copy, and lists
// everything that is wrong with it. It changes nothing. The error says why it
// could not look; damage is a finding.
func Verify(path string) (Report, error) {
	f, err := openShared(path)
	if err != nil {
		return Report{}, err
	}
	defer f.Close()
	pages, err := openPages(f)
	if damage, ok := errors.AsType[*DamageError](err); ok {
		return Report{Findings: []Finding{{Text: damage.Reason}}}, nil
	}
	if err != nil {
		return Report{}, err
	}
	v := &verifier{streams: make(map[string]*verified), snapshots: make(map[string]snapshot)}
	v.report.FileBytes = pages.size
	v.run(pages)
	if v.structural == 0 {
		// Only now: a damaged page could end the process inside of bbolt.
		v.boltCheck(path)
	}
	return v.report, nil
}

// openShared opens a file for reading and keeps nodes from it.
func openShared(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := waitLock(f, false); err != nil {
		f.Close()
		if errors.Is(err, ErrInUse) {
			return nil, fmt.Errorf("journal %s is %w: stop the node, or take a backup and look at that", path, err)
		}
		return nil, fmt.Errorf("lock journal: %w", err)
	}
	return f, nil
}

// verified is what the journal says about one stream.
type verified struct {
	first     uint64 // the oldest version in the journal
	version   uint64 // the newest version
	last      uint64 // its sequence
	mustCover uint64 // the newest version up to the checkpoint
}

type verifier struct {
	report     Report
	counters   counters
	structural int
	streams    map[string]*verified
	snapshots  map[string]snapshot
	sequence   uint64 // of the record before
	block      block
	epoch      uint64
	bytes, sum uint64
	// damaged is set when a record of an unknown stream is lost. What then
	// does not follow from each other is no finding of its own.
	damaged bool
}

func (v *verifier) find(seq uint64, stream, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{Sequence: seq, Stream: stream, Text: fmt.Sprintf(format, args...)})
}

// findError files an error of a decoder.
func (v *verifier) findError(err error) {
	if damage, ok := errors.AsType[*DamageError](err); ok {
		v.find(damage.Sequence, damage.Stream, "%s", damage.Reason)
		return
	}
	v.find(0, "", "%v", err)
}

func (v *verifier) run(pages *pageFile) {
	if pages.badHead != "" {
		v.structural++
		v.find(0, "", "%s", pages.badHead)
	}
	meta := make(map[string][]byte)
	pages.walk(bucketMeta, func(_ string, key, value []byte) {
		meta[string(key)] = append([]byte{}, value...)
	})
	var err error
	if v.counters, err = checkFormat(func(key string) []byte { return meta[key] }); err != nil {
		v.findError(err)
	}
	pages.walk("", func(bucket string, key, value []byte) {
		switch bucket {
		case bucketJournal:
			v.journalBlock(key, value)
		case bucketSnapshots:
			v.snapshotRecord(key, value)
		case bucketSecrets:
			v.report.Secrets++
			if len(value) < nonceSize {
				v.find(0, "", "the secret of %q is too short", key)
			}
		}
	})
	for _, name := range bucketNames() {
		if !slices.ContainsFunc(pages.buckets, func(b bucketRoot) bool { return b.name == name }) {
			v.find(0, "", "it has no bucket %s", name)
		}
	}
	v.structural += len(pages.findings)
	for _, text := range pages.findings {
		v.find(0, "", "%s", text)
	}
	v.conclude()
}

func (v *verifier) journalBlock(key, value []byte) {
	if err := v.block.open(key, value); err != nil {
		v.findError(err)
		return
	}
	last := v.block.sequence + v.block.left - 1
	for v.block.left > 0 {
		seq := v.block.sequence
		v.report.Events++
		v.continues(seq)
		key, record, err := v.block.next()
		if err == nil {
			v.journalRecord(seq, key, record)
			continue
		}
		v.damaged = true
		v.findError(err)
		v.sequence = last
	}
}

// continues checks that a sequence follows that of the record before.
func (v *verifier) continues(seq uint64) {
	if want := v.sequence + 1; v.sequence != 0 && seq != want {
		v.find(want, "", "records %d to %d are missing", want, seq-1)
		v.damaged = true
	}
	if v.sequence == 0 {
		v.report.First = seq
	}
	v.sequence = seq
}

func (v *verifier) journalRecord(seq uint64, key, record []byte) {
	v.bytes += uint64(len(record))
	e, err := decodeEnvelope(key, record)
	if err != nil {
		v.damaged = true
		v.findError(err)
		return
	}
	if e.TypeName() == "" {
		v.find(seq, e.Stream, "%v", messages.ErrUnknownEvent)
	}
	if misplaced(e) {
		v.find(seq, e.Stream, "it is an event of another kind of stream")
	}
	if e.Epoch < v.epoch {
		v.find(seq, e.Stream, "epoch %d comes after epoch %d", e.Epoch, v.epoch)
	}
	v.epoch = max(v.epoch, e.Epoch)
	v.streamRecord(seq, e)
}

// streamRecord checks that an event follows from the one before it.
func (v *verifier) streamRecord(seq uint64, e *messages.Envelope) {
	s := v.streams[e.Stream]
	if s == nil {
		s = &verified{first: e.Version}
		v.streams[e.Stream] = s
		if (e.Version == 1) != (e.Previous == 0) {
			v.find(seq, e.Stream, "it is version %d and points back to %d", e.Version, e.Previous)
		}
		if e.Previous >= v.report.First && !v.damaged {
			v.find(seq, e.Stream, "it points back to record %d, which is of another stream", e.Previous)
		}
	} else if (e.Version != s.version+1 || e.Previous != s.last) && !v.damaged {
		v.find(seq, e.Stream, "it is version %d and points back to %d; the event before it is version %d in record %d",
			e.Version, e.Previous, s.version, s.last)
	}
	s.version, s.last = e.Version, seq
	if seq <= v.counters.checkpoint {
		s.mustCover = e.Version
	}
}

func (v *verifier) snapshotRecord(key, value []byte) {
	v.report.Snapshots++
	v.sum += snapshotDigest(value)
	stream, snap, err := decodeSnapshot(key, value)
	if err != nil {
		v.findError(err)
		return
	}
	// The version and not the state is what the journal is compared with.
	v.snapshots[stream] = snapshot{version: snap.version, last: snap.last}
}

// conclude compares the parts with each other.
func (v *verifier) conclude() {
	c := v.counters
	v.report.Epoch, v.report.Last, v.report.Checkpoint = c.epoch, v.sequence, c.checkpoint
	v.report.Streams = len(v.streams)
	if c == (counters{}) {
		return // that they are missing is a finding already
	}
	if v.report.Events == 0 {
		v.report.First, v.report.Last = c.first, c.last
	}
	if v.report.First != c.first || v.report.Last != c.last || v.bytes != c.bytes {
		v.find(0, "", "the journal goes from %d to %d in %d bytes, and should go from %d to %d in %d",
			v.report.First, v.report.Last, v.bytes, c.first, c.last, c.bytes)
	}
	if v.epoch > c.epoch {
		v.find(0, "", "the journal has epoch %d, and its counters have %d", v.epoch, c.epoch)
	}
	if uint64(v.report.Snapshots) != c.snapshots || v.sum != c.snapshotSum {
		v.find(0, "", "there are %d snapshots with sum %d, and should be %d with sum %d",
			v.report.Snapshots, v.sum, c.snapshots, c.snapshotSum)
	}
	for _, stream := range slices.Sorted(maps.Keys(v.streams)) {
		s := v.streams[stream]
		snap := v.snapshots[stream]
		if need := max(s.first-1, s.mustCover); snap.version < need {
			v.find(0, stream, "its snapshot ends with version %d, and should reach version %d", snap.version, need)
		}
		if snap.version > s.version || (snap.version == s.version && snap.last != s.last) {
			v.find(0, stream, "its snapshot ends with version %d in record %d, and the journal with version %d in record %d",
				snap.version, snap.last, s.version, s.last)
		}
	}
	for _, stream := range slices.Sorted(maps.Keys(v.snapshots)) {
		snap := v.snapshots[stream]
		if v.streams[stream] == nil {
			v.report.Streams++
			if snap.last >= c.first && !v.damaged {
				v.find(snap.last, stream, "its snapshot ends with this record, which is not of that stream")
			}
		}
	}
}

// boltCheck adds what bbolt itself finds.
func (v *verifier) boltCheck(path string) {
	err := guard(func() error {
		db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(tx *bolt.Tx) error {
			for err := range tx.Check() {
				v.find(0, "", "bbolt: %v", err)
			}
			return nil
		})
	})
	if err != nil {
		v.findError(err)
	}
}
