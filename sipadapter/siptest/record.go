package siptest

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Seen is one line of the log.
type Seen struct {
	At             time.Time
	Method         string
	AOR            string
	CallID         string
	Branch         string
	CSeq           uint32
	HadCredentials bool
	// Nonce and NC are those of the first credentials, if any.
	Nonce  string
	NC     uint32
	Source string
	// Retransmission counts from 1 when the same branch came before.
	Retransmission int
	Serial         uint64
	// Status is the final answer, 0 when none was given.
	Status int
}

// Second is one bar of the histogram of new requests.
type Second struct {
	Unix     int64
	Requests int
}

// Snapshot is what was counted since the start.
type Snapshot struct {
	// Registers are new REGISTER requests, Others new requests of other
	// methods; Retransmissions repeat a branch and are in neither.
	Registers, Others, Retransmissions uint64
	// Challenges are 401 and 407, TooBrief 423, of the registrar itself.
	Challenges, TooBrief uint64
	// Accepted are 200s of the registrar itself to a REGISTER.
	Accepted uint64
	// Rejected had a wrong user or response, Stale an old nonce, Malformed
	// something that calls for 400.
	Rejected, Stale, Malformed uint64
	// Replays used a nonce count again, CSeqViolations a CSeq that was not
	// higher, Concurrent came while a request of the same address-of-record was
	// outstanding.
	Replays, CSeqViolations, Concurrent uint64
	// Dropped were not answered on purpose, Unreadable could not be.
	Dropped, Unreadable uint64
	// Responses counts final responses by status, retransmitted ones too.
	Responses map[int]uint64
	// Connections counts accepted TCP connections.
	Connections uint64
	// AORs and Bindings are in the location table and not expired.
	AORs, Bindings int
	// PeakPerSecond is the largest number of new requests in any one second,
	// wherever it begins; PerSecond has the last hour by wall-clock second.
	PeakPerSecond int
	PerSecond     []Second
}

// call is what is remembered of the latest request of a Call-ID and method.
type call struct {
	branch   string
	previous string // the branch before
	number   uint32 // CSeq
	cseq     uint32 // the highest
	serial   uint64
	repeats  int
	request  *Request // while it is not answered
	pending  bool     // an answer is under way
	status   int      // of the answer, 0 before
	final    []byte   // the answer, for retransmissions
}

// kept is a final answer that is still remembered.
type kept struct {
	call   *call
	serial uint64
}

type nonceKey struct {
	aor, realm, nonce string
	proxy             bool
}

type nonceUse struct {
	nc          uint32 // the highest
	firstCnonce string
}

// aged is an entry of a queue in order of time.
type aged[T any] struct {
	at    time.Time
	value T
}

// record is everything that is counted and checked. Its methods need the
// registrar's lock.
type record struct {
	count      Snapshot
	serial     uint64
	calls      map[string]*call
	answered   []aged[kept]
	uses       map[nonceKey]*nonceUse
	usedNonces []aged[nonceKey]
	window     []time.Time // new requests of the last second
	log        []Seen      // a ring once it is full
	lines      int         // ever written to log
	faults     []error
	faultCount int
}

func newRecord() record {
	return record{
		count: Snapshot{Responses: map[int]uint64{}},
		calls: map[string]*call{},
		uses:  map[nonceKey]*nonceUse{},
	}
}

func (r *record) violate(req *Request, format string, args ...any) {
	r.faultCount++
	if len(r.faults) < maxViolations {
		r.faults = append(r.faults, fmt.Errorf("%s %s CSeq %d of %s: %s",
			req.Method, req.CallID, req.CSeq, req.AOR, fmt.Sprintf(format, args...)))
	}
}

// repeat tells whether a request is a retransmission, and gives it what was
// found out about the first transmission.
func (r *record) repeat(req *Request) (*call, bool) {
	c := r.calls[req.key()]
	if c == nil || req.Branch != c.branch && req.Branch != c.previous {
		return nil, false
	}
	if req.Branch == c.branch && req.CSeq != c.number {
		r.violate(req, "GEN-06: the branch of CSeq %d again", c.number)
		return nil, false
	}
	r.count.Retransmissions++
	c.repeats++
	req.Retransmission, req.Serial = c.repeats, c.serial
	if first := c.request; first != nil {
		req.credentials, req.lowCSeq = first.credentials, first.lowCSeq
	}
	return c, true
}

// begin accounts for a new request of any method.
func (r *record) begin(req *Request) {
	r.serial++
	req.Serial = r.serial
	r.rate(req.At)
	if req.Method == "REGISTER" {
		r.count.Registers++
	} else {
		r.count.Others++
	}
	c := r.calls[req.key()]
	if c == nil {
		c = &call{}
		r.calls[req.key()] = c
	} else if req.CSeq <= c.cseq && req.fault == nil && req.Method == "REGISTER" {
		r.count.CSeqViolations++
		r.violate(req, "I-4: CSeq %d came before", c.cseq)
		req.lowCSeq = true
	}
	*c = call{branch: req.Branch, previous: c.branch, number: req.CSeq, cseq: max(c.cseq, req.CSeq), serial: req.Serial, request: req}
}

