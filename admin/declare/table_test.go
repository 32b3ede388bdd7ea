package declare_test

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sipmuster/muster/admin/declare"
)

// TestTableIsAMap does the same to a table and to a map.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table declare.Table
		plain := map[string]string{}
		key := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "key")) })
		value := rapid.Custom(func(t *rapid.T) string {
			size := rapid.SampledFrom([]int{0, 1, 5, 5, 127, 128, 3000, 300_000}).Draw(t, "size")
			return strings.Repeat(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "byte"), size)
		})
		check := func() {
			if table.Len() != len(plain) {
				t.Fatalf("%d entries, want %d", table.Len(), len(plain))
			}
			got := map[string]string{}
			for k, v := range table.All() {
				got[k] = string(v)
			}
			if !maps.Equal(got, plain) {
				t.Fatalf("%d entries differ", len(plain))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), value.Draw(t, "v")
				table.Put(k, []byte(v))
				plain[k] = v
			},
			"get": func(t *rapid.T) {
				k := key.Draw(t, "k")
				got, found := table.Get(k)
				if want, known := plain[k]; found != known || string(got) != want {
					t.Fatalf("%q is %d bytes, %v", k, len(got), found)
				}
			},
			"write": func(t *rapid.T) {
				k := key.Draw(t, "k")
				got, _ := table.Get(k)
				for i := range got {
					got[i] = 'w'
				}
				if _, known := plain[k]; known {
					plain[k] = strings.Repeat("w", len(got))
				}
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "k")
				if _, known := plain[k]; table.Delete(k) != known {
					t.Fatalf("%q was known: %v", k, known)
				}
				delete(plain, k)
			},
			"": func(*rapid.T) { check() },
		})
	})
}

// TestTableForgets changes values again and again: what nobody refers to does
// not stay, and a secret not even until then.
func TestTableForgets(t *testing.T) {
	var table declare.Table
	for i := range 100_000 {
		table.Put("alice", bytes.Repeat([]byte("s"), 10+i%2))
		table.Put(fmt.Sprint("bob", i), []byte("x"))
		table.Delete(fmt.Sprint("bob", i))
	}
	if table.Len() != 1 {
		t.Errorf("%d entries", table.Len())
	}
	if size := declare.TableBytes(&table); size > 64<<10 {
		t.Errorf("one entry takes %d bytes", size)
	}
}

func TestTableOfAMillionIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("a million entries")
	}
	const entries, each = 1_000_000, 12 + 12 + 2 // key and value, and the bytes that say how long
	var table declare.Table
	before := heap()
	for i := range entries {
		table.Put(fmt.Sprintf("user-%07d", i), []byte("pw-123456789"))
	}
	after := heap()
	if per := float64(after-before) / entries; per > each+20 {
		t.Errorf("%.1f bytes for an entry of %d", per, each)
	}
	if v, ok := table.Get("user-0999999"); !ok || len(v) != 12 {
		t.Error("the last entry is missing")
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkTable(b *testing.B) {
	const entries = 1 << 20
	var table declare.Table
	names := make([]string, entries)
	for i := range names {
		names[i] = fmt.Sprintf("user-%07d", i)
		table.Put(names[i], []byte("pw-123456789"))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) & (entries - 1)
		if _, ok := table.Get(names[i]); !ok {
			b.Fatal("missing")
		}
	}
}
