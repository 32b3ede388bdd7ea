package siptest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// patience bounds every wait of a test that expects an answer.
const patience = 10 * time.Second

func start(t testing.TB, o siptest.Options) *siptest.Registrar {
	t.Helper()
	r, err := siptest.NewRegistrar(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func secret(user string) (string, bool) { return "pass-" + user, user != "stranger" }

// client is a bare socket.
type client struct {
	t      testing.TB
	conn   net.Conn
	reader *bufio.Reader // of a stream
	branch int
	marks  int
}

func dial(t testing.TB, r *siptest.Registrar, network string) *client {
	t.Helper()
	conn, err := net.Dial(network, r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &client{t: t, conn: conn}
	if network == "tcp" {
		c.reader = bufio.NewReader(conn)
	}
	return c
}

// register is a request to be; the zero values are those of a first one.
type register struct {
	method  string
	user    string
	callID  string
	cseq    int
	contact string   // header lines; empty is one contact
	expires string   // Expires header
	auth    []string // header lines
	branch  string
	body    string
}

func (c *client) build(q register) string {
	c.branch++
	if q.method == "" {
		q.method = "REGISTER"
	}
	if q.user == "" {
		q.user = "alice"
	}
	if q.callID == "" {
		q.callID = "call-" + q.user
	}
	if q.cseq == 0 {
		q.cseq = 1
	}
	if q.contact == "" {
		q.contact = "Contact: <sip:" + q.user + "@192.0.2.1:5070>\r\n"
	}
	if q.expires != "" {
		q.contact += "Expires: " + q.expires + "\r\n"
	}
	if q.branch == "" {
		q.branch = fmt.Sprintf("z9hG4bK%s-%s-%d-%d", q.user, q.callID, q.cseq, c.branch)
	}
	for _, line := range q.auth {
		q.contact += line + "\r\n"
	}
	return q.method + " sip:example.test SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP 192.0.2.1:5070;rport;branch=" + q.branch + "\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: <sip:" + q.user + "@example.test>;tag=f\r\n" +
		"To: <sip:" + q.user + "@EXAMPLE.test>\r\n" +
		"Call-ID: " + q.callID + "\r\n" +
		"CSeq: " + strconv.Itoa(q.cseq) + " " + q.method + "\r\n" +
		q.contact +
		"Content-Length: " + strconv.Itoa(len(q.body)) + "\r\n\r\n" + q.body
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// response is what came back.
type response struct {
	status  int
	text    string
	headers map[string][]string // lower-case names
}

func (c *client) read() response {
	c.t.Helper()
	text, err := c.receive(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	return parseResponse(c.t, text)
}

func (c *client) receive(wait time.Duration) (string, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(wait))
	if c.reader == nil {
		buffer := make([]byte, 65535)
		n, err := c.conn.Read(buffer)
		return string(buffer[:n]), err
	}
	var text strings.Builder
	for {
		line, err := c.reader.ReadString('\n')
		text.WriteString(line)
		if err != nil || line == "\r\n" {
			return text.String(), err
		}
	}
}

// nothing checks that what was sent before got no answer: the next one belongs
// to the next request, since each socket is read and answered in order.
func (c *client) nothing() {
	c.t.Helper()
	c.marks++
	mark := "mark" + strconv.Itoa(c.marks)
	if next := c.ask(register{method: "OPTIONS", callID: mark}); next.headers["call-id"][0] != mark {
		c.t.Errorf("unexpected answer\n%s", next.text)
	}
}

func (c *client) ask(q register) response {
	c.t.Helper()
	c.write(c.build(q))
	return c.read()
}

func parseResponse(t testing.TB, text string) response {
	t.Helper()
	head, _, found := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	words := strings.SplitN(lines[0], " ", 3)
	if !found || len(words) != 3 || words[0] != "SIP/2.0" {
		t.Fatalf("not a response: %q", text)
	}
	status, err := strconv.Atoi(words[1])
	if err != nil {
		t.Fatal(err)
	}
	r := response{status: status, text: text, headers: map[string][]string{}}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		r.headers[name] = append(r.headers[name], strings.TrimSpace(value))
	}
	return r
}

func (r response) want(t testing.TB, status int) response {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d:\n%s", r.status, status, r.text)
	}
	return r
}

// answer makes the credential lines for a challenge response.
func (r response) answer(t testing.TB, q register, count uint32, cnonce string) []string {
	t.Helper()
	user := q.user
	if user == "" {
		user = "alice"
	}
	question := &messages.AuthChallenge{Method: "REGISTER", RequestUri: "sip:example.test", BodyHashes: map[string]string{}}
	for _, name := range []string{"MD5", "SHA-256", "SHA-512-256"} {
		question.BodyHashes[name] = digest.BodyHash(name, q.body)
	}
	add := func(space messages.Space, header string) {
		for _, value := range r.headers[header] {
			for _, raw := range challenge.Split(value) {
				p, err := challenge.Parse(raw)
				if err != nil {
					t.Fatal(err)
				}
				question.Challenges = append(question.Challenges, &messages.Challenge{
					Space: space, Scheme: p.Scheme, Realm: p.Realm(), Params: p.Map(), NonceCount: count,
				})
			}
		}
	}
	add(messages.Space_ORIGIN, "www-authenticate")
	add(messages.Space_PROXY, "proxy-authenticate")
	a, refusal := digest.Answer(question, digest.Credential{Username: user, Password: messages.NewSecret("pass-" + user)},
		func(int, bool, string, string) string { return cnonce })
	if refusal != nil {
		t.Fatal(refusal)
	}
	var lines []string
	for _, m := range a.GetMutations() {
		lines = append(lines, m.GetName()+": "+m.GetValue())
	}
	return lines
}

// settled checks the invariants.
func settled(t testing.TB, r *siptest.Registrar) siptest.Snapshot {
	t.Helper()
	for _, err := range r.CheckInvariants() {
		t.Error(err)
	}
	return r.Snapshot()
}

// violated checks that exactly one violation is known and names the rule.
func violated(t testing.TB, r *siptest.Registrar, rule string) {
	t.Helper()
	faults := r.CheckInvariants()
	if len(faults) != 1 || !strings.Contains(faults[0].Error(), rule) {
		t.Errorf("violations %v, want one of %s", faults, rule)
	}
}

// compact is a request in compact form, folded, with odd but legal spelling.
func compact(branch string) string {
	return strings.Join([]string{
		"REGISTER sip:example.test SIP/2.0",
		"v: SIP/2.0/UDP 192.0.2.1 ; branch=" + branch,
		"f: \"A, <B>\" <sip:alice@example.test>;tag=f",
		"t: sip:alice@Example.Test;x=1",
		"i: compact",
		"CSeq: 7 REGISTER",
		"m: \"A;expires=9,\" <sip:a@192.0.2.1;x=1>;q=0.5;Expires = 60,\r\n <sip:b@192.0.2.1>",
		"Expires: nonsense",
		"l: 0", "", "",
	}, "\r\n")
}
