package store

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// Whoever takes a request has it and its room alone until it is given back, in
// whatever order that happens, and slabs are used again.
func TestRequestsAreTakenByOne(t *testing.T) {
	type held struct {
		r    *request
		room []byte
		mark byte
	}
	var s slabs
	var group sync.WaitGroup
	for c := range 4 {
		group.Go(func() {
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			var mine []held
			give := func(i int) {
				h := mine[i]
				if want := bytes.Repeat([]byte{h.mark}, len(h.room)); h.r.after != uint64(h.mark) || !bytes.Equal(h.room, want) {
					t.Errorf("seed %d: a request of %d bytes was taken twice", seed, len(h.room))
				}
				mine = slices.Delete(mine, i, i+1)
				s.give(h.r)
			}
			for step := range 20_000 {
				if len(mine) > random.IntN(150) {
					give(random.IntN(len(mine)))
					continue
				}
				size := random.IntN(600)
				if random.IntN(100) == 0 {
					size = random.IntN(2 * slabBytes)
				}
				h := held{mark: byte(c<<6 | step&63)}
				h.r, h.room = s.take(size)
				if h.r.stream != "" || h.r.done != nil || h.r.verdict != nil || h.r.payload.fields != nil || len(h.room) != size {
					t.Errorf("seed %d: took %+v and %d bytes, want an empty one and %d", seed, h.r, len(h.room), size)
				}
				h.r.after = uint64(h.mark)
				for i := range h.room {
					h.room[i] = h.mark
				}
				mine = append(mine, h)
			}
			for len(mine) > 0 {
				give(0)
			}
		})
	}
	group.Wait()
	if n := s.slab.held.Load(); n != 1 {
		t.Errorf("the slab in use is held %d times, want once", n)
	}
	if len(s.free) == 0 {
		t.Error("no slab came back")
	}
	for _, b := range s.free {
		if b.held.Load() != 0 || b == s.slab {
			t.Error("a slab that somebody has is free")
		}
	}
}
