package sipadapter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sipmuster/muster/messages"
)

// Bounds on an authenticator's answer (S-44).
const (
	maxMutations     = 16
	maxMutationBytes = 16 << 10
)

// protectedHeaders can never be changed, whatever a configuration lists: they
// decide where a request goes, which transaction it is, and who it claims to
// be (S-50).
var protectedHeaders = []string{
	"via", "call-id", "cseq", "from", "to", "max-forwards", "route", "record-route",
	"path", "service-route", "contact", "content-length", "content-type",
	"content-encoding", "content-disposition", "content-language", "mime-version",
	"transfer-encoding", "rack", "rseq", "expires", "min-expires", "session-expires",
	"min-se", "event", "allow-events", "refer-to", "referred-by", "replaces", "join",
	"privacy", "p-asserted-identity", "p-preferred-identity", "date", "retry-after",
	"www-authenticate", "proxy-authenticate", "authentication-info",
	"proxy-authentication-info", "unsupported", "timestamp",
}

// credentialHeaders may always be changed: that is what mutations are for.
var credentialHeaders = []string{"authorization", "proxy-authorization"}

// CheckMutations is the second line of defence against an authenticator that
// wants more than to authenticate (S-50, S-51). extra lists further headers
// that may be changed. Names count in their canonical form and are never
// trimmed. The answer is taken or refused as a whole, and no error quotes a
// value.
func CheckMutations(mutations []*messages.HeaderMutation, extra []string) error {
	if len(mutations) > maxMutations {
		return fmt.Errorf("mutations: more than %d", maxMutations)
	}
	size := 0
	for i, m := range mutations {
		if m == nil {
			return fmt.Errorf("mutation %d: empty", i)
		}
		size += len(m.GetName()) + len(m.GetValue())
		if size > maxMutationBytes {
			return fmt.Errorf("mutations: more than %d bytes", maxMutationBytes)
		}
		if err := checkMutation(m, extra); err != nil {
			return fmt.Errorf("mutation %d: %w", i, err)
		}
	}
	return nil
}

func checkMutation(m *messages.HeaderMutation, extra []string) error {
	switch m.GetOp() {
	case messages.Op_SET, messages.Op_ADD, messages.Op_REMOVE:
	default:
		return errors.New("unknown operation")
	}
	if !isToken(m.GetName()) {
		return errors.New("the header name is not a token")
	}
	name := canonicalName(m.GetName())
	if !mutable(name, extra) {
		return fmt.Errorf("header %s may not be changed", name)
	}
	if !isFieldValue(m.GetValue()) {
		return fmt.Errorf("header %s: the value has control characters or is not UTF-8", name)
	}
	if m.GetOp() != messages.Op_REMOVE && trim(m.GetValue()) == "" {
		return fmt.Errorf("header %s: the value is empty", name)
	}
	return nil
}

// mutable needs a canonical name.
func mutable(name string, extra []string) bool {
	if slices.Contains(protectedHeaders, name) {
		return false
	}
	return slices.Contains(credentialHeaders, name) ||
		slices.ContainsFunc(extra, func(e string) bool { return canonicalName(e) == name })
}

// mutate applies checked mutations in order: SET leaves one line of that name,
// ADD appends one more, so that credentials for two realms stay two lines
// (RFC 3261 §20.7), REMOVE leaves none.
func mutate(lines []line, mutations []*messages.HeaderMutation) []line {
	for _, m := range mutations {
		name := canonicalName(m.GetName())
		named := func(l line) bool { return canonicalName(l.name) == name }
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
