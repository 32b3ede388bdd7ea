//go:build interop

package interop

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// caller is a user agent made by hand, so that SIPp's scenarios and the judge of
// the wire are judged without any of our own SIP code: it does what they ask,
// or one thing wrong.
type caller struct {
	conn    *net.UDPConn
	wrong   string // see mistakes
	user    string
	callID  string
	fromTag string
	uri     string // of the next INVITE
	to      string
	body    string
	cseq    int
	minSE   string
	creds   [][2]string // header and value of the challenges to answer
	counts  map[string]int
	// of the dialog
	remoteTag, target string
	// waiting are messages that came while another was awaited.
	waiting []*message
}

func newCaller(t *testing.T, s *SIPp) *caller {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp4", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{
		conn: conn, user: "alice", callID: fmt.Sprintf("%016x", rand.Uint64()), fromTag: "from",
		uri: "sip:bob@" + s.Addr(), to: "sip:bob@" + s.Addr(), cseq: 7, counts: map[string]int{},
		body: "v=0\r\ns=\xc3\xa9 \t\r\n\r\nlast line without end",
	}
}

// stopped is what a caller panics with when it cannot go on.
type stopped struct{ err error }

// play runs one of byHand and returns why it could not go on.
func (c *caller) play(do func(*caller)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s, ok := r.(stopped)
			if !ok {
				panic(r)
			}
			err = s.err
		}
	}()
	do(c)
	return nil
}

func (c *caller) is(mistake string) bool { return c.wrong == mistake }

// text writes a request; branch and cseq are given where they are not new.
func (c *caller) text(method, uri, toTag, branch string, cseq int, more ...string) string {
	to := "<" + c.to + ">"
	if toTag != "" {
		to += ";tag=" + toTag
	}
	lines := []string{
		method + " " + uri + " SIP/2.0", fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=%s;rport", c.conn.LocalAddr(), branch),
		"Max-Forwards: 70", fmt.Sprintf("From: <sip:%s@example.test>;tag=%s", c.user, c.fromTag), "To: " + to,
		"Call-ID: " + c.callID, fmt.Sprintf("CSeq: %d %s", cseq, method), "Contact: <sip:alice@" + c.conn.LocalAddr().String() + ">",
	}
	if method != "ACK" && method != "CANCEL" {
		lines = append(lines, "Supported: timer, 100rel")
	}
	body := ""
	if method == "INVITE" {
		body = c.body
		lines = append(lines, "Content-Type: application/sdp")
	}
	lines = append(append(lines, more...), fmt.Sprintf("Content-Length: %d", len(body)))
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

func (c *caller) write(text string) *message {
	if _, err := c.conn.Write([]byte(text)); err != nil {
		panic(stopped{err})
	}
	m, err := readMessage(Trace{Text: text})
	if err != nil {
		panic(stopped{err})
	}
	return m
}

// send makes a request with the next number and all credentials.
func (c *caller) send(method, uri, toTag string, more ...string) *message {
	c.cseq++
	if c.is("number") && c.cseq == 9 {
		c.cseq = 10
	}
	branch := fmt.Sprintf("z9hG4bK%016x", rand.Uint64())
	return c.write(c.text(method, uri, toTag, branch, c.cseq, append(c.answers(method, uri), more...)...))
}

// answers computes the credentials for every challenge that is known.
func (c *caller) answers(method, uri string) []string {
	var lines []string
	for _, ch := range c.creds {
		p := digestOf(ch[1])
		c.counts[p["nonce"]]++
		if c.is("nonce count") {
			c.counts[p["nonce"]] = 1
		}
		p["username"], p["uri"], p["cnonce"], p["qop"] = c.user, uri, "cn", "auth"
		p["nc"] = fmt.Sprintf("%08x", c.counts[p["nonce"]])
		password := Password(c.user)
		if c.is("password") {
			password = "another"
		}
		lines = append(lines, fmt.Sprintf(`%s: Digest username=%q, realm=%q, nonce=%q, uri=%q, response=%q, algorithm=MD5, qop=auth, nc=%s, cnonce="cn"`,
			ch[0], c.user, p["realm"], p["nonce"], uri, digestResponse(p, method, password), p["nc"]))
	}
	return lines
}

// receive waits for the next message that is wanted and keeps the others.
func (c *caller) receive(want func(*message) bool) *message {
	if i := slices.IndexFunc(c.waiting, want); i >= 0 {
		m := c.waiting[i]
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return m
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		panic(stopped{err})
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			panic(stopped{fmt.Errorf("%s: %w", c.callID, err)})
		}
		m, err := readMessage(Trace{Text: string(buf[:n])})
		if err != nil {
			panic(stopped{err})
		}
		if want(m) {
			return m
		}
		c.waiting = append(c.waiting, m)
	}
}

