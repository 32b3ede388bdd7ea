package challenge

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds on what a peer may send (S-31). More is an error in Parse and is cut
// off in Split.
const (
	splitMaxBytes  = 64 << 10 // one header value, the size of a message
	splitMaxCount  = 64       // challenges of one header value
	parseMaxBytes  = 8 << 10  // one challenge
	parseMaxParams = 32       // parameters of one challenge
)

// Faults of a challenge. No message quotes what arrived (S-65).
var (
	errTooLong   = errors.New("parse challenge: longer than 8 KiB")
	errControl   = errors.New("parse challenge: control byte")
	errEncoding  = errors.New("parse challenge: not UTF-8")
	errScheme    = errors.New("parse challenge: no scheme")
	errEmpty     = errors.New("parse challenge: no parameter")
	errName      = errors.New("parse challenge: parameter without a name")
	errNoValue   = errors.New("parse challenge: parameter without a value")
	errQuotes    = errors.New("parse challenge: unbalanced quotes")
	errSeparator = errors.New("parse challenge: no comma between parameters")
	errParams    = errors.New("parse challenge: more than 32 parameters")
	errRealm     = errors.New("parse challenge: realm missing or repeated")
	errNonce     = errors.New("parse challenge: nonce missing, empty or repeated")
)

// Param is one parameter of a challenge.
type Param struct {
	// Name is in lower case.
	Name string
	// Value has no quotes and no quoting backslashes (DIG-09).
	Value string
	// Quoted tells whether the value arrived as a quoted string.
	Quoted bool
}

// Parsed is one challenge, taken apart.
type Parsed struct {
	// Scheme is as received; compare without case.
	Scheme string
	// Params are in wire order.
	Params []Param
}

// Split takes the value of one WWW-Authenticate or Proxy-Authenticate header
// apart into its challenges, in order and trimmed (CHA-20). A comma ends a
// challenge only where the text after it begins another one, that is with a
// token that no equals sign follows: RFC 3261 §20.44 forbids to join
// challenges in one line, RFC 7235 §2.1 allows it, and it is seen.
func Split(value string) []string {
	if len(value) > splitMaxBytes {
		return nil
	}
	var challenges []string
	start := 0
	add := func(end int) {
		if c := strings.Trim(value[start:end], " \t\r\n,"); c != "" && len(challenges) < splitMaxCount {
			challenges = append(challenges, c)
		}
	}
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted && beginsChallenge(value[i+1:]):
			add(i)
			start = i + 1
		}
	}
	add(len(value))
	return challenges
}

// beginsChallenge tells whether s starts with a scheme rather than with a
// parameter. A lone "auth" or "auth-int" is the rest of an unquoted qop list.
func beginsChallenge(s string) bool {
	s = strings.TrimLeft(s, " \t\r\n")
	name := s[:TokenLength(s)]
	if name == "" || isQOPValue(name) {
		return false
	}
	after := s[len(name):]
	rest := strings.TrimLeft(after, " \t\r\n")
	return rest == "" || rest[0] == ',' || rest[0] != '=' && len(rest) < len(after)
}

// Parse takes one challenge apart. It is lenient in what servers get wrong
// without harm (case, blanks, folding, trailing commas, quotes where none
// belong and none where they do) and strict in what would be ambiguous or
// dangerous to echo (CHA-29, S-52).
func Parse(raw string) (Parsed, error) {
	var room paramRoom
	scheme, params, err := parseInto(room[:0], raw)
	if err != nil {
		return Parsed{}, err
	}
	return Parsed{Scheme: scheme, Params: slices.Clone(params)}, nil
}

// NonceOf is the nonce of a challenge, or "" when it has none or does not
// parse.
func NonceOf(raw string) string {
	var f Fields
	if f.Read(raw) != nil {
		return ""
	}
	return f.Nonce()
}

// paramRoom is for the parameters of the usual challenge while it is looked
// at.
type paramRoom [8]Param

// parseInto is Parse with the parameters appended to room, which is empty. The
// result is in pieces so that a room on the stack stays there.
func parseInto(room []Param, raw string) (scheme string, params []Param, err error) {
	scheme, rest, err := cutScheme(raw)
	if err != nil {
		return "", nil, err
	}
	if params, err = parseParams(room, rest); err != nil {
		return "", nil, err
	}
	p := Parsed{Scheme: scheme, Params: params}
	if err := p.validate(); err != nil {
		return "", nil, err
	}
	return scheme, params, nil
}

// cutScheme checks the bytes of a challenge and finds where its parameters begin.
func cutScheme(raw string) (scheme, rest string, err error) {
	if len(raw) > parseMaxBytes {
		return "", "", errTooLong
	}
	if !isPrintable(raw) {
		if !utf8.ValidString(raw) {
			return "", "", errEncoding
		}
		var ok bool
		if raw, ok = unfold(raw); !ok {
			return "", "", errControl
		}
	}
	rest = trimBlanks(raw)
	n := TokenLength(rest)
	if n == 0 || n < len(rest) && rest[n] != ' ' && rest[n] != '\t' {
		return "", "", errScheme
	}
	return rest[:n], rest[n:], nil
}

