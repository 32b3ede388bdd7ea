package sipadapter

import "sync/atomic"

// Counters is told what the adapter sends and receives. Labels come from
// closed sets. Methods are called on the hot path and must not block.
type Counters interface {
	// RequestSent counts the first transmission of a request.
	RequestSent(method string)
	// Retransmitted counts each further one (RFC 3261 §17.1.2.2).
	Retransmitted(method string)
	// ResponseReceived counts a response that belongs to a transaction.
	ResponseReceived(method string, code int)
	// Dropped counts a message that was not used; see DropReasons.
	Dropped(reason string)
}

type noCounters struct{}

func (noCounters) RequestSent(string)           {}
func (noCounters) Retransmitted(string)         {}
func (noCounters) ResponseReceived(string, int) {}
func (noCounters) Dropped(string)               {}

// Why a received message was dropped.
const (
	// dropMalformed: no SIP message, or one without what every message has.
	dropMalformed = "malformed"
	// dropOversize: more headers or longer ones than S-31 allows.
	dropOversize = "oversize"
	// dropUnmatched: no transaction is waiting for it (TRX-07, TRX-08).
	dropUnmatched = "unmatched"
	// dropRepeated: a repeat of a final response (TRX-09), or of a request that
	// has no new answer.
	dropRepeated = "repeated"
	// dropVia: more than one Via, or not the one we wrote (GEN-13, GEN-14).
	dropVia = "via"
	// dropSource: not from where the request went (S-04).
	dropSource = "source"
	// dropIdentity: Call-ID, CSeq number or From tag are not what we sent.
	dropIdentity = "identity"
	// dropStatus: a status code below 100 or above 699.
	dropStatus = "status"
	// dropRate: a request from outside over the rate that is answered.
	dropRate = "rate"
	// dropUnanswerable: a request that no answer can be sent to.
	dropUnanswerable = "unanswerable"
)

// DropReasons lists every reason that Counters.Dropped can be called with, for
// metrics that must exist at zero.
func DropReasons() []string {
	return []string{
		dropMalformed, dropOversize, dropUnmatched, dropRepeated, dropVia,
		dropSource, dropIdentity, dropStatus, dropRate, dropUnanswerable,
	}
}

// Stats are totals since the start, and three levels.
type Stats struct {
	Sent, Retransmitted, Received, Dropped, Inbound uint64
	// Refused counts responses of the core, and header lines in them, that were
	// not sent because they may not be.
	Refused uint64
	// Pending is the number of requests without an outcome.
	Pending int
	// Serving is the number of server transactions.
	Serving int
	// Connections is the number of open TCP connections.
	Connections int
}

type stats struct {
	sent, retransmitted, received, dropped, inbound, refused atomic.Uint64
	pending, connections                                     atomic.Int64
}

// Stats reads the counters.
func (a *Adapter) Stats() Stats {
	s := &a.stats
	return Stats{
		Sent: s.sent.Load(), Retransmitted: s.retransmitted.Load(), Received: s.received.Load(),
		Dropped: s.dropped.Load(), Inbound: s.inbound.Load(), Refused: s.refused.Load(),
		Pending: int(s.pending.Load()), Serving: int(a.servers.count.Load()), Connections: int(s.connections.Load()),
	}
}
