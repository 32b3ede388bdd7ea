package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"unsafe"
)

// The table of heads is a map, whatever is added and removed.
func TestHeadTableIsAMap(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	table, want := newHeadTable(0), make(map[string]head)
	for step := range 200_000 {
		// Few names at first and at last, many in between.
		names := 10 + min(step, 200_000-step)/20
		name := fmt.Sprint("p/", random.IntN(names))
		if random.IntN(3) == 0 {
			table.remove(name)
			delete(want, name)
		} else {
			h := head{version: random.Uint64(), last: uint64(step)}
			table.at(table.add(name)).head = h
			want[name] = h
		}
		other := fmt.Sprint("p/", random.IntN(names))
		if got := table.get(other); got != want[other] {
			t.Fatalf("seed %d, step %d: %s is %v, should be %v", seed, step, other, got, want[other])
		}
		if table.len() != len(want) {
			t.Fatalf("seed %d, step %d: %d names, should be %d", seed, step, table.len(), len(want))
		}
	}
	for name, h := range want {
		if table.get(name) != h {
			t.Errorf("seed %d: %s is %v, should be %v", seed, name, table.get(name), h)
		}
	}
}

func TestSlotSet(t *testing.T) {
	var set slotSet
	want := make(map[uint32]bool)
	for range 10_000 {
		slot := uint32(rand.IntN(1000))
		if rand.IntN(2) == 0 {
			set.add(slot)
			want[slot] = true
		} else {
			set.remove(slot)
			delete(want, slot)
		}
		if set.has(slot) != want[slot] || set.empty() != (len(want) == 0) {
			t.Fatalf("slot %d: %v, empty %v", slot, set.has(slot), set.empty())
		}
	}
	if got, want := slices.Collect(set.all), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestNamesStandSideBySide(t *testing.T) {
	var a nameArena
	var names []string
	for i := range 20_000 {
		names = append(names, a.add(fmt.Append(nil, "p/", i)))
	}
	long := a.add(make([]byte, 2*nameChunk))
	for i, name := range names {
		if name != fmt.Sprint("p/", i) {
			t.Fatalf("name %d is %q", i, name)
		}
	}
	if len(long) != 2*nameChunk {
		t.Errorf("a long name has %d bytes", len(long))
	}
}

// A million streams are the largest thing in memory: what one costs is a promise.
func TestHeadsAreSmall(t *testing.T) {
	const streams, limit = 200_000, 50
	if size := unsafe.Sizeof(entry{}); size != 32 {
		t.Errorf("an entry has %d bytes, want 32", size)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var names nameArena
	before := heap()
	table, bytes := newHeadTable(streams), 0
	for i := range streams {
		name := fmt.Append(nil, "p/subscriber-", i)
		bytes += len(name)
		table.add(names.add(name))
	}
	each := (float64(heap()-before) - float64(bytes)) / streams
	runtime.KeepAlive(&table)
	t.Logf("%.1f bytes for each stream beside its name", each)
	if each > limit {
		t.Errorf("%.1f bytes for each stream, want at most %d", each, limit)
	}
}
