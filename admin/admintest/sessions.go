package admintest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// epoch is when every session starts; each of its events comes 10 ms after the
// one before, so that what is shown of them does not depend on the clock.
var epoch = time.Unix(1_700_000_000, 0).UTC()

const step = 10 * time.Millisecond

// Call is a session of a Node. The test says what happens to it.
type Call struct {
	// Request is what it was started with.
	Request actors.SessionRequest

	node    *Node
	view    actors.SessionView
	history []actors.HistoryEntry // oldest first
	// forgotten: only the history is left.
	forgotten bool
}

// ID is its id: "call-1" for the first of a node, and so on.
func (c *Call) ID() string { return c.view.ID }

// Handler is who answers its challenges.
func (c *Call) Handler() string { return c.view.Handler }

// Challenge is a 407, answered by a handler, and the repeated INVITE.
func (c *Call) Challenge(handler string) {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	c.record("challenged", "ChallengeReceived", `Proxy challenge (407), Digest realm "example.test" (MD5).`)
	c.record("challenged", "CredentialsSupplied", handler+" answered in 1 ms.")
	c.request("challenged", "INVITE sent with credentials")
}

// Ring is a 180.
func (c *Call) Ring() {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	c.record("early", "ProgressReceived", "180 Ringing.")
}

// Establish is a 200 with a body.
func (c *Call) Establish(body string) {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	at := c.record("established", "SessionEstablished", "200 OK; acknowledged.")
	c.view.EstablishedAt, c.view.LastStatus = &at, 200
	c.view.ContentType, c.view.Body = "application/sdp", body
	c.view.Dialog.RemoteTag, c.view.Dialog.RemoteTarget = "peer", c.view.Peer
	if after := c.Request.HangupAfter; after > 0 {
		hangup := at.Add(after)
		c.view.HangupAt = &hangup
	}
}

// End is the end, for a reason of package messages; a status of 0 is none.
func (c *Call) End(status int, reason string) {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	c.end(status, reason)
}

// Forget leaves only its history, as a node does some time after the end.
func (c *Call) Forget() {
	c.node.mu.Lock()
	defer c.node.mu.Unlock()
	c.forgotten = true
}

func (c *Call) end(status int, reason string) {
	if c.view.State == "ended" {
		return
	}
	c.view.Reason = reason
	switch {
	case reason == string(messages.ReasonRemoteHangup):
		c.record(c.view.State, "PeerRequestReceived", "BYE received.")
	case c.view.State == "established":
		c.record("ending", "SessionEnding", "Ending: "+reason+".")
		c.request("ending", "BYE sent")
	}
	if status > 0 {
		c.view.LastStatus = status
	}
	at := c.record("ended", "SessionEnded", "Ended: "+reason+".")
	c.view.EndedAt = &at
}

// request is one of ours. The node is locked.
func (c *Call) request(state, text string) {
	c.view.Attempts++
	c.view.Dialog.LocalCSeq++
	c.record(state, "RequestStarted", fmt.Sprintf("%s, CSeq %d.", text, c.view.Dialog.LocalCSeq))
}

// record appends an event and tells the watchers. The node is locked.
func (c *Call) record(state, kind, text string) time.Time {
	e := actors.HistoryEntry{
		Version: uint64(len(c.history)) + 1, At: epoch.Add(time.Duration(len(c.history)) * step), Type: kind, Text: text,
	}
	c.history = append(c.history, e)
	c.view.State = state
	c.node.tell(actors.Change{
		Kind: "session", ID: c.view.ID, Profile: c.view.Profile, Version: e.Version, At: e.At, Type: kind, Text: text, State: state,
	})
	return e.At
}

// tell hands a change to everybody who watches. Whoever is too far behind is
// dropped. The node is locked.
func (n *Node) tell(c actors.Change) {
	for ch, q := range n.watchers {
		if q.Kind != "" && q.Kind != c.Kind || q.ID != "" && q.ID != c.ID || q.Profile != "" && q.Profile != c.Profile {
			continue
		}
		select {
		case ch <- c:
		default:
			close(ch)
			delete(n.watchers, ch)
		}
	}
}

// Tell reports a change that belongs to no session of this node.
func (n *Node) Tell(c actors.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tell(c)
}

// Call finds a session.
func (n *Node) Call(id string) *Call {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sessions[id]
}

// Watchers is how many are watching.
func (n *Node) Watchers() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.watchers)
}

// StopSessions makes the node one that stops: no session starts, and nobody
// can watch any more.
func (n *Node) StopSessions() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
	for ch := range n.watchers {
		close(ch)
	}
	clear(n.watchers)
}

