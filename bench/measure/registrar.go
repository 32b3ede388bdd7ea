package measure

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Registrar is the far end of the benchmarks: it challenges a REGISTER without
// credentials and grants one with them, whatever they are worth, because what
// is measured is the client. It keeps eight bytes for each Call-ID and answers
// in a few microseconds, so that it is never what a client waits for. Its
// answers have the form and size of Kamailio's.
type Registrar struct {
	// First is granted to a binding, Later to each refresh.
	First, Later time.Duration
	// QOP is offered in the challenge; empty offers none, as Kamailio does when
	// it does not check nonce counts.
	QOP string

	counts RegistrarCounts
	known  map[uint64]struct{} // Call-IDs that were granted a binding
	seed   maphash.Seed
	nonces uint64
	out    []byte
}

// RegistrarCounts are requests by what became of them.
type RegistrarCounts struct{ Received, Challenged, Granted, Refreshed, Strange int }

// countQuestion is a datagram that asks for the counts.
const countQuestion = "COUNT"

// Listen binds a free port of loopback, or the given address.
func Listen(addr string) (*net.UDPConn, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	setBuffers(conn)
	return conn, nil
}

// setBuffers asks for room for a burst; with the right to it beyond the limit
// of the machine.
func setBuffers(conn *net.UDPConn) {
	const room = 8 << 20
	_ = conn.SetReadBuffer(room)
	_ = conn.SetWriteBuffer(room)
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	const rcvbufForce, sndbufForce = 33, 32 // SO_RCVBUFFORCE, SO_SNDBUFFORCE
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, rcvbufForce, room)
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, sndbufForce, room)
	})
}

// Serve answers until the socket fails.
func (r *Registrar) Serve(conn *net.UDPConn) error {
	r.known, r.seed = map[uint64]struct{}{}, maphash.MakeSeed()
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if answer := r.answer(buf[:n], from); answer != nil {
			_, _ = conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

// request is what an answer repeats, as it was written.
type request struct {
	vias                                     []byte
	from, to, callID, cseq, contact, expires []byte
	authorized                               bool
}

func (r *Registrar) answer(b []byte, from netip.AddrPort) []byte {
	if string(b) == countQuestion {
		c := r.counts
		return fmt.Appendf(nil, "%d %d %d %d %d", c.Received, c.Challenged, c.Granted, c.Refreshed, c.Strange)
	}
	if !bytes.HasPrefix(b, []byte("REGISTER ")) {
		r.counts.Strange++
		return nil
	}
	q := readRequest(b)
	if q.callID == nil || q.cseq == nil || q.vias == nil {
		r.counts.Strange++
		return nil
	}
	r.counts.Received++
	if !q.authorized {
		r.counts.Challenged++
		r.head("401 Unauthorized", q, from)
		r.out = append(r.out, "WWW-Authenticate: Digest realm=\"example.test\", nonce=\""...)
		r.nonce()
		r.out = append(r.out, '"')
		if r.QOP != "" {
			r.out = append(r.out, ", qop=\""+r.QOP+`"`...)
		}
		r.out = append(r.out, "\r\n"...)
		return r.tail()
	}
	id := maphash.Bytes(r.seed, q.callID)
	granted := r.First
	if _, refresh := r.known[id]; refresh {
		granted = r.Later
		r.counts.Refreshed++
	} else {
		r.known[id] = struct{}{}
		r.counts.Granted++
	}
	r.head("200 OK", q, from)
	if !bytes.Equal(q.expires, []byte("0")) {
		uri, _, _ := bytes.Cut(q.contact, []byte(">"))
		r.out = append(r.out, "Contact: "...)
		r.out = append(r.out, uri...)
		r.out = append(r.out, ">;expires="...)
		r.out = strconv.AppendInt(r.out, int64(granted/time.Second), 10)
		r.out = append(r.out, "\r\n"...)
	}
	return r.tail()
}

func (r *Registrar) head(status string, q request, from netip.AddrPort) {
	r.out = append(append(append(r.out[:0], "SIP/2.0 "...), status...), "\r\n"...)
	// RFC 3581 §4: the source goes into the topmost Via, which asks with rport.
	if before, after, asked := bytes.Cut(q.vias, []byte(";rport")); asked {
		r.out = append(append(r.out, before...), ";rport="...)
		r.out = strconv.AppendInt(r.out, int64(from.Port()), 10)
		r.out = append(r.out, after...)
	} else {
		r.out = append(r.out, q.vias...)
	}
	line := func(name string, value []byte, more string) {
		r.out = append(append(append(append(r.out, name...), value...), more...), "\r\n"...)
	}
	line("From: ", q.from, "")
	line("To: ", q.to, ";tag=a6a1c5f60faecf035a1ae5b6e96e979a.5bb0")
	line("Call-ID: ", q.callID, "")
	line("CSeq: ", q.cseq, "")
}

func (r *Registrar) tail() []byte {
	r.out = append(r.out, "Server: bench\r\nContent-Length: 0\r\n\r\n"...)
	return r.out
}

// nonce is new for every challenge and as long as Kamailio's.
func (r *Registrar) nonce() {
	r.nonces++
	const digits = 16
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		r.out = append(r.out, "0123456789abcdef"[r.nonces*0x9e3779b97f4a7c15>>shift&15])
	}
	r.out = append(r.out, "Y3n0pQrStUvWxYz0"...)
}

// readRequest finds the headers by their full names, as the clients under test
// write them, and the Via with its name.
func readRequest(b []byte) request {
	var q request
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\r\n"))
		if len(line) == 0 {
			break
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue
		}
		value = bytes.TrimSpace(value)
		switch string(name) {
		case "Via", "v":
			q.vias = append(append(append(q.vias, "Via: "...), value...), "\r\n"...)
		case "From", "f":
			q.from = value
		case "To", "t":
			q.to = value
		case "Call-ID", "i":
			q.callID = value
		case "CSeq":
			q.cseq = value
		case "Contact", "m":
			q.contact = value
		case "Expires":
			q.expires = value
		case "Authorization":
			q.authorized = bytes.Contains(value, []byte("response="))
		}
	}
	return q
}

// AskCounts asks a Registrar for its counts; uri is its SIP URI.
func AskCounts(uri string) (RegistrarCounts, error) {
	var c RegistrarCounts
	addr, _, _ := strings.Cut(strings.TrimPrefix(uri, "sip:"), ";")
	conn, err := net.Dial("udp4", addr)
	if err != nil {
		return c, err
	}
	defer conn.Close()
	answer := make([]byte, 256)
	for range 20 {
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if _, err = conn.Write([]byte(countQuestion)); err != nil {
			continue
		}
		var n int
		if n, err = conn.Read(answer); err == nil {
			_, err = fmt.Sscan(string(answer[:n]), &c.Received, &c.Challenged, &c.Granted, &c.Refreshed, &c.Strange)
			return c, err
		}
	}
	return c, fmt.Errorf("the far end does not answer: %w", err)
}
