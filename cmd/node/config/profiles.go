package config

import (
	"errors"
	"io"
	"os"
	"strconv"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/declare"
)

// Profiles are the declarations of all profile files, in the order of the
// files and lines.
type Profiles struct {
	Declarations []actors.Declaration
	// Files are the paths of the profile files.
	Files  []string
	places []place
}

// place is where a declaration stands: small, because there may be a million.
type place struct{ file, line int32 }

// Place is "profiles.csv:17" for declaration i.
func (p *Profiles) Place(i int) string {
	at := p.places[i]
	return p.Files[at.file] + ":" + strconv.Itoa(int(at.line))
}

// readProfileFiles reads every profile file and checks what concerns all of
// them: names, and that no profile stands there twice.
func (l *loader) readProfileFiles() {
	p := &l.config.Profiles
	p.Files = l.profileFiles
	check := &crossCheck{
		loader: l,
		ids:    map[string]int32{},
		aors:   map[aorKey]int32{},
		sound:  map[string]bool{"": true},
	}
	for i, path := range l.profileFiles {
		start := len(l.problems.List)
		l.readProfileFile(check, int32(i), path)
		l.problems.sortFrom(start)
	}
	l.checkTrunkProfiles(check.ids)
}

func (l *loader) readProfileFile(check *crossCheck, index int32, path string) {
	f, err := os.Open(path)
	if err != nil {
		l.problems.add(Problem{File: path, What: underlying(err).Error()})
		return
	}
	defer f.Close()
	l.warnReadable(path, f, "may hold passwords")
	p := &l.config.Profiles
	rows := declare.NewReader(path, f)
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
		check.names(path, row)
		p.Declarations = append(p.Declarations, row.Declaration)
		p.places = append(p.places, place{index, int32(row.Line)})
		check.duplicates(path, row, int32(len(p.places)-1))
	}
}

func (l *loader) addFaults(path string, line int, faults declare.Faults) {
	for _, f := range faults {
		l.problems.add(Problem{File: path, Line: line, Path: f.Field, What: f.What, Mend: f.Mend})
	}
}

// crossCheck finds what is wrong between a profile and the rest.
type crossCheck struct {
	*loader
	// ids and aors give the index of the declaration that came first.
	ids  map[string]int32
	aors map[aorKey]int32
	// sound are handlers that were looked up and found: a million profiles name
	// a few.
	sound map[string]bool
}

type aorKey struct{ aor, registrar string }

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
func (c *crossCheck) duplicates(path string, row declare.Row, index int32) {
	d, p := row.Declaration, &c.config.Profiles
	if first, taken := c.ids[d.ID]; taken {
		c.problems.add(Problem{
			File: path, Line: row.Line, Path: "id",
			What: "profile " + declare.Show(d.ID) + " stands there twice, first at " + p.Place(int(first)),
			Mend: "remove one, or give it another id",
		})
		return
	}
	c.ids[d.ID] = index
	key := aorKey{d.AOR, d.Registrar}
	if first, taken := c.aors[key]; taken {
		c.problems.add(Problem{
			File: path, Line: row.Line, Path: "aor",
			What: declare.Show(d.AOR) + " is registered at " + d.Registrar + " by another profile already, at " + p.Place(int(first)),
			Mend: "remove one",
		})
		return
	}
	c.aors[key] = index
}
