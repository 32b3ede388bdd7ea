package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// The forms of -o.
const (
	formTable = "table"
	formJSON  = "json"
	formCSV   = "csv"
)

// printJSON writes one indented document.
func printJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

// table writes rows in aligned columns. Cells are made printable: a part of
// them comes from the network.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, columns ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if len(columns) > 0 {
		t.row(columns...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cell = "-"
		}
		cells[i] = printable(cell)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

// printable replaces what could move the cursor or recolour a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, text)
}

// until words a time to come as a span: "42m10s", "now" when it has passed, "-"
// without one.
func until(at *time.Time) string {
	if at == nil {
		return "-"
	}
	left := time.Until(*at)
	if left <= 0 {
		return "now"
	}
	return span(left)
}

// since words a time that has passed as a span, "-" without one.
func since(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return span(max(time.Since(*at), 0))
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return withoutZeroSeconds(d.Round(time.Second))
	}
	return withoutZeroSeconds(d.Round(time.Minute))
}

// withoutZeroSeconds writes 43m0s as 43m, and 43m40s as it is.
func withoutZeroSeconds(d time.Duration) string {
	text := d.String()
	if d%time.Minute == 0 {
		return strings.TrimSuffix(text, "0s")
	}
	return text
}

// thousands writes a number as people do: 1,234,567.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// counted words a number with its noun: "1 profile", "1,000 profiles".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// isTerminal tells whether somebody is watching.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
