package siptest

import "time"

// Reply is what a script wants done with a request. The zero value is the
// registrar's own answer.
type Reply struct {
	// Drop sends nothing. The next retransmission is asked about again.
	Drop bool
	// Status and what follows replace the registrar's own answer; 0 leaves it.
	// A 1xx is followed by what Then says.
	Status int
	// Reason is the text after the status; empty means the usual one.
	Reason string
	// Headers are whole lines without their end, as "Retry-After: 5".
	Headers []string
	Body    string
	// Raw is sent instead, byte for byte. It is not remembered: the next
	// retransmission is asked about again.
	Raw []byte
	// Delay is the time before this answer, counted from the one before it.
	Delay time.Duration
	// Copies are sent in addition, at once.
	Copies int
	// Elsewhere sends from another port than the one asked (UDP only; on TCP
	// the answer does not leave).
	Elsewhere bool
	// Then are more answers to the same request, one after the other.
	Then []*Reply
}

// play sends a reply and those after it.
func (r *Registrar) play(req *Request, reply *Reply) {
	steps := append([]*Reply{reply}, reply.Then...)
	if !waits(steps) {
		for _, s := range steps {
			r.step(req, s)
		}
		return
	}
	r.mu.Lock()
	if c := r.record.calls[req.key()]; c != nil && c.serial == req.Serial {
		c.pending = true
	}
	r.mu.Unlock()
	r.playLater(req, steps)
}

func waits(steps []*Reply) bool {
	for _, s := range steps {
		if s.Delay > 0 {
			return true
		}
	}
	return false
}

func (r *Registrar) playLater(req *Request, steps []*Reply) {
	if len(steps) == 0 {
		return
	}
	time.AfterFunc(steps[0].Delay, func() {
		if r.closed.Load() {
			return
		}
		r.step(req, steps[0])
		r.playLater(req, steps[1:])
	})
}

// step sends one answer.
func (r *Registrar) step(req *Request, reply *Reply) {
	if reply.Drop {
		r.bump(func(s *Snapshot) { s.Dropped++ })
		return
	}
	send := req.peer.send
	if reply.Elsewhere {
		send = req.peer.elsewhere
	}
	message := reply.Raw
	if message == nil {
		a := answer{status: reply.Status, reason: reply.Reason, headers: reply.Headers, body: reply.Body}
		if a.status == 0 {
			a = r.decide(req)
		}
		message = r.write(req, a)
		if a.status >= 200 {
			r.finish(req, a.status, message)
		}
	}
	for range 1 + max(0, reply.Copies) {
		send(message)
	}
}
