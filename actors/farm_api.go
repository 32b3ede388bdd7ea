package actors

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// commandLimit bounds how long a command waits for its events to be durable.
const commandLimit = 10 * time.Second

// fetchLimit bounds a fetch, which waits for the registrar.
const fetchLimit = 60 * time.Second

// Do gives a command to one profile and waits until what it causes is durable.
func (f *Farm) Do(ctx context.Context, id string, command profile.Command) (ProfileView, error) {
	if err := f.open(); err != nil {
		return ProfileView{}, err
	}
	type answer struct {
		v   versioned
		err error
	}
	answers := make(chan answer, 1)
	f.root.Send(f.shardOf(id), &order{id: id, command: command, done: func(v versioned, err error) {
		answers <- answer{v, err}
	}})
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	select {
	case a := <-answers:
		if a.err != nil {
			return ProfileView{}, a.err
		}
		return f.view(id, a.v.state, false), nil
	case <-ctx.Done():
		return ProfileView{}, errTimeout
	}
}

// open is nil when commands are taken.
func (f *Farm) open() error {
	switch {
	case f.stopping.Load():
		return ErrStopping
	case !f.started.Load():
		return ErrStarting
	}
	return nil
}

// Declared is a declaration on its way into the farm.
type Declared struct {
	ID      string
	Command profile.Declare
}

// Declare declares many profiles at once and returns what became of each.
// With dry nothing changes.
func (f *Farm) Declare(ctx context.Context, ds []Declared, dry bool) []ImportResult {
	results := make([]ImportResult, len(ds))
	batches := map[int][]declaration{}
	for i, d := range ds {
		results[i] = ImportResult{ID: d.ID, Result: ResultInvalid, Error: errTimeout.Error()}
		shard := Shard(d.ID)
		batches[shard] = append(batches[shard], declaration{index: i, id: d.ID, command: d.Command, dry: dry})
	}
	if err := f.open(); err != nil {
		for i := range results {
			results[i].Error = err.Error()
		}
		return results
	}
	type outcome struct {
		index  int
		result string
		err    error
	}
	outcomes := make(chan outcome, len(ds))
	for shard, batch := range batches {
		f.root.Send(f.shards[shard], &declareBatch{declarations: batch, done: func(index int, result string, err error) {
			outcomes <- outcome{index, result, err}
		}})
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit+time.Duration(len(ds))*time.Millisecond)
	defer cancel()
	for range ds {
		select {
		case o := <-outcomes:
			results[o.index].Result, results[o.index].Error = o.result, ""
			if o.err != nil {
				results[o.index].Result, results[o.index].Error = ResultInvalid, o.err.Error()
			}
		case <-ctx.Done():
			return results
		}
	}
	return results
}

// Profile returns one profile.
func (f *Farm) Profile(ctx context.Context, id string) (ProfileView, error) {
	state, waiting, err := f.State(ctx, id)
	if err != nil {
		return ProfileView{}, err
	}
	return f.view(id, state, waiting), nil
}

// State returns the durable state of one profile.
func (f *Farm) State(ctx context.Context, id string) (state profile.State, waiting bool, err error) {
	if !f.started.Load() {
		return profile.State{}, false, ErrStarting
	}
	done := make(chan struct{})
	var seen struct { // until done the visitor's, whoever gives up
		state   profile.State
		waiting bool
	}
	f.root.Send(f.shardOf(id), &visitOne{id: id, done: done, f: func(e *entry) {
		if e != nil {
			seen.state, seen.waiting = e.state(), e.waiting
		}
	}})
	select {
	case <-done:
	case <-ctx.Done():
		return profile.State{}, false, ctx.Err()
	case <-f.stopped:
		return profile.State{}, false, ErrStopping
	}
	if !seen.state.Exists() {
		return profile.State{}, false, ErrNotFound
	}
	return seen.state, seen.waiting, nil
}

// Profiles returns a page of profiles in the order of their ids. A page visits
// every shard, and keeps no more than it can show.
func (f *Farm) Profiles(ctx context.Context, q Query) (Page, error) {
	const defaultLimit, maxLimit = 100, 1000
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	var found []ProfileView
	last := "" // nothing behind it can be on this page
	trim := func(to int) {
		slices.SortFunc(found, func(a, b ProfileView) int { return cmp.Compare(a.ID, b.ID) })
		if len(found) > to {
			found = found[:to]
			last = found[to-1].ID
		}
	}
	err := f.visitAll(ctx, func(e *entry) {
		if e.id <= q.After || last != "" && e.id > last || q.State != "" && !e.mayBe(q.State) {
			return
		}
		if state := e.state(); state.Exists() && q.matches(e.id, state) {
			found = append(found, f.view(e.id, state, e.waiting))
		}
		if len(found) >= 4*limit {
			trim(limit + 1) // one more tells that there is another page
		}
	})
	if err != nil {
		return Page{}, err
	}
	trim(limit + 1)
	page := Page{Profiles: found[:min(len(found), limit)]}
	if len(found) > limit {
		page.Next = found[limit-1].ID
	}
	if page.Profiles == nil {
		page.Profiles = []ProfileView{} // an empty list, not null
	}
	return page, nil
}

func (q Query) matches(id string, s profile.State) bool {
	return (q.State == "" || s.Status() == q.State) &&
		(q.Registrar == "" || s.Spec.Registrar == q.Registrar) &&
		(q.Text == "" || strings.Contains(id, q.Text) || strings.Contains(s.Spec.AOR, q.Text))
}

