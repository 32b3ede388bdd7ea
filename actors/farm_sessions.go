package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// inDialogLimit bounds a request inside a dialog: its transaction, and those of
// its challenges.
const inDialogLimit = 3 * time.Minute

// placement is a call of ours on its way to the shard of its profile. done is
// told once that it is recorded, or why it is not, and must not block.
type placement struct {
	id      string
	request SessionRequest
	// complete changes what is recorded of a leg of a bridge; may be nil.
	complete func(*messages.SessionSpec)
	done     func(error)

	content content
	spec    *messages.SessionSpec // set by the shard
}

// StartSession places a call. It returns once the call is recorded; from then on
// the session tells what becomes of it: by its owner, by Session, and by Watch.
// What is wrong with the request is ErrNotFound for the profile, ErrInvalidSession
// or ErrSessionLimit. A profile that is disabled or removed later leaves its
// sessions alone.
func (f *Farm) StartSession(ctx context.Context, r SessionRequest) (SessionView, error) {
	if err := errors.Join(f.open(), r.check()); err != nil {
		return SessionView{}, err
	}
	p := &placement{id: f.newSessionID(r.Profile), request: r}
	if _, err := wait(ctx, f, func(done func(struct{}, error)) {
		p.done = func(err error) { done(struct{}{}, err) }
		f.place(p)
	}); err != nil {
		return SessionView{}, err
	}
	return f.Session(ctx, p.id)
}

// place begins a call whose request was checked; see placement.
func (f *Farm) place(p *placement) {
	p.content = contentOf(p.request.Headers, p.request.ContentType, p.request.Body)
	f.root.Send(f.shardOf(p.request.Profile), p)
}

func (r SessionRequest) check() error {
	switch {
	case r.Profile == "":
		return invalidSession("profile", "is missing; name the profile that calls")
	case r.HangupAfter < 0:
		return invalidSession("hangup_after", "want a positive time, or 0 for none")
	}
	if err := checkTarget(r.Target); err != nil {
		return err
	}
	return checkContent(r.Headers, r.ContentType, r.Body)
}

// wait runs an order and waits for its outcome.
func wait[T any](ctx context.Context, f *Farm, order func(done func(T, error))) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return waitAsLong(ctx, f, order)
}

func waitAsLong[T any](ctx context.Context, f *Farm, order func(done func(T, error))) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	outcomes := make(chan outcome, 1)
	order(func(value T, err error) {
		select {
		case outcomes <- outcome{value, err}:
		default: // only the first counts
		}
	})
	var none T
	select {
	case o := <-outcomes:
		return o.value, o.err
	case <-f.stopped:
		return none, ErrStopping
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return none, fmt.Errorf("the session did not answer in time: %w", ctx.Err())
		}
		return none, ctx.Err()
	}
}

// Session returns one session: also one that ended, while it is among the last
// thousand since the node started.
func (f *Farm) Session(_ context.Context, id string) (SessionView, error) {
	if !f.started.Load() {
		return SessionView{}, ErrStarting
	}
	if e, ok := f.session(id); ok {
		if e.cell.Load().state.Exists() {
			return f.sessionView(e, true), nil
		}
	} else if v, ok := f.ended.find(id); ok {
		return v, nil
	}
	return SessionView{}, fmt.Errorf("%w: %s", ErrNoSession, id)
}

