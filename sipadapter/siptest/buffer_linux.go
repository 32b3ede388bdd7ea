package siptest

import (
	"net"
	"syscall"
)

// forceReadBuffer goes beyond the limit of the system where it is allowed to
// (CAP_NET_ADMIN): a burst of registrations is larger than the usual limit.
func forceReadBuffer(conn *net.UDPConn, size int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, size)
	})
}
