package actors

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

const (
	// farProxy is where the registrar of these tests is, farTarget the contact of
	// whoever is called.
	farProxy  = "192.0.2.1:5060"
	farTarget = "sip:bob@198.51.100.9:5062"
	offerSDP  = "v=0 offer canary-sdp"
	answerSDP = "v=0 answer canary-sdp"
)

// fakeUA is the far end of the calls and the proxy in front of it. A test says
// what it does.
type fakeUA struct {
	registrar *fakeRegistrar
	mu        sync.Mutex
	// invited runs for each INVITE; asked answers any other request, nil with
	// silence.
	invited func(*fakeCall)
	asked   func(*messages.SIPRequest) *messages.SIPResponse
	// sent is what came, in order, but for REGISTER.
	sent []*messages.SIPRequest
	// calls are the INVITE transactions by branch.
	calls map[string]*fakeCall
}

func newFakeUA(r *fakeRegistrar) *fakeUA {
	u := &fakeUA{registrar: r, calls: map[string]*fakeCall{}}
	u.invited = func(c *fakeCall) { c.reply(100); c.reply(180); c.reply(200, withBody(answerSDP)) }
	u.asked = func(*messages.SIPRequest) *messages.SIPResponse { return reply(200) }
	return u
}

func (u *fakeUA) connect() Sender {
	return &uaSender{Sender: u.registrar.connect(), u: u}
}

type uaSender struct {
	Sender *fakeSender
	u      *fakeUA
}

// Flush implements Sender.
func (s *uaSender) Flush() {}

// alive tells whether the process that the sender belongs to runs.
func (s *uaSender) alive() bool {
	s.Sender.r.mu.Lock()
	defer s.Sender.r.mu.Unlock()
	return s.Sender.generation == s.Sender.r.generation
}

func (u *fakeUA) note(q *messages.SIPRequest) { u.mu.Lock(); u.sent = append(u.sent, q); u.mu.Unlock() }

// Send implements Sender.
func (s *uaSender) Send(q *messages.SIPRequest, done func(messages.SIPOutcome)) {
	if q.Method == "REGISTER" {
		s.Sender.Send(q, done)
		return
	}
	if !s.alive() {
		return
	}
	s.u.note(q)
	s.u.mu.Lock()
	asked := s.u.asked
	s.u.mu.Unlock()
	go func() {
		if response := asked(q); response != nil {
			done(messages.SIPOutcome{Response: response})
			return
		}
		time.Sleep(32 * time.Second)
		done(messages.SIPOutcome{Failure: messages.ReasonTimeout})
	}()
}

// Ack implements Sender.
func (s *uaSender) Ack(q *messages.SIPRequest) {
	if s.alive() {
		s.u.note(q)
	}
}

// Invite implements Sender.
func (s *uaSender) Invite(q *messages.SIPRequest, report func(messages.InviteReport)) messages.Invitation {
	if !s.alive() {
		return &fakeCall{}
	}
	s.u.mu.Lock()
	c, invited := s.u.calls[q.Branch], s.u.invited
	s.u.mu.Unlock()
	if q.Resume {
		if c == nil {
			c = &fakeCall{u: s.u, q: q, wanted: make(chan struct{}), rang: true}
		}
		c.mu.Lock()
		c.report = report
		c.mu.Unlock()
		return c
	}
	s.u.note(q)
	c = &fakeCall{u: s.u, q: q, report: report, wanted: make(chan struct{})}
	s.u.mu.Lock()
	s.u.calls[q.Branch] = c
	s.u.mu.Unlock()
	go invited(c)
	return c
}

// fakeCall is an INVITE transaction, seen from the far end.
type fakeCall struct {
	u      *fakeUA
	q      *messages.SIPRequest
	mu     sync.Mutex
	report func(messages.InviteReport)
	wanted chan struct{} // closed once a CANCEL is wanted
	// rang, over and cancelled follow the transaction.
	rang, over, cancelled, wants bool
}

// Cancel implements messages.Invitation.
func (c *fakeCall) Cancel() {
	if c.u == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wants {
		c.wants = true
		close(c.wanted)
	}
	c.cancel()
}

// cancel sends the CANCEL if it may leave (CAN-01). It needs the lock.
func (c *fakeCall) cancel() {
	if c.wants && c.rang && !c.over && !c.cancelled {
		c.cancelled = true
		c.u.note(&messages.SIPRequest{Method: "CANCEL", CallID: c.q.CallID, CSeq: c.q.CSeq, Branch: c.q.Branch})
	}
}

type change func(*messages.SIPResponse)

