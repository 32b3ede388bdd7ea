package declare

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// HandlerMend says how a handler is written, for faults.
const HandlerMend = "write digest, the name of an xSP, or a chain of at most 4 such as token-service>digest"

// Handlers takes apart who answers challenges: "digest", the name of an xSP,
// or a chain of them such as "token-service>digest", in which the next one is
// asked when one refuses for good. Nothing is nobody of their own, so that the
// registrar's default counts. The error completes a sentence and does not
// repeat the text. Whether the names exist is not known here; see
// UnknownHandler.
func Handlers(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	names := messages.Handlers(text)
	if len(names) > messages.MaxHandlers {
		return nil, errors.New("names more than " + strconv.Itoa(messages.MaxHandlers) + " handlers")
	}
	for i, name := range names {
		if name == "" {
			return nil, errors.New("lacks a name beside a >")
		}
		if err := CheckName(name); err != nil {
			return nil, err
		}
		if slices.Contains(names[:i], name) {
			return nil, errors.New("names a handler twice")
		}
	}
	return names, nil
}

// UnknownHandler finds the first of the handlers that is not known, and words
// it: the fault names those that are. xsps are the configured ones.
func UnknownHandler(handlers, xsps []string) (Fault, bool) {
	known := append([]string{messages.DigestHandler}, xsps...)
	for _, name := range handlers {
		if slices.Contains(known, name) {
			continue
		}
		mend := "known are " + strings.Join(known, ", ")
		if near := Nearest(name, known); near != "" {
			mend = "did you mean " + strconv.Quote(near) + "? " + mend
		}
		return Fault{What: "unknown handler " + Show(name), Mend: mend}, true
	}
	return Fault{}, false
}

// SecurityJSON reads the body of PUT /profiles/{id}/security: either handler or
// both. nil leaves one alone; an empty text means the registrar's default.
func SecurityJSON(document []byte) (registration, session *string, faults Faults) {
	d := readObject(document)
	if d.faults.Syntax() {
		return nil, nil, d.faults
	}
	for i, f := range fields {
		if !d.given[i] {
			continue
		}
		switch f.name {
		case "registration_handler":
			registration = &d.RegistrationHandler
		case "session_handler":
			session = &d.SessionHandler
		default:
			d.faults.add(f.name, "does not belong here", "PATCH the profile to change it")
		}
	}
	if len(d.faults) == 0 && registration == nil && session == nil {
		d.faults.add("", "names no handler", "give registration_handler, session_handler or both")
	}
	if len(d.faults) > 0 {
		return nil, nil, d.faults
	}
	return registration, session, nil
}

func setHandlers(into *string, value string) *Fault {
	if _, err := Handlers(value); err != nil {
		return &Fault{What: err.Error(), Mend: HandlerMend}
	}
	*into = value
	return nil
}

func setRegistrationHandler(d *actors.Declaration, value string) *Fault {
	return setHandlers(&d.RegistrationHandler, value)
}

func setSessionHandler(d *actors.Declaration, value string) *Fault {
	return setHandlers(&d.SessionHandler, value)
}
