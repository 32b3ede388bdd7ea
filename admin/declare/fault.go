package declare

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault is one thing that is wrong with a declaration.
type Fault struct {
	// Field is the name of the field, empty when the fault concerns the whole.
	Field string
	// What is wrong, without any secret.
	What string
	// Mend says how to put it right; empty when What says enough.
	Mend string
	// Syntax is set when the text could not be read at all, as opposed to
	// being read and found wrong.
	Syntax bool
}

// Error implements error: "aor: has no host (write sip:user@host)".
func (f Fault) Error() string {
	text := f.What
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	if f.Mend != "" {
		text += " (" + f.Mend + ")"
	}
	return text
}

// Faults are all the faults of one declaration.
type Faults []Fault

// Error implements error; the faults are joined with "; ".
func (fs Faults) Error() string {
	texts := make([]string, len(fs))
	for i, f := range fs {
		texts[i] = f.Error()
	}
	return strings.Join(texts, "; ")
}

// Syntax tells whether the text could not be read at all.
func (fs Faults) Syntax() bool {
	for _, f := range fs {
		if f.Syntax {
			return true
		}
	}
	return false
}

// add records a fault.
func (fs *Faults) add(field, what, mend string) {
	*fs = append(*fs, Fault{Field: field, What: what, Mend: mend})
}

// shown is the longest part of a value that a fault repeats.
const shown = 60

// Show quotes a value for a message: escaped, cut to a readable length, and
// with the password of a URI masked.
func Show(value string) string {
	value = maskPassword(value)
	if len(value) > shown {
		cut := shown
		for cut > 0 && !utf8.RuneStart(value[cut]) {
			cut--
		}
		return strconv.Quote(value[:cut]) + "…"
	}
	return strconv.Quote(value)
}

// maskPassword replaces the password in scheme:user:password@host.
func maskPassword(value string) string {
	at := strings.LastIndexByte(value, '@')
	if at < 0 {
		return value
	}
	scheme := strings.IndexByte(value[:at], ':')
	if scheme < 0 {
		return value
	}
	colon := strings.IndexByte(value[scheme+1:at], ':')
	if colon < 0 {
		return value
	}
	return value[:scheme+1+colon+1] + "***" + value[at:]
}

// Nearest returns the candidate that is a likely misspelling away from word,
// or "" when none is near.
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", 3
	word = strings.ToLower(word)
	for _, c := range candidates {
		limit := min(bestDistance, len(c)/2+1)
		if d := distance(word, strings.ToLower(c), limit); d < limit {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short ASCII words, or limit when
// it is at least that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], cost
		}
	}
	return min(row[len(b)], limit)
}

// suggest words the hint for an unknown name.
func suggest(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return "did you mean " + strconv.Quote(near) + "?"
	}
	return "known are " + strings.Join(candidates, ", ")
}
