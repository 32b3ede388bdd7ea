package actors

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

// What crosses a bridge besides bodies: headers and status codes.

// maxPassed and maxPassedSize bound what one message brings to the other leg, so
// that a peer cannot make requests of ours too large to leave (S-31).
const (
	maxPassed     = 32
	maxPassedSize = 4 << 10
)

// canonicalNames are header names to compare with.
func canonicalNames(names []string) []string {
	canonical := make([]string, len(names))
	for i, name := range names {
		canonical[i] = mutation.Canonical(name)
	}
	return canonical
}

// passing are the headers of a message that cross: those of the configuration,
// those that describe a body that crosses, and those without which an INFO means
// nothing (RFC 6086 §7).
func (b bridge) passing(method string, info messages.DialogInfo) []messages.Header {
	var out []messages.Header
	for _, h := range info.Headers {
		name := mutation.Canonical(h.Name)
		if len(out) == maxPassed || len(h.Name)+len(h.Value) > maxPassedSize {
			continue
		}
		switch {
		case slices.Contains(b.headers, name),
			name == "reason",
			name == "recv-info",
			name == "info-package" && method == "INFO",
			len(info.Body) > 0 && describes(name):
			out = append(out, h)
		}
	}
	return out
}

// describes tells the headers without which a body cannot be read. The name is
// canonical.
func describes(name string) bool {
	return name == "mime-version" || strings.HasPrefix(name, "content-")
}

// describing are those of a message.
func describing(headers []messages.Header) []messages.Header {
	var out []messages.Header
	for _, h := range headers {
		if describes(mutation.Canonical(h.Name)) && len(out) < maxPassed {
			out = append(out, h)
		}
	}
	return out
}

// reasonHeaders are the Reason lines of a message (RFC 3326).
func reasonHeaders(headers []messages.Header) []messages.Header {
	var out []messages.Header
	for _, h := range headers {
		if mutation.Canonical(h.Name) == "reason" {
			out = append(out, h)
		}
	}
	return out
}

// causeOf are the Reason lines for the BYE or CANCEL of a leg whose partner
// ended: those that came, else the status that ended it (RFC 3326 §2).
func causeOf(n SessionNotice) []messages.Header {
	var came []messages.Header
	switch {
	case n.Request != nil:
		came = reasonHeaders(n.Request.Dialog.Headers)
	case n.Response != nil:
		came = reasonHeaders(infoOf(n.Response).Headers)
	}
	if len(came) == 0 && n.Status >= 300 && n.Status != 401 && n.Status != 407 {
		came = []messages.Header{{Name: "Reason", Value: "SIP;cause=" + strconv.Itoa(n.Status)}}
	}
	return came
}

// retryAfter repeats when the call may be tried again (RFC 3261 §20.33).
func retryAfter(r *messages.SIPResponse) []messages.Header {
	if r.RetryAfter < 0 {
		return nil
	}
	return []messages.Header{{Name: "Retry-After", Value: strconv.Itoa(int(r.RetryAfter / time.Second))}}
}

// callStatus is the final response to a call whose other leg failed with a
// status, or without one. A challenge is never shown: what remains of it is
// that the credentials were refused, or that there were none to give. trunk is
// true when that leg led to the trunk's peer, which gets no credentials.
func callStatus(status int, reason messages.Reason, trunk bool) int {
	ours := reason == messages.ReasonHangup || reason == messages.ReasonHangupAfter
	switch {
	case status == 0:
		return silentStatus("INVITE", reason)
	case status == 487 && ours:
		return 480 // an operator ended that leg; nobody cancelled this one
	case status < 400:
		return 480 // a redirection is for who placed the call
	}
	return passedStatus(status, reason, trunk)
}

// insideStatus is the same for a request inside the dialog. A redirection has no
// meaning there, and a 480 would end the call (RFC 5057 §5.1).
func insideStatus(method string, status int, reason messages.Reason, trunk bool) int {
	switch {
	case status == 0:
		return silentStatus(method, reason)
	case status < 400:
		return 500
	case status == 408 && method != "INVITE":
		return 504 // RFC 4320 §4.2: no 408 to such a request
	}
	return passedStatus(status, reason, trunk)
}

func passedStatus(status int, reason messages.Reason, trunk bool) int {
	switch status {
	case 401, 407:
		if trunk || reason == messages.ReasonRejectedCredentials || reason == messages.ReasonAllowance {
			return 403
		}
		return 500
	case 420, 421, 422, 423, 494:
		return 500 // about an extension or interval of that leg
	}
	return status
}

// silentStatus is for a request that got no answer (RFC 3261 §8.1.3.1).
func silentStatus(method string, reason messages.Reason) int {
	switch reason {
	case messages.ReasonTimeout, messages.ReasonGuard:
		if method != "INVITE" {
			return 504
		}
		return 408
	case messages.ReasonTransport, messages.ReasonResolve, messages.ReasonNotAdmitted:
		return 503
	case messages.ReasonTooLarge:
		return 513
	case messages.ReasonNoAnswer, messages.ReasonHangup, messages.ReasonHangupAfter:
		return 480
	}
	return 500
}
