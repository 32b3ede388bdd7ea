package sipadapter

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outbox collects the requests that leave by one socket with the next Flush, in one
// system call (sendmmsg(2)). One by one, each costs 1 to 2 µs more.
type outbox struct {
	table *table
	conn  syscall.RawConn
	four  bool       // the socket's family
	mu    sync.Mutex // is taken before that of a shard
	open  *mail      // what is collected, if anything is
}

// mail is the datagrams of one system call.
type mail struct {
	call    func(fd uintptr) bool // send
	headers [maxCollected]unix.Mmsghdr
	vectors [maxCollected]unix.Iovec
	names   [maxCollected]unix.RawSockaddrInet6 // also holds one of IPv4
	keys    [maxCollected]branchKey
	buffer  []byte
	count   int
	sent    int // how many are done with
	faults  []fault
	// patient waits for room in the socket's buffer.
	patient bool
}

// fault is what became of a datagram that could not be sent.
type fault struct {
	key branchKey
	err error
}

var mails = sync.Pool{New: func() any {
	m := &mail{buffer: make([]byte, 0, maxCollected*maxDatagram)}
	m.call = m.send
	for i := range m.headers {
		h := &m.headers[i].Hdr
		h.Iov = &m.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&m.names[i]))
	}
	return m
}}

// newOutbox is nil if the socket is none of the system's.
func newOutbox(t *table, conn packetConn, local netip.AddrPort) *outbox {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return nil
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil
	}
	return &outbox{table: t, conn: raw, four: local.Addr().Is4()}
}

// takes tells whether what goes to an address can leave with the others.
func (o *outbox) takes(to netip.AddrPort) bool {
	return o != nil && to.Addr().Is4() == o.four && to.Addr().Zone() == ""
}

// post writes the text of a REGISTER transaction and enters that in the table, in
// this order: once it is entered, it may be over. It returns what is owed when it
// cannot be entered.
func (o *outbox) post(tx *transaction, to netip.AddrPort, now time.Time) owed {
	o.mu.Lock()
	if o.open == nil {
		o.open = mails.Get().(*mail)
	}
	var full *mail
	o.open.add(tx.text, to, tx.key)
	due, ok := o.table.admit(tx, now)
	switch {
	case !ok:
		o.open.drop()
	case o.open.count == maxCollected:
		full, o.open = o.open, nil
	}
	o.mu.Unlock()
	if full != nil {
		o.dispatch(full)
	}
	return due
}

func (o *outbox) flush() {
	if o == nil {
		return
	}
	o.mu.Lock()
	m := o.open
	o.open = nil
	o.mu.Unlock()
	if m != nil {
		o.dispatch(m)
	}
}

// dispatch sends. It does not wait for room in the socket's buffer: whoever calls
// it has other profiles to look after.
func (o *outbox) dispatch(m *mail) {
	err := o.conn.Write(m.call)
	if err == nil && m.sent < m.count {
		m.patient = true
		go func() { o.finish(m, o.conn.Write(m.call)) }()
		return
	}
	o.finish(m, err)
}

// finish ends the transactions whose datagrams could not be sent.
func (o *outbox) finish(m *mail, err error) {
	for ; m.sent < m.count; m.sent++ { // the socket is closed
		m.faults = append(m.faults, fault{m.keys[m.sent], err})
	}
	faults := m.faults
	clear(m.buffer)
	m.buffer, m.count, m.sent, m.faults, m.patient = m.buffer[:0], 0, 0, nil, false
	mails.Put(m)
	for _, f := range faults {
		o.table.fail(f.key, "REGISTER", result{err: f.err, unsent: true})
	}
}

func (m *mail) add(t text, to netip.AddrPort, k branchKey) {
	i := m.count
	m.count++
	m.keys[i] = k
	start := len(m.buffer)
	m.buffer = t.appendTo(m.buffer) // has room for all
	m.vectors[i].Base = unsafe.SliceData(m.buffer[start:])
	m.vectors[i].SetLen(len(m.buffer) - start)
	h := &m.headers[i].Hdr
	if to.Addr().Is4() {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(&m.names[i]))
		*four = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: to.Addr().As4()}
		h.Namelen = unix.SizeofSockaddrInet4
		return
	}
	m.names[i] = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16()}
	h.Namelen = unix.SizeofSockaddrInet6
}

// drop takes back what was added last.
func (m *mail) drop() {
	m.count--
	start := len(m.buffer) - int(m.vectors[m.count].Len)
	clear(m.buffer[start:])
	m.buffer = m.buffer[:start]
}

// send returns false when it waits for room. The system stops at a datagram that
// it cannot send, and says why when that is the first; the others go on without it.
func (m *mail) send(fd uintptr) bool {
	for m.sent < m.count {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&m.headers[m.sent])), uintptr(m.count-m.sent), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			m.sent += int(n)
		case errors.Is(errno, unix.EAGAIN):
			return !m.patient
		case errors.Is(errno, unix.EINTR):
		case errors.Is(errno, unix.ENOBUFS): // a lost datagram, as in write
			m.sent++
		default:
			m.faults = append(m.faults, fault{m.keys[m.sent], os.NewSyscallError("sendmmsg", errno)})
			m.sent++
		}
	}
	return true
}
