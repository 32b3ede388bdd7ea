package words_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sipmuster/muster/actors/words"
)

func number(t *testing.T, w *words.Table, text, owner string) uint64 {
	t.Helper()
	n, ok := w.Number(text, owner)
	if !ok || w.Text(n) != text {
		t.Fatalf("%q has no number", text)
	}
	return n
}

func TestSecondOwnerMakesAWord(t *testing.T) {
	w := new(words.Table)
	for range 3 { // one profile shows it again and again
		if _, ok := w.Number("acme", "alice"); ok {
			t.Fatal("what one profile alone has is a word")
		}
	}
	first := number(t, w, "acme", "bob")
	if number(t, w, "acme", "alice") != first || number(t, w, "acme", "carol") != first {
		t.Error("the number changes")
	}
	if w.Number("digest", "alice"); number(t, w, "digest", "bob") == first {
		t.Error("two texts have one number")
	}
}

func TestTableIsBounded(t *testing.T) {
	w := new(words.Table)
	long := strings.Repeat("x", 513)
	for _, owner := range []string{"alice", "bob", "carol"} {
		if _, ok := w.Number(long, owner); ok {
			t.Error("a text of 513 bytes is a word")
		}
	}
	for i := range 5000 {
		text := fmt.Sprint("text ", i)
		w.Number(text, "alice")
		if _, ok := w.Number(text, "bob"); ok != (i < 4096) {
			t.Fatalf("text %d is a word: %t", i, ok)
		}
	}
	if n, ok := w.Number("text 17", "carol"); !ok || n != 17 {
		t.Error("a full table forgets what it knew")
	}
}

func TestTableForMany(t *testing.T) {
	w := new(words.Table)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 400 {
				text := fmt.Sprint("text ", i%100)
				if n, ok := w.Number(text, fmt.Sprint("owner ", g)); ok && w.Text(n) != text {
					t.Errorf("%q is %q", text, w.Text(n))
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkNumber(b *testing.B) {
	w := new(words.Table)
	w.Number("kamailio-a", "alice")
	b.ReportAllocs()
	for b.Loop() {
		w.Number("kamailio-a", "bob")
	}
}
