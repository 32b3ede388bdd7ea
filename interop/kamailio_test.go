//go:build interop

package interop_test

import (
	"bufio"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/interop"
)

// phone sends hand-made REGISTERs, so that the registrar is judged without any
// of our own SIP code.
type phone struct {
	t         *testing.T
	conn      net.Conn
	reader    *bufio.Reader
	transport string
	user      string
	callID    string
	cseq      int
	expires   int
	contact   string
}

func newPhone(t *testing.T, k *interop.Kamailio, transport, user string) *phone {
	t.Helper()
	conn, err := net.Dial(transport, fmt.Sprintf("127.0.0.1:%d", k.Port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &phone{
		t: t, conn: conn, reader: bufio.NewReaderSize(conn, 65536), transport: transport,
		user: user, callID: user + "-call", expires: 600,
		contact: fmt.Sprintf("<sip:%s@%s;transport=%s>", user, conn.LocalAddr(), transport),
	}
}

// send sends a REGISTER with the next CSeq number.
func (p *phone) send(authorization string) {
	p.t.Helper()
	p.cseq++
	p.sendRaw(authorization)
}

func (p *phone) sendRaw(authorization string) {
	p.t.Helper()
	if authorization != "" {
		authorization = "Authorization: " + authorization + "\r\n"
	}
	message := fmt.Sprintf("REGISTER sip:example.test SIP/2.0\r\n"+
		"Via: SIP/2.0/%s %s;branch=z9hG4bK%s%d%d;rport\r\n"+
		"From: <sip:%s@example.test>;tag=t1\r\nTo: <sip:%s@example.test>\r\n"+
		"Call-ID: %s\r\nCSeq: %d REGISTER\r\nMax-Forwards: 70\r\nUser-Agent: by hand\r\n"+
		"Contact: %s;expires=%d\r\n%sContent-Length: 0\r\n\r\n",
		strings.ToUpper(p.transport), p.conn.LocalAddr(), p.user, p.cseq, time.Now().UnixNano(),
		p.user, p.user, p.callID, p.cseq, p.contact, p.expires, authorization)
	if _, err := p.conn.Write([]byte(message)); err != nil {
		p.t.Fatal(err)
	}
}

// receive reads a response, or "" after a silence of wait.
func (p *phone) receive(wait time.Duration) string {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		p.t.Fatal(err)
	}
	var b strings.Builder
	for {
		line, err := p.reader.ReadString('\n')
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() && b.Len() == 0 {
				return ""
			}
			p.t.Fatal(err)
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String()
		}
	}
}

func (p *phone) exchange(authorization string) string {
	p.t.Helper()
	p.send(authorization)
	response := p.receive(5 * time.Second)
	if response == "" {
		p.t.Fatal("no response")
	}
	return response
}

var parameter = regexp.MustCompile(`(\w+)="?([^",\r\n]+)"?`)

// challenge is the last challenge of a response, by parameter.
func challenge(t *testing.T, response string) map[string]string {
	t.Helper()
	params := map[string]string{}
	for line := range strings.Lines(response) {
		rest, ok := strings.CutPrefix(line, "WWW-Authenticate: Digest ")
		if !ok {
			continue
		}
		clear(params)
		for _, m := range parameter.FindAllStringSubmatch(rest, -1) {
			params[m[1]] = m[2]
		}
	}
	if params["nonce"] == "" {
		t.Fatalf("no challenge in\n%s", response)
	}
	return params
}

// answer computes an Authorization with the given password and count.
func (p *phone) answer(c map[string]string, password string, nc int) string {
	h := func(s string) string {
		if c["algorithm"] == "SHA-256" {
			return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))
		}
		return fmt.Sprintf("%x", md5.Sum([]byte(s)))
	}
	count := fmt.Sprintf("%08x", nc)
	ha1, ha2 := h(p.user+":"+c["realm"]+":"+password), h("REGISTER:sip:example.test")
	response := h(ha1 + ":" + c["nonce"] + ":" + count + ":cn:auth:" + ha2)
	algorithm := ""
	if c["algorithm"] != "" {
		algorithm = ", algorithm=" + c["algorithm"]
	}
	return fmt.Sprintf(`Digest username=%q, realm=%q, nonce=%q, uri="sip:example.test", response=%q, qop=auth, nc=%s, cnonce="cn"%s`,
		p.user, c["realm"], c["nonce"], response, count, algorithm)
}

func start(t *testing.T, o interop.Options) *interop.Kamailio {
	t.Helper()
	k, err := interop.StartKamailio(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k
}

func wantStatus(t *testing.T, response string, status int) {
	t.Helper()
	if want := fmt.Sprintf("SIP/2.0 %d ", status); !strings.HasPrefix(response, want) {
		t.Fatalf("want %d, got\n%s", status, response)
	}
}

func wantCounters(t *testing.T, k *interop.Kamailio, want interop.Counters) {
	t.Helper()
	got, err := k.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("counters are %+v, want %+v", got, want)
	}
}

