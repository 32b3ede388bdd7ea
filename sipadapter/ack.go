package sipadapter

import (
	"errors"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

// Ack sends the ACK of a 2xx and returns at once. It belongs to no transaction
// (RFC 3261 §13.2.2.4, §17.1.1.3): nothing answers it, nothing repeats it but
// the caller when the 2xx comes again, and its loss is not reported. The request
// must not be changed afterwards.
func (a *Adapter) Ack(req *messages.SIPRequest) {
	lost := func(f failure) {
		a.log.Debug("an ACK was not sent", "reason", string(f.reason), "error", f.detail)
	}
	c := &course{a: a, req: req}
	hop, fault := c.admit(ackMethod)
	if fault != (failure{}) {
		lost(fault)
		return
	}
	a.resolver.find(hop.nextHop, func(p plan, err error) {
		defer a.stats.pending.Add(-1)
		fault := c.chart(p, err)
		if fault == (failure{}) {
			_, fault = c.write()
		}
		if fault != (failure{}) {
			lost(fault)
			return
		}
		if !c.sendOnce() {
			lost(failure{messages.ReasonTransport, "no target takes it"})
		}
	})
}

func ackMethod(method string) error {
	if method != "ACK" {
		return errors.New("request: the method is not ACK")
	}
	return nil
}

// sendOnce sends the request to the first target that takes it.
func (c *course) sendOnce() bool {
	// Whether an address is alive is not learned from a request without an
	// answer, so it does not become the probe of an avoided one.
	slices.SortStableFunc(c.left, func(x, y target) int {
		return c.a.avoid.rank(x) - c.a.avoid.rank(y)
	})
	for _, t := range c.left[:min(len(c.left), maxTargets)] {
		over := c.carrier(t)
		if over != t.transport && c.a.streams.refusing(t.addr) {
			over = transportUDP // GEN-11
		}
		var tx transaction
		err := c.transaction(&tx, t, over, c.a.entropy.branch())
		if err == nil && tx.wire.send(c.template.packet(over, tx.sentBy, tx.key)) == nil {
			c.a.countRequest(c.req.Method)
			return true
		}
	}
	return false
}

// sendACK sends what the transaction of an INVITE answers a response of 300 and
// above with, to where the INVITE went (RFC 3261 §17.1.1.2).
func (a *Adapter) sendACK(tx *transaction, packet []byte, again bool) {
	if again {
		a.countRetransmission("ACK")
	} else {
		a.countRequest("ACK")
	}
	if err := tx.wire.send(packet); err != nil {
		a.table.fail(tx.key, tx.method, result{err: err})
	}
}

// ackFor is the ACK for a response of 300 and above (RFC 3261 §17.1.1.3): the
// identity, the route and, because no server can challenge it, the credentials
// of the INVITE (RFC 3261 §22.1; CHA-07), and the To of the response.
func ackFor(invite template, lines []line, to string) template {
	return companion("ACK", invite, lines, func(name string, l line) (line, bool) {
		switch name {
		case "to":
			return line{"To", to}, true
		case "authorization", "proxy-authorization":
			return l, true
		}
		return l, false
	})
}

// cancelFor is the CANCEL (RFC 3261 §9.1). It asks for no extension and carries
// no credentials, because it cannot be challenged either (RFC 3261 §22.1).
func cancelFor(invite template, lines []line) template {
	return companion("CANCEL", invite, lines, func(name string, l line) (line, bool) {
		return l, name == "to"
	})
}

// companion is a request that goes the way of an INVITE, as a part of it.
// choose says which lines it has besides those that every companion has.
func companion(method string, invite template, lines []line, choose func(name string, l line) (line, bool)) template {
	var own []line
	for _, l := range lines {
		name := mutation.Canonical(l.name)
		switch name {
		case "route", "max-forwards", "from", "call-id":
			own = append(own, l)
		case "cseq":
			number, _, _ := strings.Cut(l.value, " ")
			own = append(own, line{l.name, number + " " + method})
		default:
			if l, ok := choose(name, l); ok {
				own = append(own, l)
			}
		}
	}
	own = append(own, line{"Content-Length", "0"})
	return template{
		head: method + strings.TrimPrefix(invite.head, "INVITE"),
		tail: write(own, nil),
	}
}
