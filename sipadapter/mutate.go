package sipadapter

import (
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

// mutate applies mutations that mutation.Check accepts, in order: SET leaves
// one line of that name, ADD appends one more, so that credentials for two
// realms stay two lines (RFC 3261 §20.7), REMOVE leaves none.
func mutate(lines []line, mutations []*messages.HeaderMutation) []line {
	for _, m := range mutations {
		name := mutation.Canonical(m.GetName())
		named := func(l line) bool { return mutation.Canonical(l.name) == name }
		l := line{spelledOut(name, m.GetName()), trim(m.GetValue())}
		switch m.GetOp() {
		case messages.Op_SET:
			if i := slices.IndexFunc(lines, named); i >= 0 {
				rest := slices.DeleteFunc(slices.Clone(lines[i+1:]), named)
				lines = append(append(lines[:i:i], l), rest...)
				continue
			}
			lines = append(lines, l)
		case messages.Op_ADD:
			lines = append(lines, l)
		case messages.Op_REMOVE:
			lines = slices.DeleteFunc(lines, named)
		}
	}
	return lines
}

// spelledOut keeps the name as written unless that was a compact form.
func spelledOut(canonical, written string) string {
	if strings.EqualFold(canonical, written) {
		return written
	}
	return canonical
}
