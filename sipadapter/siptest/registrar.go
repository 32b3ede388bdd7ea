package siptest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Mode is how a Registrar treats requests.
type Mode int

// The modes of SetDown.
const (
	// Up answers.
	Up Mode = iota
	// Silent reads and records, and answers nothing.
	Silent
	// Refusing has no socket: UDP gives ICMP errors, TCP is refused and open
	// connections are closed. What is sent then is not recorded.
	Refusing
	// Unavailable answers every request but ACK with 503.
	Unavailable
)

// Registrar is a SIP registrar on its own sockets. Its methods are safe for
// concurrent use.
type Registrar struct {
	options Options
	guards  []guard
	parser  *sip.Parser
	opaque  string
	tag     string
	address string

	nonces   atomic.Uint32
	nonceKey atomic.Value // []byte
	mode     atomic.Int32
	closed   atomic.Bool

	control sync.Mutex // SetDown and Close, one at a time
	sockets *sockets

	mu     sync.Mutex
	aors   map[string]*aor
	record record
}

// NewRegistrar listens and serves until Close.
func NewRegistrar(o Options) (*Registrar, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("siptest registrar: %w", err)
	}
	o.setDefaults()
	r := &Registrar{
		options: o, parser: newParser(), opaque: random(4), tag: random(4),
		aors: map[string]*aor{}, record: newRecord(),
	}
	r.nonceKey.Store([]byte(random(16)))
	if o.ProxyRealm != "" {
		r.guards = append(r.guards, guard{proxy: true, realm: o.ProxyRealm})
	}
	if o.Authenticate {
		r.guards = append(r.guards, guard{realm: o.Realm})
	}
	s, err := listen(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("siptest registrar: %w", err)
	}
	r.address, r.sockets = s.address(), s
	r.serve(s)
	return r, nil
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see its documentation
	return hex.EncodeToString(b)
}

// Addr is "host:port" of both transports.
func (r *Registrar) Addr() string { return r.address }

// URI is the registrar's URI for a transport, "udp" or "tcp".
func (r *Registrar) URI(transport string) string {
	return "sip:" + r.address + ";transport=" + transport
}

// SetDown changes the mode. Going up from Refusing takes the old port again,
// which fails if another program has it by then.
func (r *Registrar) SetDown(m Mode) error {
	r.control.Lock()
	defer r.control.Unlock()
	if r.closed.Load() {
		return net.ErrClosed
	}
	if m == Refusing && r.sockets != nil {
		r.sockets.close()
		r.sockets = nil
	}
	if m != Refusing && r.sockets == nil {
		s, err := listen(r.address)
		if err != nil {
			return fmt.Errorf("siptest registrar: %w", err)
		}
		r.sockets = s
		r.mode.Store(int32(m))
		r.serve(s)
		return nil
	}
	r.mode.Store(int32(m))
	return nil
}

// Restart forgets the bindings and makes all nonces invalid, like a registrar
// without a database that restarts. What was recorded about the client stays.
func (r *Registrar) Restart() {
	r.nonceKey.Store([]byte(random(16)))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.aors {
		a.bindings = nil
	}
}

// ClientRestarted says that the client was killed: its outstanding requests
// are no longer outstanding (I-5).
func (r *Registrar) ClientRestarted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.aors {
		a.outstanding = 0
	}
}

// Close ends everything and waits for the reading goroutines.
func (r *Registrar) Close() error {
	r.control.Lock()
	defer r.control.Unlock()
	if r.closed.Swap(true) || r.sockets == nil {
		return nil
	}
	r.sockets.close()
	r.sockets = nil
	return nil
}

// receive takes one message from a socket.
func (r *Registrar) receive(raw []byte, p peer) {
	req, err := r.parseRequest(raw, p, time.Now())
	if err != nil {
		r.bump(func(s *Snapshot) { s.Unreadable++ })
		return
	}
	if req.Method == "ACK" {
		if r.options.onACK != nil {
			r.options.onACK(req)
		}
		return
	}
	known, again := r.account(req)
	if known != nil {
		p.send(known)
	}
	if again {
		return
	}
	switch Mode(r.mode.Load()) {
	case Silent:
		r.step(req, &Reply{Drop: true})
		return
	case Unavailable:
		r.step(req, r.unavailable())
		return
	}
	reply := &Reply{}
	if r.options.Behaviour != nil {
		if scripted := r.options.Behaviour(req); scripted != nil {
			reply = scripted
		}
	}
	r.play(req, reply)
}

func (r *Registrar) unavailable() *Reply {
	reply := &Reply{Status: 503}
	if wait := r.options.RetryAfter; wait > 0 {
		reply.Headers = []string{"Retry-After: " + strconv.Itoa(int(math.Ceil(wait.Seconds())))}
	}
	return reply
}

// account records a request. It returns the answer of a retransmission that
// has one; again is true for one that needs no new answer.
func (r *Registrar) account(req *Request) (known []byte, again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, repeated := r.record.repeat(req); repeated {
		r.record.write(req, r.options.LogSize)
		if req.Branch != c.branch {
			return nil, true // late, of a request that is over
		}
		if c.final != nil && Mode(r.mode.Load()) != Silent {
			r.record.sent(req, c.status)
			return c.final, true
		}
		return nil, c.pending || c.status != 0
	}
	r.record.begin(req)
	r.record.useNonces(req, r.options.NonceLifetime)
	r.record.write(req, r.options.LogSize)
	if req.Method != "REGISTER" || r.options.Outstanding < 0 {
		return nil, false
	}
	a := r.aorOf(req.AOR)
	if a.outstanding != 0 && req.At.Before(a.outstandingUntil) {
		r.record.count.Concurrent++
		r.record.violate(req, "I-5: another request is outstanding")
	}
	a.outstanding, a.outstandingUntil = req.Serial, req.At.Add(r.options.Outstanding)
	return nil, false
}

// finish records a final answer before it leaves.
func (r *Registrar) finish(req *Request, status int, final []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.keep(req, status, final)
	if a := r.aors[req.AOR]; a != nil && a.outstanding == req.Serial {
		a.outstanding = 0
	}
}
