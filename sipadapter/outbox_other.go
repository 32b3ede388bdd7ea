//go:build !linux

package sipadapter

import (
	"net/netip"
	"time"
)

// outbox is for systems that send several datagrams at a time.
type outbox struct{}

func newOutbox(*table, packetConn, netip.AddrPort) *outbox { return nil }

func (o *outbox) takes(netip.AddrPort) bool { return false }

func (o *outbox) post(*transaction, netip.AddrPort, time.Time) owed { return owed{} }

func (o *outbox) flush() {}
