//go:build interop

package interop

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The wire as the far end saw it is held against the RFCs, call by call,
// whatever the scenario was. Received is what the node sent.

// judgement are the rules that a test may soften.
type judgement struct {
	// lossy: the network loses and reorders, so that what is missing or late
	// proves nothing; what is repeated wrongly still does.
	lossy bool
	// restarted: the node was killed, and the credentials with it that an ACK
	// repeats. No secret is recorded.
	restarted bool
	// foreign: challengers that are not on this wire take their credentials out,
	// and add Via.
	foreign bool
	// open allows calls without a BYE.
	open bool
}

// wireCall are the messages of one Call-ID.
type wireCall struct {
	judgement
	id       string
	messages []*message
	requests []*message // of the node, without repeats, by their first arrival
	faults   []string
}

// wireCalls groups messages by call, in the order of their first one.
func wireCalls(traces []Trace) ([]*wireCall, error) {
	calls := map[string]*wireCall{}
	var order []*wireCall
	for _, tr := range traces {
		m, err := readMessage(tr)
		if err != nil {
			return nil, err
		}
		c := calls[m.header("call-id")]
		if c == nil {
			c = &wireCall{id: m.header("call-id")}
			calls[c.id] = c
			order = append(order, c)
		}
		c.messages = append(c.messages, m)
	}
	return order, nil
}

// judge returns what is wrong with each call, at most a few of each.
func judge(traces []Trace, j judgement) (calls []*wireCall, faults []string) {
	calls, err := wireCalls(traces)
	if err != nil {
		return nil, []string{err.Error()}
	}
	for _, c := range calls {
		c.judgement = j
		c.check()
		for _, f := range c.faults {
			faults = append(faults, c.id+": "+f)
		}
	}
	return calls, faults
}

func (c *wireCall) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *wireCall) check() {
	first := map[string]*message{}
	for _, m := range c.messages {
		if !m.Received || m.method == "" {
			continue
		}
		if before := first[m.transaction()]; before != nil {
			if before.Text != m.Text {
				c.fault("a repeat of %s differs from the first", m)
			}
			continue
		}
		first[m.transaction()] = m
		c.requests = append(c.requests, m)
	}
	c.checkForm()
	c.checkNumbers()
	c.checkInvites()
	c.checkCredentials()
	for _, m := range c.requests {
		switch m.method {
		case "ACK":
			c.checkAck(m)
		case "CANCEL":
			c.checkCancel(m)
		}
	}
	c.checkAcknowledged()
	c.checkEnded()
}

// checkForm: what every request must have.
func (c *wireCall) checkForm() {
	for _, m := range c.requests {
		switch {
		case !strings.HasPrefix(m.branch, "z9hG4bK"):
			c.fault("branch %q of %s", m.branch, m)
		case m.header("max-forwards") == "":
			c.fault("%s has no Max-Forwards", m)
		case m.fromTag == "" || m.fromTag != c.requests[0].fromTag:
			c.fault("From tag %q of %s, and %q before", m.fromTag, m, c.requests[0].fromTag)
		case m.cseqMethod != m.method:
			c.fault("%s has CSeq %s", m, m.header("cseq"))
		case m.header("content-length") != strconv.Itoa(len(m.body)):
			c.fault("%s has %d bytes of body and says %q", m, len(m.body), m.header("content-length"))
		case len(m.all("via")) != 1:
			if !c.foreign {
				c.fault("%s has %d Via", m, len(m.all("via")))
			}
		case m.method != "ACK" && m.method != "CANCEL" && !slices.ContainsFunc(m.all("supported"), func(v string) bool { return strings.Contains(v, "timer") }):
			c.fault("TMR-01: %s does not support timer", m)
		}
	}
}

// checkNumbers: CSeq goes up by one in a dialog (DLG-01), and a repeated INVITE
// is one above everything before it (CHA-02). Several dialogs of one call share
// a counter, so that one of them can skip numbers, which every UAS accepts (RFC
// 3261 §12.2.2).
func (c *wireCall) checkNumbers() {
	forked := len(c.dialogs()) > 1
	highest, initial := 0, 0
	last := map[string]int{} // by the far end's tag
	used := map[int]string{}
	for _, m := range c.requests {
		if m.method == "ACK" || m.method == "CANCEL" {
			continue
		}
		at := fmt.Sprint(m.toTag, " ", m.method)
		if m.toTag == "" {
			at = "INVITE"
		}
		if before := used[m.cseq]; before != "" && before == at {
			c.fault("CSeq %d is used by two requests", m.cseq)
		}
		used[m.cseq] = at
		want := highest + 1
		if m.toTag != "" {
			want = cmp.Or(last[m.toTag], initial) + 1
			last[m.toTag] = m.cseq
			if forked {
				want = highest + 1
			}
		} else {
			initial = m.cseq
		}
		if m.cseq != want && !c.lossy && highest > 0 {
			c.fault("%s, want CSeq %d", m, want)
		}
		highest = max(highest, m.cseq)
	}
}

