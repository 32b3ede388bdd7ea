package actors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// Bounds of what a caller gives: a message has to fit with all the rest into 64
// KiB (S-31).
const (
	maxCallerHeaders = 32
	maxCallerHeader  = 4 << 10
	maxCallerBody    = 48 << 10
)

// writtenHeaders are the names that the stack writes by itself.
var writtenHeaders = []string{
	"via", "from", "to", "call-id", "cseq", "contact", "route", "record-route", "max-forwards",
	"content-length", "content-type", "authorization", "proxy-authorization", "supported", "user-agent", "server",
	"expires", "allow", "session-expires", "min-se", "rack", "rseq", "timestamp",
	"www-authenticate", "proxy-authenticate", "authentication-info", "proxy-authentication-info",
}

// inDialogMethods are those that Farm.SendInSession takes.
var inDialogMethods = []string{"INVITE", "UPDATE", "INFO", "REFER", "MESSAGE", "NOTIFY", "OPTIONS"}

func invalidSession(field, problem string) error {
	return fmt.Errorf("%w: %s: %s", ErrInvalidSession, field, problem)
}

// checkTarget tells what is wrong with a URI to call. It is not quoted: it may
// hold a password.
func checkTarget(uri string) error {
	const want = "want a SIP URI such as sip:bob@example.test"
	scheme, rest, ok := strings.Cut(uri, ":")
	switch {
	case ok && strings.EqualFold(scheme, "sips"):
		return invalidSession("target", "a sips URI needs TLS, which this release does not offer; "+want)
	case !ok || !strings.EqualFold(scheme, "sip"), !challenge.IsFieldValue(uri), strings.ContainsAny(uri, " \t<>\""),
		strings.Count(rest, "@") > 1, strings.HasPrefix(rest, "@"), session.AddressOf(uri) == "", strings.HasPrefix(session.AddressOf(uri), ":"):
		return invalidSession("target", want)
	case strings.Contains(rest, "?"):
		return invalidSession("target", "has a header part; remove the ? and what follows") // S-54
	case len(uri) > 1024:
		return invalidSession("target", "is longer than 1024 bytes")
	}
	return nil
}

// checkContent tells what is wrong with the headers and the body that a caller
// gives to a message. No error shows a value.
func checkContent(headers []messages.Header, contentType string, body []byte) error {
	if len(headers) > maxCallerHeaders {
		return invalidSession("headers", fmt.Sprintf("are %d, at most %d are allowed", len(headers), maxCallerHeaders))
	}
	for _, h := range headers {
		name := mutation.Canonical(h.Name)
		switch {
		case !challenge.IsToken(h.Name):
			return invalidSession("headers", "one has a name that is not a token (RFC 3261 §25.1)")
		case slices.Contains(writtenHeaders, name):
			return invalidSession("headers", name+" is written by the node; leave it out")
		case !challenge.IsFieldValue(h.Value) || strings.Trim(h.Value, " \t") == "":
			return invalidSession("headers", name+" has no value, or one with control characters or that is not UTF-8")
		case len(h.Value) > maxCallerHeader:
			return invalidSession("headers", fmt.Sprintf("%s is longer than %d bytes", name, maxCallerHeader))
		}
	}
	switch {
	case len(body) > maxCallerBody:
		return invalidSession("body", fmt.Sprintf("is %d bytes long, at most %d are allowed", len(body), maxCallerBody))
	case !challenge.IsFieldValue(contentType), contentType != "" && !strings.Contains(contentType, "/"), len(contentType) > 256:
		return invalidSession("content_type", "want a media type such as application/sdp")
	}
	return nil
}

// contentOf is what a caller gives to a message.
func contentOf(headers []messages.Header, contentType string, body []byte) content {
	c := content{headers: slices.Clone(headers), description: description{contentType: contentType, body: slices.Clone(body)}}
	switch {
	case c.empty():
		c.description = description{}
	case contentType == "":
		c.contentType = "application/sdp"
	}
	return c
}
