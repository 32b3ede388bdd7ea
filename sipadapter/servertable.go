package sipadapter

import (
	"container/heap"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/messages"
)

// callKey is what an INVITE, its CANCEL and each ACK for it have in common (RFC
// 3261 §9.1, §13.2.2.4, §17.1.1.3). The peer chooses it.
type callKey struct {
	callID, fromTag string
	cseq            uint32
}

// serverKey names a server transaction. RFC 3261 §17.2.3 asks for branch,
// sent-by and method; the call is in it too, so that a client that takes the
// same branch for everything still has one transaction per request.
type serverKey struct {
	callKey
	branch, sentBy, method string
}

// serverKeyOf fails for a branch without the cookie of RFC 3261 §8.1.1.7, which
// need not be unique.
func serverKeyOf(m *message, method string) (serverKey, bool) {
	v, ok := m.topVia()
	if !ok {
		return serverKey{}, false
	}
	branch, _ := parameter(v.params, "branch")
	if len(branch) <= len(cookie) || !strings.EqualFold(branch[:len(cookie)], cookie) {
		return serverKey{}, false
	}
	port := v.port
	if port == 0 {
		port = defaultPort
	}
	k := serverKey{branch: branch, sentBy: strings.ToLower(v.host) + ":" + strconv.Itoa(port), method: method}
	from, _ := m.one("from")
	k.fromTag, _ = tag(from)
	k.callID, _ = m.one("call-id")
	k.cseq, _, _ = m.cseq()
	return k, true
}

// serverTransaction is one request from outside. What stands before machine
// never changes; the rest belongs to its shard's lock.
type serverTransaction struct {
	key     serverKey
	request *message // what responses copy of it
	initial bool     // it has no To tag
	origin  origin
	wire    wire

	machine serverMachine
	status  int    // of the last response; 0: none has left
	packet  []byte // that response
	tag     string // our To tag; empty until a response above 100 has left
	// acked is called once about the ACK of a 2xx, may be nil.
	acked     func(*messages.SIPInbound)
	cancelled bool // a CANCEL was passed up
	declined  bool // the final response is ours, not the core's

	deadline
}

// isInvite tells which of the two machines it has.
func (tx *serverTransaction) isInvite() bool { return tx.key.method == "INVITE" }

const serverShards = 64

// servers holds the server transactions. A shard has all that shares a Call-ID,
// so that an INVITE, its CANCEL and its ACK meet under one lock.
type servers struct {
	a      *Adapter
	seed   maphash.Seed
	limit  int64
	count  atomic.Int64
	shards [serverShards]serverShard
}

type serverShard struct {
	mu     sync.Mutex
	live   map[serverKey]*serverTransaction
	calls  map[callKey][]*serverTransaction // the INVITEs
	due    deadlines[*serverTransaction]
	alarm  alarm
	closed bool
}

func newServers(a *Adapter, limit int) *servers {
	t := &servers{a: a, seed: maphash.MakeSeed(), limit: int64(limit)}
	for i := range t.shards {
		s := &t.shards[i]
		s.live = make(map[serverKey]*serverTransaction)
		s.calls = make(map[callKey][]*serverTransaction)
		s.alarm.ring = func() { t.fire(s) }
	}
	return t
}

func (t *servers) shard(k serverKey) *serverShard {
	return &t.shards[maphash.String(t.seed, k.callID)%serverShards]
}

// admission is what becomes of a request that asks for a transaction.
type admission uint8

const (
	admitted admission = iota
	// repeated: it has one already.
	repeated
	// merged: it came before by another path (RFC 3261 §8.2.2.2).
	merged
	// full: there is no room (S-35).
	full
	// shutting: the adapter is being closed.
	shutting
)

