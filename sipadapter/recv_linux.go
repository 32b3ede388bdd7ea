package sipadapter

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call reads. At 2,500 registrations a
// second, 100 come within a beat.
const batchSize = 64

// batch reads several datagrams at a time (recvmmsg(2)), those that come while a
// socket is busy on every beat (messages.Beat). Only the pages that datagrams
// have filled take memory.
type batch struct {
	company company
	conn    syscall.RawConn
	call    func(fd uintptr) bool // receive
	headers [batchSize]unix.Mmsghdr
	vectors [batchSize]unix.Iovec
	names   [batchSize]unix.RawSockaddrInet6 // also holds one of IPv4
	buffer  []byte
	packets [batchSize]arrival
	count   int
	fault   error
}

// newReader reads in batches if the socket is one of the system's.
func newReader(conn packetConn) reader {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return &single{conn: conn}
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return &single{conn: conn}
	}
	b := &batch{conn: raw, buffer: make([]byte, batchSize*maxMessage), company: company{room: roomOf(udp)}}
	b.call = b.receive
	for i := range b.headers {
		b.vectors[i].Base = &b.buffer[i*maxMessage]
		b.vectors[i].SetLen(maxMessage)
		h := &b.headers[i].Hdr
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	}
	return b
}

func (b *batch) read() ([]arrival, error) {
	b.company.came(b.count)
	if b.count > 0 && b.count < batchSize {
		time.Sleep(b.company.pause(time.Now()))
	}
	if err := b.conn.Read(b.call); err != nil {
		return nil, err
	}
	if b.fault != nil {
		return nil, b.fault
	}
	for i := range b.count {
		p := &b.packets[i]
		p.data = b.buffer[i*maxMessage:][:b.headers[i].Len]
		p.from = addrOf(&b.names[i])
	}
	return b.packets[:b.count], nil
}

// receive returns false when there is nothing to read yet.
func (b *batch) receive(fd uintptr) bool {
	for i := range b.headers {
		b.headers[i].Hdr.Namelen = unix.SizeofSockaddrInet6
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers)), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			b.count, b.fault = int(n), nil
			return true
		case errors.Is(errno, unix.EAGAIN):
			return false
		case !errors.Is(errno, unix.EINTR):
			b.count, b.fault = 0, os.NewSyscallError("recvmmsg", errno)
			return true
		}
	}
}

// addrOf reads the address of a sender.
func addrOf(name *unix.RawSockaddrInet6) netip.AddrPort {
	if name.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), networkOrder(four.Port))
	}
	ip := netip.AddrFrom16(name.Addr)
	if name.Scope_id != 0 {
		ip = ip.WithZone(zoneOf(name.Scope_id))
	}
	return netip.AddrPortFrom(ip, networkOrder(name.Port))
}

func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// zoneOf names the interface of a link-local address.
func zoneOf(index uint32) string {
	if ifi, err := net.InterfaceByIndex(int(index)); err == nil {
		return ifi.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}