// isPrintable tells whether s is ASCII without control bytes, as nearly every
// challenge is. It looks at eight bytes at once: each addition or subtraction
// sets the highest bit of a byte that is out of range.
func isPrintable(s string) bool {
	const each = 0x0101010101010101
	for len(s) >= 8 {
		v := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		if (v|(v-each*' ')|(v+each*(0x80-0x7f)))&(each*0x80) != 0 {
			return false
		}
		s = s[8:]
	}
	for i := range len(s) {
		if s[i]-' ' > '~'-' ' {
			return false
		}
	}
	return true
}

func parseParams(params []Param, s string) ([]Param, error) {
	r := newParamReader(s)
	for {
		switch more, err := r.next(); {
		case err != nil:
			return nil, err
		case !more:
			return params, nil
		case r.continues:
			params[len(params)-1].Value += "," + r.value
		default:
			params = append(params, Param{Name: r.name, Value: r.value, Quoted: r.quoted})
		}
	}
}

// paramReader goes through the parameters of a challenge.
type paramReader struct {
	s string
	i int
	// escapes tells whether there are backslashes in s.
	escapes bool
	// read counts the parameters.
	read int

	// The latest one: its name in lower case, and its value without quotes.
	name, value string
	quoted      bool
	// continues tells that value goes on with that of the parameter before: an
	// unquoted qop list, qop=auth,auth-int, which a strict reading would cut at the
	// comma.
	continues bool
}

func newParamReader(s string) paramReader {
	return paramReader{s: s, escapes: strings.IndexByte(s, '\\') >= 0}
}

// next reads a parameter; it is false when there is none left.
func (r *paramReader) next() (more bool, err error) {
	s, i := r.s, r.i
	for i < len(s) && (s[i] == ',' || isBlank(s[i])) {
		i++ // empty elements of the list too (RFC 7230 §7)
	}
	if i == len(s) {
		return false, nil
	}
	if r.read == parseMaxParams {
		return false, errParams
	}
	start, capitals := i, false
	for i < len(s) && tokenBytes[s[i]] {
		capitals = capitals || s[i]-'A' <= 'Z'-'A'
		i++
	}
	if i == start {
		return false, errName
	}
	name := s[start:i]
	i = afterBlanks(s, i)
	if r.continues = i == len(s) || s[i] != '='; r.continues {
		if r.name != "qop" || r.quoted || !isQOPValue(name) {
			return false, errNoValue
		}
		r.value = name
	} else {
		if capitals {
			name = strings.ToLower(name)
		}
		r.name = name
		if r.value, r.quoted, i, err = parseValue(s, afterBlanks(s, i+1), r.escapes); err != nil {
			return false, err
		}
		r.read++
		i = afterBlanks(s, i)
	}
	if i < len(s) && s[i] != ',' {
		return false, errSeparator
	}
	r.i = i
	return true, nil
}

// parseValue reads the quoted string at s[i:], or everything up to the next comma
// or blank, and returns where it ends. Only a quoted string may be empty.
// escapes tells whether there are backslashes in s.
func parseValue(s string, i int, escapes bool) (value string, quoted bool, end int, err error) {
	if i == len(s) || s[i] != '"' {
		end = i
		for end < len(s) && s[end] != ',' && !isBlank(s[end]) {
			if s[end] == '"' {
				return "", false, 0, errQuotes
			}
			end++
		}
		if end == i || s[i] == '=' {
			return "", false, 0, errNoValue
		}
		return s[i:end], false, end, nil
	}
	i++
	if escapes {
		value, end, err = unescape(s, i)
		return value, true, end, err
	}
	n := strings.IndexByte(s[i:], '"')
	if n < 0 {
		return "", true, 0, errQuotes
	}
	return s[i : i+n], true, i + n + 1, nil
}

// unescape reads a quoted string that may have quoting backslashes.
func unescape(s string, i int) (value string, end int, err error) {
	var b []byte
	for start := i; i < len(s); i++ {
		switch s[i] {
		case '"':
			if b == nil {
				return s[start:i], i + 1, nil
			}
			return string(b), i + 1, nil
		case '\\':
			if b == nil {
				b = append(make([]byte, 0, len(s)-start), s[start:i]...)
			}
			if i++; i == len(s) {
				return "", 0, errQuotes
			}
			b = append(b, s[i])
		default:
			if b != nil {
				b = append(b, s[i])
			}
		}
	}
	return "", 0, errQuotes
}