// admit enters the transaction of a request. For a repeat it gives what was
// last answered, if it is to be sent again.
func (t *servers) admit(tx *serverTransaction) (admission, []byte) {
	s := t.shard(tx.key)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return shutting, nil
	}
	if old := s.live[tx.key]; old != nil {
		if old.machine.repeat()&dutySend == 0 {
			return repeated, nil
		}
		return repeated, old.packet
	}
	if slices.ContainsFunc(s.calls[tx.key.callKey], tx.merges) {
		return merged, nil
	}
	if t.count.Add(1) > t.limit {
		t.count.Add(-1)
		return full, nil
	}
	s.live[tx.key] = tx
	if tx.isInvite() {
		s.calls[tx.key.callKey] = append(s.calls[tx.key.callKey], tx)
	}
	tx.due = tx.machine.start(now)
	heap.Push(&s.due, tx)
	s.arm(now)
	return admitted, nil
}

// merges tells whether an INVITE of the same call is the same request, come by
// another path. The Request-URI has to agree as well: a proxy that forks to two
// profiles of this node asks two user agents.
func (tx *serverTransaction) merges(other *serverTransaction) bool {
	return tx.isInvite() && tx.initial && other.initial && tx.request.target == other.request.target
}

// withdraw forgets a transaction that nobody wants to answer. It fails when it
// was answered meanwhile.
func (t *servers) withdraw(tx *serverTransaction) bool {
	s := t.shard(tx.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if tx.status > 100 {
		return false
	}
	t.remove(s, tx)
	return true
}

// respond sends an answer, unless a final one has left.
func (t *servers) respond(tx *serverTransaction, r answer, acked func(*messages.SIPInbound)) {
	s := t.shard(tx.key)
	now := time.Now()
	s.mu.Lock()
	if s.live[tx.key] != tx || tx.status >= 200 {
		late := tx.declined && !s.closed
		s.mu.Unlock()
		if late {
			t.unacked(tx, r.status, acked)
		}
		return
	}
	status := r.status
	packet := t.compose(tx, &r)
	do, next := tx.machine.response(now, r.status)
	if do&dutySend == 0 {
		s.mu.Unlock()
		return
	}
	tx.status, tx.packet = r.status, packet
	if r.status == status {
		tx.acked = acked
	} else {
		tx.declined = true
	}
	t.reschedule(s, tx, do, next)
	s.arm(now)
	s.mu.Unlock()
	// A response that cannot leave is a lost one: what must arrive is repeated.
	_ = tx.wire.send(packet)
	if r.status != status {
		t.unacked(tx, status, acked)
	}
}

// decline answers for a core that does not: should it accept after all, it is
// told that no ACK comes.
func (t *servers) decline(tx *serverTransaction, status int) {
	s := t.shard(tx.key)
	s.mu.Lock()
	tx.declined = tx.declined || tx.status < 200
	s.mu.Unlock()
	t.respond(tx, answer{status: status}, nil)
}

// unacked tells the core that its 2xx never left and so has no ACK.
func (t *servers) unacked(tx *serverTransaction, status int, acked func(*messages.SIPInbound)) {
	if tx.isInvite() && status >= 200 && status < 300 && acked != nil {
		go acked(nil)
	}
}

// maxResponse is what a UDP datagram holds over IPv4.
const maxResponse = 65_507

// compose writes a response with the To tag of the transaction, which the first
// one above 100 decides (RFC 3261 §8.2.6.2). What does not fit into a message
// becomes a 500. It needs the lock of the shard.
func (t *servers) compose(tx *serverTransaction, r *answer) []byte {
	if r.status > 100 && tx.tag == "" {
		tx.tag = r.tag
		// A 200 to the CANCEL has left with a tag, and a refusal must have the same
		// (RFC 3261 §9.2).
		if tx.tag == "" || tx.cancelled && r.status >= 300 {
			tx.tag = t.a.ownTag(tx.request)
		}
	}
	r.tag = tx.tag
	packet := t.a.response(tx.request, tx.origin, *r)
	if len(packet) > maxResponse && len(r.body)+len(r.lines) > 0 {
		t.a.stats.refused.Add(1)
		*r = answer{status: 500, tag: tx.tag}
		packet = t.a.response(tx.request, tx.origin, *r)
	}
	return packet
}

// acknowledge gives an ACK to its transaction: by its key when that was refused
// (RFC 3261 §17.2.3), else by the dialog, because the ACK for a 2xx has a branch
// of its own. It fails when there is none. acked is owed the ACK when not nil.
func (t *servers) acknowledge(k serverKey, toTag string) (acked func(*messages.SIPInbound), found bool) {
	s := t.shard(k)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.live[k]
	if tx == nil || tx.status < 300 {
		i := slices.IndexFunc(s.calls[k.callKey], func(tx *serverTransaction) bool {
			return tx.status >= 200 && tx.status < 300 && tx.tag == toTag
		})
		if i < 0 {
			return nil, false
		}
		tx = s.calls[k.callKey][i]
	}
	do, next := tx.machine.ack(now)
	if do&dutyPass != 0 {
		acked, tx.acked = tx.acked, nil
	}
	t.reschedule(s, tx, do, next)
	s.arm(now)
	return acked, true
}

// cancel finds the INVITE of a CANCEL and the To tag that both are answered
// with. first is true when the core has to be told.
func (t *servers) cancel(k serverKey) (tx *serverTransaction, toTag string, first bool) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if tx = s.live[k]; tx == nil {
		return nil, "", false
	}
	first = !tx.cancelled && tx.status < 200
	tx.cancelled = tx.cancelled || first
	if tx.tag != "" {
		return tx, tx.tag, first
	}
	return tx, t.a.ownTag(tx.request), first
}

