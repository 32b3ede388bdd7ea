package session_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// start is the time at which every machine begins.
var start = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// canary stands in every body and header value that a machine is given: none of
// it may be recorded.
const canary = "v=0 canary"

// machine is one session, what its host remembers about it, and what the checks
// remember of the past.
type machine struct {
	policy session.Policy
	now    time.Time
	jitter float64
	state  session.State
	events []*messages.Envelope
	host   host
	ledger ledger
	tokens int
	// light leaves out what do checks after every command, for long runs.
	light bool
}

// host is what the host of a session knows: it dies with the process.
type host struct {
	// asked are the questions that are out, by attempt; out are the requests in
	// the adapter's hands, by attempt. An INVITE stays there for its repeats.
	asked map[uint64]string
	out   map[uint64]bool
	// peers are the requests of the peer without a final response.
	peers map[peerKey]bool
	// chains are the requests that the owner wants to hear of.
	chains map[uint64]bool
}

type peerKey struct {
	method string
	cseq   uint32
}

func newHost() host {
	return host{asked: map[uint64]string{}, out: map[uint64]bool{}, peers: map[peerKey]bool{}, chains: map[uint64]bool{}}
}

func (h host) clone() host {
	return host{asked: maps.Clone(h.asked), out: maps.Clone(h.out), peers: maps.Clone(h.peers), chains: maps.Clone(h.chains)}
}

func newMachine(p session.Policy) *machine {
	return &machine{policy: p, now: start, jitter: 0.5, host: newHost(), ledger: newLedger()}
}

func (m *machine) clone() *machine {
	c := *m
	c.events = slices.Clip(c.events)
	c.host, c.ledger = m.host.clone(), m.ledger.clone()
	return &c
}

// step delivers a command: decide, check, record, perform. The error tells
// which rules were broken; the machine goes on regardless.
func (m *machine) step(cmd session.Command) (session.Decision, error) {
	m.tokens++
	in := session.Input{Now: m.now, Jitter: m.jitter, Command: cmd, Token: fmt.Sprintf("%032x", m.tokens)}
	before := m.state
	frozen := encode(before)
	d := session.Decide(m.policy, before, in)

	var f faults
	f.checkFunction(m.policy, frozen, before, in, d)
	f.checkDrop(before, in, d)
	m.deliver(cmd)
	for _, e := range d.Events {
		after := session.Apply(m.state, e, m.now)
		f.checkFold(m, e, after)
		f.checkEvent(m, e, after)
		m.state = after
		m.events = append(m.events, &messages.Envelope{
			Stream: "s/test", Version: uint64(len(m.events) + 1), AtUnixNano: m.now.UnixNano(), Session: e,
		})
	}
	if d.Chain != 0 {
		m.host.chains[d.Chain] = true
	}
	m.forget()
	for _, e := range d.Effects {
		f.checkEffect(m, in, e)
		m.perform(e)
	}
	f.checkAnswered(m, before, cmd, d)
	f.checkState(m, before)
	f.checkWake(m, before, cmd, d)
	return d, f.err()
}

// deliver notes what the command tells the host.
func (m *machine) deliver(cmd session.Command) {
	switch c := cmd.(type) {
	case session.Receive:
		m.host.peers[peerKey{"INVITE", c.Request.CSeq}] = true
	case session.PeerRequested:
		if q := c.Request; q.Method != "ACK" && q.Method != "CANCEL" && m.state.Exists() && !m.state.Ended {
			m.host.peers[peerKey{q.Method, q.CSeq}] = true
		}
	case session.CredentialsOffered:
		if r, ok := m.state.Request(c.Attempt); ok && r.GetHandler() == c.Handler {
			delete(m.host.asked, c.Attempt)
		}
	case session.CredentialsWithheld:
		if r, ok := m.state.Request(c.Attempt); ok && r.GetHandler() == c.Handler {
			delete(m.host.asked, c.Attempt)
		}
	}
}

