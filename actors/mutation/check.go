package mutation

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Bounds of one answer (S-44).
const (
	maxMutations = 16
	maxBytes     = 16 << 10
)

// secAgree is the option tag of the security agreement (RFC 3329 §2.3.1), which
// IMS registrars ask for.
const secAgree = "sec-agree"

// Check tells whether mutations may be applied to a request (S-50, S-51). extra
// lists the headers that may be changed besides Authorization and
// Proxy-Authorization. The list is taken or refused as a whole.
func Check(ms []*messages.HeaderMutation, extra []string) error {
	if len(ms) > maxMutations {
		return fmt.Errorf("%d mutations, at most %d are allowed", len(ms), maxMutations)
	}
	size := 0
	for i, m := range ms {
		if m == nil {
			return fmt.Errorf("mutation %d: empty", i)
		}
		size += len(m.GetName()) + len(m.GetValue())
		if size > maxBytes {
			return fmt.Errorf("the mutations are larger than %d bytes", maxBytes)
		}
		if err := checkOne(m, extra); err != nil {
			return fmt.Errorf("mutation %d: %w", i, err)
		}
	}
	return nil
}

func checkOne(m *messages.HeaderMutation, extra []string) error {
	op := m.GetOp()
	if op != messages.Op_SET && op != messages.Op_ADD && op != messages.Op_REMOVE {
		return errors.New("unknown operation")
	}
	if !challenge.IsToken(m.GetName()) {
		return notAToken(m.GetName())
	}
	name := Canonical(m.GetName())
	fault := func(what string) error { return fmt.Errorf("header %s %s", spelled(name), what) }
	switch {
	case !mutable(name, extra):
		return fault("may not be changed")
	case !challenge.IsFieldValue(m.GetValue()):
		return fault("has a value with control characters or that is not UTF-8")
	case isOptionList(name) && (op != messages.Op_ADD || m.GetValue() != secAgree):
		return fault("may only have " + secAgree + " added")
	case op != messages.Op_REMOVE && strings.Trim(m.GetValue(), " \t") == "":
		return fault("has an empty value")
	}
	return nil
}

// mutable needs a canonical name. What can never be changed is looked at
// before what is listed.
func mutable(name string, extra []string) bool {
	if isCredentials(name) {
		return true
	}
	return forbidden(name) == "" &&
		slices.ContainsFunc(extra, func(e string) bool { return Canonical(e) == name })
}

// isCredentials tells the headers that may always be changed: that is what
// mutations are for.
func isCredentials(name string) bool {
	return name == authorization || name == proxyAuthorization
}