// visitAll calls do with every entry, one shard after the other, each on its
// shard's goroutine.
func (f *Farm) visitAll(ctx context.Context, do func(*entry)) error {
	if !f.started.Load() {
		return ErrStarting
	}
	for _, pid := range f.shards {
		if err := f.visitShard(ctx, pid, do); err != nil {
			return err
		}
	}
	return nil
}

func (f *Farm) visitShard(ctx context.Context, pid *actor.PID, do func(*entry)) error {
	done := make(chan struct{})
	f.root.Send(pid, &visit{f: do, done: done})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-f.stopped:
		return ErrStopping
	}
}

// Vacant waits until an id is free: nothing of a removed profile of that name
// is on its way any more. It returns ErrExists for a profile that is there.
func (f *Farm) Vacant(ctx context.Context, id string) error {
	if err := f.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	for {
		var exists, leaving bool
		done := make(chan struct{})
		f.root.Send(f.shardOf(id), &visitOne{id: id, done: done, f: func(e *entry) {
			if e != nil {
				state := e.state()
				exists = state.Exists()
				leaving = !exists && !e.parked() && (e.reload || e.newest.Load().busy != nil)
			}
		}})
		select {
		case <-done:
		case <-ctx.Done():
			return errTimeout
		case <-f.stopped:
			return ErrStopping
		}
		switch {
		case exists:
			return fmt.Errorf("%w: %s", ErrExists, id)
		case !leaving:
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Fetch asks the registrar which bindings it holds (RFC 3261 §10.2.3).
func (f *Farm) Fetch(ctx context.Context, id string) ([]messages.ContactBinding, error) {
	type answer struct {
		contacts []messages.ContactBinding
		err      error
	}
	if err := f.open(); err != nil {
		return nil, err
	}
	answers := make(chan answer, 1)
	f.root.Send(f.shardOf(id), &order{id: id, command: profile.Fetch{}, contacts: func(c []messages.ContactBinding, err error) {
		answers <- answer{c, err}
	}})
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	select {
	case a := <-answers:
		return a.contacts, a.err
	case <-ctx.Done():
		return nil, errTimeout
	}
}

// History returns the newest events of a profile before a version, newest
// first.
func (f *Farm) History(ctx context.Context, id string, before uint64, limit int) ([]HistoryEntry, error) {
	describe := func(e *messages.Envelope) string { return profile.Describe(e.GetProfile()) }
	return f.history(ctx, id, stream(id), before, limit, describe, func() error {
		_, _, err := f.State(ctx, id)
		return err
	})
}

// Registrars returns every target with its gate and the states of its
// profiles.
func (f *Farm) Registrars(ctx context.Context) ([]RegistrarView, error) {
	select {
	case <-f.stopped:
		return nil, ErrStopping
	default:
	}
	if !f.started.Load() {
		return nil, ErrStarting
	}
	gates := f.gateViews()
	views := []RegistrarView{}
	f.eachGate(func(name string, r *registrar) {
		g := gates[name]
		v := RegistrarView{
			Name: name, URI: r.config.URI, Profiles: f.population.view(name), Waiting: g.waiting, InFlight: g.inFlight,
			Rate: cmp.Or(r.config.Rate, defaultRate), Concurrency: cmp.Or(r.config.Concurrency, defaultConcurrency),
			State: g.state, RegistrationHandler: cmp.Or(r.config.RegistrationHandler, messages.DigestHandler),
			SessionHandler: cmp.Or(r.config.SessionHandler, messages.DigestHandler), Answers: f.tallies.view(name),
		}
		if !g.lastHeard.IsZero() {
			v.LastResponse = utc(g.lastHeard)
		}
		if g.state == "retry_after" {
			v.RetryAfter = utc(g.retryUntil)
		}
		views = append(views, v)
	})
	slices.SortFunc(views, func(a, b RegistrarView) int { return cmp.Compare(a.Name, b.Name) })
	return views, nil
}

func (f *Farm) gateViews() map[string]gateView {
	views := map[string]gateView{}
	f.eachGate(func(name string, r *registrar) { views[name] = r.turnstile.view() })
	return views
}

// view is a profile as the API shows it.
func (f *Farm) view(id string, s profile.State, waiting bool) ProfileView {
	v := ProfileView{
		ID: id, AOR: s.Spec.AOR, Registrar: s.Spec.Registrar, State: s.Status(), Enabled: !s.Disabled,
		RegistrationHandler: s.Spec.RegistrationHandler, SessionHandler: s.Spec.SessionHandler,
		Attempt: s.Attempt.Number, LastStatus: int(s.LastStatus), Reason: string(s.Reason),
		Username: s.Spec.Username, ContactUser: ContactUser(s.Spec), Expires: int(s.Spec.Expires / time.Second),
		Register: s.Spec.Register, Source: s.Source, CallID: s.CallID, CSeq: s.CSeq, Waiting: waiting,
	}
	r, known := f.registrar(s.Spec.Registrar)
	if !known {
		v.Reason = "registrar.unknown"
	}
	if v.RegistrationHandler == "" {
		v.Inherited = append(v.Inherited, "registration_handler")
	}
	if v.SessionHandler == "" {
		v.Inherited = append(v.Inherited, "session_handler")
	}
	v.RegistrationHandler = cmp.Or(v.RegistrationHandler, r.config.RegistrationHandler, messages.DigestHandler)
	v.SessionHandler = cmp.Or(v.SessionHandler, r.config.SessionHandler, messages.DigestHandler)
	if s.Bound() {
		v.ExpiresAt = utc(s.Binding.Until)
	}
	if _, at, ok := s.Due(); ok && !at.IsZero() {
		v.NextAttemptAt = utc(at)
	}
	return v
}

func utc(t time.Time) *time.Time {
	t = t.UTC()
	return &t
}
