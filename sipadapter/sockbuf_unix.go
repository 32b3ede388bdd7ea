//go:build unix

package sipadapter

import (
	"net"
	"runtime"
	"syscall"
)

// grantedBuffer asks the system how large the receive buffer has become. Linux
// reports twice what was granted (socket(7)).
func grantedBuffer(conn *net.UDPConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	size := 0
	_ = raw.Control(func(fd uintptr) {
		size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	})
	if err != nil {
		return 0
	}
	if runtime.GOOS == "linux" {
		size /= 2
	}
	return size
}
