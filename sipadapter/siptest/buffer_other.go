//go:build !linux

package siptest

import "net"

// forceReadBuffer needs Linux.
func forceReadBuffer(*net.UDPConn, int) {}
