package session_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// Do implements machinetest.Conversation. It carries out one command of a
// script, with its continuation lines, and renders what came of it. The error
// tells what is wrong with the command, or which rules the machine broke.
//
//	policy KEY=VALUE ...   handlers (a>b), limit (of each xSP), realms, redirects
//	                       (hosts), redirect-limit, interval, min-se, rounds, owned
//	jitter F               what the host draws from now on
//	start KEY=VALUE ...    peer, hangup, realms; late (no body), trunk
//	receive KEY=VALUE ...  an INVITE: cseq; late, trunk, headers below
//	admitted | refused REASON
//	response STATUS [to METHOD] [attempt=N] [proof=verified|wrong], headers below
//	lost REASON [to METHOD] [attempt=N]
//	offer [HANDLER] [preemptive] [continues] [not=REALM] [attempt=N]
//	withhold REASON [DURATION] [attempt=N]   for good without a duration
//	send METHOD [body]
//	answer
//	peer METHOD CSEQ|next [body] [unchanged], headers below
//	reply METHOD CSEQ STATUS
//	no-ack CSEQ
//	end [STATUS] [REASON]
//	advance DURATION       moves the clock
//	timer                  a deadline may have passed
//	wake                   moves to the next deadline and delivers it
//	crash                  reads the state back and recovers
//	N times COMMAND
//	reset                  another session under the same policy
//
// Headers are Tag, Contact and Record-Route (in the order in which we use it),
// which have defaults and can be "none"; RSeq, Session-Expires, Min-SE, Allow,
// Supported, Source, the challenges, and Body.
func (m *machine) Do(line string) (string, error) {
	line, headers, _ := strings.Cut(line, "\n")
	verb, rest, _ := strings.Cut(line, " ")
	if headers != "" {
		rest += "\n" + headers
	}
	if n, err := strconv.Atoi(verb); err == nil {
		return m.repeat(n, strings.TrimPrefix(rest, "times "))
	}
	switch verb {
	case "policy":
		return "", m.setPolicy(rest)
	case "jitter":
		jitter, err := strconv.ParseFloat(rest, 64)
		m.jitter = jitter
		return "", err
	case "advance":
		d, err := time.ParseDuration(rest)
		m.now = m.now.Add(d)
		return "", err
	case "reset":
		p := m.policy
		*m = *newMachine(p)
		return "", nil
	case "wake":
		before := m.now
		d, ok, err := m.wake()
		if !ok {
			return "nothing to wait for\n", nil
		}
		return fmt.Sprintf("after %s\n", machinetest.Short(m.now.Sub(before))) + m.render(d), errors.Join(err, m.check())
	case "crash":
		d, err := m.crash()
		return m.render(d), errors.Join(err, m.check())
	}
	cmd, err := m.command(verb, rest)
	if err != nil {
		return "", err
	}
	d, err := m.step(cmd)
	return m.render(d), errors.Join(err, m.check())
}

func (m *machine) repeat(n int, line string) (string, error) {
	var out strings.Builder
	var errs []error
	for range n {
		text, err := m.Do(line)
		out.WriteString(text)
		errs = append(errs, err)
	}
	return out.String(), errors.Join(errs...)
}

func (m *machine) render(d session.Decision) string {
	var out strings.Builder
	head := "recorded"
	for _, e := range d.Events {
		fmt.Fprintf(&out, "%-9s %s\n", head, renderEvent(e, m.now))
		head = ""
	}
	head = "do"
	for _, e := range d.Effects {
		fmt.Fprintf(&out, "%-9s %s\n", head, renderEffect(e, m.state))
		head = ""
	}
	if d.Dropped != "" {
		fmt.Fprintf(&out, "%-9s %s\n", "dropped", d.Dropped)
	}
	return out.String()
}

// arguments are the words of a command: flags and key=value.
type arguments struct {
	words  []string
	values map[string]string
}

func parseArguments(text string) arguments {
	a := arguments{values: map[string]string{}}
	for _, word := range strings.Fields(text) {
		if key, value, found := strings.Cut(word, "="); found {
			a.values[key] = value
		} else {
			a.words = append(a.words, word)
		}
	}
	return a
}

func (a arguments) has(word string) bool { return slices.Contains(a.words, word) }

func (a arguments) word(i int) string {
	if i < len(a.words) {
		return a.words[i]
	}
	return ""
}

func (a arguments) number(i int) uint32 {
	n, _ := strconv.ParseUint(a.word(i), 10, 32)
	return uint32(n)
}

// attempt is that of a request that is out, INVITE without "to METHOD".
func (m *machine) attempt(a arguments) uint64 {
	if n, err := strconv.ParseUint(a.values["attempt"], 10, 64); err == nil {
		return n
	}
	if i := slices.Index(a.words, "to"); i >= 0 {
		return m.sent(a.word(i + 1))
	}
	return m.sent("INVITE")
}

