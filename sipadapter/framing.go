package sipadapter

import (
	"bytes"
	"errors"
	"strings"

	"github.com/sipmuster/muster/actors/mutation"
)

var errFraming = errors.New("stream without a message boundary")

// framer cuts a byte stream into messages (RFC 3261 §18.3). It keeps at most
// one message and reserves nothing by what a Content-Length promises (S-32).
type framer struct {
	buf     []byte
	start   int // of the message that is being read
	end     int // of the bytes that have arrived
	scanned int // no end of the header lies before this
	total   int // length of the message, 0 until its header is complete
	blanks  int // CR LF pairs since the last message
	pings   int // CR LF CR LF pairs that want an answer
}

// space is where to read to.
func (f *framer) space() []byte {
	if f.start > 0 {
		copy(f.buf, f.buf[f.start:f.end])
		f.end -= f.start
		f.scanned -= f.start
		f.start = 0
	}
	if f.end == len(f.buf) {
		grown := make([]byte, min(max(4096, 2*len(f.buf)), maxMessage+1))
		copy(grown, f.buf[:f.end])
		f.buf = grown
	}
	return f.buf[f.end:]
}

// filled says that n bytes were read into space.
func (f *framer) filled(n int) { f.end += n }

// partial tells whether a message has begun.
func (f *framer) partial() bool { return f.end > f.start }

// next gives the next complete message, or nil when more bytes are needed. It
// is valid until space is called.
func (f *framer) next() ([]byte, error) {
	f.skipBlankLines()
	if f.total == 0 {
		header := bytes.Index(f.buf[f.scanned:f.end], []byte("\r\n\r\n"))
		if header < 0 {
			f.scanned = max(f.start, f.end-3)
			if f.end-f.start >= maxMessage {
				return nil, errFraming
			}
			return nil, nil
		}
		size := f.scanned + header + 4 - f.start
		length, ok := streamLength(f.buf[f.start : f.start+size])
		if !ok || size+length > maxMessage {
			return f.buf[f.start : f.start+size], errFraming
		}
		f.total = size + length
	}
	if f.end-f.start < f.total {
		return nil, nil
	}
	raw := f.buf[f.start : f.start+f.total]
	f.start += f.total
	f.scanned, f.total, f.blanks = f.start, 0, 0
	return raw, nil
}

// skipBlankLines ignores CR LF before a message (RFC 3261 §7.5) and counts the
// double ones, which are keep-alives (RFC 5626 §3.5.1).
func (f *framer) skipBlankLines() {
	if f.total > 0 {
		return
	}
	for f.end-f.start >= 2 && f.buf[f.start] == '\r' && f.buf[f.start+1] == '\n' {
		f.start += 2
		if f.blanks++; f.blanks%2 == 0 {
			f.pings++
		}
	}
	f.scanned = max(f.scanned, f.start)
}

// streamLength reads the one Content-Length that a message on a stream must
// have.
func streamLength(header []byte) (int, bool) {
	value, count := "", 0
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) > 64 {
			continue
		}
		if mutation.Canonical(strings.TrimRight(string(name), " \t")) == "content-length" {
			value = trim(string(rest))
			count++
		}
	}
	n, ok := parseDigits(value, maxMessage)
	return int(n), ok && count == 1
}
