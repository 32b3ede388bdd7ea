//go:build !linux

package sipadapter

func newReader(conn packetConn) reader { return &single{conn: conn} }