func (m *machine) command(verb, rest string) (session.Command, error) {
	line, headers, _ := strings.Cut(rest, "\n")
	a := parseArguments(line)
	switch verb {
	case "start":
		return startCommand(a)
	case "receive":
		q, err := inbound("INVITE", max(a.number(0), 1), headers)
		if !a.has("late") {
			q.Dialog.Body = []byte(canary)
		}
		spec := &messages.SessionSpec{
			Profile: "alice", Registrar: "acme", Aor: "sip:alice@example.test", Peer: "sip:bob@example.test", Inbound: true, TrunkLeg: a.has("trunk"),
		}
		return session.Receive{Spec: spec, LocalTag: "a1", Request: q}, err
	case "admitted":
		return session.Admitted{}, nil
	case "refused":
		return session.NotAdmitted{Reason: messages.Reason(a.word(0))}, nil
	case "response":
		return m.response(a, headers)
	case "lost":
		return session.Failed{Attempt: m.attempt(a), Failure: messages.Reason(a.word(0))}, nil
	case "offer":
		return m.offer(a), nil
	case "withhold":
		c := session.CredentialsWithheld{Attempt: m.question(), Reason: messages.Reason(a.word(0)), RetryAfter: -1}
		if n, err := strconv.ParseUint(a.values["attempt"], 10, 64); err == nil {
			c.Attempt = n
		}
		r, _ := m.state.Request(c.Attempt)
		c.Handler = r.GetHandler()
		var err error
		if a.word(1) != "" {
			c.RetryAfter, err = time.ParseDuration(a.word(1))
		}
		return c, err
	case "send":
		return session.Send{Method: a.word(0), Body: a.has("body")}, nil
	case "answer":
		return session.Answer{}, nil
	case "peer":
		q, err := m.peer(a, headers)
		return session.PeerRequested{Request: q, Unchanged: a.has("unchanged")}, err
	case "reply":
		return session.Reply{Method: a.word(0), CSeq: a.number(1), Status: int(a.number(2))}, nil
	case "no-ack":
		return session.AckMissing{CSeq: a.number(0)}, nil
	case "end":
		c := session.End{Reason: messages.ReasonHangup, Status: int(a.number(0))}
		if a.word(1) != "" {
			c.Reason = messages.Reason(a.word(1))
		}
		return c, nil
	case "timer":
		return session.TimerFired{}, nil
	}
	return nil, fmt.Errorf("unknown command %q", verb)
}

func startCommand(a arguments) (session.Command, error) {
	spec := &messages.SessionSpec{
		Profile: "alice", Registrar: "acme", Aor: "sip:alice@example.test", Peer: "sip:bob@example.test", TrunkLeg: a.has("trunk"),
	}
	if peer := a.values["peer"]; peer != "" {
		spec.Peer = peer
	}
	if realms := a.values["realms"]; realms != "" {
		spec.Realms = strings.Split(realms, ",")
	}
	if text := a.values["hangup"]; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		spec.HangupAfterMs = d.Milliseconds()
	}
	return session.Start{Spec: spec, CallID: "c1", LocalTag: "a1", Body: !a.has("late")}, nil
}

func (m *machine) offer(a arguments) session.Command {
	c := session.CredentialsOffered{Attempt: m.question(), Elapsed: 20 * time.Millisecond, Headers: []string{"Proxy-Authorization"}}
	if n, err := strconv.ParseUint(a.values["attempt"], 10, 64); err == nil {
		c.Attempt = n
	}
	r, _ := m.state.Request(c.Attempt)
	c.Handler = r.GetHandler()
	for _, word := range a.words {
		switch word {
		case "preemptive":
			c.Preemptive = true
		case "continues":
			c.Continues = true
		default:
			c.Handler = word
		}
	}
	for _, n := range r.GetAnswers() {
		if n.GetRealm() == a.values["not"] {
			c.Unanswered = append(c.Unanswered, n)
		}
	}
	return c
}

// response is a provisional or final response, as the adapter hands it over.
func (m *machine) response(a arguments, headers string) (session.Command, error) {
	status := int(a.number(0))
	if status < 100 {
		return nil, fmt.Errorf("no status: %q", a.word(0))
	}
	attempt := m.attempt(a)
	r := &messages.SIPResponse{Status: status, RetryAfter: -1, Source: ownSource, Dialog: &messages.DialogInfo{}}
	method := m.ledger.method[attempt]
	if status > 100 {
		r.Dialog.RemoteTag = "b1"
	}
	if status > 100 && status < 300 && method == "INVITE" {
		r.Dialog.Target, r.Dialog.RouteSet = farContact, []string{ownRoute}
	}
	if err := readHeaders(r.Dialog, r, headers); err != nil {
		return nil, err
	}
	if status < 200 {
		return session.Provisional{Attempt: attempt, Response: r}, nil
	}
	return session.Answered{Attempt: attempt, Response: r, Proof: a.values["proof"]}, nil
}