// validate checks what every challenge and what a Digest challenge must have
// (CHA-29). An empty realm is legal, an empty nonce is not.
func (p Parsed) validate() error {
	if len(p.Params) == 0 {
		return errEmpty
	}
	var realms, nonces int
	for _, param := range p.Params {
		switch param.Name {
		case "realm":
			realms++
		case "nonce":
			nonces++
		}
	}
	digest := p.IsDigest()
	if realms > 1 || digest && realms == 0 {
		return errRealm
	}
	if nonces > 1 || digest && p.Nonce() == "" {
		return errNonce
	}
	return nil
}

// Get returns the first parameter of that name, which is in lower case.
func (p Parsed) Get(name string) (string, bool) {
	for _, param := range p.Params {
		if param.Name == name {
			return param.Value, true
		}
	}
	return "", false
}

// IsDigest tells whether the scheme is Digest.
func (p Parsed) IsDigest() bool { return isDigest(p.Scheme) }

func isDigest(scheme string) bool { return scheme == "Digest" || strings.EqualFold(scheme, "Digest") }

// Realm is an opaque, case-sensitive string (CHA-28).
func (p Parsed) Realm() string { return p.value("realm") }

// Nonce is never empty in a Digest challenge.
func (p Parsed) Nonce() string { return p.value("nonce") }

// Stale tells that only the nonce of the last answer was wrong (CHA-11).
func (p Parsed) Stale() bool { return strings.EqualFold(p.value("stale"), "true") }

// Algorithm is as received, empty when absent; see CanonicalAlgorithm.
func (p Parsed) Algorithm() string { return p.value("algorithm") }

// QOP lists the offered qualities of protection in lower case. It is empty
// both without a qop parameter and with an empty one.
func (p Parsed) QOP() []string {
	var list []string
	for v := range strings.SplitSeq(p.value("qop"), ",") {
		if v = strings.ToLower(strings.Trim(v, " \t")); v != "" {
			list = append(list, v)
		}
	}
	return list
}

// Map returns the parameters by lower-case name; of repeated ones the first.
func (p Parsed) Map() map[string]string {
	m := make(map[string]string, len(p.Params))
	for _, param := range p.Params {
		if _, repeated := m[param.Name]; !repeated {
			m[param.Name] = param.Value
		}
	}
	return m
}

func (p Parsed) value(name string) string {
	v, _ := p.Get(name)
	return v
}

// CanonicalAlgorithm is the upper-case name of a known algorithm: absent means
// MD5 and case does not matter (DIG-10). An unknown name is returned as it is.
func CanonicalAlgorithm(algorithm string) string {
	if algorithm == "" {
		return "MD5"
	}
	if Strength(algorithm) == 0 {
		return algorithm
	}
	return strings.ToUpper(algorithm)
}

// Strength orders the algorithms, to see when a server asks for less than it
// did before (CHA-25): MD5 is 1, SHA-256 is 2, SHA-512-256 is 3, those plus 3
// with AKAv1 and plus 6 with AKAv2 (RFC 4169 §4.1), unknown is 0. A session
// variant is as strong as its base, and absent means MD5.
func Strength(algorithm string) int {
	for i, version := range []string{"AKAv1-", "AKAv2-"} {
		if n := len(version); len(algorithm) > n && strings.EqualFold(algorithm[:n], version) {
			if hash := Strength(algorithm[n:]); hash > 0 && hash <= 3 {
				return hash + 3*(i+1)
			}
			return 0
		}
	}
	const sess = "-sess"
	if n := len(algorithm) - len(sess); n > 0 && strings.EqualFold(algorithm[n:], sess) {
		algorithm = algorithm[:n]
	}
	switch {
	case algorithm == "", strings.EqualFold(algorithm, "MD5"):
		return 1
	case strings.EqualFold(algorithm, "SHA-256"):
		return 2
	case strings.EqualFold(algorithm, "SHA-512-256"):
		return 3
	}
	return 0
}

// unfold replaces folded lines by one space (RFC 3261 §7.3.1) and reports
// whether no control byte is left but HTAB. A line end that no blank follows
// would start another header and is refused.
func unfold(s string) (string, bool) {
	s = strings.Trim(s, " \t\r\n")
	folded := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\r' || c == '\n':
			folded = true
		case c < ' ' && c != '\t', c == 0x7f:
			return "", false
		}
	}
	if !folded {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\r' && s[i] != '\n' {
			b.WriteByte(s[i])
			continue
		}
		if s[i] == '\r' {
			i++
		}
		if i+1 >= len(s) || s[i] != '\n' || s[i+1] != ' ' && s[i+1] != '\t' {
			return "", false
		}
		for i+1 < len(s) && (s[i+1] == ' ' || s[i+1] == '\t') {
			i++
		}
		b.WriteByte(' ')
	}
	return b.String(), true
}

func isQOPValue(s string) bool {
	return strings.EqualFold(s, "auth") || strings.EqualFold(s, "auth-int")
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// afterBlanks is the index of the first byte from i on that is no blank.
func afterBlanks(s string, i int) int {
	for i < len(s) && isBlank(s[i]) {
		i++
	}
	return i
}

func trimBlanks(s string) string {
	s = s[afterBlanks(s, 0):]
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
