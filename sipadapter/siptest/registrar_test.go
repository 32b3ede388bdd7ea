package siptest_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/sipadapter/siptest"
)

func TestOpenRegistrar(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			r := start(t, siptest.Options{Headers: []string{"Service-Route: <sip:sr.test;lr>"}})
			ok := dial(t, r, network).ask(register{expires: "120"}).want(t, 200)
			if diff := cmp.Diff([]string{"<sip:alice@192.0.2.1:5070>;expires=120"}, ok.headers["contact"]); diff != "" {
				t.Errorf("contact (-want +got)\n%s", diff)
			}
			if len(ok.headers["service-route"]) != 1 || !strings.Contains(ok.headers["to"][0], ";tag=") {
				t.Errorf("response\n%s", ok.text)
			}
			via := ok.headers["via"][0]
			if !strings.Contains(via, ";received=127.0.0.1") || strings.Contains(via, ";rport;") || !strings.Contains(via, ";rport=") {
				t.Errorf("RFC 3581 §4: %s", via)
			}
			s := settled(t, r)
			if s.Registers != 1 || s.Accepted != 1 || s.AORs != 1 || s.Bindings != 1 || s.Responses[200] != 1 || s.PeakPerSecond != 1 {
				t.Errorf("snapshot %+v", s)
			}
		})
	}
}

func TestCSeq(t *testing.T) {
	r := start(t, siptest.Options{})
	c := dial(t, r, "udp")
	c.ask(register{cseq: 5}).want(t, 200)
	c.ask(register{cseq: 9}).want(t, 200) // a gap is fine: a crash may leave one
	c.ask(register{cseq: 1, callID: "other"}).want(t, 200)
	settled(t, r)
	c.ask(register{cseq: 9, contact: "Contact: <sip:new@192.0.2.9>\r\n"}).want(t, 500)
	violated(t, r, "I-4")
	if b := r.Bindings("sip:alice@example.test"); len(b) != 1 || b[0].Contact != "sip:alice@192.0.2.1:5070" {
		t.Errorf("REG-07: the update was not aborted: %+v", b)
	}
	if s := r.Snapshot(); s.CSeqViolations != 1 {
		t.Errorf("snapshot %+v", s)
	}
}

func TestReusedBranch(t *testing.T) {
	r := start(t, siptest.Options{})
	c := dial(t, r, "udp")
	c.ask(register{cseq: 1, branch: "z9hG4bK1"}).want(t, 200)
	c.ask(register{cseq: 2, branch: "z9hG4bK1"}).want(t, 200)
	violated(t, r, "GEN-06")
}

// TestRetransmission: the first answer again, and no count is violated.
func TestRetransmission(t *testing.T) {
	r := start(t, siptest.Options{Authenticate: true, Password: secret, CheckNC: true})
	c := dial(t, r, "udp")
	first := c.build(register{})
	c.write(first)
	asked := c.read().want(t, 401)
	second := c.build(register{cseq: 2, auth: asked.answer(t, register{}, 1, "c")})
	c.write(second)
	ok := c.read().want(t, 200)
	c.write(second)
	if again := c.read(); again.text != ok.text {
		t.Errorf("another answer to a retransmission\n%s\n%s", ok.text, again.text)
	}
	c.write(first) // late: its transaction is over
	c.nothing()
	if s := settled(t, r); s.Registers != 2 || s.Retransmissions != 2 || s.Accepted != 1 || s.Responses[200] != 3 {
		t.Errorf("snapshot %+v", s)
	}
	var seen []string
	for _, l := range r.Requests() {
		seen = append(seen, fmt.Sprint(l.Method, l.CSeq, l.HadCredentials, l.NC, l.Retransmission, l.Status, l.Serial))
	}
	want := []string{
		"REGISTER1 false 0 0 401 1", "REGISTER2 true 1 0 200 2", "REGISTER2 true 1 1 200 2", "REGISTER1 false 0 2 0 2",
		"OPTIONS1 false 0 0 200 3",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("log (-want +got)\n%s", diff)
	}
}

func TestStreams(t *testing.T) {
	r := start(t, siptest.Options{})
	c := dial(t, r, "tcp")
	t.Run("OUT-06 ping", func(t *testing.T) {
		c.write("\r\n\r\n")
		if line, err := c.reader.ReadString('\n'); err != nil || line != "\r\n" {
			t.Errorf("pong %q, %v", line, err)
		}
	})
	t.Run("two messages in pieces", func(t *testing.T) {
		both := c.build(register{cseq: 1, body: "12345"}) + "\r\n" + c.build(register{cseq: 2})
		c.write(both[:100])
		c.write(both[100 : len(both)-30])
		c.read().want(t, 200)
		c.write(both[len(both)-30:])
		c.read().want(t, 200)
	})
	t.Run("garbage ends the connection", func(t *testing.T) {
		c.write("HELLO\r\nno length\r\n\r\n")
		if text, err := c.receive(patience); err == nil {
			t.Errorf("answer %s", text)
		}
	})
	if s := settled(t, r); s.Connections != 1 || s.Registers != 2 {
		t.Errorf("snapshot %+v", s)
	}
}

