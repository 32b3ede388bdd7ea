package declare

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sipmuster/muster/actors"
)

// MaxLine is the longest line of a profile file, in bytes.
const MaxLine = 64 << 10

// Row is one declaration of a file.
type Row struct {
	// Line is its line number, from 1.
	Line        int
	Declaration actors.Declaration
	// Faults are empty when the declaration is good.
	Faults Faults
}

// Reader reads the declarations of a profile file, one row at a time.
type Reader struct {
	in    *bufio.Reader
	line  int
	begun bool
	// json tells that the file is JSON lines.
	json    bool
	columns header
	cells   []string
	draft   draft
	failed  error
}

// NewReader reads CSV with a header line, or JSON lines. The name's extension
// decides (.jsonl, .ndjson, .json; .csv), otherwise the first character.
func NewReader(name string, r io.Reader) *Reader {
	p := &Reader{in: bufio.NewReaderSize(r, MaxLine)}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jsonl", ".ndjson", ".json":
		p.json = true
	case ".csv":
	default:
		first, _ := p.in.Peek(64)
		first = bytes.TrimLeft(bytes.TrimPrefix(first, byteOrderMark), " \t\r\n")
		p.json = bytes.HasPrefix(first, []byte("{"))
	}
	return p
}

// byteOrderMark is what some spreadsheets put before the header.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Next returns the next row, good or faulty. At the end it returns io.EOF;
// after a fault that makes the rest unreadable it returns a Faults error.
func (p *Reader) Next() (Row, error) {
	if p.failed != nil {
		return Row{}, p.failed
	}
	row, err := p.next()
	if err != nil {
		p.failed = err
	}
	return row, err
}

// Line is the number of the line read last.
func (p *Reader) Line() int { return p.line }

func (p *Reader) next() (Row, error) {
	for {
		line, tooLong, err := p.readLine()
		if err != nil {
			return Row{}, err
		}
		row := Row{Line: p.line}
		switch {
		case tooLong:
			row.Faults = Faults{{What: "is longer than " + strconv.Itoa(MaxLine) + " bytes", Syntax: true}}
			if !p.json && p.columns == nil {
				return Row{}, row.Faults
			}
			return row, nil
		case len(bytes.TrimSpace(line)) == 0:
			continue
		case p.json:
			if bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")) {
				return Row{}, Faults{{What: "is a JSON array", Mend: "write one object per line, without brackets and commas between them", Syntax: true}}
			}
			row.Declaration, row.Faults = JSON(line)
			return row, nil
		case p.columns == nil:
			var faults Faults
			if p.columns, faults = parseHeader(string(line)); faults != nil {
				return Row{}, faults
			}
		default:
			row.Declaration, row.Faults, p.cells = p.columns.declaration(string(line), &p.draft, p.cells)
			return row, nil
		}
	}
}

// readLine returns the next line without its ending; it is valid until the
// next call. A line that is too long is skipped and reported.
func (p *Reader) readLine() (line []byte, tooLong bool, err error) {
	line, err = p.in.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		tooLong = true
		_, err = p.in.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	if len(line) == 0 && !tooLong {
		return nil, false, io.EOF
	}
	p.line++
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if !p.begun {
		p.begun = true
		line = bytes.TrimPrefix(line, byteOrderMark)
	}
	return line, tooLong, nil
}

// plural words a count: "1 field", "2 fields".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
