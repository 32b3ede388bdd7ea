package messages

import "strings"

// DigestHandler is the name of the DigestActor, the handler that every node has.
const DigestHandler = "digest"

// MaxHandlers is how many handlers a chain may name. Each that refuses takes its
// time, while the nonce grows old and the registrar waits.
const MaxHandlers = 4

var digestOnly = []string{DigestHandler}

// Handlers splits the name of a handler, such as "token-service>digest": the
// first is asked, and the next when one refuses for good. Empty means the
// DigestActor. The result is shared and must not be changed.
func Handlers(handler string) []string {
	if handler == "" || handler == DigestHandler {
		return digestOnly
	}
	return strings.Split(handler, ">")
}

// UserPart is the user of an AOR such as sip:alice@example.test, or "".
func UserPart(aor string) string {
	_, rest, _ := strings.Cut(aor, ":")
	user, _, found := strings.Cut(rest, "@")
	if !found {
		return ""
	}
	return user
}