func (c *caller) response(to *message, want func(status int) bool) *message {
	return c.receive(func(m *message) bool {
		return m.status != 0 && m.branch == to.branch && m.cseqMethod == to.method && want(m.status)
	})
}

func (c *caller) final(to *message) *message {
	return c.response(to, func(status int) bool { return status >= 200 })
}

// ack acknowledges a final response to an INVITE.
func (c *caller) ack(invite, final *message) {
	if c.is("ack") && final.status < 300 {
		return
	}
	branch, uri := invite.branch, invite.uri
	if final.status < 300 {
		branch, uri = fmt.Sprintf("z9hG4bK%016x", rand.Uint64()), targetOf(final)
	}
	var creds []string
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		for _, value := range invite.all(strings.ToLower(name)) {
			creds = append(creds, name+": "+value)
		}
	}
	if c.is("ack credentials") {
		creds = nil
	}
	c.write(strings.ReplaceAll(c.text("ACK", uri, final.toTag, branch, invite.cseq, creds...), "Contact", "X"))
}

// learn takes the challenges of a response and tells whether there were any.
func (c *caller) learn(m *message) bool {
	found := false
	for _, value := range m.all("www-authenticate") {
		c.keep("Authorization", value)
		found = true
	}
	for _, value := range m.all("proxy-authenticate") {
		c.keep("Proxy-Authorization", value)
		found = true
	}
	return found
}

func (c *caller) keep(header, challenge string) {
	same := func(ch [2]string) bool {
		return ch[0] == header && digestOf(ch[1])["realm"] == digestOf(challenge)["realm"]
	}
	c.creds = slices.DeleteFunc(c.creds, same)
	if c.is("one challenge") {
		c.creds = nil
	}
	c.creds = append(c.creds, [2]string{header, challenge})
}

// invite sends INVITEs until one has a final response that asks for no other,
// and acknowledges all.
func (c *caller) invite() (*message, *message) {
	for {
		invite := c.send("INVITE", c.uri, "", c.interval()...)
		final := c.final(invite)
		c.ack(invite, final)
		if !c.again(final) {
			if final.status < 300 {
				c.remoteTag, c.target = final.toTag, targetOf(final)
			}
			return invite, final
		}
		if c.is("to tag") {
			c.to += ">;tag=" + final.toTag + ";x=<"
		}
		if c.is("body") {
			c.body += "\r\n"
		}
		if c.is("from tag") {
			c.fromTag += "x"
		}
	}
}

func (c *caller) interval() []string {
	if c.minSE == "" {
		return []string{"Session-Expires: 1800"}
	}
	return []string{"Session-Expires: " + c.minSE, "Min-SE: " + c.minSE}
}

// again tells whether a response asks for another INVITE.
func (c *caller) again(final *message) bool {
	switch {
	case final.status == 422:
		c.minSE = final.header("min-se")
		return true
	case final.status == 302:
		c.uri = targetOf(final)
		return true
	}
	return final.status < 500 && c.learn(final)
}

// request makes a request in the dialog, as often as it is challenged.
func (c *caller) request(method string, more ...string) *message {
	for {
		req := c.send(method, c.target, c.remoteTag, more...)
		final := c.final(req)
		if method == "INVITE" {
			c.ack(req, final)
		}
		if !c.learn(final) {
			return final
		}
	}
}

// reply answers a request of the far end.
func (c *caller) reply(req *message, status string, body string, more ...string) {
	lines := []string{"SIP/2.0 " + status}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		lines = append(lines, name+": "+req.header(strings.ToLower(name)))
	}
	lines = append(append(lines, "Contact: <sip:alice@"+c.conn.LocalAddr().String()+">"), more...)
	c.write(strings.Join(append(lines, fmt.Sprintf("Content-Length: %d", len(body))), "\r\n") + "\r\n\r\n" + body)
}

func (c *caller) requested(method string) *message {
	return c.receive(func(m *message) bool { return m.method == method })
}

// targetOf is the URI of the Contact.
func targetOf(m *message) string {
	contact := m.header("contact")
	_, contact, _ = strings.Cut(contact, "<")
	contact, _, _ = strings.Cut(contact, ">")
	return contact
}