func withBody(body string) change {
	return func(r *messages.SIPResponse) { r.Dialog.ContentType, r.Dialog.Body = "application/sdp", []byte(body) }
}

func withTag(tag string) change { return func(r *messages.SIPResponse) { r.Dialog.RemoteTag = tag } }

func from(source string) change { return func(r *messages.SIPResponse) { r.Source = source } }

// challenging adds a challenge of a realm.
func challenging(space messages.Space, realm, nonce string) change {
	return func(r *messages.SIPResponse) {
		r.Challenges = append(r.Challenges, &messages.RecordedChallenge{
			Space: space, Raw: fmt.Sprintf(`Digest realm=%q, nonce=%q, qop="auth", algorithm=MD5`, realm, nonce),
		})
	}
}

func reply(status int, changes ...change) *messages.SIPResponse {
	r := &messages.SIPResponse{
		Status: status, RetryAfter: -1, Source: farProxy,
		Dialog: &messages.DialogInfo{RemoteTag: "far", Target: farTarget, RouteSet: []string{"<sip:192.0.2.1;lr>"}},
	}
	for _, change := range changes {
		change(r)
	}
	return r
}

// reply answers the INVITE.
func (c *fakeCall) reply(status int, changes ...change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over && status >= 300 {
		return
	}
	c.rang = true
	c.cancel()
	c.over = c.over || status >= 200
	c.report(messages.InviteReport{Response: reply(status, changes...), Last: status >= 300})
}

func (c *fakeCall) fail(reason messages.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.report(messages.InviteReport{Failure: reason, Last: true})
}

// rings lets the call ring until it is cancelled.
func (c *fakeCall) rings() {
	c.reply(180)
	<-c.wanted
	c.reply(487)
}

// credentials are those that a request carries for a header and realm, if they
// are right for the From user's password.
func credentialsOf(q *messages.SIPRequest, header, realm string) (map[string]string, bool) {
	for _, m := range q.Mutations {
		if mutation.Canonical(m.GetName()) != mutation.Canonical(header) {
			continue
		}
		parsed, err := challenge.Parse(m.GetValue())
		if err != nil || parsed.Realm() != realm {
			continue
		}
		p := parsed.Map()
		user := strings.TrimSuffix(strings.TrimPrefix(q.From, "sip:"), "@example.test")
		want := digest.Response(digest.Exchange{
			Algorithm: "MD5", HA1: digest.HA1("MD5", user, realm, "pw-"+user), Nonce: p["nonce"], NC: p["nc"],
			Cnonce: p["cnonce"], QOP: "auth", Method: q.Method, URI: q.RequestURI,
		})
		return p, p["response"] == want
	}
	return nil, false
}

func hasCredentials(q *messages.SIPRequest, header, realm string) bool {
	_, ok := credentialsOf(q, header, realm)
	return ok
}

// methods lists what has come.
func (u *fakeUA) methods() (list []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.sent {
		list = append(list, q.Method)
	}
	return list
}

// all returns what has come of a method.
func (u *fakeUA) all(method string) (list []*messages.SIPRequest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.sent {
		if q.Method == method {
			list = append(list, q)
		}
	}
	return list
}

func (u *fakeUA) script(change func(*fakeUA)) { u.mu.Lock(); defer u.mu.Unlock(); change(u) }

func (w *world) wantMethods(want ...string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.ua.methods(); !slices.Equal(got, want) {
		w.t.Fatalf("sent %v, want %v", got, want)
	}
}

// fakeBodies keeps descriptions in memory, as a store would.
type fakeBodies struct {
	mu   sync.Mutex
	kept map[string]description
}

func (b *fakeBodies) KeepBody(id, contentType string, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept[id] = description{contentType, slices.Clone(body)}
	return nil
}

func (b *fakeBodies) Body(id string) (string, []byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.kept[id]
	return d.contentType, d.body, ok
}

func (b *fakeBodies) ForgetBody(id string) { b.mu.Lock(); defer b.mu.Unlock(); delete(b.kept, id) }

func (b *fakeBodies) count() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.kept) }

// fakeOwner remembers what it was told.
type fakeOwner struct {
	mu      sync.Mutex
	notices []SessionNotice
	on      func(SessionNotice)
	absent  bool
}

func (o *fakeOwner) Notify(n SessionNotice) {
	o.mu.Lock()
	o.notices = append(o.notices, n)
	on := o.on
	o.mu.Unlock()
	if on != nil {
		on(n)
	}
}

func (o *fakeOwner) Answers() bool { return !o.absent }

