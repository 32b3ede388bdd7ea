package challenge

import (
	"strings"
	"unicode/utf8"
)

// The grammar that challenges, answers and the rest of a SIP header share (RFC
// 3261 §25.1).

// IsToken tells whether s is a token.
func IsToken(s string) bool { return s != "" && TokenLength(s) == len(s) }

// TokenLength counts the leading bytes of s that form a token.
func TokenLength(s string) int {
	for i := range len(s) {
		if !tokenBytes[s[i]] {
			return i
		}
	}
	return len(s)
}

// tokenBytes are the bytes that may stand in a token.
var tokenBytes = func() (table [256]bool) {
	for c := range table {
		table[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	for _, c := range []byte("-.!%*_+`'~") {
		table[c] = true
	}
	return table
}()

// IsFieldValue tells whether s may stand in a header line as it is, or go into
// a quoted string: UTF-8 and no control byte but HTAB, so no folding either
// (S-51, S-52).
func IsFieldValue(s string) bool {
	if isPrintable(s) {
		return true
	}
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s)
}

// AppendQuoted appends a quoted string (DIG-09).
func AppendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	if strings.IndexByte(s, '"') < 0 && strings.IndexByte(s, '\\') < 0 {
		b = append(b, s...)
		return append(b, '"')
	}
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