// Sessions returns a page of the sessions that are not over.
func (f *Farm) Sessions(_ context.Context, q SessionQuery) (SessionPage, error) {
	const defaultLimit, maxLimit = 100, 1000
	if !f.started.Load() {
		return SessionPage{}, ErrStarting
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	var found []*sessionEntry
	f.live.Range(func(_, value any) bool {
		e := value.(*sessionEntry)
		if s := e.cell.Load().state; e.id > q.After && s.Exists() && !s.Ended && q.matches(s) {
			found = append(found, e)
		}
		return true
	})
	slices.SortFunc(found, func(a, b *sessionEntry) int { return cmp.Compare(a.id, b.id) })
	page := SessionPage{Sessions: []SessionView{}} // an empty list, not null
	if len(found) > limit {
		found = found[:limit]
		page.Next = found[limit-1].id
	}
	for _, e := range found {
		page.Sessions = append(page.Sessions, f.sessionView(e, false))
	}
	return page, nil
}

func (q SessionQuery) matches(s session.State) bool {
	return (q.State == "" || s.Status() == q.State) &&
		(q.Registrar == "" || s.Spec.GetRegistrar() == q.Registrar) &&
		(q.Profile == "" || s.Spec.GetProfile() == q.Profile)
}

// SessionHistory returns the newest events of a session before a version, newest
// first. It reads the journal, so it knows sessions that are over as long as
// that keeps them.
func (f *Farm) SessionHistory(ctx context.Context, id string, before uint64, limit int) ([]HistoryEntry, error) {
	if _, ok := sessionShard(id); !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoSession, id)
	}
	describe := func(e *messages.Envelope) string { return session.Describe(e.GetSession()) }
	return f.history(ctx, id, sessionStream(id), before, limit, describe, func() error {
		_, err := f.Session(ctx, id)
		return err
	})
}

// EndSession hangs up, in the way that the session's state demands, and returns
// once that is recorded. A session that is over already is no error.
func (f *Farm) EndSession(ctx context.Context, id string) (SessionView, error) {
	if _, running := f.session(id); !running {
		return f.Session(ctx, id)
	}
	err := f.orderAndWait(ctx, id, &sessionOrder{command: session.End{Reason: messages.ReasonHangup}})
	if err != nil && !errors.Is(err, ErrNoSession) {
		return SessionView{}, err
	}
	return f.Session(ctx, id)
}

// orderAndWait gives an order and waits until what it causes is durable.
func (f *Farm) orderAndWait(ctx context.Context, id string, o *sessionOrder) error {
	if err := f.open(); err != nil {
		return err
	}
	_, err := wait(ctx, f, func(done func(session.State, error)) {
		o.done = done
		f.order(id, o)
	})
	return err
}

// SendInSession makes a request inside a session and waits for its outcome,
// through challenges. INVITE is a re-INVITE; its body is the new offer. Without a
// body, the peer's 2xx holds the offer, and AnswerSession answers it. A session
// that is not established, or in which the request cannot be made now, is
// ErrSessionState.
func (f *Farm) SendInSession(ctx context.Context, id string, r InDialog) (InDialogResult, error) {
	if err := errors.Join(f.open(), r.check()); err != nil {
		return InDialogResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, inDialogLimit)
	defer cancel()
	s, err := waitAsLong(ctx, f, func(done func(sent, error)) {
		f.sendInside(id, r, func(s sent) { done(s, s.err) })
	})
	if err != nil {
		return InDialogResult{}, err
	}
	return s.view(), nil
}

// sendInside makes a request inside a session; result is told what became of it,
// from the session's actor, and must not block.
func (f *Farm) sendInside(id string, r InDialog, result func(sent)) {
	c := contentOf(r.Headers, r.ContentType, r.Body)
	f.order(id, &sessionOrder{command: session.Send{Method: r.Method, Body: !c.empty()}, content: c, result: result})
}

func (r InDialog) check() error {
	if !slices.Contains(inDialogMethods, r.Method) {
		return invalidSession("method", fmt.Sprintf("%.20q; want one of %v", r.Method, inDialogMethods))
	}
	return checkContent(r.Headers, r.ContentType, r.Body)
}

func (s sent) view() InDialogResult {
	v := InDialogResult{Reason: string(s.reason)}
	if s.response != nil {
		v.Status, v.Phrase = s.response.Status, s.response.Phrase
		v.Headers, v.ContentType, v.Body = s.response.Dialog.Headers, s.response.Dialog.ContentType, s.response.Dialog.Body
	}
	return v
}

// ReplyInSession answers a request of the peer that the owner was told of with
// NoticeRequest.
func (f *Farm) ReplyInSession(ctx context.Context, id string, r SessionReply) error {
	if err := r.check(); err != nil {
		return err
	}
	return f.orderAndWait(ctx, id, r.order())
}

func (r SessionReply) order() *sessionOrder {
	c := contentOf(r.Headers, r.ContentType, r.Body)
	c.phrase = r.Phrase
	return &sessionOrder{command: session.Reply{Method: r.Method, CSeq: r.CSeq, Status: r.Status}, content: c}
}

