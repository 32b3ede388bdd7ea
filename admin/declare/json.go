package declare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// JSON reads one declaration from a JSON object with the column names. Unknown
// and repeated names are faults; null is not a value.
func JSON(document []byte) (actors.Declaration, Faults) {
	d := readObject(document)
	if d.faults.Syntax() {
		return d.Declaration, d.faults
	}
	if d.zero {
		d.fault(fieldIndex("expires"), "is not between 1 and 4294967295 seconds", "leave it out for the registrar's")
	}
	return d.finish()
}

// PatchJSON reads the fields that a PATCH changes; the id is not among them. An
// empty string or 0 puts an optional field back to its default. Giving a
// password removes the HA1, and the other way round, because only one counts.
func PatchJSON(document []byte) (actors.Patch, Faults) {
	var p actors.Patch
	d := readObject(document)
	if d.faults.Syntax() {
		return p, d.faults
	}
	given := func(name string) bool { return d.given[fieldIndex(name)] }
	if given("id") {
		d.faults.add("id", "cannot be changed", "remove the profile and add it under the other id")
	}
	for _, name := range []string{"aor", "registrar"} {
		value := d.AOR
		if name == "registrar" {
			value = d.Registrar
		}
		if i := fieldIndex(name); d.given[i] && !d.broken[i] && value == "" {
			d.fault(i, "is empty", "leave it out to keep it")
		}
	}
	if !d.Password.Empty() && !d.HA1.Empty() {
		d.faults.add("ha1", "stands beside a password", "give one of the two")
	}
	if len(d.faults) == 0 && d.given == [16]bool{} {
		d.faults.add("", "names no field to change", "give at least one of "+fmt.Sprint(Columns()[1:]))
	}
	if len(d.faults) > 0 {
		return p, d.faults
	}

	text := func(name string, value string) *string {
		if !given(name) {
			return nil
		}
		return &value
	}
	p.AOR = text("aor", d.AOR)
	p.Registrar = text("registrar", d.Registrar)
	p.Username = text("username", d.Username)
	p.ContactUser = text("contact_user", d.ContactUser)
	p.RegistrationHandler = text("registration_handler", d.RegistrationHandler)
	p.SessionHandler = text("session_handler", d.SessionHandler)
	if given("expires") {
		p.Expires = &d.Expires
	}
	if given("register") {
		register := !d.NoRegister
		p.Register = &register
	}
	if given("enabled") {
		enabled := !d.Disabled
		p.Enabled = &enabled
	}
	if given("password") {
		p.Password = &d.Password
	}
	if given("ha1") {
		p.HA1 = &d.HA1
	}
	if !d.Password.Empty() {
		p.HA1 = new(messages.Secret)
	}
	if !d.HA1.Empty() {
		p.Password = new(messages.Secret)
	}
	return p, nil
}

// readObject reads the fields of one JSON object without judging them as a
// whole. After a syntax fault the rest is not read.
func readObject(document []byte) *draft {
	d := &draft{}
	d.faults.readObject(document, Columns(), d.readValue)
	return d
}

// errShape is a JSON value that is not an object.
var errShape = errors.New("is not a JSON object")

// readObject lets read take the value of each known name, by its index, from
// the stream; a negative index is an unknown name, whose value is to be
// skipped.
func (fs *Faults) readObject(document []byte, names []string, read func(in *json.Decoder, i int) error) {
	if !utf8.Valid(document) {
		*fs = Faults{{What: "is not valid UTF-8", Syntax: true}}
		return
	}
	in := json.NewDecoder(bytes.NewReader(document))
	in.UseNumber()
	if err := fs.readFields(in, names, read); err != nil {
		*fs = append(*fs, Fault{What: syntax(document, in, err), Syntax: true})
	}
}

func (fs *Faults) readFields(in *json.Decoder, names []string, read func(in *json.Decoder, i int) error) error {
	open, err := in.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errShape
	}
	seen := map[string]bool{}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string) // a key is always a string
		if seen[name] {
			fs.add("", "the name "+Show(name)+" stands there twice", "remove one")
		}
		i := slices.Index(names, name)
		if i < 0 && !seen[name] {
			fs.add("", "unknown name "+Show(name), suggest(name, names))
		}
		seen[name] = true
		if err := read(in, i); err != nil {
			return err
		}
	}
	if _, err := in.Token(); err != nil {
		return err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has something after the closing brace")
	}
	return nil
}

