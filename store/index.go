package store

import (
	"fmt"
	"strings"
)

// index is what the store knows in memory. It follows from the file alone.
type index struct {
	counters
	heads headTable
	// gone are the streams of which only a tombstone is left.
	gone slotSet
	// covered is the highest sequence that is part of any snapshot. It can lie
	// beyond the checkpoint.
	covered uint64
	// folded is how far events were offered to Fold since the start, and dirty
	// are the streams with events after that.
	folded uint64
	dirty  slotSet
	// stuck is the number of streams that could not be folded.
	stuck int
}

// apply moves the index over one event, which must follow from what it knows.
// known is the name in a memory of its own, if it is not known.
func (ix *index) apply(seq uint64, e header, known func([]byte) string) error {
	slot, ok := ix.heads.find(string(e.stream))
	if !ok {
		slot = ix.heads.add(known(e.stream))
	}
	h := &ix.heads.at(slot).head
	if e.version <= h.version && seq <= h.last {
		return nil // part of the snapshot
	}
	if e.version != h.version+1 || e.previous != h.last {
		return &DamageError{Sequence: seq, Stream: string(e.stream), Reason: fmt.Sprintf(
			"it has version %d after record %d, the stream has version %d at record %d",
			e.version, e.previous, h.version, h.last)}
	}
	*h = head{version: e.version, last: seq}
	ix.dirty.add(slot)
	return nil
}

// indexReader builds the index in one walk through all pages, which checks them
// as far as bbolt would trust them, and checks everything that a replay will
// rely on.
type indexReader struct {
	index       index
	names       nameArena
	count, sum  uint64 // of the snapshots
	first, last uint64 // of the journal, 0 when it is empty
	block       block
	err         error // the first one; what comes after it is not looked at
}

// readIndex reads the file; acceptOlderHead is Options.AcceptOlderHead.
func readIndex(p *pageFile, acceptOlderHead bool) (index, error) {
	if p.badHead != "" && !acceptOlderHead {
		return index{}, &DamageError{Reason: p.badHead}
	}
	r := &indexReader{}
	p.begin()
	meta := make(map[string][]byte)
	p.bucket(bucketMeta, func(key, value []byte) { meta[string(key)] = append([]byte{}, value...) })
	if len(p.findings) > 0 {
		return index{}, &DamageError{Reason: p.findings[0]}
	}
	var err error
	if r.index.counters, err = checkFormat(func(key string) []byte { return meta[key] }); err != nil {
		return index{}, err
	}
	r.index.heads = newHeadTable(int(r.index.snapshots))
	r.index.folded = r.index.checkpoint
	// The journal's events follow from the snapshots.
	p.bucket(bucketSnapshots, r.snapshot)
	r.checkSnapshots()
	p.bucket(bucketJournal, r.events)
	r.checkBounds()
	p.bucket(bucketSecrets, func([]byte, []byte) {})
	p.countFree()
	if len(p.findings) > 0 { // which may be the cause of an error
		return index{}, &DamageError{Reason: p.findings[0]}
	}
	return r.index, r.err
}

func (r *indexReader) snapshot(key, record []byte) {
	if r.err != nil {
		return
	}
	var stream string
	var snap snapshot
	if stream, r.err = parseSnapshotKey(key, r.names.add); r.err != nil {
		return
	}
	if snap, r.err = viewSnapshot(stream, key, record); r.err != nil {
		return
	}
	slot := r.index.heads.add(stream)
	r.index.heads.at(slot).head = head{version: snap.version, last: snap.last}
	if snap.state == nil {
		r.index.gone.add(slot)
	}
	r.index.covered = max(r.index.covered, snap.last)
	r.count++
	r.sum += snapshotDigest(record)
}

func (r *indexReader) checkSnapshots() {
	ix := &r.index
	if r.err == nil && (r.count != ix.snapshots || r.sum != ix.snapshotSum || ix.covered > ix.last) {
		r.err = &DamageError{Reason: "its snapshots are not the ones that were written last"}
	}
}

func (r *indexReader) events(key, value []byte) {
	if r.err != nil {
		return
	}
	if r.err = r.block.open(key, value); r.err != nil {
		return
	}
	if r.first == 0 {
		r.first = r.block.sequence
	}
	if last := r.block.sequence + r.block.left - 1; last <= r.index.checkpoint {
		r.last = last
		return // damage there shows when it is read
	}
	for r.err == nil && r.block.left > 0 {
		r.err = r.event()
	}
}

// event reads one record of the block.
func (r *indexReader) event() error {
	seq := r.block.sequence
	key, record, err := r.block.next()
	if err != nil {
		return err
	}
	want := max(r.last, r.index.checkpoint) + 1
	r.last = seq
	if seq <= r.index.checkpoint {
		return nil
	}
	if seq != want {
		return &DamageError{Sequence: want, Reason: "it is missing"}
	}
	h, err := decodeHeader(key, record)
	if err != nil {
		return err
	}
	return r.index.apply(seq, h, r.names.add)
}

// checkBounds compares the ends of the journal with the counters.
func (r *indexReader) checkBounds() {
	ix := &r.index
	if r.err != nil || r.first == 0 && ix.first == ix.last+1 {
		return
	}
	if r.first != ix.first || r.last != ix.last {
		r.err = &DamageError{Reason: fmt.Sprintf("the journal should go from %d to %d and goes from %d to %d", ix.first, ix.last, r.first, r.last)}
	}
}

// nameArena keeps names side by side: a million strings are some hundred objects
// for the garbage collector, and none is rounded up to a size.
type nameArena struct{ chunk strings.Builder }

const nameChunk = 64 << 10

func (a *nameArena) add(name []byte) string {
	if a.chunk.Cap()-a.chunk.Len() < len(name) {
		a.chunk.Reset() // the strings keep the old one
		a.chunk.Grow(max(nameChunk, len(name)))
	}
	from := a.chunk.Len()
	a.chunk.Write(name)
	return a.chunk.String()[from:]
}
