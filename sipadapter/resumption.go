package sipadapter

import (
	"slices"
	"time"

	"github.com/sipmuster/muster/messages"
)

// resumedTargets bounds at how many addresses an INVITE of an earlier process is
// looked for: it tried maxTargets of them, and may have passed over others.
const resumedTargets = 2 * maxTargets

// resume takes up what an earlier process began. Where that had got to is not
// known: an address may have been passed over or left behind, and the body, which
// may have made it go by TCP, is gone. So there is a transaction for each way
// that it can have left, and all wait until an answer tells which one it was. The
// order of targets depends on nothing but the Call-ID. A provisional response may
// have come and be forgotten, so it counts as come, and the CANCELs may leave at
// once: where the INVITE never was, a 481 answers that no call is known (RFC 3261
// §9.2).
func (i *invitation) resume() {
	var fault error
	for n, t := range i.plan[:min(len(i.plan), resumedTargets)] {
		if slices.Index(i.plan, t) < n { // two SRV records may lead to one address
			continue
		}
		overs := []transport{t.transport}
		if t.transport == transportUDP {
			overs = append(overs, transportTCP)
		}
		for _, over := range overs {
			w := &way{to: t, over: over}
			if err := i.open(w); err != nil {
				fault = err
				continue
			}
			i.ways = append(i.ways, w)
		}
	}
	if len(i.ways) == 0 {
		i.fail(messages.ReasonTransport, fault.Error())
		return
	}
	for _, w := range i.ways {
		if !i.a.table.enter(w.tx, time.Now()) { // what that reports ends the others
			return
		}
	}
	if i.cancelled {
		i.sendCancel()
	}
}

// narrow decides what the news of one way means for the others. It returns false
// when the INVITE may still be out another way, or is known to be.
func (i *invitation) narrow(w *way, r result) bool {
	others := slices.DeleteFunc(slices.Clone(i.ways), func(x *way) bool { return x == w })
	switch {
	case len(others) == len(i.ways): // it was ruled out
		return false
	case len(others) == 0:
		return true
	case r.timedOut():
		i.ways = others
		return false
	case r.response != nil && r.response.status == 503:
		// The earlier process may have had it as well, and have gone on.
		i.refused = i.response(w.to, r)
		i.a.avoid.failed(w.to, i.refused.RetryAfter)
		i.ways = others
		return false
	}
	for _, x := range others {
		i.a.table.drop(x.tx)
	}
	i.ways = []*way{w}
	return true
}

// regained is a connection in the place of one that a process took with it. The
// server then sends its responses over a connection of its own (RFC 3261
// §18.2.2), so any from its address will do, and silence on this one means
// nothing.
type regained struct{ *stream }

func (w regained) answeredBy(o origin) bool {
	return o.stream != nil && o.stream.peer.Addr() == w.peer.Addr()
}