func (r SessionReply) check() error {
	switch {
	case r.Status <= 100 || r.Status > 699:
		return invalidSession("status", "want 101 to 699")
	case r.Status < 200 && r.Method != "INVITE":
		return invalidSession("status", "only an INVITE has provisional responses (RFC 4320 §4.1)")
	}
	if r.Status >= 300 && r.Status < 400 {
		r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h messages.Header) bool {
			return mutation.Canonical(h.Name) == "contact" // where a redirection leads
		})
	}
	return checkContent(r.Headers, r.ContentType, r.Body)
}

// AnswerSession answers the offer in the 2xx to an INVITE that had no body: the
// ACK carries it.
func (f *Farm) AnswerSession(ctx context.Context, id, contentType string, body []byte) error {
	if err := checkContent(nil, contentType, body); err != nil {
		return err
	}
	if len(body) == 0 {
		return invalidSession("body", "is missing; give the answer to the peer's offer")
	}
	return f.orderAndWait(ctx, id, answerOffer(contentType, body))
}

func answerOffer(contentType string, body []byte) *sessionOrder {
	return &sessionOrder{command: session.Answer{}, content: contentOf(nil, contentType, body)}
}

// Own makes somebody the owner of a session in the place of whoever it was, also
// after a restart; nil leaves it to itself.
func (f *Farm) Own(id string, o Owner) error {
	return f.orderAndWait(context.Background(), id, &sessionOrder{owner: o})
}

// endEarly ends the calls that are being set up, and waits for them and for
// those that end already.
func (f *Farm) endEarly(ctx context.Context) {
	told := map[string]bool{}
	for {
		open := 0
		f.live.Range(func(_, value any) bool {
			e := value.(*sessionEntry)
			s := e.cell.Load().state
			if s.Ended || s.Established() && !s.Ending {
				return true
			}
			open++
			if !told[e.id] && !s.Ending {
				told[e.id] = true
				f.mail(e.id, &sessionOrder{command: session.End{Reason: messages.ReasonInterrupted}})
			}
			return true
		})
		if open == 0 {
			return
		}
		select {
		case <-ctx.Done():
			f.log.Warn("calls still open at shutdown; they are recorded and will be ended by the next start", "open", open)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// sessionView is a session as the API shows it; whole adds the peer's
// description.
func (f *Farm) sessionView(e *sessionEntry, whole bool) SessionView {
	s := e.cell.Load().state
	spec := s.Spec
	r, _ := f.registrar(spec.GetRegistrar())
	v := SessionView{
		ID: e.id, Profile: spec.GetProfile(), Registrar: spec.GetRegistrar(), Direction: "outbound",
		AOR: spec.GetAor(), Peer: spec.GetPeer(), State: s.Status(), Reason: string(s.Reason), LastStatus: int(s.LastStatus),
		StartedAt: when(s.StartedAt), EstablishedAt: when(s.EstablishedAt), EndedAt: when(s.EndedAt), HangupAt: when(s.HangupAt()),
		Bridge: spec.GetBridge(), Trunk: spec.GetTrunk(), Attempts: s.Attempts, Handler: sessionHandler(e.profile, r),
		Dialog: DialogView{
			CallID: s.CallID, LocalTag: s.LocalTag, RemoteTag: s.Dialog.GetRemoteTag(), LocalCSeq: s.CSeq,
			RemoteCSeq: s.RemoteCSeq, RemoteTarget: s.Dialog.GetTarget(), RouteSet: s.Dialog.GetRouteSet(),
		},
	}
	if s.Inbound() {
		v.Direction = "inbound"
	}
	if s.Interval > 0 {
		v.Timer = &TimerView{
			IntervalSeconds: int(s.Interval / time.Second), Refresher: "peer", RefreshAt: when(s.RefreshAt), ExpiresAt: when(s.ExpiresAt),
		}
		if s.Refresher {
			v.Timer.Refresher = "us"
		}
	}
	if d := e.memory.remote.Load(); whole && d != nil {
		v.ContentType, v.Body = d.contentType, string(d.body)
	}
	return v
}

// when is a time for the API, nil for the zero time.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return utc(t)
}
