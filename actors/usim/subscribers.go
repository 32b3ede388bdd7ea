package usim

import (
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sipmuster/muster/actors/aka"
)

// columns of a subscriber file.
var columns = []string{"profile", "impi", "k", "op", "opc", "versions"}

const (
	// maxFile bounds a subscriber file: a million lines fit.
	maxFile = 256 << 20
	// maxFaults bounds the faults that are listed.
	maxFaults = 100
	// keyDigits is the length of a key in hex.
	keyDigits = 32
)

// ReadSubscribers reads a file of subscribers: CSV with a header line and the
// columns profile, impi, k, op, opc and versions, of which profile, k and one
// of op and opc are needed. Its error lists all faults as FILE:LINE: FIELD:
// WHAT, and shows no value.
func ReadSubscribers(path string) ([]Subscriber, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: is larger than %d MiB", path, maxFile>>20)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := file{path: path, lines: map[string]int{}}
	f.read(strings.TrimPrefix(string(text), "\ufeff")) // some spreadsheets begin with it
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.subscribers, nil
}

// file is a subscriber file under way.
type file struct {
	path        string
	line        int
	header      []string
	subscribers []Subscriber
	lines       map[string]int // where a profile was first named
	faults      []error
	more        int
}

func (f *file) fault(field, what string) {
	if len(f.faults) == maxFaults {
		f.more++
		return
	}
	if field != "" {
		what = field + ": " + what
	}
	f.faults = append(f.faults, fmt.Errorf("%s:%d: %s", f.path, f.line, what))
}

func (f *file) err() error {
	if f.more > 0 {
		f.faults = append(f.faults, fmt.Errorf("%s: and %d faults more", f.path, f.more))
	}
	return errors.Join(f.faults...)
}

// read takes each line for a record of its own: no field may hold a line
// break, and a forgotten quote costs one line, not the rest of the file.
func (f *file) read(text string) {
	for line := range strings.Lines(text) {
		f.line++
		if strings.TrimSpace(line) == "" {
			continue
		}
		r := csv.NewReader(strings.NewReader(line))
		r.FieldsPerRecord = -1
		cells, err := r.Read()
		switch {
		case err != nil:
			f.fault("", "is not CSV: a quote does not belong there")
		case f.header == nil:
			f.readHeader(cells)
		case len(cells) != len(f.header):
			f.fault("", fmt.Sprintf("has %d fields, the header has %d", len(cells), len(f.header)))
		default:
			f.readRow(cells)
		}
		if f.header == nil {
			return // without a header nothing that follows can be read
		}
	}
	if f.header == nil {
		f.line = 1
		f.fault("", "has no header line")
	}
}

// readHeader shows no cell: the line may be a subscriber with its keys.
func (f *file) readHeader(cells []string) {
	header := make([]string, len(cells))
	for i, cell := range cells {
		header[i] = strings.ToLower(strings.TrimSpace(cell))
		if !slices.Contains(columns, header[i]) {
			f.fault("", fmt.Sprintf("column %d of the header has none of the names %s", i+1, strings.Join(columns, ",")))
		} else if slices.Contains(header[:i], header[i]) {
			f.fault(header[i], "stands in the header twice")
		}
	}
	has := func(name string) bool { return slices.Contains(header, name) }
	switch {
	case !has("profile"):
		f.fault("profile", "is missing in the header")
	case !has("k"):
		f.fault("k", "is missing in the header")
	case !has("op") && !has("opc"):
		f.fault("opc", "is missing in the header, as is op")
	}
	if len(f.faults) == 0 {
		f.header = header
	}
}

func (f *file) readRow(cells []string) {
	row := make(map[string]string, len(cells))
	for i, cell := range cells {
		row[f.header[i]] = strings.TrimSpace(cell)
	}
	before := len(f.faults) + f.more
	s := Subscriber{Profile: row["profile"], IMPI: row["impi"]}
	if first, known := f.lines[s.Profile]; s.Profile == "" {
		f.fault("profile", "is missing")
	} else if known {
		f.fault("profile", fmt.Sprintf("stands in line %d already", first))
	} else {
		f.lines[s.Profile] = f.line
	}
	if err := validIMPI(s.IMPI); err != nil {
		f.fault("impi", err.Error())
	}
	switch row["versions"] {
	case "":
	case "2":
		s.V2Only = true
	default:
		f.fault("versions", `is neither empty nor "2"`)
	}
	s.Keys = f.keys(row)
	if len(f.faults)+f.more == before {
		f.subscribers = append(f.subscribers, s)
	}
}

// keys are empty after a fault.
func (f *file) keys(row map[string]string) aka.Keys {
	k, op, opc := f.key(row, "k"), f.key(row, "op"), f.key(row, "opc")
	switch {
	case row["k"] == "":
		f.fault("k", "is missing")
	case row["op"] == "" && row["opc"] == "":
		f.fault("opc", "is missing, as is op: one of them is needed")
	case row["op"] != "" && row["opc"] != "":
		f.fault("opc", "stands beside op: only one of them can be true")
	}
	// A key of a wrong size has its fault already.
	keys, err := aka.KeysFromOPc(k, opc)
	if op != nil {
		keys, err = aka.KeysFromOP(k, op)
	}
	if err != nil {
		return aka.Keys{}
	}
	return keys
}

// key reads a key, which may be absent. The error of package hex shows a digit
// and is not used.
func (f *file) key(row map[string]string, name string) []byte {
	text := row[name]
	if text == "" {
		return nil
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(text) != keyDigits {
		f.fault(name, fmt.Sprintf("is not %d hex digits", keyDigits))
		return nil
	}
	return key
}

// validIMPI refuses what cannot be the user name of a digest.
func validIMPI(impi string) error {
	if strings.Contains(impi, ":") {
		return errors.New("has a colon")
	}
	if !utf8.ValidString(impi) || strings.ContainsFunc(impi, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("has a control character or is not UTF-8")
	}
	return nil
}
