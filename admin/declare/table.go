package declare

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
)

// Table maps a million strings to small values. A Go map of strings costs a
// pointer and an allocation for each of them, which the garbage collector
// visits for as long as the process lives; here an entry costs its bytes, their
// two lengths and about fourteen bytes more, and the collector sees a few large
// blocks without pointers.
//
// The zero value is an empty table. Several goroutines may call Get at a time, as
// with a map.
type Table struct {
	seed maphash.Seed
	// slots are looked through from that of a key's hash on, until a free one.
	slots []slot
	count int
	// chunks hold the records: the length of the key, the key, the length of the
	// value, the value. Records are never moved, only forgotten.
	chunks [][]byte
	// held is how many bytes there are, forgotten how many of them nobody refers
	// to.
	held, forgotten int
}

// slot is where a record begins, and half of its key's hash, so that few records
// are looked at in vain. The zero slot is free.
type slot struct {
	hash uint32
	at   place
}

// place is the number of a chunk, from 1, and the offset in it. That is enough
// for 4 GiB.
type place uint32

// Chunks double in size as long as an offset in them fits into its bits.
const (
	offsetBits = 18
	firstChunk = 1 << 12
	doublings  = 6
	firstSlots = 8
)

func (p place) in(chunks [][]byte) []byte {
	return chunks[p>>offsetBits-1][p&(1<<offsetBits-1):]
}

// Len is the number of entries.
func (t *Table) Len() int { return t.count }

// Get finds a value. It is valid until the table changes, and may be written in
// place.
func (t *Table) Get(key string) (value []byte, ok bool) {
	if t.count == 0 {
		return nil, false
	}
	i, found := t.find(key, t.hash(key))
	if !found {
		return nil, false
	}
	_, value, _ = record(t.slots[i].at.in(t.chunks))
	return value, true
}

// Add sets the value of a key that has none, of which it makes a copy, and tells
// whether it has.
func (t *Table) Add(key string, value []byte) bool {
	hash := t.hash(key)
	i, found := t.find(key, hash)
	if found {
		return false
	}
	t.count++
	if 4*t.count > 3*len(t.slots) {
		t.resize()
		i = t.free(hash)
	}
	t.slots[i] = slot{hash, t.write(key, value)}
	return true
}

// Put sets a value, of which it makes a copy.
func (t *Table) Put(key string, value []byte) {
	if t.Add(key, value) {
		return
	}
	i, _ := t.find(key, t.hash(key))
	_, old, size := record(t.slots[i].at.in(t.chunks))
	if len(old) == len(value) {
		copy(old, value)
		return
	}
	clear(old) // it may be a secret
	t.forgotten += size
	t.slots[i].at = t.write(key, value)
	t.tidy()
}

// Delete forgets an entry, and tells whether there was one.
func (t *Table) Delete(key string) bool {
	if t.count == 0 {
		return false
	}
	i, found := t.find(key, t.hash(key))
	if !found {
		return false
	}
	_, value, size := record(t.slots[i].at.in(t.chunks))
	clear(value) // it may be a secret
	t.forgotten += size
	t.count--
	// What stands behind moves up, unless its own place comes later, so that no
	// search ends before it.
	last := len(t.slots) - 1
	for next := (i + 1) & last; t.slots[next].at != 0; next = (next + 1) & last {
		home := int(t.slots[next].hash) & last
		if (next-home)&last >= (next-i)&last {
			t.slots[i] = t.slots[next]
			i = next
		}
	}
	t.slots[i] = slot{}
	t.tidy()
	return true
}

// All yields the entries in no order. The table must not change meanwhile; a
// value may be written in place.
func (t *Table) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, s := range t.slots {
			if s.at == 0 {
				continue
			}
			if key, value, _ := record(s.at.in(t.chunks)); !yield(string(key), value) {
				return
			}
		}
	}
}

func (t *Table) hash(key string) uint32 {
	if len(t.slots) == 0 {
		t.seed = maphash.MakeSeed()
		t.slots = make([]slot, firstSlots)
	}
	return uint32(maphash.String(t.seed, key))
}

// find is the slot of a key, or the free one where it would stand.
func (t *Table) find(key string, hash uint32) (i int, found bool) {
	last := len(t.slots) - 1
	for i = int(hash) & last; t.slots[i].at != 0; i = (i + 1) & last {
		if t.slots[i].hash != hash {
			continue
		}
		if k, _, _ := record(t.slots[i].at.in(t.chunks)); string(k) == key {
			return i, true
		}
	}
	return i, false
}

// free is the first free slot for a hash.
func (t *Table) free(hash uint32) int {
	last := len(t.slots) - 1
	i := int(hash) & last
	for t.slots[i].at != 0 {
		i = (i + 1) & last
	}
	return i
}

// record takes apart what stands at the beginning of b.
func record(b []byte) (key, value []byte, size int) {
	n, head := binary.Uvarint(b)
	key = b[head : head+int(n)]
	size = head + int(n)
	n, head = binary.Uvarint(b[size:])
	value = b[size+head : size+head+int(n)]
	return key, value, size + head + int(n)
}

// write appends a record and returns its place.
func (t *Table) write(key string, value []byte) place {
	size := len(key) + len(value) + 2*binary.MaxVarintLen32
	last := len(t.chunks) - 1
	if last < 0 || cap(t.chunks[last])-len(t.chunks[last]) < size {
		// A record that is too large for one has a chunk of its own.
		room := max(firstChunk<<min(len(t.chunks), doublings), size)
		t.chunks = append(t.chunks, make([]byte, 0, room))
		last++
	}
	chunk := t.chunks[last]
	p := place((last+1)<<offsetBits | len(chunk))
	chunk = append(binary.AppendUvarint(chunk, uint64(len(key))), key...)
	chunk = append(binary.AppendUvarint(chunk, uint64(len(value))), value...)
	t.held += len(chunk) - len(t.chunks[last])
	t.chunks[last] = chunk
	return p
}

// resize makes room for more entries.
func (t *Table) resize() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	for _, s := range old {
		if s.at != 0 {
			t.slots[t.free(s.hash)] = s
		}
	}
}

// tidy copies what is left once half of the bytes are forgotten.
func (t *Table) tidy() {
	if t.forgotten < firstChunk || 2*t.forgotten < t.held {
		return
	}
	old := t.chunks
	t.chunks, t.held, t.forgotten = nil, 0, 0
	for i, s := range t.slots {
		if s.at != 0 {
			key, value, _ := record(s.at.in(old))
			t.slots[i].at = t.write(string(key), value)
		}
	}
}