func TestRegisterByHand(t *testing.T) {
	for _, test := range []struct {
		name, transport string
		options         interop.Options
		algorithm       string
	}{
		{"MD5 without the parameter over UDP", "udp", interop.Options{}, ""},
		{"MD5 over TCP", "tcp", interop.Options{Algorithm: "MD5"}, "MD5"},
		{"SHA-256 over UDP only", "udp", interop.Options{Algorithm: "SHA-256", Transports: []string{"udp"}}, "SHA-256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := start(t, test.options)
			p := newPhone(t, k, test.transport, "alice")
			first := p.exchange("")
			wantStatus(t, first, 401)
			c := challenge(t, first)
			if c["realm"] != interop.Realm || c["algorithm"] != test.algorithm || c["qop"] != "auth" {
				t.Errorf("challenge %v", c)
			}
			wantStatus(t, p.exchange(p.answer(c, interop.Password("alice"), 1)), 200)

			if n, err := k.Count(); err != nil || n != 1 {
				t.Errorf("%d contacts are registered, want 1: %v", n, err)
			}
			contacts, err := k.Lookup("alice")
			if err != nil {
				t.Fatal(err)
			}
			got := contacts[0]
			if got.CallID != "alice-call" || got.CSeq != 2 || got.UserAgent != "by hand" || !strings.HasPrefix(got.Address, "sip:alice@127.0.0.1:") {
				t.Errorf("the registrar holds %+v", got)
			}
			if got.Expires < 590*time.Second || got.Expires > 600*time.Second {
				t.Errorf("the binding has %v left, want about 600 s", got.Expires)
			}
			if _, err := k.Lookup("bob"); !errors.Is(err, interop.ErrNoContact) {
				t.Errorf("bob was never registered and has %v", err)
			}

			p.expires = 0
			wantStatus(t, p.exchange(p.answer(c, interop.Password("alice"), 2)), 200)
			if n, err := k.Count(); err != nil || n != 0 {
				t.Errorf("%d contacts are left, want none: %v", n, err)
			}
			wantCounters(t, k, interop.Counters{Received: 3, Unauthorized: 1, Accepted: 2})
		})
	}
}

func TestWrongPasswordAndWrongUser(t *testing.T) {
	k := start(t, interop.Options{})
	p := newPhone(t, k, "udp", "alice")
	c := challenge(t, p.exchange(""))
	wantStatus(t, p.exchange(p.answer(c, "not-it", 1)), 401)
	other := p.user
	p.user = "mallory"
	authorization := p.answer(c, interop.Password("mallory"), 1)
	p.user = other
	wantStatus(t, p.exchange(authorization), 403)
	wantCounters(t, k, interop.Counters{Received: 3, Unauthorized: 1, Wrong: 2})
}

func TestNonceCounts(t *testing.T) {
	k := start(t, interop.Options{NonceCount: true})
	p := newPhone(t, k, "udp", "alice")
	c := challenge(t, p.exchange(""))
	for nc := 1; nc <= 3; nc++ {
		wantStatus(t, p.exchange(p.answer(c, interop.Password("alice"), nc)), 200)
	}
	// A count that was used is a replay.
	again := p.exchange(p.answer(c, interop.Password("alice"), 3))
	wantStatus(t, again, 401)
	if challenge(t, again)["nonce"] == c["nonce"] {
		t.Error("the nonce of a replay is offered again")
	}
	got, err := k.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if got.Accepted != 3 || got.Stale+got.Wrong != 1 {
		t.Errorf("counters are %+v", got)
	}
}

func TestOneTimeNonces(t *testing.T) {
	k := start(t, interop.Options{OneTimeNonce: true})
	p := newPhone(t, k, "udp", "alice")
	c := challenge(t, p.exchange(""))
	wantStatus(t, p.exchange(p.answer(c, interop.Password("alice"), 1)), 200)
	wantStatus(t, p.exchange(p.answer(c, interop.Password("alice"), 2)), 401)
}

func TestIntervals(t *testing.T) {
	k := start(t, interop.Options{MinExpires: 120 * time.Second, MaxExpires: 300 * time.Second})
	p := newPhone(t, k, "udp", "alice")
	c := challenge(t, p.exchange(""))
	p.expires = 60
	brief := p.exchange(p.answer(c, interop.Password("alice"), 1))
	wantStatus(t, brief, 423)
	if !strings.Contains(brief, "\r\nMin-Expires: 120\r\n") {
		t.Errorf("no Min-Expires in\n%s", brief)
	}
	p.expires = 3600
	long := p.exchange(p.answer(c, interop.Password("alice"), 1))
	wantStatus(t, long, 200)
	if !strings.Contains(long, "expires=300") {
		t.Errorf("300 s are the most that is granted:\n%s", long)
	}
	wantCounters(t, k, interop.Counters{Received: 3, Unauthorized: 1, Accepted: 1, Refused: 1})
}

