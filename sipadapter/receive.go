package sipadapter

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
)

// receive takes one datagram, or one message of a stream, from a reader. It
// keeps nothing of raw.
func (a *Adapter) receive(raw []byte, o origin) {
	if isKeepAlive(raw) {
		return
	}
	if raw[0] < ' ' {
		raw = bytes.TrimLeft(raw, "\r\n") // RFC 3261 §7.5, tolerated on UDP
	}
	if isResponse(raw) {
		a.receiveResponse(raw, o)
		return
	}
	a.stats.inbound.Add(1)
	a.receiveRequest(raw, o)
}

// receiveResponse matches a response to its transaction and refuses, in the
// order of what each check costs, whatever was not sent by the server that was
// asked (RFC 3261 §18.1.2, §17.1.3). A stray costs a search and a hash.
func (a *Adapter) receiveResponse(raw []byte, o origin) {
	var key branchKey
	var method string
	known := func(k branchKey) (known bool) {
		key = k
		method, known = a.table.known(k)
		return known
	}
	if !findBranch(raw, known) {
		a.drop(dropUnmatched)
		return
	}
	if method == "REGISTER" && !a.seams.plain && a.receiveScanned(raw, key, o) {
		return
	}
	m, err := a.parseResponse(raw, o.stream != nil)
	if errors.Is(err, errOversize) {
		a.drop(dropOversize)
		return
	}
	if err != nil {
		a.drop(dropMalformed)
		return
	}
	c, reason := claimOf(m)
	if reason != "" {
		a.drop(reason)
		return
	}
	due, reason := a.table.respond(c.key, c.method, result{response: m, from: o.from}, o.readAt(),
		func(tx *transaction) string { return a.differs(tx, c, m, o) })
	a.deliver(c.method, m.status, due, reason)
}

// elsewhere is the reason why a response is not taken by the transaction whose
// branch stands in it first.
const elsewhere = "elsewhere"

// receiveScanned takes a response that scan can read, to the REGISTER whose
// branch stands in it. It returns false when that is not enough.
func (a *Adapter) receiveScanned(raw []byte, key branchKey, o origin) bool {
	m := scanned.Get().(*message)
	defer m.release()
	if !m.scan(raw, o.stream != nil) || m.status < 100 || m.status > 699 {
		return false
	}
	due, reason := a.table.respond(key, "REGISTER", result{response: m, from: o.from}, o.readAt(), func(tx *transaction) string {
		if tx.text != nil && tx.wire.answeredBy(o) && tx.text.echoed(m) {
			return ""
		}
		c, reason := claimOf(m)
		switch {
		case reason != "":
			return reason
		case c.key != key || c.method != "REGISTER":
			return elsewhere
		}
		return a.differs(tx, c, m, o)
	})
	if reason == elsewhere {
		return false
	}
	a.deliver("REGISTER", m.status, due, reason)
	return true
}

// deliver counts a response and pays what is due for it.
func (a *Adapter) deliver(method string, status int, due owed, reason string) {
	if reason == "" || reason == dropRepeated {
		a.stats.received.Add(1)
		a.counters.ResponseReceived(method, status)
	}
	if reason != "" {
		a.drop(reason)
	}
	if due.ack != nil {
		a.sendACK(due.invite, due.ack, reason == dropRepeated)
	}
	due.pay()
}

// claim is what a response says about the transaction that it belongs to.
type claim struct {
	key    branchKey
	via    via
	method string // empty when the CSeq is malformed
	number uint32
}

// claimOf reads it, or gives the reason to drop the response.
func claimOf(m *message) (c claim, reason string) {
	if m.status < 100 || m.status > 699 {
		return c, dropStatus
	}
	value, single := m.one("via")
	if !single {
		return c, dropVia // GEN-14
	}
	v, rest, ok := parseVia(value)
	if !ok || rest != "" {
		return c, dropVia
	}
	branch, _ := parameter(v.params, "branch")
	key, ok := parseBranch(branch)
	if !ok {
		return c, dropUnmatched
	}
	c = claim{key: key, via: v}
	if number, method, ok := m.cseq(); ok {
		c.number, c.method = number, method
	}
	return c, ""
}

// differs gives the reason why a response is not one to the transaction that it
// claims. It needs the lock of the shard.
func (a *Adapter) differs(tx *transaction, c claim, m *message, o origin) string {
	switch {
	case c.method == "":
		return dropMalformed
	case c.method != tx.method:
		return dropUnmatched // TRX-08
	case !c.via.sentBy(tx.sentBy):
		return dropVia // GEN-13
	case !tx.wire.answeredBy(o) && !a.allowed[o.from.Addr().WithZone("")]:
		return dropSource // S-04
	case c.number != tx.cseq:
		return dropIdentity
	}
	return tx.identify(m)
}

// identify checks what RFC 3261 §8.2.6.2 makes a server copy: each of these
// headers stands there once and says what we sent.
func (tx *transaction) identify(m *message) string {
	callID, okCallID := m.one("call-id")
	from, okFrom := m.one("from")
	to, okTo := m.one("to")
	if !okCallID || !okFrom || !okTo {
		return dropMalformed
	}
	if _, ok := parseNameAddr(to); !ok {
		return dropMalformed
	}
	fromTag, ok := tag(from)
	if !ok {
		return dropMalformed
	}
	if callID != tx.callID || fromTag != tx.fromTag {
		return dropIdentity
	}
	// The ACK repeats this To (RFC 3261 §17.1.1.3).
	if tx.inviting != nil && !challenge.IsFieldValue(to) {
		return dropMalformed
	}
	return ""
}

// drop counts a message that is not used.
func (a *Adapter) drop(reason string) {
	a.stats.dropped.Add(1)
	a.counters.Dropped(reason)
	a.dropLog.note(a.log, reason)
}

// dropLog writes at most one line per second, however many are dropped
// (TRX-07).
type dropLog struct {
	last  atomic.Int64 // Unix seconds of the last line
	since atomic.Int64 // drops without a line
}

func (d *dropLog) note(log *slog.Logger, reason string) {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	now, last := time.Now().Unix(), d.last.Load()
	if now == last || !d.last.CompareAndSwap(last, now) {
		d.since.Add(1)
		return
	}
	log.Debug("message dropped", "reason", reason, "others", d.since.Swap(0))
}
