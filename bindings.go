package muster

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
)

// binding is what two profiles would fight for: the same contact of the same
// AOR at the same registrar.
type binding struct{ aor, registrar, contact string }

func bindingOf(d actors.Declaration) binding { return bindingIn(specOf(d)) }

func bindingIn(s profile.Spec) binding {
	return binding{s.AOR, s.Registrar, actors.ContactUser(s)}
}

func errTaken(d actors.Declaration, other string) error {
	return fmt.Errorf("%w: profile %q: aor: profile %q registers %s at %q with the same contact already",
		actors.ErrInvalid, d.ID, other, d.AOR, d.Registrar)
}

// takenBindings finds which of the declared bindings a profile holds already.
// Whoever calls it is alone.
func (n *Node) takenBindings(ctx context.Context, ds []actors.Declaration) (map[binding]string, error) {
	if err := n.indexBindings(ctx); err != nil {
		return nil, err
	}
	taken, wanted, shards := map[binding]string{}, map[binding]bool{}, map[int]bool{}
	for _, d := range ds {
		b, id := bindingOf(d), normalised(d).ID
		if s := n.farm.Peek(id); s.Exists() && bindingIn(s.Spec) == b {
			taken[b] = id // as in a second import of the same file
			continue
		}
		for _, shard := range n.bindings.find(b) {
			wanted[b], shards[shard] = true, true
		}
	}
	for shard := range shards {
		err := n.farm.PeekShard(shard, func(id string, s *profile.State) {
			if b := bindingIn(s.Spec); s.Exists() && wanted[b] {
				taken[b] = id
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// indexBindings makes sure that the index has all bindings. Those that are
// declared meanwhile add themselves.
func (n *Node) indexBindings(ctx context.Context) error {
	if !n.bindings.begin() {
		return nil
	}
	err := n.farm.PeekAll(ctx, func(id string, s *profile.State) {
		if s.Exists() {
			n.bindings.add(id, bindingIn(s.Spec))
		}
	})
	n.bindings.built(err == nil)
	return err
}

// bindingIndex tells in which shards a binding may be, so that a profile that
// comes through the API is not compared with a million others. It has four bytes
// for each profile, and nothing before the first one came.
//
// It may name a shard in vain: half of a hash is all that it knows of a binding,
// and it never forgets one, but begins anew when it has doubled. So whoever looks
// compares. Of the bindings that are declared it misses none, as long as each is
// added before it is declared, and again after it if an index may have begun
// meanwhile.
type bindingIndex struct {
	mu   sync.Mutex
	seed maphash.Seed
	// buckets have a slot for each binding, by the upper bits of its hash; nil
	// without an index. A slot is other bits of the hash, and in the lowest the
	// number of the shard.
	buckets [][]uint32
	count   int
	// limit is how many bindings there may be before it begins anew.
	limit int
}

const (
	// bindingBuckets keeps a search short: 250 slots with a million profiles.
	bindingBuckets = 4096
	// leastBindings are not worth beginning anew for.
	leastBindings = 4096
)

// begin tells whether the index must be built, and makes an empty one.
func (x *bindingIndex) begin() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.buckets != nil && x.count <= x.limit {
		return false
	}
	x.seed, x.buckets, x.count = maphash.MakeSeed(), make([][]uint32, bindingBuckets), 0
	return true
}

// built ends what begin began.
func (x *bindingIndex) built(complete bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.limit = 2*x.count + leastBindings
	if !complete {
		x.buckets = nil
	}
}

// add notes that a profile has a binding, or will.
func (x *bindingIndex) add(id string, b binding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.buckets == nil {
		return
	}
	bucket, slot := x.place(b)
	slot |= uint32(actors.Shard(id))
	if !slices.Contains(*bucket, slot) {
		*bucket = append(*bucket, slot)
		x.count++
	}
}

func (x *bindingIndex) addAll(ds []actors.Declared) {
	for _, d := range ds {
		x.add(d.ID, bindingIn(d.Command.Spec))
	}
}

// find returns the shards that may have a binding.
func (x *bindingIndex) find(b binding) (shards []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	bucket, want := x.place(b)
	for _, slot := range *bucket {
		if slot&^(actors.Shards-1) == want {
			shards = append(shards, int(slot&(actors.Shards-1)))
		}
	}
	return shards
}

// place is the bucket of a binding, and its slot there but for the shard.
func (x *bindingIndex) place(b binding) (bucket *[]uint32, slot uint32) {
	var h maphash.Hash
	h.SetSeed(x.seed)
	for _, text := range [...]string{b.aor, b.registrar, b.contact} {
		_, _ = h.WriteString(text)
		_ = h.WriteByte(0)
	}
	sum := h.Sum64()
	return &x.buckets[sum>>32%bindingBuckets], uint32(sum) &^ (actors.Shards - 1)
}
