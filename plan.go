package muster

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/messages"
)

// plan is a Desired that was found free of errors, with what one must know of a
// million rows to compare them with the farm. It lives until it is applied.
type plan struct {
	desired    Desired
	registrars map[string]bool
	handlers   map[string]bool
	// rows has a planned for each row, by id.
	rows   declare.Table
	marked bool // rows that are in force
	// secrets is true when the secret of a row is not in force.
	secrets bool
	seed    maphash.Seed
}

// planned is what is kept of a row: its hash, a hash of its binding, and whether
// the farm has it already.
type planned []byte

const (
	rowSize     = 8
	bindingSize = 8
)

// inForce tells that the farm keeps the row as it is.
func (p planned) inForce() bool { return p[rowSize+bindingSize] != 0 }

func (p planned) mark(inForce bool) {
	p[rowSize+bindingSize] = 0
	if inForce {
		p[rowSize+bindingSize] = 1
	}
}

// isRow tells whether a row has a hash, as a state records it.
func (p planned) isRow(row string) bool {
	var text [2 * rowSize]byte
	hex.Encode(text[:], p[:rowSize])
	return string(text[:]) == row
}

// newPlan checks everything that is desired, and reports all that is wrong at
// once. each is told every row that is good; nil does nothing.
func newPlan(d Desired, each func(actors.Declaration)) (*plan, error) {
	p := &plan{desired: d, registrars: map[string]bool{}, handlers: map[string]bool{"": true, messages.DigestHandler: true}, seed: maphash.MakeSeed()}
	errs := d.validate()
	for _, r := range d.Registrars {
		p.registrars[r.Name] = true
	}
	xsps := xspNames(d.XSPs)
	knowsRegistrar := func(name string) bool { return p.registrars[name] }
	for row := range d.rows() {
		if err := validateDeclaration(row, knowsRegistrar, xsps); err != nil {
			errs = append(errs, err)
			continue
		}
		if !p.add(row) {
			errs = append(errs, fmt.Errorf("profile %q is declared twice", row.ID))
			continue
		}
		if each != nil {
			each(row)
		}
	}
	for _, name := range xsps {
		p.handlers[name] = true
	}
	return p, errors.Join(errs...)
}

// add is false for an id that is there already.
func (p *plan) add(d actors.Declaration) bool {
	row, binding := rowHash(d), p.bindingHash(d.AOR, d.Registrar)
	var value [rowSize + bindingSize + 1]byte
	copy(value[:], row[:])
	copy(value[rowSize:], binding[:])
	return p.rows.Add(d.ID, value[:])
}

// unmark forgets which rows are in force.
func (p *plan) unmark() {
	if p.marked {
		for _, value := range p.rows.All() {
			planned(value).mark(false)
		}
	}
	p.marked = true
}

// bindingHash identifies what a profile registers, within this process.
func (p *plan) bindingHash(aor, registrar string) [bindingSize]byte {
	var h maphash.Hash
	h.SetSeed(p.seed)
	_, _ = h.WriteString(aor)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(registrar)
	var sum [bindingSize]byte
	h.Sum(sum[:0])
	return sum
}

// row finds what is planned for a profile.
func (p *plan) row(id string) (planned, bool) {
	value, listed := p.rows.Get(id)
	return value, listed
}

// isBinding tells whether a profile registers what its row says.
func (p *plan) isBinding(row planned, s *profile.Spec) bool {
	sum := p.bindingHash(s.AOR, s.Registrar)
	return [bindingSize]byte(row[rowSize:]) == sum
}

// rows yields every declaration, with what it may leave out.
func (d Desired) rows() iter.Seq[actors.Declaration] {
	return func(yield func(actors.Declaration) bool) {
		for _, p := range d.Profiles {
			if !yield(normalised(p)) {
				return
			}
		}
		if d.Rows == nil {
			return
		}
		for p := range d.Rows {
			if !yield(normalised(p)) {
				return
			}
		}
	}
}
