package store

import (
	"hash/maphash"
	"math/bits"
)

// head is where a stream stands.
type head struct {
	version uint64
	last    uint64 // the sequence of the event with that version
}

// entry is a stream's name and head: 32 bytes, because there is one for each.
type entry struct {
	name string
	head
}

const (
	chunkBits   = 10
	chunkLength = 1 << chunkBits
	minTable    = 64
	noSlot      = ^uint32(0)
)

// headTable finds the head of a stream by its name. Entries have a number, their
// slot, and stay where they are, in chunks, so that growing copies nothing but
// the table of slots: with a million streams that is 40 to 43 bytes for each,
// where a map takes 38 to 75.
type headTable struct {
	chunks [][]entry
	slots  uint32   // handed out so far
	free   []uint32 // of those, not in use
	// table is open addressing with linear probing. Its length is a power of two and
	// at most three quarters of it are in use. So a slot plus one needs no more bits
	// than a place in the table; the bits above are a part of the name's hash, so that
	// hardly ever an entry, or another stream's name, is looked at in vain. 0 is a gap.
	table []uint32
}

// nameSeed belongs to the process: who asks for a stream may hash its name early.
var nameSeed = maphash.MakeSeed()

func hashName(name string) uint64 { return maphash.String(nameSeed, name) }

// newHeadTable has room for n streams.
func newHeadTable(n int) headTable {
	size := minTable
	for size*3 < n*4 {
		size *= 2
	}
	return headTable{table: make([]uint32, size)}
}

// len is the number of streams.
func (t *headTable) len() int { return int(t.slots) - len(t.free) }

// at is the entry in a slot.
func (t *headTable) at(slot uint32) *entry {
	return &t.chunks[slot>>chunkBits][slot&(chunkLength-1)]
}

// mask is of the bits of a place in the table.
func (t *headTable) mask() uint32 { return uint32(len(t.table) - 1) }

// slotAt is the slot that stands in a place of the table.
func (t *headTable) slotAt(at uint32) uint32 { return t.table[at]&t.mask() - 1 }

// set puts a slot in a place of the table.
func (t *headTable) set(at uint32, hash uint64, slot uint32) {
	t.table[at] = uint32(hash>>32)&^t.mask() | (slot + 1)
}

// position is where the table has the name, or where it would stand.
func (t *headTable) position(hash uint64, name string) (at uint32, found bool) {
	mask := t.mask()
	tag := uint32(hash>>32) &^ mask
	for at = uint32(hash) & mask; t.table[at] != 0; at = (at + 1) & mask {
		if t.table[at]&^mask == tag && t.at(t.slotAt(at)).name == name {
			return at, true
		}
	}
	return at, false
}

// slotOf gives the slot of the stream whose name has the hash, noSlot for an
// unknown one.
func (t *headTable) slotOf(hash uint64, name string) uint32 {
	if at, found := t.position(hash, name); found {
		return t.slotAt(at)
	}
	return noSlot
}

// find gives the slot of a stream.
func (t *headTable) find(name string) (slot uint32, ok bool) {
	slot = t.slotOf(hashName(name), name)
	return slot, slot != noSlot
}

// get gives the head of a stream, zero for an unknown one.
func (t *headTable) get(name string) head {
	if slot, ok := t.find(name); ok {
		return t.at(slot).head
	}
	return head{}
}

// add gives the slot of a stream, a new one if there is none. It keeps the name.
func (t *headTable) add(name string) uint32 {
	hash := hashName(name)
	at, found := t.position(hash, name)
	if found {
		return t.slotAt(at)
	}
	if (t.len()+1)*4 > len(t.table)*3 {
		t.grow()
		at, _ = t.position(hash, name)
	}
	slot := t.slots
	if n := len(t.free); n > 0 {
		slot, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if slot&(chunkLength-1) == 0 {
			t.chunks = append(t.chunks, make([]entry, chunkLength))
		}
		t.slots++
	}
	t.at(slot).name = name
	t.set(at, hash, slot)
	return slot
}

func (t *headTable) grow() {
	old, mask := t.table, t.mask()
	t.table = make([]uint32, 2*len(old))
	for _, word := range old {
		if word != 0 {
			slot := word&mask - 1
			name := t.at(slot).name
			hash := hashName(name)
			at, _ := t.position(hash, name)
			t.set(at, hash, slot)
		}
	}
}

// remove forgets a stream. Its slot may be that of another one afterwards.
func (t *headTable) remove(name string) {
	at, found := t.position(hashName(name), name)
	if !found {
		return
	}
	slot := t.slotAt(at)
	*t.at(slot) = entry{}
	t.free = append(t.free, slot)
	// What stands behind moves up, unless the gap lies before its home: a search
	// stops at the first gap.
	mask := t.mask()
	for next := (at + 1) & mask; t.table[next] != 0; next = (next + 1) & mask {
		home := uint32(hashName(t.at(t.slotAt(next)).name)) & mask
		if (next-home)&mask >= (next-at)&mask {
			t.table[at], at = t.table[next], next
		}
	}
	t.table[at] = 0
}

// slotSet is a set of slots, one bit for each.
type slotSet []uint64

func (s slotSet) has(slot uint32) bool {
	return int(slot>>6) < len(s) && s[slot>>6]&(1<<(slot&63)) != 0
}

func (s *slotSet) add(slot uint32) {
	for int(slot>>6) >= len(*s) {
		*s = append(*s, 0)
	}
	(*s)[slot>>6] |= 1 << (slot & 63)
}

func (s slotSet) remove(slot uint32) {
	if int(slot>>6) < len(s) {
		s[slot>>6] &^= 1 << (slot & 63)
	}
}

func (s slotSet) empty() bool {
	for range s.all {
		return false
	}
	return true
}

// addAll adds what is in another set.
func (s *slotSet) addAll(other slotSet) {
	for slot := range other.all {
		s.add(slot)
	}
}

// all yields every slot in the set.
func (s slotSet) all(yield func(slot uint32) bool) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			if !yield(uint32(i)<<6 + uint32(bits.TrailingZeros64(word))) {
				return
			}
		}
	}
}
