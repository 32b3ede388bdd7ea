package sipadapter

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

// desk takes requests as a session does, and remembers them.
type desk struct {
	refuse bool
	reply  func(in *messages.SIPInbound) // when a request is taken; may be nil

	mu   sync.Mutex
	seen []*messages.SIPInbound
}

func (d *desk) take(in *messages.SIPInbound) bool {
	d.mu.Lock()
	d.seen = append(d.seen, in)
	d.mu.Unlock()
	if d.reply != nil {
		d.reply(in)
	}
	return !d.refuse
}

func (d *desk) requests() []*messages.SIPInbound {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*messages.SIPInbound(nil), d.seen...)
}

// methods are those of the requests that were shown, in order.
func (d *desk) methods() string {
	var out []string
	for _, in := range d.requests() {
		out = append(out, in.Method)
	}
	return strings.Join(out, " ")
}

// one is the only request that was shown.
func (d *desk) one(t *testing.T) *messages.SIPInbound {
	t.Helper()
	seen := d.requests()
	if len(seen) != 1 {
		t.Fatalf("shown %q, want one request", d.methods())
	}
	return seen[0]
}

// answers makes a desk that gives every INVITE and every other request with a
// To tag this reply at once.
func answers(r messages.SIPReply) *desk {
	return &desk{reply: func(in *messages.SIPInbound) {
		if in.Respond != nil {
			in.Respond(r)
		}
	}}
}

// serving runs a test in virtual time with a desk that takes requests.
func serving(t *testing.T, o Options, d *desk, test func(t *testing.T, a *Adapter, conn *memConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.OnRequest = d.take
		a, conn := memAdapter(t, o, seams{})
		defer shut(t, a)
		test(t, a, conn)
	})
}

// pass lets time pass, and what is due then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// say delivers a request and waits until it is dealt with.
func (c *memConn) say(raw []byte) {
	c.deliver(raw, stranger)
	synctest.Wait()
}

// calling is the INVITE of a stranger.
func calling(change ...string) []byte {
	return inbound("INVITE", append([]string{"Contact: <sip:bob@198.51.100.95>"}, change...)...)
}

// acking is the ACK for a response, as a stranger makes it: with the Via of the
// INVITE, or a new branch when the INVITE was accepted.
func acking(response []byte, change ...string) []byte {
	raw := inbound("ACK", "Via: SIP/2.0/UDP 198.51.100.95:5060;branch=z9hG4bK77;rport",
		"To: "+headerLines(response, "To")[0], "CSeq: "+strings.Fields(headerLines(response, "CSeq")[0])[0]+" ACK")
	for _, l := range change {
		name, value, _ := strings.Cut(l, ": ")
		raw = replaceHeader(raw, name, value)
	}
	return raw
}

const newBranch = "Via: SIP/2.0/UDP 198.51.100.95:5060;branch=z9hG4bK78;rport"

const inDialog = "To: <sip:alice@192.0.2.10>;tag=ours"

// ear reads a connection and cuts it into messages.
type ear struct {
	conn net.Conn
	mu   sync.Mutex
	got  []datagram
}

func hear(conn net.Conn) *ear {
	e := &ear{conn: conn}
	go func() {
		var f framer
		for {
			n, err := conn.Read(f.space())
			if err != nil {
				return
			}
			f.filled(n)
			for {
				one, err := f.next()
				if err != nil || one == nil {
					break
				}
				e.mu.Lock()
				e.got = append(e.got, datagram{data: append([]byte(nil), one...)})
				e.mu.Unlock()
			}
		}
	}()
	return e
}

func (e *ear) packets() []datagram {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]datagram(nil), e.got...)
}

func (e *ear) say(t *testing.T, raw []byte) {
	t.Helper()
	if _, err := io.WriteString(e.conn, strings.Replace(string(raw), "SIP/2.0/UDP", "SIP/2.0/TCP", 1)); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}