// checkInvites: the INVITEs outside a dialog differ in their credentials,
// branch and number only (CHA-03, CHA-05), save for a longer interval and
// where a redirect leads.
func (c *wireCall) checkInvites() {
	var before *message
	for _, m := range c.requests {
		if m.method != "INVITE" || m.toTag != "" {
			continue
		}
		if before == nil {
			before = m
			continue
		}
		if m.body != before.body {
			c.fault("%s has another body than %s", m, before)
		}
		if m.branch == before.branch {
			c.fault("%s has the branch of %s", m, before)
		}
		for _, name := range []string{"from", "to", "contact", "content-type", "supported", "allow", "max-forwards", "user-agent", "subject"} {
			if m.header(name) != before.header(name) {
				c.fault("%s of %s is %q, and was %q", name, m, m.header(name), before.header(name))
			}
		}
		before = m
	}
}

// checkCredentials: every digest is right, for a nonce that was given here in
// that space, and no nonce count comes twice (CHA-01, CHA-06). Without passwords
// of others than "pw-" and the user name.
func (c *wireCall) checkCredentials() {
	given := map[string]string{} // realm of a nonce, by header and nonce
	counts := map[string]int{}
	for _, m := range c.messages {
		for challenge, answer := range map[string]string{"www-authenticate": "authorization", "proxy-authenticate": "proxy-authorization"} {
			for _, value := range m.all(challenge) {
				p := digestOf(value)
				given[answer+" "+p["nonce"]] = p["realm"]
			}
		}
		if !slices.Contains(c.requests, m) || m.method == "ACK" || m.method == "CANCEL" {
			continue
		}
		for _, name := range []string{"authorization", "proxy-authorization"} {
			for _, value := range m.all(name) {
				p := digestOf(value)
				key := name + " " + p["nonce"]
				if realm, ok := given[key]; !c.foreign && (!ok || realm != p["realm"]) {
					c.fault("%s has credentials of realm %q for a nonce of realm %q", m, p["realm"], realm)
				}
				if p["uri"] != m.uri {
					c.fault("%s is for %s and its digest for %s", m, m.uri, p["uri"])
				}
				if want := digestResponse(p, m.method, Password(p["username"])); want != p["response"] {
					c.fault("%s has the response %q, want %q", m, p["response"], want)
				}
				if p["qop"] == "" {
					continue
				}
				count, err := strconv.ParseInt(p["nc"], 16, 32)
				if err != nil || int(count) <= counts[key] && !c.lossy {
					c.fault("%s has the nonce count %q after %d", m, p["nc"], counts[key])
				}
				counts[key] = int(count)
			}
		}
	}
}

// checkAck: the ACK of another final response belongs to its transaction
// (TRX-05), that of a 2xx is one of its own (INV-01). Both have the INVITE's
// credentials (CHA-07).
func (c *wireCall) checkAck(ack *message) {
	var invite *message
	for _, m := range c.requests {
		if m.method == "INVITE" && m.cseq == ack.cseq && (m.toTag == "" || m.toTag == ack.toTag) {
			invite = m
		}
	}
	if invite == nil {
		if !c.lossy {
			c.fault("%s belongs to no INVITE", ack)
		}
		return
	}
	var final *message
	for _, m := range c.messages {
		if m.Received || m.status < 200 || m.cseqMethod != "INVITE" || m.cseq != ack.cseq || m.toTag != ack.toTag {
			continue
		}
		if (m.status < 300) == (ack.branch != invite.branch) {
			final = m
		}
	}
	if final == nil {
		c.fault("%s with To tag %q acknowledges nothing; its branch is that of the INVITE: %t", ack, ack.toTag, ack.branch == invite.branch)
		return
	}
	if final.status >= 300 {
		for _, name := range []string{"via", "from", "call-id", "route"} {
			if ack.header(name) != invite.header(name) {
				c.fault("%s of the ACK of %s is %q, want %q", name, final, ack.header(name), invite.header(name))
			}
		}
		if ack.uri != invite.uri || ack.header("to") != final.header("to") || ack.body != "" {
			c.fault("the ACK of %s goes to %s, To %s, with %d bytes", final, ack.uri, ack.header("to"), len(ack.body))
		}
	}
	got, want := ack.credentials(), invite.credentials()
	if !slices.Equal(got, want) && !c.foreign && !(c.restarted && len(got) == 0) {
		c.fault("CHA-07: the ACK of %s has credentials %d lines, the INVITE %d, or others", final, len(got), len(want))
	}
}

