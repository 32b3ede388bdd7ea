package config

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// Profiles are the declarations of all profile files. There may be a million,
// so they stay as they were written until somebody looks at them.
type Profiles struct {
	// Files are the paths of the profile files.
	Files []string
	texts [][]byte
	count int
}

// Len is the number of declarations.
func (p *Profiles) Len() int { return p.count }

// All yields the declarations in the order of the files and lines.
func (p *Profiles) All() iter.Seq[actors.Declaration] {
	return func(yield func(actors.Declaration) bool) {
		for i, text := range p.texts {
			rows := declare.NewReader(p.Files[i], bytes.NewReader(text))
			for row, err := rows.Next(); err == nil; row, err = rows.Next() {
				if !yield(row.Declaration) {
					return
				}
			}
		}
	}
}

// readProfileFiles reads every profile file and checks what concerns all of
// them: names, and that no profile stands there twice.
func (l *loader) readProfileFiles() {
	l.config.Profiles.Files = l.profileFiles
	check := &crossCheck{loader: l, sound: map[string]bool{"": true}}
	for i, path := range l.profileFiles {
		start := len(l.problems.List)
		l.readProfileFile(check, i, path)
		l.problems.sortFrom(start)
	}
	l.checkTrunkProfiles(&check.ids)
}

func (l *loader) readProfileFile(check *crossCheck, index int, path string) {
	text, err := l.readRows(path)
	if err != nil {
		l.problems.add(Problem{File: path, What: underlying(err).Error()})
		return
	}
	p := &l.config.Profiles
	p.texts = append(p.texts, text)
	rows := declare.NewReader(path, bytes.NewReader(text))
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			var faults declare.Faults
			if !errors.As(err, &faults) {
				faults = declare.Faults{{What: underlying(err).Error()}}
			}
			l.addFaults(path, rows.Line(), faults)
			return
		}
		if len(row.Faults) > 0 {
			l.addFaults(path, row.Line, row.Faults)
			continue
		}
		p.count++
		check.names(path, row)
		check.duplicates(path, row, place{index, row.Line})
	}
}

// readRows reads a profile file whole: what is checked is what is used, whatever
// becomes of the file meanwhile.
func (l *loader) readRows(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l.warnReadable(path, f, "may hold passwords")
	var text bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		text.Grow(int(info.Size()) + bytes.MinRead)
	}
	_, err = text.ReadFrom(f)
	return text.Bytes(), err
}

func (l *loader) addFaults(path string, line int, faults declare.Faults) {
	for _, f := range faults {
		l.problems.add(Problem{File: path, Line: line, Path: f.Field, What: f.What, Mend: f.Mend})
	}
}

// crossCheck finds what is wrong between a profile and the rest.
type crossCheck struct {
	*loader
	// ids and aors have the place of the declaration that came first, by id and
	// by registrar and AOR.
	ids, aors declare.Table
	key       []byte
	// sound are handlers that were looked up and found: a million profiles name
	// a few.
	sound map[string]bool
}

// place is where a declaration stands.
type place struct{ file, line int }

func (c *crossCheck) show(p []byte) string {
	file, line := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
	return c.config.Profiles.Files[file] + ":" + strconv.FormatUint(uint64(line), 10)
}

// names checks the registrar and the handlers.
func (c *crossCheck) names(path string, row declare.Row) {
	d := row.Declaration
	add := func(column, what, mend string) {
		c.problems.add(Problem{File: path, Line: row.Line, Path: column, What: what, Mend: mend})
	}
	if !c.registrars[d.Registrar] {
		mend := "the configuration names none"
		if len(c.registrars) > 0 {
			mend = suggestion(d.Registrar, registrarNames(c.config.Registrars))
		}
		add("registrar", "unknown registrar "+declare.Show(d.Registrar), mend)
	}
	handlers := [2]string{d.RegistrationHandler, d.SessionHandler}
	for i, column := range [2]string{"registration_handler", "session_handler"} {
		if fault, unknown := c.unknown(handlers[i]); unknown {
			add(column, fault.What, fault.Mend)
		}
	}
}

// duplicates refuses a second profile with the same id, or with the same AOR
// at the same registrar: the two would fight for one binding.
func (c *crossCheck) duplicates(path string, row declare.Row, at place) {
	d := row.Declaration
	var where [8]byte
	binary.BigEndian.PutUint32(where[:], uint32(at.file))
	binary.BigEndian.PutUint32(where[4:], uint32(at.line))
	if !c.ids.Add(d.ID, where[:]) {
		first, _ := c.ids.Get(d.ID)
		c.problems.add(Problem{
			File: path, Line: row.Line, Path: "id",
			What: "profile " + declare.Show(d.ID) + " stands there twice, first at " + c.show(first),
			Mend: "remove one, or give it another id",
		})
		return
	}
	c.key = append(append(append(c.key[:0], d.Registrar...), ' '), d.AOR...)
	if key := string(c.key); !c.aors.Add(key, where[:]) {
		first, _ := c.aors.Get(key)
		c.problems.add(Problem{
			File: path, Line: row.Line, Path: "aor",
			What: declare.Show(d.AOR) + " is registered at " + d.Registrar + " by another profile already, at " + c.show(first),
			Mend: "remove one",
		})
	}
}
