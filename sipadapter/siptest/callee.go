package siptest

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// CalleeOptions configure a Callee. The zero value answers every INVITE with
// 180 and at once 200 without a body, on a free loopback port.
type CalleeOptions struct {
	// Listen is the address for UDP and TCP alike; empty means 127.0.0.1 with a
	// free port.
	Listen string
	// Ringing is the time between 180 and 200.
	Ringing time.Duration
	// Body and ContentType are those of the 200 to an INVITE.
	Body, ContentType string
	// Behaviour is asked about every new request but ACK before the callee
	// decides; nil leaves the decision to the callee. See Options.Behaviour for
	// what it must not do.
	Behaviour func(*Request) *Reply
}

// Callee is a user agent server: the far end of calls. It accepts INVITEs,
// repeats its 200 until the ACK comes (RFC 3261 §13.3.1.4), gives way to CANCEL
// (§9.2) and ends on BYE (§15.1.2), or does what its script says. Its methods
// are safe for concurrent use.
type Callee struct {
	options CalleeOptions
	server  *Registrar // sockets, parsing and retransmissions are the same

	mu    sync.Mutex
	calls map[string]*Call
}

// Call is what a Callee knows of one Call-ID.
type Call struct {
	CallID string
	// Offer is the body of the latest INVITE.
	Offer string
	// Invites, Acks, Cancels and Byes count new requests; a retransmission is
	// none.
	Invites, Acks, Cancels, Byes int
	// Answered is true once a 200 has left, Acknowledged once its ACK came,
	// Ended after BYE or CANCEL.
	Answered, Acknowledged, Ended bool
	// Repeats counts the repeated 200s.
	Repeats int

	invite *Request
}

// Timers of the repeated 200 (RFC 3261 §13.3.1.4, table 4).
const (
	calleeT1 = 500 * time.Millisecond
	calleeT2 = 4 * time.Second
)

// NewCallee listens and serves until Close.
func NewCallee(o CalleeOptions) (*Callee, error) {
	c := &Callee{options: o, calls: map[string]*Call{}}
	c.mu.Lock() // requests may come before server is set; each locks first
	defer c.mu.Unlock()
	server, err := NewRegistrar(Options{Listen: o.Listen, Behaviour: c.behave, onACK: c.acknowledged})
	if err != nil {
		return nil, fmt.Errorf("siptest callee: %w", err)
	}
	c.server = server
	return c, nil
}

// Addr is "host:port" of both transports.
func (c *Callee) Addr() string { return c.server.Addr() }

// URI is the callee's URI for a user and a transport, "udp" or "tcp".
func (c *Callee) URI(user, transport string) string {
	return "sip:" + user + "@" + c.Addr() + ";transport=" + transport
}

// Requests are the newest requests but ACK, oldest first.
func (c *Callee) Requests() []Seen { return c.server.Requests() }

// Calls are copies of all calls, in no order.
func (c *Callee) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := make([]Call, 0, len(c.calls))
	for _, call := range c.calls {
		calls = append(calls, *call)
	}
	return calls
}

// Close ends everything and waits for the reading goroutines.
func (c *Callee) Close() error { return c.server.Close() }

func (c *Callee) behave(req *Request) *Reply {
	c.account(req)
	if c.options.Behaviour != nil {
		if scripted := c.options.Behaviour(req); scripted != nil {
			return scripted
		}
	}
	if req.fault != nil {
		return &Reply{Status: 400}
	}
	switch req.Method {
	case "INVITE":
		time.AfterFunc(c.options.Ringing, func() { c.accept(req) })
		return &Reply{Status: 180, Headers: []string{c.contact(req)}}
	case "CANCEL":
		return c.cancel(req)
	case "BYE":
		return c.within(req, func(call *Call) { call.Ended = true })
	case "OPTIONS", "MESSAGE":
		return &Reply{Status: 200}
	case "REGISTER", "SUBSCRIBE", "PUBLISH":
		return &Reply{Status: 405, Headers: []string{"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, MESSAGE, PRACK, REFER, NOTIFY"}}
	}
	return c.within(req, func(*Call) {})
}

// account counts a request and remembers the INVITE of its call.
func (c *Callee) account(req *Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[req.CallID]
	if call == nil {
		if req.Method != "INVITE" {
			return
		}
		call = &Call{CallID: req.CallID}
		c.calls[req.CallID] = call
	}
	switch req.Method {
	case "INVITE":
		call.Invites++
		call.invite, call.Offer = req, string(req.Message.Body())
		call.Answered, call.Acknowledged = false, false
	case "CANCEL":
		call.Cancels++
	case "BYE":
		call.Byes++
	}
}

// within answers a request of a dialog: 481 when there is none.
func (c *Callee) within(req *Request, do func(*Call)) *Reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[req.CallID]
	if call == nil || call.Ended {
		return &Reply{Status: 481}
	}
	do(call)
	return &Reply{Status: 200}
}

// cancel ends an INVITE that has no final answer yet (RFC 3261 §9.2).
func (c *Callee) cancel(req *Request) *Reply {
	c.mu.Lock()
	call := c.calls[req.CallID]
	var invite *Request
	if call != nil && !call.Answered && !call.Ended && call.invite.Branch == req.Branch {
		call.Ended = true
		invite = call.invite
	}
	c.mu.Unlock()
	if call == nil {
		return &Reply{Status: 481}
	}
	if invite != nil {
		c.final(invite, answer{status: 487, reason: "Request Terminated"})
	}
	return &Reply{Status: 200}
}

// accept sends the 200 of an INVITE, unless it was cancelled or another INVITE
// has taken its place.
func (c *Callee) accept(invite *Request) {
	c.mu.Lock()
	call := c.calls[invite.CallID]
	if call.Ended || call.invite != invite {
		c.mu.Unlock()
		return
	}
	call.Answered = true
	c.mu.Unlock()
	a := answer{status: 200, headers: []string{c.contact(invite)}, body: c.options.Body}
	if a.body != "" {
		a.headers = append(a.headers, "Content-Type: "+c.options.ContentType)
	}
	c.repeat(invite, c.final(invite, a), calleeT1, 0)
}

func (c *Callee) final(req *Request, a answer) []byte {
	message := c.server.write(req, a)
	c.server.finish(req, a.status, message)
	req.peer.send(message)
	return message
}

// repeat sends the 200 again until the ACK comes or 64*T1 have passed.
func (c *Callee) repeat(invite *Request, message []byte, wait, passed time.Duration) {
	if passed >= 64*calleeT1 {
		return
	}
	time.AfterFunc(wait, func() {
		c.mu.Lock()
		call := c.calls[invite.CallID]
		over := call.Acknowledged || call.Ended || call.invite != invite || c.server.closed.Load()
		if !over {
			call.Repeats++
		}
		c.mu.Unlock()
		if over {
			return
		}
		invite.peer.send(message)
		c.repeat(invite, message, min(2*wait, calleeT2), passed+wait)
	})
}

func (c *Callee) acknowledged(req *Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[req.CallID]
	if call == nil || call.invite.CSeq != req.CSeq {
		return
	}
	call.Acks++
	call.Acknowledged = call.Acknowledged || call.Answered
}

func (c *Callee) contact(req *Request) string {
	user, _, _ := strings.Cut(strings.TrimPrefix(req.AOR, "sip:"), "@")
	return "Contact: <" + c.URI(user, req.Transport) + ">"
}
