package sipadapter

import (
	"strings"
	"testing"
)

// GEN-15: on a stream Content-Length is mandatory and bounded; its end of a
// message is exact.
func TestGEN15_Framing(t *testing.T) {
	const head = "SIP/2.0 200 OK\r\nVia: x\r\n"
	feed := func(chunk int, text string) (messages []string, pings int, err error) {
		var f framer
		for i := 0; i < len(text) && err == nil; i += chunk {
			part := text[i:min(i+chunk, len(text))]
			for part != "" && err == nil {
				n := copy(f.space(), part)
				f.filled(n)
				part = part[n:]
				for {
					var raw []byte
					if raw, err = f.next(); err != nil || raw == nil {
						break
					}
					messages = append(messages, string(raw))
				}
			}
		}
		return messages, f.pings, err
	}
	first := head + "Content-Length: 3\r\n\r\nabc"
	second := head + "l : 0\r\n\r\n"
	for _, chunk := range []int{1, 2, 7, 1 << 20} {
		got, pings, err := feed(chunk, "\r\n\r\n"+first+second+"\r\n"+first+"\r\n\r\n\r\n\r\n")
		if err != nil || len(got) != 3 || got[0] != first || got[1] != second || got[2] != first || pings != 3 {
			t.Errorf("chunks of %d: %q, %d pings, %v", chunk, got, pings, err)
		}
		big := head + "Content-Length: 60000\r\n\r\n" + strings.Repeat("b", 60_000)
		if got, _, err := feed(chunk, big+big); err != nil || len(got) != 2 || got[1] != big {
			t.Errorf("chunks of %d: %d large messages, %v", chunk, len(got), err)
		}
	}
	for name, text := range map[string]string{
		"missing":      head + "\r\n",
		"negative":     head + "Content-Length: -1\r\n\r\n",
		"not a number": head + "Content-Length: 3x\r\n\r\n",
		"plus":         head + "Content-Length: +3\r\n\r\n",
		"empty":        head + "Content-Length:\r\n\r\n",
		"twice":        head + "Content-Length: 0\r\nl: 0\r\n\r\n",
		"S-32 huge":    head + "Content-Length: 2147483647\r\n\r\n",
		"over 64 KiB":  head + "Content-Length: 65536\r\n\r\n",
		"endless":      head + "X: " + strings.Repeat("a", 66_000),
	} {
		if got, _, err := feed(1<<20, text); err == nil {
			t.Errorf("%s: accepted %q", name, got)
		}
	}
	// S-32: nothing is reserved by what a length promises.
	var f framer
	f.filled(copy(f.space(), head+"Content-Length: 65000\r\n\r\n"))
	if _, err := f.next(); err != nil || len(f.buf) > 8192 {
		t.Errorf("%v, %d bytes reserved", err, len(f.buf))
	}
}