// StartSession implements admin.Node.
func (n *Node) StartSession(_ context.Context, r actors.SessionRequest) (actors.SessionView, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return actors.SessionView{}, actors.ErrStopping
	}
	p, ok := n.profiles[r.Profile]
	if !ok {
		return actors.SessionView{}, fmt.Errorf("profile %q: %w", r.Profile, actors.ErrNotFound)
	}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "Via") {
			return actors.SessionView{}, fmt.Errorf("%w: headers: Via is written by the stack", actors.ErrInvalidSession)
		}
	}
	open := 0
	for _, c := range n.sessions {
		if c.view.State != "ended" {
			open++
		}
	}
	if n.MaxSessions > 0 && open >= n.MaxSessions {
		return actors.SessionView{}, fmt.Errorf("profile %q: %w", r.Profile, actors.ErrSessionLimit)
	}
	started := epoch
	c := &Call{Request: r, node: n}
	c.view = actors.SessionView{
		ID: fmt.Sprintf("call-%d", len(n.sessions)+1), Profile: r.Profile, Registrar: p.Registrar, Direction: "outbound",
		AOR: p.AOR, Peer: r.Target, StartedAt: &started, Handler: p.SessionHandler,
	}
	c.view.Dialog.CallID, c.view.Dialog.LocalTag = c.view.ID+"@127.0.0.1", c.view.ID
	n.sessions[c.view.ID] = c
	c.record("calling", "SessionStarted", "Call to "+r.Target+".")
	c.request("calling", "INVITE sent")
	if n.OnCall != nil {
		go n.OnCall(c)
	}
	return c.view, nil
}

// session finds one. The node is locked.
func (n *Node) session(id string) (*Call, error) {
	c, ok := n.sessions[id]
	if !ok || c.forgotten {
		return nil, fmt.Errorf("session %q: %w", id, actors.ErrNoSession)
	}
	return c, nil
}

// Session implements admin.Node.
func (n *Node) Session(_ context.Context, id string) (actors.SessionView, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.session(id)
	if err != nil {
		return actors.SessionView{}, err
	}
	return c.view, nil
}

// Sessions implements admin.Node.
func (n *Node) Sessions(_ context.Context, q actors.SessionQuery) (actors.SessionPage, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var page actors.SessionPage
	for _, id := range slices.Sorted(maps.Keys(n.sessions)) {
		v := n.sessions[id].view
		if v.State == "ended" || id <= q.After || q.Profile != "" && v.Profile != q.Profile ||
			q.Registrar != "" && v.Registrar != q.Registrar || q.State != "" && v.State != q.State {
			continue
		}
		if len(page.Sessions) == q.Limit {
			page.Next = page.Sessions[q.Limit-1].ID
			break
		}
		v.ContentType, v.Body = "", ""
		page.Sessions = append(page.Sessions, v)
	}
	return page, nil
}

// SessionHistory implements admin.Node.
func (n *Node) SessionHistory(_ context.Context, id string, before uint64, limit int) ([]actors.HistoryEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.sessions[id]
	if !ok {
		return nil, fmt.Errorf("session %q: %w", id, actors.ErrNoSession)
	}
	end := len(c.history)
	if before > 0 {
		end = min(end, int(before)-1)
	}
	newest := slices.Clone(c.history[max(0, end-limit):end])
	slices.Reverse(newest)
	return newest, nil
}

// EndSession implements admin.Node.
func (n *Node) EndSession(_ context.Context, id string) (actors.SessionView, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.session(id)
	if err != nil {
		return actors.SessionView{}, err
	}
	c.end(0, string(messages.ReasonHangup))
	return c.view, nil
}

// SendInSession implements admin.Node.
func (n *Node) SendInSession(_ context.Context, id string, r actors.InDialog) (actors.InDialogResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.session(id)
	if err != nil {
		return actors.InDialogResult{}, err
	}
	if c.view.State != "established" {
		return actors.InDialogResult{}, fmt.Errorf("session %q is %s: %w", id, c.view.State, actors.ErrSessionState)
	}
	result := actors.InDialogResult{Status: 200, Phrase: "OK"}
	if n.OnRequest != nil {
		result = n.OnRequest(id, r)
	}
	c.request("established", r.Method+" sent")
	if result.Status/100 == 2 {
		c.record("established", "RequestSucceeded", fmt.Sprintf("%d %s.", result.Status, result.Phrase))
	} else {
		c.record("established", "RequestFailed", "Failed: "+result.Reason+".")
	}
	return result, nil
}

// Watch implements admin.Node.
func (n *Node) Watch(ctx context.Context, q actors.ChangeQuery) (<-chan actors.Change, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return nil, actors.ErrStopping
	}
	size := n.WatchBuffer
	if size == 0 {
		size = 256
	}
	ch := make(chan actors.Change, size)
	n.watchers[ch] = q
	context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if _, open := n.watchers[ch]; open {
			close(ch)
			delete(n.watchers, ch)
		}
	})
	return ch, nil
}