func TestAuthenticationInfo(t *testing.T) {
	k := start(t, interop.Options{AuthInfo: true, NonceCount: true})
	p := newPhone(t, k, "udp", "alice")
	c := challenge(t, p.exchange(""))
	response := p.exchange(p.answer(c, interop.Password("alice"), 1))
	wantStatus(t, response, 200)
	if !strings.Contains(response, "\r\nAuthentication-Info: ") {
		t.Errorf("no Authentication-Info in\n%s", response)
	}
}

func TestOldCSeqIsRefused(t *testing.T) {
	k := start(t, interop.Options{})
	p := newPhone(t, k, "udp", "alice")
	p.cseq = 100
	c := challenge(t, p.exchange(""))
	wantStatus(t, p.exchange(p.answer(c, interop.Password("alice"), 1)), 200)
	p.cseq = 50
	if response := p.exchange(p.answer(c, interop.Password("alice"), 2)); strings.HasPrefix(response, "SIP/2.0 200") {
		t.Errorf("a CSeq that went back was accepted:\n%s", response)
	}
}

func TestFaultUsers(t *testing.T) {
	k := start(t, interop.Options{FaultUsers: true})
	for user, status := range map[string]int{
		"f401-x": 401, "f403-x": 403, "f404-x": 404, "f500-x": 500, "f503-x": 503,
	} {
		response := newPhone(t, k, "udp", user).exchange("")
		wantStatus(t, response, status)
		if status == 503 && !strings.Contains(response, "\r\nRetry-After: 3\r\n") {
			t.Errorf("no Retry-After in\n%s", response)
		}
	}

	p := newPhone(t, k, "udp", "f401-x")
	c := challenge(t, p.exchange(""))
	wantStatus(t, p.exchange(p.answer(c, interop.Password(p.user), 1)), 401)

	p = newPhone(t, k, "udp", "fdrop-x")
	p.send("")
	if response := p.receive(time.Second); response != "" {
		t.Errorf("fdrop- is answered:\n%s", response)
	}

	p = newPhone(t, k, "udp", "f423-x")
	p.expires = 60
	wantStatus(t, p.exchange(""), 423)
	p.expires = 300
	c = challenge(t, p.exchange(""))
	wantStatus(t, p.exchange(p.answer(c, interop.Password(p.user), 1)), 200)

	p = newPhone(t, k, "udp", "fmulti-x")
	multi := p.exchange("")
	if strings.Count(multi, "WWW-Authenticate: ") != 2 || strings.Index(multi, "SHA-9000") > strings.LastIndex(multi, "WWW-Authenticate: ") {
		t.Errorf("want two challenges, the unknown one first:\n%s", multi)
	}
	wantStatus(t, p.exchange(p.answer(challenge(t, multi), interop.Password(p.user), 1)), 200)

	p = newPhone(t, k, "udp", "fshort-x")
	c = challenge(t, p.exchange(""))
	short := p.exchange(p.answer(c, interop.Password(p.user), 1))
	wantStatus(t, short, 200)
	if !strings.Contains(short, ">;expires=15\r\n") {
		t.Errorf("want 15 s granted:\n%s", short)
	}

	// Another user is served as always.
	p = newPhone(t, k, "udp", "frank")
	c = challenge(t, p.exchange(""))
	wantStatus(t, p.exchange(p.answer(c, interop.Password("frank"), 1)), 200)
}

func TestPauseAndRestart(t *testing.T) {
	k := start(t, interop.Options{})
	p := newPhone(t, k, "udp", "alice")
	c := challenge(t, p.exchange(""))
	wantStatus(t, p.exchange(p.answer(c, interop.Password("alice"), 1)), 200)

	if err := k.Pause(); err != nil {
		t.Fatal(err)
	}
	p.send("")
	if response := p.receive(500 * time.Millisecond); response != "" {
		t.Errorf("a paused registrar answers:\n%s", response)
	}
	if err := k.Resume(); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, p.receive(5*time.Second), 401)

	again, err := k.Restart(interop.Options{Algorithm: "SHA-256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	if again.Port() != k.Port() {
		t.Errorf("the port changed from %d to %d", k.Port(), again.Port())
	}
	if n, err := again.Count(); err != nil || n != 0 {
		t.Errorf("%d contacts survived the restart: %v", n, err)
	}
	if c := challenge(t, newPhone(t, again, "udp", "alice").exchange("")); c["algorithm"] != "SHA-256" {
		t.Errorf("the other options are not in use: %v", c)
	}
}

func TestTwoAtOnce(t *testing.T) {
	a, b := start(t, interop.Options{}), start(t, interop.Options{})
	p := newPhone(t, a, "udp", "alice")
	wantStatus(t, p.exchange(p.answer(challenge(t, p.exchange("")), interop.Password("alice"), 1)), 200)
	if n, err := b.Count(); err != nil || n != 0 {
		t.Errorf("the other registrar holds %d contacts: %v", n, err)
	}
	b.Stop()
	b.Stop()
	if n, err := a.Count(); err != nil || n != 1 {
		t.Errorf("stopping one disturbed the other: %d contacts, %v", n, err)
	}
}