// readValue reads the value of field i, or skips it when i is negative.
func (d *draft) readValue(in *json.Decoder, i int) error {
	token, err := value(in)
	if err != nil || i < 0 {
		return err
	}
	d.given[i] = true
	spelling := fields[i].kind
	switch v := token.(type) {
	case string:
		d.set(i, v)
		return nil
	case json.Number:
		if spelling == expiry {
			d.setSeconds(i, v)
			return nil
		}
	case bool:
		if spelling == flag {
			d.set(i, strconv.FormatBool(v))
			return nil
		}
	}
	want := map[kind]string{text: "a string", expiry: "a number of seconds or a string such as \"1h\"", flag: "true or false"}
	d.fault(i, "must be "+want[spelling], "leave the field out for its default")
	return nil
}

// setSeconds takes a JSON number: 3600 and 3600.0 are the same number.
func (d *draft) setSeconds(i int, value json.Number) {
	seconds, err := value.Float64()
	if err != nil || seconds != math.Trunc(seconds) || math.Abs(seconds) > math.MaxUint32 {
		d.fault(i, "is not a whole number between 1 and 4294967295", "")
		return
	}
	d.zero = seconds == 0
	if !d.zero {
		d.set(i, strconv.FormatInt(int64(seconds), 10))
	}
}

// value reads one value. Of an array or object it returns the opening, and what
// is in it is skipped.
func value(in *json.Decoder) (json.Token, error) {
	token, err := in.Token()
	if err != nil {
		return nil, err
	}
	if _, opened := token.(json.Delim); opened {
		err = skip(in)
	}
	return token, err
}

// skip reads to the end of an array or object whose opening is gone.
func skip(in *json.Decoder) error {
	for depth := 1; depth > 0; {
		token, err := in.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// syntax words a decoding error with its place and without the text around it.
func syntax(document []byte, in *json.Decoder, err error) string {
	// The offset inside a SyntaxError does not count what was read as tokens,
	// so the place is where the token begins that could not be read.
	offset := in.InputOffset()
	what := err.Error()
	var wrong *json.SyntaxError
	switch {
	case errors.As(err, &wrong):
		what = "is not valid JSON"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		what = "ends in the middle of the JSON"
		offset = int64(len(document))
	}
	return what + " at " + Position(document, offset)
}

// Position words the place of the JSON token at or after a byte offset as "line
// 2, column 7".
func Position(document []byte, offset int64) string {
	for offset < int64(len(document)) && strings.IndexByte(" \t\r\n,:", document[offset]) >= 0 {
		offset++
	}
	before := document[:min(int(offset), len(document))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	if line == 1 {
		return "column " + strconv.Itoa(column)
	}
	return "line " + strconv.Itoa(line) + ", column " + strconv.Itoa(column)
}

// exported is the JSON form of a declaration, in column order.
type exported struct {
	ID                  string `json:"id"`
	AOR                 string `json:"aor"`
	Registrar           string `json:"registrar"`
	Username            string `json:"username,omitempty"`
	Password            string `json:"password,omitempty"`
	HA1                 string `json:"ha1,omitempty"`
	ContactUser         string `json:"contact_user,omitempty"`
	Expires             int64  `json:"expires,omitempty"`
	RegistrationHandler string `json:"registration_handler,omitempty"`
	SessionHandler      string `json:"session_handler,omitempty"`
	Register            bool   `json:"register"`
	Enabled             bool   `json:"enabled"`
}

// Request is the JSON of a declaration with its secrets, to be sent to a node
// and nowhere else.
func Request(d actors.Declaration) ([]byte, error) {
	return json.Marshal(exported{
		ID: d.ID, AOR: d.AOR, Registrar: d.Registrar, Username: d.Username,
		Password: d.Password.Reveal(), HA1: d.HA1.Reveal(),
		ContactUser: d.ContactUser, Expires: int64(d.Expires / time.Second),
		RegistrationHandler: d.RegistrationHandler, SessionHandler: d.SessionHandler,
		Register: !d.NoRegister, Enabled: !d.Disabled,
	})
}

// Export is the JSON of an existing profile's declaration. It holds no secret:
// those are write-only (S-71).
func Export(v actors.ProfileView) ([]byte, error) {
	for _, field := range v.Inherited { // it stays the registrar's to say
		switch field {
		case "registration_handler":
			v.RegistrationHandler = ""
		case "session_handler":
			v.SessionHandler = ""
		}
	}
	return json.Marshal(exported{
		ID: v.ID, AOR: v.AOR, Registrar: v.Registrar, Username: v.Username,
		ContactUser: v.ContactUser, Expires: int64(v.Expires),
		RegistrationHandler: v.RegistrationHandler, SessionHandler: v.SessionHandler,
		Register: v.Register, Enabled: v.Enabled,
	})
}