func (o *fakeOwner) told() (list []string) {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.notices {
		list = append(list, n.Kind.String())
	}
	return list
}

func (o *fakeOwner) last(kind session.Notice) (found SessionNotice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.notices {
		if n.Kind == kind {
			found = n
		}
	}
	return found
}

func wantTold(t *testing.T, o *fakeOwner, want ...string) {
	t.Helper()
	if got := o.told(); !slices.Equal(got, want) {
		t.Errorf("the owner was told %v, want %v", got, want)
	}
}

// arrived is a request of a peer, and what it was answered.
type arrived struct {
	*messages.SIPInbound
	taken   bool
	mu      sync.Mutex
	replies []messages.SIPReply
}

// arrives sends the farm a request from outside.
func (w *world) arrives(in *messages.SIPInbound) *arrived {
	a := &arrived{SIPInbound: in}
	if in.Method != "ACK" && in.Method != "CANCEL" {
		in.Respond = func(r messages.SIPReply) { a.mu.Lock(); a.replies = append(a.replies, r); a.mu.Unlock() }
	}
	a.taken = w.farm.Inbound(in)
	synctest.Wait()
	return a
}

func (a *arrived) statuses() (list []int) {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.replies {
		list = append(list, r.Status)
	}
	return list
}

func (a *arrived) final() messages.SIPReply {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.replies {
		if r.Status >= 200 {
			return r
		}
	}
	return messages.SIPReply{}
}

// inviteTo is an INVITE from outside for a user.
func inviteTo(user string) *messages.SIPInbound {
	return &messages.SIPInbound{
		Method: "INVITE", RequestURI: "sip:" + user + "@203.0.113.1:5070", From: "sip:carol@example.test",
		To: "sip:" + user + "@example.test", CallID: "in-" + user, CSeq: 7, Transport: "udp", Source: farProxy,
		Dialog: messages.DialogInfo{
			RemoteTag: "carols", Target: "sip:carol@198.51.100.7", ContentType: "application/sdp", Body: []byte(offerSDP),
			Headers: []messages.Header{{Name: "X-Secret", Value: "canary-header"}},
		},
	}
}

// inside is a request of the peer inside the dialog of a session.
func (w *world) inside(id, method string, cseq uint32) *messages.SIPInbound {
	w.t.Helper()
	v := w.session(id)
	return &messages.SIPInbound{
		Method: method, RequestURI: "sip:p0@203.0.113.1:5070", From: v.Peer, To: v.AOR, ToTag: id, CallID: v.Dialog.CallID,
		CSeq: cseq, Transport: "udp", Source: farProxy, Dialog: messages.DialogInfo{RemoteTag: v.Dialog.RemoteTag, Target: farTarget},
	}
}

func (w *world) session(id string) SessionView {
	w.t.Helper()
	synctest.Wait()
	v, err := w.farm.Session(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) wantSession(id, state string, reason messages.Reason) SessionView {
	w.t.Helper()
	v := w.session(id)
	if v.State != state || v.Reason != string(reason) {
		w.t.Errorf("session %s is %s (%q), want %s (%q); it was:\n%s", id, v.State, v.Reason, state, reason, w.story(id))
	}
	return v
}

// call starts a call of p0 with an offer, and returns its id.
func (w *world) call(owner Owner) string {
	w.t.Helper()
	v, err := w.farm.StartSession(w.t.Context(), SessionRequest{
		Profile: "p0", Target: "sip:bob@example.test", Body: []byte(offerSDP), Owner: owner,
		Headers: []messages.Header{{Name: "Subject", Value: "canary-header"}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return v.ID
}

// story tells what was recorded of a session.
func (w *world) story(id string) string {
	entries, _ := w.farm.SessionHistory(w.t.Context(), id, 0, 1000)
	text := ""
	for _, e := range slices.Backward(entries) {
		text += e.At.Format("  15:04:05.000 ") + e.Text + "\n"
	}
	return text
}

// events lists the types of what was recorded of a session, oldest first.
func (w *world) events(id string) (list []string) {
	w.t.Helper()
	entries, err := w.farm.SessionHistory(w.t.Context(), id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		list = append(list, e.Type)
	}
	return list
}

// wantGateIdle checks that nothing is left at the registrar's gate.
func (w *world) wantGateIdle() {
	w.t.Helper()
	synctest.Wait()
	for name, g := range w.farm.gateViews() {
		if g.inFlight != 0 || g.waiting != 0 || g.calls != 0 || g.unheard != 0 {
			w.t.Errorf("gate of %s: %+v when nothing is open", name, g)
		}
	}
}
