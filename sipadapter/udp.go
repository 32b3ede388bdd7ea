package sipadapter

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// packetConn is what the adapter needs of a UDP socket; *net.UDPConn has it.
type packetConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
	Close() error
}

// udpSocket is one UDP listener. It sends requests as well, so that responses
// come back to the port they left from (RFC 3581 §3).
type udpSocket struct {
	a     *Adapter
	conn  packetConn
	local netip.AddrPort
	out   *outbox // nil unless requests are collected
}

// arrival is one datagram, valid until the next read.
type arrival struct {
	data []byte
	from netip.AddrPort
}

// reader reads one or more datagrams, in the order in which they came.
type reader interface {
	read() ([]arrival, error)
}

// single is a reader for any socket.
type single struct {
	conn   packetConn
	buffer [maxMessage]byte
	packet [1]arrival
}

func (s *single) read() ([]arrival, error) {
	n, from, err := s.conn.ReadFromUDPAddrPort(s.buffer[:])
	s.packet[0] = arrival{s.buffer[:n], from}
	return s.packet[:], err
}

// read is the socket's only reader: datagrams are handled in the order in
// which they came. A read error other than closing is waited out.
func (u *udpSocket) read() {
	r := newReader(u.conn)
	pause := 5 * time.Millisecond
	for {
		packets, err := r.read()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			u.a.log.Warn("udp read", "listen", u.local.String(), "error", err)
			if !u.a.sleep(pause) {
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		at := time.Now()
		for _, p := range packets {
			u.a.receive(p.data, origin{from: unmap(p.from), socket: u, at: at})
		}
	}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// write sends one datagram. A full buffer is a lost datagram, and those are
// what retransmission is for.
func (u *udpSocket) write(packet []byte, to netip.AddrPort) error {
	_, err := u.conn.WriteToUDPAddrPort(packet, to)
	if errors.Is(err, syscall.ENOBUFS) {
		return nil
	}
	return err
}

// maxCollected is how many requests leave without waiting for Flush.
const maxCollected = 64

// Flush sends what Options.Collect has collected. It may be called at any time, from
// any goroutine.
func (a *Adapter) Flush() {
	if a.opts.Collect && a.state.Load() == stateRunning {
		for _, u := range a.sockets {
			u.out.flush()
		}
	}
}

// udpWire is an address as reached from a socket.
type udpWire struct {
	socket *udpSocket
	to     netip.AddrPort
}

func (w udpWire) send(packet []byte) error { return w.socket.write(packet, w.to) }
func (w udpWire) reliable() bool           { return false }

// answeredBy: the same address and port that the request went to (S-04). A
// zone is local knowledge that one side may lack.
func (w udpWire) answeredBy(o origin) bool {
	return o.socket != nil && o.from.Port() == w.to.Port() &&
		o.from.Addr().WithZone("") == w.to.Addr().WithZone("")
}

// socketFor picks the first socket from which the address can be reached: of
// its family, and on the loopback interface only for loopback.
func (a *Adapter) socketFor(to netip.Addr) *udpSocket {
	fits := func(strict bool) int {
		return slices.IndexFunc(a.sockets, func(u *udpSocket) bool {
			return reaches(u.local.Addr(), to, strict)
		})
	}
	for _, strict := range []bool{true, false} {
		if i := fits(strict); i >= 0 {
			return a.sockets[i]
		}
	}
	return nil
}

// reaches tells whether a socket bound to local can send to an address. A
// loopback socket cannot leave the machine. With strict it also is the natural
// one.
func reaches(local, to netip.Addr, strict bool) bool {
	if local.Is4() != to.Is4() {
		return false
	}
	if local.IsLoopback() {
		return to.IsLoopback()
	}
	return !strict || !to.IsLoopback() || local == to
}
