package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// MaxProblems is how many problems are reported one by one.
const MaxProblems = 100

// Problem is one error of the configuration or a profile file.
type Problem struct {
	File string `json:"file"`
	// Line is 0 when the problem concerns the whole file.
	Line int `json:"line,omitempty"`
	// Path is the key ("registrars.acme.uri") or the column; it may be empty.
	Path string `json:"path,omitempty"`
	What string `json:"what"`
	// Mend says how to put it right; it may be empty.
	Mend string `json:"mend,omitempty"`
}

// String is "file:line: path: what (mend)".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.What)
	if p.Mend != "" {
		b.WriteString(" (" + p.Mend + ")")
	}
	return b.String()
}

// Problems is the error that Load returns: everything that is wrong.
type Problems struct {
	// List is in the order of files and lines.
	List []Problem
	// More is how many others were found after the first MaxProblems.
	More int
}

// Error implements error, one problem a line.
func (p *Problems) Error() string {
	lines := make([]string, 0, len(p.List)+1)
	for _, problem := range p.List {
		lines = append(lines, problem.String())
	}
	if p.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", p.More))
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(problem Problem) {
	if len(p.List) >= MaxProblems {
		p.More++
		return
	}
	p.List = append(p.List, problem)
}

// count is how many there are.
func (p *Problems) count() int { return len(p.List) + p.More }

// sortFrom orders the problems of one file, those from index start, by line.
func (p *Problems) sortFrom(start int) {
	slices.SortStableFunc(p.List[start:], func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
}

// err is nil without problems.
func (p *Problems) err() error {
	if len(p.List) == 0 {
		return nil
	}
	return p
}
