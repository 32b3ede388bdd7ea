package metrics

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// other is the label value of everything outside a closed set.
const other = "other"

// methods is the closed set of the method label: the IANA registry of SIP
// methods. The last entry stands for every other method.
var methods = [...]string{
	"REGISTER", "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "PRACK",
	"INFO", "REFER", "NOTIFY", "SUBSCRIBE", "MESSAGE", "PUBLISH", other,
}

// methodIndex finds a method's place in methods. It is a switch because the
// compiler turns it into comparisons by length, without hashing.
func methodIndex(method string) int {
	switch method {
	case "REGISTER":
		return 0
	case "INVITE":
		return 1
	case "ACK":
		return 2
	case "CANCEL":
		return 3
	case "BYE":
		return 4
	case "OPTIONS":
		return 5
	case "UPDATE":
		return 6
	case "PRACK":
		return 7
	case "INFO":
		return 8
	case "REFER":
		return 9
	case "NOTIFY":
		return 10
	case "SUBSCRIBE":
		return 11
	case "MESSAGE":
		return 12
	case "PUBLISH":
		return 13
	}
	return len(methods) - 1
}

// knownCodes is the IANA registry of SIP response codes.
var knownCodes = [...]int{
	100, 180, 181, 182, 183, 199, 200, 202, 204,
	300, 301, 302, 305, 380,
	400, 401, 402, 403, 404, 405, 406, 407, 408, 410, 412, 413, 414, 415, 416,
	417, 420, 421, 422, 423, 424, 425, 428, 429, 430, 433, 436, 437, 438, 439,
	440, 469, 470, 480, 481, 482, 483, 484, 485, 486, 487, 488, 489, 491, 493,
	494,
	500, 501, 502, 503, 504, 505, 513, 555, 580,
	600, 603, 604, 606, 607, 608,
}

// watchedCodes are the answers to REGISTER that exist at zero: the ones that
// the rules and the dashboard name.
var watchedCodes = [...]int{
	100, 200, 401, 403, 404, 407, 408, 423, 480, 500, 503, 603,
}

// codeLabels is the closed set of the code label, and codeIndexes finds the
// place of a code in it: the code itself when it is known, else its class.
var codeLabels, codeIndexes = buildCodes()

func buildCodes() (labels []string, indexes [700]uint8) {
	labels = []string{other, "1xx", "2xx", "3xx", "4xx", "5xx", "6xx"}
	for code := 100; code < 700; code++ {
		indexes[code] = uint8(code / 100)
	}
	for _, code := range knownCodes {
		indexes[code] = uint8(len(labels))
		labels = append(labels, strconv.Itoa(code))
	}
	return labels, indexes
}

func codeIndex(code int) int {
	if code < 0 || code >= len(codeIndexes) {
		return 0
	}
	return int(codeIndexes[code])
}

// responses counts responses by method and code. A cell is resolved when its
// pair is first seen and costs two loads from then on.
type responses struct {
	vec   *prometheus.CounterVec
	cells [len(methods)][]atomic.Pointer[prometheus.Counter]
}

func newResponses(vec *prometheus.CounterVec) *responses {
	r := &responses{vec: vec}
	for m := range r.cells {
		r.cells[m] = make([]atomic.Pointer[prometheus.Counter], len(codeLabels))
	}
	for _, code := range watchedCodes {
		r.counter(methodIndex("REGISTER"), codeIndex(code))
	}
	return r
}

func (r *responses) counter(method, code int) prometheus.Counter {
	cell := &r.cells[method][code]
	if c := cell.Load(); c != nil {
		return *c
	}
	c := r.vec.WithLabelValues(methods[method], codeLabels[code])
	cell.Store(&c)
	return c
}

// RequestSent counts a request that left, once per client transaction.
// Retransmissions are counted by Retransmitted.
func (m *Metrics) RequestSent(method string) {
	if method == "REGISTER" {
		m.usual[usualRegister].inc()
		return
	}
	m.requests[methodIndex(method)].Inc()
}

// ResponseReceived counts a response, provisional or final, that belongs to one
// of our transactions.
func (m *Metrics) ResponseReceived(method string, code int) {
	if method == "REGISTER" {
		switch code {
		case 200:
			m.usual[usual200].inc()
			return
		case 401:
			m.usual[usual401].inc()
			return
		}
	}
	m.responses.counter(methodIndex(method), codeIndex(code)).Inc()
}

// Retransmitted counts one retransmission of a request.
func (m *Metrics) Retransmitted(method string) {
	m.retransmissions[methodIndex(method)].Inc()
}

// PacketDropped counts a received message that was not used. The reasons are
// listed in dropReasons; others are counted as "other".
func (m *Metrics) PacketDropped(reason string) {
	m.packets.inc(reason)
}
