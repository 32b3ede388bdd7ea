package declare

import (
	"errors"
	"strings"

	"github.com/sipmuster/muster/actors"
)

// errQuote is the one way in which a line can fail to be CSV.
var errQuote = errors.New("has a quote that does not belong there")

// splitCSV takes one line apart (RFC 4180, without line breaks in fields: no
// field of a profile may hold one, and a forgotten quote then costs one line,
// not the rest of the file). It appends to cells.
func splitCSV(line string, cells []string) ([]string, error) {
	if strings.IndexByte(line, '"') < 0 {
		for {
			comma := strings.IndexByte(line, ',')
			if comma < 0 {
				return append(cells, line), nil
			}
			cells = append(cells, line[:comma])
			line = line[comma+1:]
		}
	}
	for {
		if !strings.HasPrefix(line, `"`) {
			cell, rest, more := strings.Cut(line, ",")
			if strings.IndexByte(cell, '"') >= 0 {
				return cells, errQuote
			}
			cells = append(cells, cell)
			if !more {
				return cells, nil
			}
			line = rest
			continue
		}
		cell, rest, err := unquote(line[1:])
		if err != nil {
			return cells, err
		}
		cells = append(cells, cell)
		if rest == "" {
			return cells, nil
		}
		if rest[0] != ',' {
			return cells, errQuote
		}
		line = rest[1:]
	}
}

// unquote reads a quoted cell whose opening quote is gone, and returns what
// follows the closing one.
func unquote(line string) (cell, rest string, err error) {
	for {
		end := strings.IndexByte(line, '"')
		if end < 0 {
			return "", "", errQuote
		}
		cell += line[:end]
		line = line[end+1:]
		if !strings.HasPrefix(line, `"`) {
			return cell, line, nil
		}
		cell += `"`
		line = line[1:]
	}
}

// header maps the columns of a CSV file to fields.
type header []int

// parseHeader reads the first line. It shows no cell unless the line is
// certainly a header: otherwise it may be a profile with its password.
func parseHeader(line string) (header, Faults) {
	var faults Faults
	cells, err := splitCSV(line, nil)
	names := make([]string, len(cells))
	hasAOR, hasRegistrar := false, false
	for i, cell := range cells {
		names[i] = strings.ToLower(strings.TrimSpace(cell))
		hasAOR = hasAOR || names[i] == "aor"
		hasRegistrar = hasRegistrar || names[i] == "registrar"
	}
	if err != nil || !hasAOR || !hasRegistrar {
		mend := "begin the file with a header line that names at least aor and registrar, such as id,aor,registrar,username,password"
		if strings.Count(line, ";") > strings.Count(line, ",") || strings.Count(line, "\t") > strings.Count(line, ",") {
			mend = "separate the columns with commas; " + mend
		}
		faults.add("", "the first line is not a header", mend)
		return nil, faults
	}
	columns := make(header, len(names))
	var seen [16]bool
	for i, name := range names {
		f := fieldIndex(name)
		switch {
		case f < 0:
			faults.add("", "unknown column "+Show(name), suggest(name, Columns()))
		case seen[f]:
			faults.add("", "column "+Show(name)+" stands there twice", "remove one")
		default:
			seen[f] = true
		}
		columns[i] = f
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return columns, nil
}

// declaration reads one row. d and cells are scratch space; cells is returned
// for the next row.
func (h header) declaration(line string, d *draft, cells []string) (actors.Declaration, Faults, []string) {
	*d = draft{}
	cells, err := splitCSV(line, cells[:0])
	if err != nil {
		d.faults.add("", err.Error(), `put the field in quotes and double each quote in it: "a""b"`)
		d.faults[0].Syntax = true
		return d.Declaration, d.faults, cells
	}
	if len(cells) != len(h) {
		d.faults.add("", "has "+plural(len(cells), "field")+", the header names "+plural(len(h), "column"), "give each column a field, even an empty one")
		d.faults[0].Syntax = true
		return d.Declaration, d.faults, cells
	}
	for i, cell := range cells {
		d.set(h[i], cell)
	}
	declaration, faults := d.finish()
	return declaration, faults, cells
}
