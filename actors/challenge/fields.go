package challenge

import "strings"

// Fields is what is weighed and answered of a challenge, taken from it in one pass.
// Of repeated parameters it has the first; what is not there is empty.
type Fields struct {
	// Scheme is as received; Digest tells whether it is that.
	Scheme string
	Digest bool

	values [fieldCount]string
	has    uint16 // bits by place in values
}

// The places in Fields.values.
const (
	fieldRealm = iota
	fieldNonce
	fieldAlgorithm
	fieldQOP
	fieldOpaque
	fieldStale
	fieldCharset
	fieldUserhash
	fieldError
	fieldCount
)

// placeOf is where the value of a parameter is kept, or -1.
func placeOf(name string) int {
	switch name {
	case "realm":
		return fieldRealm
	case "nonce":
		return fieldNonce
	case "algorithm":
		return fieldAlgorithm
	case "qop":
		return fieldQOP
	case "opaque":
		return fieldOpaque
	case "stale":
		return fieldStale
	case "charset":
		return fieldCharset
	case "userhash":
		return fieldUserhash
	case "error":
		return fieldError
	}
	return -1
}

// Read takes a challenge apart: it knows the same faults as Parse. After one, what
// the fields hold means nothing.
func (f *Fields) Read(raw string) error {
	scheme, rest, err := cutScheme(raw)
	if err != nil {
		return err
	}
	*f = Fields{Scheme: scheme, Digest: isDigest(scheme)}
	params := newParamReader(rest)
	var repeated uint16
	place := -1 // where the latest parameter is kept
	for {
		more, err := params.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if params.continues {
			if place >= 0 {
				f.values[place] += "," + params.value
			}
			continue
		}
		if place = placeOf(params.name); place < 0 {
			continue
		}
		if f.has>>place&1 != 0 {
			repeated |= 1 << place
			place = -1
			continue
		}
		f.has |= 1 << place
		f.values[place] = params.value
	}
	return f.validate(params.read, repeated)
}

// validate checks what Parsed.validate checks.
func (f *Fields) validate(params int, repeated uint16) error {
	switch {
	case params == 0:
		return errEmpty
	case repeated>>fieldRealm&1 != 0, f.Digest && f.has>>fieldRealm&1 == 0:
		return errRealm
	case repeated>>fieldNonce&1 != 0, f.Digest && f.Nonce() == "":
		return errNonce
	}
	return nil
}

// Realm is an opaque, case-sensitive string (CHA-28).
func (f *Fields) Realm() string { return f.values[fieldRealm] }

// Nonce is never empty in a Digest challenge.
func (f *Fields) Nonce() string { return f.values[fieldNonce] }

// Algorithm is as received, empty when absent; see CanonicalAlgorithm.
func (f *Fields) Algorithm() string { return f.values[fieldAlgorithm] }

// QOP is the list as received.
func (f *Fields) QOP() string { return f.values[fieldQOP] }

// Opaque tells as well whether there is any, which may be empty.
func (f *Fields) Opaque() (value string, received bool) {
	return f.values[fieldOpaque], f.has>>fieldOpaque&1 != 0
}

// Charset is as received.
func (f *Fields) Charset() string { return f.values[fieldCharset] }

// Userhash is as received.
func (f *Fields) Userhash() string { return f.values[fieldUserhash] }

// Stale tells that only the nonce of the last answer was wrong (CHA-11).
func (f *Fields) Stale() bool { return strings.EqualFold(f.values[fieldStale], "true") }

// expired tells that a bearer token was no longer valid (RFC 6750 §3.1, RFC 8898
// §2.1.1).
func (f *Fields) expired() bool {
	return f.values[fieldError] == "invalid_token" && strings.EqualFold(f.Scheme, "Bearer")
}

// offersQOP tells whether any quality of protection is named.
func (f *Fields) offersQOP() bool { return strings.Trim(f.QOP(), " \t,") != "" }
