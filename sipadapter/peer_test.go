package sipadapter

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// udpPeer is a server on a real socket of the loopback interface.
type udpPeer struct {
	conn *net.UDPConn
	mu   sync.Mutex
	from netip.AddrPort
	seen [][]byte
}

func newUDPPeer(t testing.TB, answer func(request []byte) [][]byte) *udpPeer {
	t.Helper()
	return newUDPPeerAt(t, "127.0.0.1:0", answer)
}

func newUDPPeerAt(t testing.TB, addr string, answer func(request []byte) [][]byte) *udpPeer {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	p := &udpPeer{conn: conn}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 65_535)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.from = unmap(from)
			p.seen = append(p.seen, bytes.Clone(buf[:n]))
			p.mu.Unlock()
			for _, b := range answer(buf[:n]) {
				_, _ = conn.WriteToUDPAddrPort(b, from)
			}
		}
	}()
	return p
}

func (p *udpPeer) addr() netip.AddrPort { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort() }
func (p *udpPeer) uri() string          { return "sip:" + p.addr().String() }

func (p *udpPeer) lastFrom() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from
}

func (p *udpPeer) requests() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([][]byte(nil), p.seen...)
}

// tcpPeer is a server on the loopback interface that answers each request on
// its connection.
type tcpPeer struct {
	listener net.Listener
	mu       sync.Mutex
	accepted int
	conns    []net.Conn
}

func newTCPPeer(t testing.TB, answer func(request []byte) []byte) *tcpPeer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tcpPeer{listener: l}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		p.closeAll()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.accepted++
			p.conns = append(p.conns, conn)
			p.mu.Unlock()
			wg.Go(func() { p.serve(conn, answer) })
		}
	})
	return p
}

func (p *tcpPeer) serve(conn net.Conn, answer func([]byte) []byte) {
	var f framer
	for {
		n, err := conn.Read(f.space())
		if err != nil {
			return
		}
		f.filled(n)
		for {
			request, err := f.next()
			if err != nil || request == nil {
				break
			}
			_, _ = conn.Write(answer(request))
		}
	}
}

func (p *tcpPeer) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *tcpPeer) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

func (p *tcpPeer) addr() netip.AddrPort { return netip.MustParseAddrPort(p.listener.Addr().String()) }