// fire runs what is due and then, without the lock, does what it asked for.
func (t *servers) fire(s *serverShard) {
	type sending struct {
		to     wire
		packet []byte
	}
	var out []sending
	var unacked []func(*messages.SIPInbound)
	now := time.Now()
	s.mu.Lock()
	s.alarm.rang()
	for !s.closed && len(s.due) > 0 && !s.due[0].due.After(now) {
		tx := s.due[0]
		do, next := tx.machine.expire(now)
		switch {
		case do&dutyTrying != 0:
			tx.status = 100
			tx.packet = t.a.response(tx.request, tx.origin, answer{status: 100, lines: timestamp(tx.request)})
			do |= dutySend
		case do&dutyDecline != 0:
			tx.status, tx.declined = 480, true
			tx.packet = t.compose(tx, &answer{status: 480})
			do, next = tx.machine.response(now, 480)
		}
		if do&dutySend != 0 {
			out = append(out, sending{tx.wire, tx.packet})
		}
		if do&dutyUnacked != 0 && tx.acked != nil {
			unacked = append(unacked, tx.acked)
		}
		t.reschedule(s, tx, do, next)
	}
	s.arm(now)
	s.mu.Unlock()

	for _, p := range out {
		_ = p.to.send(p.packet)
	}
	for _, acked := range unacked {
		acked(nil)
	}
}

// arm needs the lock of s.
func (s *serverShard) arm(now time.Time) {
	if !s.closed && len(s.due) > 0 {
		s.alarm.set(s.due[0].due, now)
	}
}

// reschedule needs the lock of s.
func (t *servers) reschedule(s *serverShard, tx *serverTransaction, do duty, next time.Time) {
	if do&dutyRemove != 0 {
		t.remove(s, tx)
		return
	}
	if !tx.due.Equal(next) {
		tx.due = next
		heap.Fix(&s.due, tx.index)
	}
}

// remove needs the lock of s.
func (t *servers) remove(s *serverShard, tx *serverTransaction) {
	if s.live[tx.key] != tx {
		return
	}
	t.count.Add(-1)
	delete(s.live, tx.key)
	heap.Remove(&s.due, tx.index)
	if !tx.isInvite() {
		return
	}
	rest := slices.DeleteFunc(s.calls[tx.key.callKey], func(other *serverTransaction) bool { return other == tx })
	if len(rest) == 0 {
		delete(s.calls, tx.key.callKey)
		return
	}
	s.calls[tx.key.callKey] = rest
}

// close forgets everything. No core is told: a call outlives the process, and a
// missing ACK would end it.
func (t *servers) close() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.closed = true
		s.alarm.stop()
		t.count.Add(-int64(len(s.live)))
		clear(s.live)
		clear(s.calls)
		s.due = nil
		s.mu.Unlock()
	}
}
