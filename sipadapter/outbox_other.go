//go:build !linux

package sipadapter

import "net/netip"

// outbox is for systems that send several datagrams at a time.
type outbox struct{}

func newOutbox(*table, packetConn, netip.AddrPort) *outbox { return nil }

func (o *outbox) post([]byte, netip.AddrPort, branchKey) bool { return false }

func (o *outbox) flush() {}
