package declare

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// maxText bounds every text of a declaration, in bytes.
const maxText = 256

// kind says how a field is spelled in JSON.
type kind int

const (
	text   kind = iota // a string
	expiry             // a number of seconds or a duration string
	flag               // a boolean
)

// field is one field of a declaration: its column and JSON name, and how a
// text becomes a value. A draft calls set only with a non-empty text.
type field struct {
	name   string
	kind   kind
	secret bool
	set    func(d *actors.Declaration, text string) *Fault
}

// fields is the table of design §9, in column order.
var fields = []field{
	{name: "id", set: setID},
	{name: "aor", set: setAOR},
	{name: "registrar", set: func(d *actors.Declaration, t string) *Fault { return setName(&d.Registrar, t) }},
	{name: "username", set: setUsername},
	{name: "password", secret: true, set: setPassword},
	{name: "ha1", secret: true, set: setHA1},
	{name: "contact_user", set: setContactUser},
	{name: "expires", kind: expiry, set: setExpires},
	{name: "registration_handler", set: setRegistrationHandler},
	{name: "session_handler", set: setSessionHandler},
	{name: "register", kind: flag, set: func(d *actors.Declaration, t string) *Fault { return setNegated(&d.NoRegister, t) }},
	{name: "enabled", kind: flag, set: func(d *actors.Declaration, t string) *Fault { return setNegated(&d.Disabled, t) }},
}

// Columns lists the field names in column order.
func Columns() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// fieldIndex finds a field by name, or returns -1.
func fieldIndex(name string) int {
	return slices.IndexFunc(fields, func(f field) bool { return f.name == name })
}

// draft is a declaration while it is read.
type draft struct {
	actors.Declaration
	faults Faults
	given  [16]bool // by index in fields: the field was there
	broken [16]bool // by index in fields: it has a fault
	zero   bool     // expires was the number 0: "the registrar's" in a patch
}

// set gives a field its text; an empty one is as good as an absent one. No
// fault repeats a value, except one that begins like an AOR: where the columns
// of a row are shifted, any other text may be a password.
func (d *draft) set(i int, value string) {
	d.given[i] = true
	if value == "" {
		return
	}
	f := fields[i]
	if !f.secret && (value[0] == ' ' || value[len(value)-1] == ' ') {
		d.fault(i, "begins or ends with a blank", "remove it")
		return
	}
	if fault := f.set(&d.Declaration, value); fault != nil {
		d.fault(i, fault.What, fault.Mend)
	}
}

func (d *draft) fault(i int, what, mend string) {
	d.broken[i] = true
	d.faults.add(fields[i].name, what, mend)
}

// finish applies what concerns more than one field. Handlers that are not
// named stay empty: the registrar's default may change later.
func (d *draft) finish() (actors.Declaration, Faults) {
	for _, needed := range [...]struct{ name, value string }{{"aor", d.AOR}, {"registrar", d.Registrar}} {
		if needed.value != "" {
			continue
		}
		if i := fieldIndex(needed.name); !d.broken[i] {
			d.fault(i, "is missing", "every profile needs an aor and a registrar")
		}
	}
	if !d.Password.Empty() && !d.HA1.Empty() {
		d.faults.add("ha1", "stands beside a password", "give one of the two")
	}
	if d.ID == "" {
		d.ID = d.AOR
	}
	return d.Declaration, d.faults
}

// CheckID tells what is wrong with a profile id, or nil.
func CheckID(id string) error {
	if fault := setID(&actors.Declaration{}, id); fault != nil {
		return *fault
	}
	return nil
}

func setID(d *actors.Declaration, value string) *Fault {
	if what := plainText(value, maxText); what != "" {
		return &Fault{What: what}
	}
	// The first two are path segments of the API (/profiles/export), and the
	// others are removed from paths even where they are escaped.
	switch value {
	case "import", "export", ".", "..":
		return &Fault{What: "is a reserved word", Mend: "choose another id"}
	}
	d.ID = value
	return nil
}

func setAOR(d *actors.Declaration, value string) *Fault {
	const mend = "write sip:user@host"
	u, err := ParseURI(value)
	switch {
	case len(value) > maxText:
		return &Fault{What: "is longer than " + strconv.Itoa(maxText) + " bytes"}
	case err != nil && u.Scheme == "":
		return &Fault{What: err.Error(), Mend: mend}
	case err != nil:
		return &Fault{What: Show(value) + " " + err.Error(), Mend: mend}
	case u.Scheme == "sips":
		return &Fault{What: Show(value) + " needs TLS, which this release does not offer", Mend: mend}
	case u.Password:
		return &Fault{What: Show(value) + " carries a password", Mend: "put it in the field password"}
	case u.User == "":
		return &Fault{What: Show(value) + " has no user part", Mend: mend}
	case u.Headers:
		return &Fault{What: Show(value) + " has a header part", Mend: "remove the ? and what follows"}
	}
	d.AOR = value
	return nil
}

