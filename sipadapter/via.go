package sipadapter

import (
	"strconv"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
)

// via is one Via value, read with more tolerance than sipgo has: white space
// around every separator and parameter names in any case. Losing the branch of
// our own echoed Via would lose the response.
type via struct {
	version   string
	transport string // upper case
	host      string // with brackets
	port      int    // 0 when absent
	params    string // after the first semicolon
}

// parseVia takes the first value of a Via header; rest is what follows its
// comma.
func parseVia(value string) (v via, rest string, ok bool) {
	if i := indexOutside(value, ","); i >= 0 {
		value, rest = value[:i], trim(value[i+1:])
	}
	protocol, value, ok1 := strings.Cut(value, "/")
	version, value, ok2 := strings.Cut(value, "/")
	if !ok1 || !ok2 || !strings.EqualFold(trim(protocol), "SIP") {
		return via{}, rest, false
	}
	v.version = trim(version)
	value = trim(value)
	end := strings.IndexAny(value, " \t")
	if end < 0 {
		return via{}, rest, false
	}
	v.transport = strings.ToUpper(value[:end])
	sentBy, params, _ := strings.Cut(value[end:], ";")
	v.params = params
	host, port, ok := cutPort(removeBlanks(sentBy))
	if !ok || !isHost(host) || !challenge.IsToken(v.transport) {
		return via{}, rest, false
	}
	v.host = host
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return via{}, rest, false
		}
		v.port = n
	}
	return v, rest, true
}

// removeBlanks removes the white space that RFC 3261 §25.1 allows around the
// colon of sent-by. No other place in it may hold any.
func removeBlanks(s string) string {
	s = trim(s)
	host, port, ok := strings.Cut(s, ":")
	if !ok || strings.HasPrefix(s, "[") {
		return s
	}
	return trim(host) + ":" + trim(port)
}

// sentBy tells whether a Via is one that we wrote (RFC 3261 §18.1.2). A peer
// may drop a port that is the default.
func (v via) sentBy(h hostPort) bool {
	port := v.port
	if port == 0 {
		port = defaultPort
	}
	return v.version == "2.0" && sameHost(v.host, h.host) && port == int(h.port)
}
