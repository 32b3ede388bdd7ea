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
	var tx *transaction
	known := func(k branchKey) (known bool) {
		tx, known = a.table.known(k)
		return known
	}
	if !findBranch(raw, known) {
		a.drop(dropUnmatched)
		return
	}
	if tx != nil && tx.method == "REGISTER" && !a.seams.plain && a.receiveScanned(raw, tx, o) {
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
	tx, reason := a.match(m, o)
	a.deliver(tx, reason, m, o)
}

// receiveScanned takes a response that scan can read, to the REGISTER whose
// branch stands in it. It returns false when that is not enough.
func (a *Adapter) receiveScanned(raw []byte, tx *transaction, o origin) bool {
	m := scanned.Get().(*message)
	defer scanned.Put(m)
	if !m.scan(string(raw), o.stream != nil) {
		return false
	}
	reason := ""
	if tx.text == nil || m.status < 100 || m.status > 699 || !tx.wire.answeredBy(o) || !tx.text.echo().in(m) {
		tx, reason = a.match(m, o)
	}
	// The report about any other request may be made later, when m is used again.
	if tx != nil && tx.method != "REGISTER" {
		return false
	}
	a.deliver(tx, reason, m, o)
	return true
}

// deliver gives a response to its transaction, unless there is a reason to drop
// it.
func (a *Adapter) deliver(tx *transaction, reason string, m *message, o origin) {
	if reason == dropRepeated {
		a.stats.received.Add(1)
		a.counters.ResponseReceived("REGISTER", m.status)
	}
	if reason != "" {
		a.drop(reason)
		return
	}
	a.stats.received.Add(1)
	a.counters.ResponseReceived(tx.method, m.status)
	due, repeated := a.table.respond(tx, result{response: m, from: o.from})
	if repeated {
		a.drop(dropRepeated)
	}
	if due.ack != nil {
		a.sendACK(tx, due.ack, repeated)
	}
	due.pay()
}

// match finds the transaction of a response, or the reason to drop it.
func (a *Adapter) match(m *message, o origin) (*transaction, string) {
	if m.status < 100 || m.status > 699 {
		return nil, dropStatus
	}
	value, single := m.one("via")
	if !single {
		return nil, dropVia // GEN-14
	}
	v, rest, ok := parseVia(value)
	if !ok || rest != "" {
		return nil, dropVia
	}
	branch, _ := parameter(v.params, "branch")
	key, ok := parseBranch(branch)
	if !ok {
		return nil, dropUnmatched
	}
	number, method, ok := m.cseq()
	tx := a.table.find(key, method)
	switch {
	case tx == nil && ok && method == "REGISTER" && a.table.over(key):
		return nil, dropRepeated
	case tx == nil:
		return nil, dropUnmatched
	case !ok:
		return nil, dropMalformed
	case method != tx.method:
		return nil, dropUnmatched // TRX-08
	case !v.sentBy(tx.sentBy):
		return nil, dropVia // GEN-13
	case !tx.wire.answeredBy(o) && !a.allowed[o.from.Addr().WithZone("")]:
		return nil, dropSource // S-04
	case number != tx.cseq:
		return nil, dropIdentity
	}
	return tx, tx.identify(m)
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
