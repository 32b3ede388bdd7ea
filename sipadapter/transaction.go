package sipadapter

import (
	"errors"
	"net/netip"
	"time"
)

var (
	// errClosed ends what is pending when the adapter closes.
	errClosed = errors.New("the adapter is closed")
	// errBranchInUse refuses a transaction whose branch another one has. Only a
	// caller that names the branch of its INVITE can meet it.
	errBranchInUse = errors.New("the branch belongs to a transaction that is not over")
)

// wire is where a transaction sends to: an address of a UDP socket, or a TCP
// connection.
type wire interface {
	// send must not block on the peer. After an error of it the transaction is
	// over (RFC 3261 §17.1.4).
	send(packet []byte) error
	reliable() bool
	// answeredBy tells whether what arrived from o can be an answer to what
	// was sent here (S-04).
	answeredBy(o origin) bool
}

// origin is where a message came from, and the way back.
type origin struct {
	from   netip.AddrPort
	socket *udpSocket // one of the two
	stream *stream
	at     time.Time // when it was read; zero: just now
}

func (o origin) readAt() time.Time {
	if o.at.IsZero() {
		return time.Now()
	}
	return o.at
}

// transaction is one request on its way to one address. Who may touch it is the
// table's rule.
type transaction struct {
	key      branchKey
	method   string
	cseq     uint32
	callID   string
	fromTag  string
	sentBy   hostPort
	wire     wire
	inviting *inviting // nil unless the method is INVITE

	machine machine
	packet  []byte
	text    text     // instead of packet
	collect bool     // the text may wait for Adapter.Flush
	resent  func()   // called for each retransmission, may be nil
	report  reporter // nil when nothing more is reported
	heard   bool     // a response arrived
	entered bool     // it is in the table

	deadline
	neighbours
}

// text is a usual REGISTER, which is written each time it is sent, so that nothing
// of it is kept meanwhile.
type text interface {
	appendTo(b []byte) []byte
	// echoed tells whether a response has what a server copies of the request.
	// False means only that one has to look closer.
	echoed(m *message) bool
}

// reporter is told how a transaction ended.
type reporter interface{ told(r result) }

type reportFunc func(result)

func (f reportFunc) told(r result) { f(r) }

// inviting is what the transaction of an INVITE has besides: it reports more
// than once, and it acknowledges.
type inviting struct {
	// calls takes the reports, so that they are made in the order in which the
	// machine saw the responses, whichever goroutines those came from.
	calls *sequence
	// acknowledge serialises the ACK for a response of 300 and above, given
	// the To of that response; ack keeps it for the repeats.
	acknowledge func(to string) []byte
	ack         []byte
	// accepted: a 2xx was reported, so that no failure can follow.
	accepted bool
}

// ackOf gives the ACK for a response: the same bytes for every repeat.
func (in *inviting) ackOf(m *message) []byte {
	if in.ack == nil {
		to, _ := m.one("to")
		in.ack = in.acknowledge(to)
	}
	return in.ack
}

// result is how a transaction ended: with a response, by a transport error, or
// by its timeout when neither is set. For an INVITE it is also any other
// response on the way.
type result struct {
	response *message
	from     netip.AddrPort
	err      error
	unsent   bool // the error came before anything left
	heard    bool // something arrived before the timeout: the server is alive
}

func (r result) timedOut() bool { return r.response == nil && r.err == nil }

// owed is what a transaction owes when the lock of its shard is released.
type owed struct {
	report reporter
	result result
	calls  *sequence // instead of report
	ack    []byte    // is sent first, for invite
	invite *transaction
}

// owe takes the report that r makes due, if it makes any. It needs the lock of
// the shard.
func (tx *transaction) owe(r result) owed {
	switch {
	case tx.report == nil:
		return owed{}
	case tx.inviting == nil:
		o := owed{report: tx.report, result: r}
		tx.report = nil
		return o
	}
	in, report := tx.inviting, tx.report
	if in.accepted && r.response == nil {
		return owed{}
	}
	in.calls.post(func() { report.told(r) })
	switch {
	case r.response == nil, r.response.status >= 300:
		tx.report = nil
	case r.response.status >= 200:
		in.accepted = true
	}
	return owed{calls: in.calls}
}

// pay makes the report.
func (o owed) pay() {
	switch {
	case o.calls != nil:
		o.calls.run()
	case o.report != nil:
		o.report.told(o.result)
	}
}
