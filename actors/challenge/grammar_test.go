package challenge

import (
	"strings"
	"testing"
)

// TestIsToken holds the table against the grammar of RFC 3261 §25.1.
func TestIsToken(t *testing.T) {
	const marks = "-.!%*_+`'~"
	for c := range 256 {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		want := c < 0x80 && (letter || '0' <= c && c <= '9' || strings.IndexByte(marks, byte(c)) >= 0)
		if got := IsToken(string([]byte{byte(c)})); got != want {
			t.Errorf("byte %#x: %t, want %t", c, got, want)
		}
	}
	if IsToken("") || TokenLength("ab c") != 2 {
		t.Error("an empty token, or one with a blank")
	}
}

// TestIsPrintable tries every byte at every place of a word of eight.
func TestIsPrintable(t *testing.T) {
	for place := range 20 {
		for c := range 256 {
			b := []byte(strings.Repeat("~ ", 10))
			b[place] = byte(c)
			if got, want := isPrintable(string(b)), c >= ' ' && c <= '~'; got != want {
				t.Fatalf("byte %#x at %d: %t", c, place, got)
			}
		}
	}
}
