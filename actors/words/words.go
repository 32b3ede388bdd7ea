// Package words numbers the texts that many profiles have in common, so that
// each is in memory once.
package words

import (
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	maxTexts  = 4096
	maxLength = 512
	// candidates is how many texts are remembered that were seen in one profile
	// so far.
	candidates = 1024
)

// Table numbers texts. The zero Table is empty and ready. It only grows, up to
// 4,096 texts of at most 512 bytes, so a number stays good for as long as the
// table does. It may be used by many goroutines at once.
type Table struct {
	// known is replaced, never written in place.
	known atomic.Pointer[known]

	mu   sync.Mutex
	seed maphash.Seed
	seen [candidates]sighting
}

type known struct {
	numbers map[string]uint64
	texts   []string
}

// sighting is a text that stood in a profile, both as their hashes.
type sighting struct{ text, owner uint64 }

// metBy tells whether another owner shows the same text.
func (s *sighting) metBy(o sighting) bool { return s.text == o.text && s.owner != o.owner }

// Number is the number of a text, and false for one that has none. A text gets
// a number when a second owner shows it, so that what is unique (the opaque of
// one challenge, say) does not fill the table.
func (t *Table) Number(text, owner string) (uint64, bool) {
	k := t.known.Load()
	if k == nil {
		k = &known{}
	}
	if n, ok := k.numbers[text]; ok {
		return n, true
	}
	if len(k.texts) == maxTexts || len(text) > maxLength {
		return 0, false
	}
	return t.meet(text, owner)
}

// Text is the text of a number that Number gave.
func (t *Table) Text(n uint64) string { return t.known.Load().texts[n] }

// meet notes a text that has no number, and gives it one if another owner has
// shown it before.
func (t *Table) meet(text, owner string) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seed == (maphash.Seed{}) {
		t.seed = maphash.MakeSeed()
	}
	s := sighting{maphash.String(t.seed, text), maphash.String(t.seed, owner)}
	// Two places, or two texts of every profile that share one would displace each
	// other for ever.
	a, b := &t.seen[s.text%candidates], &t.seen[s.text>>32%candidates]
	if !a.metBy(s) && !b.metBy(s) {
		*a, *b = s, s
		return 0, false
	}
	k := t.known.Load()
	if k == nil {
		k = &known{}
	}
	if n, ok := k.numbers[text]; ok { // by another goroutine just now
		return n, true
	}
	n := uint64(len(k.texts))
	if n == maxTexts {
		return 0, false
	}
	text = strings.Clone(text)
	next := &known{numbers: maps.Clone(k.numbers), texts: append(k.texts, text)}
	if next.numbers == nil {
		next.numbers = map[string]uint64{}
	}
	next.numbers[text] = n
	t.known.Store(next)
	return n, true
}