// forget drops the questions that nobody waits for, and the requests that are
// over. An INVITE that was accepted can be answered again.
func (m *machine) forget() {
	for attempt := range m.host.out {
		if _, open := m.state.Request(attempt); !open && !m.ledger.confirmed[attempt] {
			delete(m.host.out, attempt)
		}
	}
	for attempt, handler := range m.host.asked {
		if r, ok := m.state.Request(attempt); !ok || r.GetAnswerByMs() == 0 || r.GetHandler() != handler {
			delete(m.host.asked, attempt)
		}
	}
}

// perform notes what the host would do.
func (m *machine) perform(e session.Effect) {
	switch e := e.(type) {
	case session.AskCredentials:
		m.host.asked[e.Attempt] = e.Handler
	case session.SendRequest:
		m.host.out[e.Attempt] = true
		m.ledger.left = max(m.ledger.left, m.ledger.cseq[e.Attempt])
	case session.ResumeInvite:
		m.host.out[e.Attempt] = true
	case session.Respond:
		if e.Status >= 200 {
			delete(m.host.peers, peerKey{e.Method, e.CSeq})
		}
	case session.Tell:
		if e.Notice == session.NoticeSucceeded || e.Notice == session.NoticeFailed {
			delete(m.host.chains, e.Chain)
		}
	}
}

// wake moves the clock to the next deadline and delivers it; false when there is
// none.
func (m *machine) wake() (session.Decision, bool, error) {
	at, ok := m.state.WakeAt()
	if !ok {
		return session.Decision{}, false, nil
	}
	if at.After(m.now) {
		m.now = at
	}
	d, err := m.step(session.TimerFired{})
	return d, true, err
}

// crash loses what the host remembers, reads the state back, and delivers
// Recovered.
func (m *machine) crash() (session.Decision, error) {
	m.state = decode(encode(m.state))
	m.host = newHost()
	return m.step(session.Recovered{})
}

// sent finds the newest request of a method that is in the adapter's hands.
func (m *machine) sent(method string) uint64 {
	for _, r := range slices.Backward(m.state.Requests) {
		if r.GetMethod() == method && m.host.out[r.GetAttempt()] {
			return r.GetAttempt()
		}
	}
	if method == "INVITE" {
		return m.state.Confirmed // a repeat of its 2xx
	}
	return 0
}

// question finds the newest attempt that is asked about.
func (m *machine) question() uint64 {
	newest := uint64(0)
	for attempt := range m.host.asked {
		newest = max(newest, attempt)
	}
	return newest
}

// ledger is what the checks remember of the past, independent of the state.
type ledger struct {
	// left is the highest CSeq number that left; lost are numbers that never
	// will.
	left uint32
	lost map[uint32]bool
	// cseq and method are those of every attempt.
	cseq   map[uint64]uint32
	method map[uint64]string
	// counts is the highest count spent per nonce.
	counts map[nonceKey]uint32
	// established, ended and confirmed are what happened once.
	established, ended int
	confirmed          map[uint64]bool
}

type realmKey struct {
	space messages.Space
	realm string
}

type nonceKey struct {
	realmKey
	nonce string
}

func newLedger() ledger {
	return ledger{
		lost: map[uint32]bool{}, cseq: map[uint64]uint32{}, method: map[uint64]string{},
		counts: map[nonceKey]uint32{}, confirmed: map[uint64]bool{},
	}
}

func (l ledger) clone() ledger {
	l.lost, l.cseq, l.method = maps.Clone(l.lost), maps.Clone(l.cseq), maps.Clone(l.method)
	l.counts, l.confirmed = maps.Clone(l.counts), maps.Clone(l.confirmed)
	return l
}

// retire forgets the nonces of a realm, because the server has named others.
func (l ledger) retire(k realmKey) {
	maps.DeleteFunc(l.counts, func(n nonceKey, _ uint32) bool { return n.realmKey == k })
}

func encode(s session.State) []byte {
	b, err := session.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}

func decode(b []byte) session.State {
	s, err := session.Unmarshal(b)
	if err != nil {
		panic(err)
	}
	return s
}
