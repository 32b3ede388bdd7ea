//go:build interop

package interop

import (
	"crypto/md5"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// message is a SIP message on the wire, read without any of our own SIP code.
type message struct {
	Trace
	start       string
	headers     [][2]string // names in lower case, long form
	body        string
	method, uri string // of a request
	status      int    // of a response
	cseq        int
	cseqMethod  string
	fromTag     string
	toTag       string
	branch      string // of the topmost Via
}

var longForms = map[string]string{
	"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length",
	"c": "content-type", "k": "supported", "x": "session-expires", "r": "refer-to", "b": "referred-by",
}

func readMessage(tr Trace) (*message, error) {
	head, body, ok := strings.Cut(tr.Text, "\r\n\r\n")
	if !ok {
		return nil, fmt.Errorf("no end of the headers in %q", tr.Text)
	}
	lines := strings.Split(head, "\r\n")
	m := &message{Trace: tr, start: lines[0], body: body}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("header line %q", line)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if long := longForms[name]; long != "" {
			name = long
		}
		m.headers = append(m.headers, [2]string{name, strings.TrimSpace(value)})
	}
	if rest, ok := strings.CutPrefix(m.start, "SIP/2.0 "); ok {
		code, _, _ := strings.Cut(rest, " ")
		m.status, _ = strconv.Atoi(code)
	} else if f := strings.Split(m.start, " "); len(f) == 3 {
		m.method, m.uri = f[0], f[1]
	} else {
		return nil, fmt.Errorf("start line %q", m.start)
	}
	number, method, _ := strings.Cut(m.header("cseq"), " ")
	m.cseqMethod = strings.TrimSpace(method)
	var err error
	if m.cseq, err = strconv.Atoi(number); err != nil {
		return nil, fmt.Errorf("CSeq of %q: %w", m.start, err)
	}
	m.fromTag, m.toTag = tagOf(m.header("from")), tagOf(m.header("to"))
	top, _, _ := strings.Cut(m.header("via"), ",")
	m.branch = parameterOf(top, "branch")
	return m, nil
}

// header is the first of that name.
func (m *message) header(name string) string {
	for _, h := range m.headers {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

// all are the values of a header, in order.
func (m *message) all(name string) []string {
	var values []string
	for _, h := range m.headers {
		if h[0] == name {
			values = append(values, h[1])
		}
	}
	return values
}

// credentials are all lines of both kinds.
func (m *message) credentials() []string {
	return append(m.all("authorization"), m.all("proxy-authorization")...)
}

// transaction identifies it: repeats have the same.
func (m *message) transaction() string { return m.branch + " " + m.method }

func (m *message) String() string {
	if m.status != 0 {
		return fmt.Sprintf("%d to CSeq %d %s", m.status, m.cseq, m.cseqMethod)
	}
	return fmt.Sprintf("%s CSeq %d", m.method, m.cseq)
}

func tagOf(value string) string {
	if _, after, ok := strings.Cut(value, ">"); ok {
		value = after
	}
	return parameterOf(value, "tag")
}

func parameterOf(value, name string) string {
	for p := range strings.SplitSeq(value, ";") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(p), name+"="); ok {
			return v
		}
	}
	return ""
}

var digestParameter = regexp.MustCompile(`(\w+) *= *(?:"([^"]*)"|([^",\s]+))`)

// digestOf reads the parameters of a challenge or of credentials.
func digestOf(value string) map[string]string {
	params := map[string]string{}
	for _, m := range digestParameter.FindAllStringSubmatch(value, -1) {
		params[strings.ToLower(m[1])] = m[2] + m[3]
	}
	return params
}

// digestResponse is RFC 2617 §3.2.2 with MD5.
func digestResponse(params map[string]string, method, password string) string {
	h := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	ha1, ha2 := h(params["username"]+":"+params["realm"]+":"+password), h(method+":"+params["uri"])
	if params["qop"] == "" {
		return h(ha1 + ":" + params["nonce"] + ":" + ha2)
	}
	return h(strings.Join([]string{ha1, params["nonce"], params["nc"], params["cnonce"], params["qop"], ha2}, ":"))
}