func TestUnreadable(t *testing.T) {
	r := start(t, siptest.Options{})
	c := dial(t, r, "udp")
	for _, text := range []string{
		"\r\n\r\n", "garbage", "SIP/2.0 200 OK\r\n\r\n", "REGISTER sip:a SIP/2.0\r\nVia: x\r\n\r\n",
		strings.Replace(c.build(register{}), "REGISTER sip:example.test", "ACK sip:example.test", 1),
	} {
		c.write(text)
	}
	c.ask(register{}).want(t, 200)
	if s := r.Snapshot(); s.Unreadable != 3 || s.Registers != 1 || s.Others != 0 {
		t.Errorf("snapshot %+v", s)
	}
}

func TestOtherMethods(t *testing.T) {
	r := start(t, siptest.Options{Authenticate: true, Password: secret})
	c := dial(t, r, "udp")
	c.ask(register{method: "OPTIONS"}).want(t, 200)
	c.ask(register{method: "INVITE"}).want(t, 405)
	c.ask(register{method: "CANCEL"}).want(t, 481)
	if s := settled(t, r); s.Others != 3 || s.Registers != 0 {
		t.Errorf("snapshot %+v", s)
	}
}

func TestDown(t *testing.T) {
	r := start(t, siptest.Options{RetryAfter: 1500 * time.Millisecond, Outstanding: -1})
	c := dial(t, r, "udp")
	down := func(m siptest.Mode) {
		t.Helper()
		if err := r.SetDown(m); err != nil {
			t.Fatal(err)
		}
	}
	down(siptest.Silent)
	request := c.build(register{})
	c.write(request)
	eventually(t, func() bool { return r.Snapshot().Dropped == 1 })
	down(siptest.Up)
	c.nothing()
	c.write(request)
	c.read().want(t, 200)

	down(siptest.Unavailable)
	res := c.ask(register{cseq: 2}).want(t, 503)
	if diff := cmp.Diff([]string{"2"}, res.headers["retry-after"]); diff != "" {
		t.Errorf("Retry-After (-want +got)\n%s", diff)
	}

	stream := dial(t, r, "tcp")
	stream.ask(register{cseq: 3}).want(t, 503)
	down(siptest.Refusing)
	if text, err := stream.receive(patience); err == nil {
		t.Errorf("the connection lives: %s", text)
	}
	if conn, err := net.Dial("tcp", r.Addr()); err == nil {
		_ = conn.Close()
		t.Error("a connection was accepted")
	}
	down(siptest.Up)
	again := dial(t, r, "tcp")
	again.ask(register{cseq: 4}).want(t, 200)
	if s := settled(t, r); s.Dropped != 1 || s.Retransmissions != 1 || s.Registers != 4 || s.Responses[503] != 2 {
		t.Errorf("snapshot %+v", s)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.SetDown(siptest.Up); err == nil {
		t.Error("a closed registrar came up")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// eventually waits for something that happens on another goroutine.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

func TestRate(t *testing.T) {
	r := start(t, siptest.Options{MaxRate: 2, LogSize: 2})
	c := dial(t, r, "udp")
	for i := range 3 {
		c.ask(register{cseq: i + 1}).want(t, 200)
	}
	s := r.Snapshot()
	total := 0
	for _, bar := range s.PerSecond {
		total += bar.Requests
	}
	if total != 3 {
		t.Errorf("histogram %v", s.PerSecond)
	}
	if log := r.Requests(); len(log) != 2 || log[0].CSeq != 2 || log[1].CSeq != 3 || log[1].Status != 200 {
		t.Errorf("log %+v", log)
	}
	// Three requests may take longer than a second on a stalled machine.
	if s.PeakPerSecond == 3 {
		violated(t, r, "I-9")
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]siptest.Options{
		"no password":        {Authenticate: true},
		"proxy, no password": {ProxyRealm: "p"},
		"unknown algorithm":  {Algorithms: []string{"MD4"}},
		"min above max":      {MinExpires: 2, MaxExpires: 1},
		"bad address":        {Listen: "nowhere"},
		"not our address":    {Listen: "192.0.2.1:0"},
	} {
		if r, err := siptest.NewRegistrar(o); err == nil {
			_ = r.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}
