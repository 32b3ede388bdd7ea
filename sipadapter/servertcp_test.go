package sipadapter

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// Over TCP everything goes back over the connection of the request, a refusal
// once, and a 2xx until its ACK.
func TestServerTCP(t *testing.T) {
	for _, status := range []int{200, 486} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := answers(messages.SIPReply{Status: status, Tag: "ours", ContactUser: "alice"})
				a, l := accepted(t, Options{OnRequest: d.take})
				defer shut(t, a)
				conn := l.connect()
				far := hear(conn)
				far.say(t, calling())
				pass(2 * time.Second)
				packets := far.packets()
				want := map[int]string{200: "200 200 200", 486: "486"}[status]
				if got := answerCodes(packets); got != want {
					t.Fatalf("answered %q, want %q", got, want)
				}
				if status == 200 {
					if got := headerLine(t, packets[0].data, "Contact"); got != "<sip:alice@192.0.2.10:5060;transport=tcp>" {
						t.Errorf("Contact %s", got)
					}
					far.say(t, acking(packets[0].data, newBranch))
				} else {
					far.say(t, acking(packets[0].data))
					if n := a.Stats().Serving; n != 0 {
						t.Errorf("%d transactions are left: Timer I is zero", n)
					}
				}
				pass(time.Minute)
				if got := answerCodes(far.packets()); got != want {
					t.Errorf("answered %q, want %q", got, want)
				}
				if in := d.one(t); in.Transport != "tcp" {
					t.Errorf("transport %s", in.Transport)
				}
				_ = conn.Close()
			})
		})
	}
}

// The Contact names the listener that the request came to, and what the node
// advertises.
func TestContactOfListener(t *testing.T) {
	for name, c := range map[string]struct {
		listen    []string
		advertise string
		socket    int
		want      string
	}{
		"first":      {[]string{"udp://192.0.2.10:5060", "udp://192.0.2.11:5070"}, "", 0, "<sip:al%20ice@192.0.2.10:5060>"},
		"second":     {[]string{"udp://192.0.2.10:5060", "udp://192.0.2.11:5070"}, "", 1, "<sip:al%20ice@192.0.2.11:5070>"},
		"advertised": {[]string{"udp://192.0.2.10:5060"}, "sip.example.test", 0, "<sip:al%20ice@sip.example.test:5060>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conns := map[netip.AddrPort]*memConn{}
				d := answers(messages.SIPReply{Status: 200, ContactUser: "al ice"})
				a, err := newAdapter(Options{Listen: c.listen, Advertise: c.advertise, OnRequest: d.take}, seams{
					listenUDP: func(addr netip.AddrPort) (packetConn, netip.AddrPort, error) {
						conns[addr] = newMemConn()
						return conns[addr], addr, nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := a.Start(); err != nil {
					t.Fatal(err)
				}
				defer shut(t, a)
				conn := conns[a.sockets[c.socket].local]
				conn.say(calling())
				if got := headerLine(t, conn.packets()[0].data, "Contact"); got != c.want {
					t.Errorf("Contact %s, want %s", got, c.want)
				}
			})
		})
	}
}

// The same over real connections.
func TestContactOfTCPListener(t *testing.T) {
	a := loopbackAdapter(t, Options{
		Listen:    []string{"tcp://127.0.0.1:0", "tcp://127.0.0.1:0"},
		OnRequest: answers(messages.SIPReply{Status: 486}).take,
	})
	b := loopbackAdapter(t, Options{
		Listen:    []string{"tcp://127.0.0.1:0", "tcp://127.0.0.1:0"},
		OnRequest: answers(messages.SIPReply{Status: 180, ContactUser: "alice"}).take,
	})
	for _, l := range append(a.listeners, b.listeners...) {
		conn, err := net.Dial("tcp", l.local.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(calling("Call-ID: " + l.local.String())); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if strings.HasPrefix(string(buf[:n]), "SIP/2.0 180 ") {
			want = []string{"<sip:alice@" + l.local.String() + ";transport=tcp>"}
		}
		if diff := cmp.Diff(want, headerLines(buf[:n], "Contact")); diff != "" {
			t.Errorf("%s: Contact (-want +got):\n%s", l.local, diff)
		}
	}
}