func setUsername(d *actors.Declaration, value string) *Fault {
	if what := plainText(value, maxText); what != "" {
		return &Fault{What: what}
	}
	d.Username = value
	return nil
}

func setPassword(d *actors.Declaration, value string) *Fault {
	if what := plainText(value, maxText); what != "" {
		return &Fault{What: what}
	}
	d.Password = messages.NewSecret(value)
	return nil
}

// setHA1 takes the hex of H(user:realm:password) for MD5 or a 256-bit hash.
// A wrong length or alphabet is refused here because it overflowed others
// (CVE-2022-24754).
func setHA1(d *actors.Declaration, value string) *Fault {
	const mend = "give 32 (MD5) or 64 (SHA-256, SHA-512-256) hex digits"
	if len(value) != 32 && len(value) != 64 {
		return &Fault{What: "has " + strconv.Itoa(len(value)) + " characters", Mend: mend}
	}
	for i := range len(value) {
		if !isHex(value[i]) {
			return &Fault{What: "has a character that is not a hex digit", Mend: mend}
		}
	}
	d.HA1 = messages.NewSecret(strings.ToLower(value))
	return nil
}

// contactMarks leave out ';' and '?', which end a user part for many parsers
// although RFC 3261 §25.1 allows them there.
const contactMarks = marks + "&=+$,/"

func setContactUser(d *actors.Declaration, value string) *Fault {
	if len(value) > maxText || checkEscaped(value, contactMarks) != nil {
		return &Fault{What: "is not the user part of a SIP URI", Mend: "escape other characters as %XX"}
	}
	d.ContactUser = value
	return nil
}

func setExpires(d *actors.Declaration, value string) *Fault {
	seconds, err := Expiry(value)
	if err != nil {
		return &Fault{What: err.Error(), Mend: "write seconds or a duration such as 1h"}
	}
	d.Expires = seconds
	return nil
}

func setName(into *string, value string) *Fault {
	if err := CheckName(value); err != nil {
		return &Fault{What: err.Error()}
	}
	*into = value
	return nil
}

func setNegated(into *bool, value string) *Fault {
	on, err := Flag(value)
	if err != nil {
		return &Fault{What: err.Error(), Mend: "write true or false"}
	}
	*into = !on
	return nil
}

// CheckName checks the name of a registrar, a handler or a node: it becomes a
// metric label and a part of keys.
func CheckName(name string) error {
	if name == "" || len(name) > 63 || !isAlnum(name[0]) {
		return errors.New("is not a name: 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first")
	}
	for i := 1; i < len(name); i++ {
		if c := name[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
			return errors.New("is not a name: only letters, digits, '.', '_' and '-' may stand in it")
		}
	}
	return nil
}

// Flag reads true, false, yes, no, 1 or 0 in any case.
func Flag(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "true", "yes", "1":
		return true, nil
	case "false", "no", "0":
		return false, nil
	}
	return false, errors.New("is neither true nor false")
}

// Duration reads a Go duration ("90s", "1h30m"), days ("30d") or a plain number
// of seconds.
func Duration(value string) (time.Duration, error) {
	number, unit := value, time.Second
	if days, ok := strings.CutSuffix(value, "d"); ok {
		number, unit = days, 24*time.Hour
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && number[0] != '+' {
		if n > math.MaxInt64/int64(unit) || n < math.MinInt64/int64(unit) {
			return 0, errors.New("is too long a time")
		}
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, errors.New("is not a duration")
	}
	return d, nil
}

// Expiry reads a SIP expiry: whole seconds that fit delta-seconds (RFC 3261
// §20.19), as a number or a duration.
func Expiry(value string) (time.Duration, error) {
	d, err := Duration(value)
	switch {
	case err != nil:
		return 0, err
	case d < time.Second || d > math.MaxUint32*time.Second:
		return 0, errors.New("is not between 1 and 4294967295 seconds")
	case d%time.Second != 0:
		return 0, errors.New("is not a whole number of seconds")
	}
	return d, nil
}

// plainText tells what is wrong with a free text, or "" (S-52: nothing that
// people write may end a header line).
func plainText(value string, limit int) string {
	if len(value) > limit {
		return "is longer than " + strconv.Itoa(limit) + " bytes"
	}
	if !utf8.ValidString(value) {
		return "is not valid UTF-8"
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] == 0x7f {
			return "contains a control character"
		}
	}
	return ""
}