// checkCancel is RFC 3261 §9.1 (CAN-01).
func (c *wireCall) checkCancel(cancel *message) {
	var invite *message
	provisional := false
	for _, m := range c.messages {
		switch {
		case m == cancel:
			if invite == nil {
				c.fault("%s cancels nothing", cancel)
				return
			}
			if !provisional {
				c.fault("%s comes before a provisional response", cancel)
			}
			for _, name := range []string{"via", "from", "to", "call-id", "route"} {
				if cancel.header(name) != invite.header(name) {
					c.fault("%s of the CANCEL is %q, want %q", name, cancel.header(name), invite.header(name))
				}
			}
			if cancel.uri != invite.uri || cancel.cseq != invite.cseq || cancel.header("require")+cancel.header("proxy-require") != "" {
				c.fault("%s goes to %s, for %s to %s", cancel, cancel.uri, invite, invite.uri)
			}
			return
		case m.method == "INVITE" && m.branch == cancel.branch:
			invite = m
		case !m.Received && m.status != 0 && m.branch == cancel.branch && m.cseqMethod == "INVITE":
			provisional = provisional || m.status < 200
			if m.status >= 200 && !c.lossy {
				c.fault("%s comes after %s", cancel, m)
			}
		}
	}
}

// checkAcknowledged: every final response to an INVITE has its ACK, every
// repeat of a 2xx another one.
func (c *wireCall) checkAcknowledged() {
	sent, acks := map[string]int{}, map[string]int{}
	two := map[string]bool{}
	for _, m := range c.messages {
		key := fmt.Sprint(m.toTag, " ", m.cseq)
		switch {
		case !m.Received && m.status >= 200 && m.cseqMethod == "INVITE":
			sent[key]++
			two[key] = m.status < 300
		case m.Received && m.method == "ACK":
			acks[key]++
		}
	}
	for key, n := range sent {
		// The ACK of another final response may be lost with nothing to ask for
		// it again.
		if acks[key] == 0 && (two[key] || !c.lossy) || two[key] && !c.lossy && acks[key] < n {
			c.fault("%d ACKs for the %d final responses with tag and CSeq %s", acks[key], n, key)
		}
	}
}

// checkEnded: every dialog of a 2xx had its BYE, from one side or the other.
func (c *wireCall) checkEnded() {
	if c.open {
		return
	}
	for _, tag := range c.dialogs() {
		if !slices.ContainsFunc(c.messages, func(m *message) bool { return m.method == "BYE" && (m.toTag == tag || m.fromTag == tag) }) {
			c.fault("the dialog %s has no BYE", tag)
		}
	}
}

// dialogs are the far end's tags of those 2xx that made one.
func (c *wireCall) dialogs() []string {
	var tags []string
	for _, m := range c.messages {
		if !m.Received && m.status >= 200 && m.status < 300 && m.cseqMethod == "INVITE" && !slices.Contains(tags, m.toTag) {
			tags = append(tags, m.toTag)
		}
	}
	return tags
}

// sequence are the methods of the node's requests in order, without a further
// ACK of the same response.
func (c *wireCall) sequence() string {
	var methods []string
	acks := map[string]bool{}
	for _, m := range c.requests {
		key := fmt.Sprint(m.toTag, " ", m.cseq)
		if m.method == "ACK" && acks[key] {
			continue
		}
		acks[key] = acks[key] || m.method == "ACK"
		methods = append(methods, m.method)
	}
	return strings.Join(methods, " ")
}

// of are the requests of the node of one method, without repeats.
func (c *wireCall) of(method string) []*message {
	var out []*message
	for _, m := range c.requests {
		if m.method == method {
			out = append(out, m)
		}
	}
	return out
}
