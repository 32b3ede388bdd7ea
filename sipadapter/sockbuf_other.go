//go:build !unix

package sipadapter

import "net"

// grantedBuffer is not known here.
func grantedBuffer(*net.UDPConn) int { return 0 }