// peer is a request of the peer in the dialog, or in the first early one.
func (m *machine) peer(a arguments, headers string) (*messages.SIPInbound, error) {
	cseq := a.number(1)
	if a.word(1) == "next" {
		cseq = m.state.RemoteCSeq + 1
	}
	q, err := inbound(a.word(0), cseq, "")
	q.CallID, q.Dialog.Target, q.Dialog.RouteSet = m.state.CallID, "", nil
	q.ToTag = m.state.LocalTag
	switch {
	case m.state.Dialog != nil:
		q.Dialog.RemoteTag = m.state.Dialog.GetRemoteTag()
	case len(m.state.Early) > 0:
		q.Dialog.RemoteTag = m.state.Early[0].Dialog.GetRemoteTag()
	}
	if a.has("body") {
		q.Dialog.Body = []byte(canary)
	}
	return q, errors.Join(err, readHeaders(&q.Dialog, nil, headers))
}

func inbound(method string, cseq uint32, headers string) (*messages.SIPInbound, error) {
	q := &messages.SIPInbound{
		Method: method, CallID: "c1", CSeq: cseq, Source: ownSource,
		Dialog: messages.DialogInfo{
			RemoteTag: "b1", Target: farContact, RouteSet: []string{ownRoute}, Headers: []messages.Header{{Name: "Subject", Value: canary}},
		},
	}
	return q, readHeaders(&q.Dialog, nil, headers)
}

func readHeaders(d *messages.DialogInfo, r *messages.SIPResponse, headers string) error {
	for line := range strings.Lines(headers) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			return fmt.Errorf("no header: %q", line)
		}
		if err := readHeader(d, r, strings.ToLower(name), strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func readHeader(d *messages.DialogInfo, r *messages.SIPResponse, name, value string) error {
	none := value == "none"
	switch name {
	case "tag":
		d.RemoteTag = value
		if none {
			d.RemoteTag = ""
		}
	case "contact":
		if r != nil && r.Status >= 300 && r.Status < 400 {
			r.Redirects = append(r.Redirects, value)
			return nil
		}
		if d.Target = value; none {
			d.Target = ""
		}
	case "record-route":
		if d.RouteSet = strings.Split(value, ", "); none {
			d.RouteSet = nil
		}
	case "rseq":
		n, err := strconv.ParseUint(value, 10, 32)
		d.RSeq = uint32(n)
		return err
	case "session-expires":
		text, refresher, _ := strings.Cut(value, ";refresher=")
		n, err := strconv.ParseUint(text, 10, 32)
		d.SessionExpires, d.Refresher = uint32(n), refresher
		return err
	case "min-se":
		n, err := strconv.ParseUint(value, 10, 32)
		d.MinSE = uint32(n)
		return err
	case "allow":
		d.Allow = strings.Split(value, ", ")
	case "supported":
		d.Supported = strings.Split(value, ", ")
	case "body":
		d.Body = []byte(canary)
	default:
		return readResponseHeader(r, name, value)
	}
	return nil
}

func readResponseHeader(r *messages.SIPResponse, name, value string) error {
	if r == nil {
		return errors.New("only a response has it")
	}
	switch name {
	case "www-authenticate":
		r.Challenges = append(r.Challenges, challenges(messages.Space_ORIGIN, value)...)
	case "proxy-authenticate":
		r.Challenges = append(r.Challenges, challenges(messages.Space_PROXY, value)...)
	case "source":
		r.Source = value
	default:
		return errors.New("unknown header")
	}
	return nil
}

// challenges reads "REALM NONCE [stale] [algorithm]" or a whole challenge.
func challenges(space messages.Space, value string) []*messages.RecordedChallenge {
	if !strings.Contains(value, "=") {
		a := parseArguments(value)
		raw := fmt.Sprintf("Digest realm=%q, nonce=%q, qop=\"auth\"", a.word(0), a.word(1))
		for _, more := range a.words[min(2, len(a.words)):] {
			if more == "stale" {
				raw += ", stale=true"
			} else {
				raw += ", algorithm=" + more
			}
		}
		return []*messages.RecordedChallenge{{Space: space, Raw: raw}}
	}
	var out []*messages.RecordedChallenge
	for _, raw := range challenge.Split(value) {
		out = append(out, &messages.RecordedChallenge{Space: space, Raw: raw})
	}
	return out
}

func (m *machine) setPolicy(text string) error {
	p := &m.policy
	for _, arg := range strings.Fields(text) {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "handlers":
			p.Handlers = messages.Handlers(value)
		case "limit":
			p.AnswerLimits = map[string]time.Duration{}
			var d time.Duration
			d, err = time.ParseDuration(value)
			for _, handler := range p.Handlers {
				p.AnswerLimits[handler] = d
			}
		case "realms":
			p.Challenge.Realms = strings.Split(value, ",")
		case "redirects":
			p.RedirectHosts = strings.Split(value, ",")
		case "redirect-limit":
			p.Redirects, err = strconv.Atoi(value)
		case "interval":
			p.Interval, err = time.ParseDuration(value)
		case "min-se":
			p.MinSE, err = time.ParseDuration(value)
		case "rounds":
			var n int
			n, err = strconv.Atoi(value)
			p.Challenge.Rounds = uint32(n)
		case "owned":
			p.Owned = true
		default:
			err = fmt.Errorf("unknown policy %q", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
