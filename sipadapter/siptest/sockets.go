package siptest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sockets are the UDP socket, the TCP listener and its connections, one
// lifetime of them.
type sockets struct {
	udp  *net.UDPConn
	tcp  *net.TCPListener
	done sync.WaitGroup

	mu     sync.Mutex
	open   map[*stream]struct{}
	second *net.UDPConn // for answers from elsewhere
	closed bool
}

// listen takes the same port for UDP and TCP. When the port is free to choose
// it looks for one that is free for both.
func listen(address string) (*sockets, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	attempts := 1
	if port == "0" {
		attempts = portAttempts
	}
	for range attempts {
		var s *sockets
		if s, err = listenBoth(host, port); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func listenBoth(host, port string) (*sockets, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	tcp := l.(*net.TCPListener)
	p, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	udp := p.(*net.UDPConn)
	_ = udp.SetReadBuffer(wantedBuffer) // the system may grant less
	_ = udp.SetWriteBuffer(wantedBuffer)
	forceReadBuffer(udp, wantedBuffer)
	return &sockets{udp: udp, tcp: tcp, open: map[*stream]struct{}{}}, nil
}

func (s *sockets) address() string { return s.tcp.Addr().String() }

func (s *sockets) close() {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	if s.second != nil {
		_ = s.second.Close()
	}
	s.mu.Unlock()
	_ = s.udp.Close()
	_ = s.tcp.Close()
	for c := range open {
		_ = c.conn.Close()
	}
	s.done.Wait()
}

func (r *Registrar) serve(s *sockets) {
	s.done.Go(func() { r.readUDP(s) })
	s.done.Go(func() { r.accept(s) })
}

func (r *Registrar) readUDP(s *sockets) {
	buffer := make([]byte, maxMessage)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && len(bytes.TrimLeft(buffer[:n], "\r\n\x00")) > 0 { // RFC 5626 §3.5.1 and NAT keep-alives
			r.receive(buffer[:n], datagram{s, netip.AddrPortFrom(from.Addr().Unmap(), from.Port())})
		}
	}
}

// datagram answers to where a datagram came from.
type datagram struct {
	s  *sockets
	to netip.AddrPort
}

func (d datagram) send(m []byte)     { _, _ = d.s.udp.WriteToUDPAddrPort(m, d.to) }
func (d datagram) source() string    { return d.to.String() }
func (d datagram) transport() string { return "udp" }

func (d datagram) elsewhere(m []byte) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.second == nil && !d.s.closed {
		local := d.s.udp.LocalAddr().(*net.UDPAddr)
		d.s.second, _ = net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
	}
	if d.s.second != nil {
		_, _ = d.s.second.WriteToUDPAddrPort(m, d.to)
	}
}

func (r *Registrar) accept(s *sockets) {
	for {
		conn, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause) // out of file descriptors
			continue
		}
		c := &stream{conn: conn}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.open[c] = struct{}{}
		s.mu.Unlock()
		r.bump(func(n *Snapshot) { n.Connections++ })
		s.done.Go(func() {
			r.readStream(c)
			_ = conn.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

// stream is one TCP connection.
type stream struct {
	conn net.Conn
	mu   sync.Mutex // of writing
}

func (c *stream) send(m []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = c.conn.Write(m)
}

func (c *stream) source() string    { return c.conn.RemoteAddr().String() }
func (c *stream) transport() string { return "tcp" }
func (c *stream) elsewhere([]byte)  {}

// readStream cuts a connection into messages (RFC 3261 §18.3) and answers
// pings (RFC 5626 §4.4.1). It ends at the first byte it cannot place.
func (r *Registrar) readStream(c *stream) {
	buffer := make([]byte, 0, 4096)
	for {
		buffer = r.takeMessages(c, buffer)
		if _, err := messageSize(buffer); len(buffer) >= maxMessage || !errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		if len(buffer) == cap(buffer) {
			buffer = append(make([]byte, 0, min(2*cap(buffer), maxMessage)), buffer...)
		}
		n, err := c.conn.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if err != nil {
			return
		}
	}
}

// takeMessages handles all complete messages and moves the rest to the front.
func (r *Registrar) takeMessages(c *stream, buffer []byte) []byte {
	rest := buffer
	for {
		for bytes.HasPrefix(rest, []byte("\r\n\r\n")) {
			c.send([]byte("\r\n"))
			rest = rest[4:]
		}
		if bytes.HasPrefix(rest, []byte("\r\n")) && len(rest) > 2 && rest[2] != '\r' {
			rest = rest[2:]
		}
		size, err := messageSize(rest)
		if err != nil {
			return buffer[:copy(buffer, rest)]
		}
		r.receive(rest[:size], c)
		rest = rest[size:]
	}
}

// messageSize is the length of the message at the front, or
// io.ErrUnexpectedEOF when it is not complete.
func messageSize(b []byte) (int, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	size := end + 4
	for line := range strings.SplitSeq(string(b[:end]), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if !strings.EqualFold(name, "Content-Length") && !strings.EqualFold(name, "l") {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
		if err != nil || size+int(n) > maxMessage {
			return 0, errors.New("content length")
		}
		if size += int(n); len(b) < size {
			return 0, io.ErrUnexpectedEOF
		}
		return size, nil
	}
	return 0, errors.New("no content length")
}
