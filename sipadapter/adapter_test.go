package sipadapter

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A taken port is reported with the address and what to do, and nothing stays
// bound.
func TestStartOnTakenPort(t *testing.T) {
	for _, tr := range []transport{transportUDP, transportTCP} {
		t.Run(string(tr), func(t *testing.T) {
			first := loopbackAdapter(t, Options{})
			taken := string(tr) + "://" + listenAddrOf(t, first, tr).String()
			a, err := New(Options{Listen: []string{"udp://127.0.0.1:0", taken}})
			if err != nil {
				t.Fatal(err)
			}
			err = a.Start()
			if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "sip.listen") || !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("error %v", err)
			}
			if err := a.Start(); err == nil {
				t.Error("a second Start works")
			}
			if _, err := a.sockets[0].conn.WriteToUDPAddrPort([]byte("x"), peerAddr); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the first socket is still open: %v", err)
			}
		})
	}
}

// A socket buffer that the system does not grant is reported, once, as Info.
func TestSocketBufferIsReported(t *testing.T) {
	log := &canary{}
	loopbackAdapter(t, Options{Listen: []string{"udp://127.0.0.1:0"}, SocketBuffer: 1 << 30, Logger: log.logger()})
	if text := log.text(); strings.Count(text, "granted=") != 1 || !strings.Contains(text, "level=INFO") {
		t.Errorf("logged %q", text)
	}
}

func TestAddrs(t *testing.T) {
	a := loopbackAdapter(t, Options{Listen: []string{"tcp://127.0.0.1:0", "udp://localhost:0"}})
	got := a.Addrs()
	if len(got) != 2 || !strings.HasPrefix(got[0], "tcp://127.0.0.1:") || !strings.HasPrefix(got[1], "udp://127.0.0.1:") || strings.HasSuffix(got[1], ":0") {
		t.Errorf("addresses %v", got)
	}
}

// All faults of the options are reported at once.
func TestOptions(t *testing.T) {
	_, err := New(Options{
		Listen:      []string{"127.0.0.1:5060", "udp://example.test:5060", "tls://127.0.0.1:5061", "udp://127.0.0.1:99999"},
		Advertise:   "a b",
		UserAgent:   "a\r\nb",
		T1:          -time.Second,
		MaxPending:  -1,
		Nameservers: []string{"localhost"},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 9 {
		t.Errorf("%d faults, want 9:\n%v", n, err)
	}
	if _, err := New(Options{T1: 5 * time.Second}); err == nil {
		t.Error("T1 over T2 is accepted")
	}
}

// Close waits no longer than its context allows.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		release := make(chan struct{})
		conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
		r := register()
		blocked := make(chan struct{})
		r.Retransmitted = nil
		a.opts.OnInbound = func(InboundRequest) int {
			close(blocked)
			<-release
			return 0
		}
		conn.deliver([]byte("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"), peerAddr)
		<-blocked
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := a.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		close(release)
		shut(t, a)
	})
}

// A read error does not end the reader.
func TestReadErrorIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &flakyConn{memConn: newMemConn(), faults: 3}
		a, err := newAdapter(Options{Listen: []string{"udp://" + ourAddr.String()}}, seams{
			listenUDP: func(addr netip.AddrPort) (packetConn, netip.AddrPort, error) { return conn, addr, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		defer shut(t, a)
		conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
		if o := await(t, send(a, register())); o.Response == nil {
			t.Errorf("outcome %+v", o)
		}
	})
}

// flakyConn fails its first reads.
type flakyConn struct {
	*memConn
	faults int
}

func (c *flakyConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if c.faults > 0 {
		c.faults--
		return 0, netip.AddrPort{}, syscall.ECONNREFUSED
	}
	return c.memConn.ReadFromUDPAddrPort(b)
}

// The socket for a target: of its family, loopback only for loopback.
func TestSocketFor(t *testing.T) {
	var a Adapter
	for _, s := range []string{"127.0.0.1:1", "192.0.2.10:2", "0.0.0.0:3", "[::1]:4", "[2001:db8::1]:5"} {
		a.sockets = append(a.sockets, &udpSocket{local: netip.MustParseAddrPort(s)})
	}
	for to, port := range map[string]uint16{"127.0.0.9": 1, "198.51.100.1": 2, "::1": 4, "2001:db8::9": 5} {
		if u := a.socketFor(netip.MustParseAddr(to)); u == nil || u.local.Port() != port {
			t.Errorf("%s: %+v", to, u)
		}
	}
	a.sockets = a.sockets[:1]
	if u := a.socketFor(netip.MustParseAddr("192.0.2.1")); u != nil {
		t.Errorf("a loopback socket cannot leave the machine: %+v", u)
	}
}

// Drop reasons and counters agree.
func TestDropReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range DropReasons() {
		if r == "" || seen[r] {
			t.Errorf("reason %q", r)
		}
		seen[r] = true
	}
}
