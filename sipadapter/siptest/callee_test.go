package siptest

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// caller is a bare UDP client.
type caller struct {
	t    *testing.T
	conn net.Conn
	id   string
}

func newCaller(t *testing.T, c *Callee) *caller {
	t.Helper()
	conn, err := net.Dial("udp", c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{t: t, conn: conn, id: "call-" + conn.LocalAddr().String()}
}

func (c *caller) send(method string, cseq int, branch string) {
	c.t.Helper()
	text := fmt.Sprintf("%s sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s\r\nFrom: <sip:alice@example.test>;tag=a\r\n"+
		"To: <sip:bob@example.test>\r\nCall-ID: %s\r\nCSeq: %d %s\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		method, c.conn.LocalAddr(), branch, c.id, cseq, method)
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// want reads until a response with this status line comes.
func (c *caller) want(status int, method string) string {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buffer := make([]byte, maxMessage)
	for {
		n, err := c.conn.Read(buffer)
		if err != nil {
			c.t.Fatalf("no %d to %s: %v", status, method, err)
		}
		text := string(buffer[:n])
		if strings.HasPrefix(text, fmt.Sprintf("SIP/2.0 %d ", status)) && strings.Contains(text, " "+method+"\r\n") {
			return text
		}
	}
}

func newCallee(t *testing.T, o CalleeOptions) *Callee {
	t.Helper()
	c, err := NewCallee(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func onlyCall(t *testing.T, c *Callee) Call {
	t.Helper()
	calls := c.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls, want one", len(calls))
	}
	return calls[0]
}

func TestCalleeTakesACall(t *testing.T) {
	callee := newCallee(t, CalleeOptions{Body: "v=0\r\n", ContentType: "application/sdp"})
	c := newCaller(t, callee)
	c.send("INVITE", 1, "one")
	c.want(180, "INVITE")
	ok := c.want(200, "INVITE")
	if !strings.HasSuffix(ok, "\r\n\r\nv=0\r\n") || !strings.Contains(ok, "Contact: <sip:bob@") || !strings.Contains(ok, ";tag=") {
		t.Errorf("the 200 has no body, Contact or tag:\n%s", ok)
	}
	c.want(200, "INVITE") // repeated, because no ACK came (RFC 3261 §13.3.1.4)
	c.send("ACK", 1, "ack")
	c.send("INFO", 2, "info")
	c.want(200, "INFO")
	if call := onlyCall(t, callee); !call.Acknowledged || call.Invites != 1 || call.Repeats == 0 {
		t.Errorf("after the ACK: %+v", call)
	}
	c.send("BYE", 3, "bye")
	c.want(200, "BYE")
	c.send("BYE", 4, "again")
	c.want(481, "BYE")
	if call := onlyCall(t, callee); !call.Ended {
		t.Errorf("after the BYE: %+v", call)
	}
}

func TestCalleeGivesWayToCancel(t *testing.T) {
	callee := newCallee(t, CalleeOptions{Ringing: time.Hour})
	c := newCaller(t, callee)
	c.send("INVITE", 1, "one")
	c.want(180, "INVITE")
	c.send("CANCEL", 1, "one")
	c.want(487, "INVITE")
	if call := onlyCall(t, callee); !call.Ended || call.Answered {
		t.Errorf("after the CANCEL: %+v", call)
	}
}

func TestCalleeFollowsItsScript(t *testing.T) {
	callee := newCallee(t, CalleeOptions{Behaviour: func(req *Request) *Reply {
		if req.Method == "INVITE" && !req.HadCredentials {
			return &Reply{Status: 407, Headers: []string{`Proxy-Authenticate: Digest realm="p", nonce="n"`}}
		}
		return nil
	}})
	c := newCaller(t, callee)
	c.send("INVITE", 1, "one")
	if text := c.want(407, "INVITE"); !strings.Contains(text, `realm="p"`) {
		t.Errorf("the script's header is missing:\n%s", text)
	}
	c.send("REGISTER", 2, "two")
	c.want(405, "REGISTER")
}