// useNonces checks the counts of the credentials of a new request.
func (r *record) useNonces(req *Request, lifetime time.Duration) {
	for len(r.usedNonces) > 0 && req.At.Sub(r.usedNonces[0].at) > lifetime+time.Minute {
		delete(r.uses, r.usedNonces[0].value)
		r.usedNonces = r.usedNonces[1:]
	}
	for i := range req.credentials {
		c := &req.credentials[i]
		if c.fault != nil || c.nc == 0 {
			continue
		}
		key := nonceKey{req.AOR, c.params["realm"], c.params["nonce"], c.proxy}
		use := r.uses[key]
		if use == nil {
			use = &nonceUse{firstCnonce: c.params["cnonce"]}
			r.uses[key] = use
			r.usedNonces = append(r.usedNonces, aged[nonceKey]{req.At, key})
		} else if c.nc <= use.nc {
			r.count.Replays++
			r.violate(req, "I-6: nonce count %d after %d", c.nc, use.nc)
			c.replayed = true
		}
		use.nc = max(use.nc, c.nc)
		c.firstCnonce = use.firstCnonce
	}
}

// keep remembers a final answer for as long as the client may repeat the
// request.
func (r *record) keep(req *Request, status int, final []byte) {
	r.sent(req, status)
	for len(r.answered) > 0 && req.At.Sub(r.answered[0].at) > answerLifetime {
		if k := r.answered[0].value; k.call.serial == k.serial {
			k.call.final = nil
		}
		r.answered = r.answered[1:]
	}
	if c := r.calls[req.key()]; c != nil && c.serial == req.Serial && c.status == 0 {
		c.final, c.status, c.pending, c.request = final, status, false, nil
		r.answered = append(r.answered, aged[kept]{req.At, kept{c, c.serial}})
	}
}

// sent notes a final answer that leaves.
func (r *record) sent(req *Request, status int) {
	r.count.Responses[status]++
	if n := len(r.log); n > 0 && r.lines-req.line <= n {
		r.log[req.line%n].Status = status
	}
}

func (r *record) rate(at time.Time) {
	r.window = append(r.window, at)
	for at.Sub(r.window[0]) >= time.Second {
		r.window = r.window[1:]
	}
	r.count.PeakPerSecond = max(r.count.PeakPerSecond, len(r.window))
	bars := r.count.PerSecond
	if n := len(bars); n > 0 && bars[n-1].Unix == at.Unix() {
		bars[n-1].Requests++
		return
	}
	if len(bars) == maxSeconds {
		bars = bars[1:]
	}
	r.count.PerSecond = append(bars, Second{at.Unix(), 1})
}

// write adds a line to the log.
func (r *record) write(req *Request, size int) {
	if size <= 0 {
		return
	}
	s := Seen{
		At: req.At, Method: req.Method, AOR: req.AOR, CallID: req.CallID, Branch: req.Branch, CSeq: req.CSeq,
		HadCredentials: req.HadCredentials, Source: req.Source, Retransmission: req.Retransmission, Serial: req.Serial,
	}
	if len(req.credentials) > 0 {
		s.Nonce, s.NC = req.credentials[0].params["nonce"], req.credentials[0].nc
	}
	req.line = r.lines
	r.lines++
	if len(r.log) < size {
		r.log = append(r.log, s)
		return
	}
	r.log[req.line%size] = s
}

// Requests returns the log, oldest first.
func (r *Registrar) Requests() []Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.record.log
	if r.record.lines <= len(log) {
		return slices.Clone(log)
	}
	oldest := r.record.lines % len(log)
	return slices.Concat(log[oldest:], log[:oldest])
}

// Snapshot returns the counters. It walks the location table.
func (r *Registrar) Snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.record.count
	s.Responses = maps.Clone(s.Responses)
	s.PerSecond = slices.Clone(s.PerSecond)
	now := time.Now()
	for _, a := range r.aors {
		if n := a.live(now); n > 0 {
			s.AORs++
			s.Bindings += n
		}
	}
	return s
}

// CheckInvariants returns what the client did wrong so far; see the package
// comment. At most 100 violations are kept in full.
func (r *Registrar) CheckInvariants() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	faults := slices.Clone(r.record.faults)
	if more := r.record.faultCount - len(faults); more > 0 {
		faults = append(faults, fmt.Errorf("and %d more violations", more))
	}
	if peak := r.record.count.PeakPerSecond; r.options.MaxRate > 0 && peak > r.options.MaxRate {
		faults = append(faults, fmt.Errorf("I-9: %d requests in one second, at most %d allowed", peak, r.options.MaxRate))
	}
	return faults
}
