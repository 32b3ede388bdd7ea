package actors

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// changes tells watchers what was recorded. An actor that records never waits
// for one, and without any it costs the reading of a pointer.
type changes struct {
	changing sync.Mutex
	watchers atomic.Pointer[[]*watcher] // replaced, never changed
}

// watcher is one that wants to know.
type watcher struct {
	query ChangeQuery
	mu    sync.Mutex
	out   chan Change // nil once it is closed
	// forget takes back what waits for the end of the reader's context.
	forget func() bool
}

// watchBuffer is how far behind a watcher may be: some seconds of a busy node.
const watchBuffer = 4096

// Watch tells the changes of profiles and sessions from now on, each once it is
// durable, those of one profile or session in order. The channel is closed when
// ctx ends, when the farm stops, and when its reader falls 4,096 changes behind:
// then some are missing, and whoever needs them reads the history or lists
// again.
func (f *Farm) Watch(ctx context.Context, q ChangeQuery) (<-chan Change, error) {
	if f.stopping.Load() {
		return nil, ErrStopping
	}
	w := &watcher{query: q, out: make(chan Change, watchBuffer)}
	out := w.out
	f.changes.edit(func(list []*watcher) []*watcher { return append(list, w) })
	end := func() { f.changes.drop(w) }
	w.mu.Lock()
	w.forget = context.AfterFunc(ctx, end)
	w.mu.Unlock()
	if f.stopping.Load() { // it may have missed the end
		end()
	}
	return out, nil
}

func (c *changes) edit(change func([]*watcher) []*watcher) {
	c.changing.Lock()
	defer c.changing.Unlock()
	next := change(slices.Clone(c.list()))
	c.watchers.Store(&next)
}

func (c *changes) list() []*watcher {
	if p := c.watchers.Load(); p != nil {
		return *p
	}
	return nil
}

func (c *changes) watched() bool { return len(c.list()) > 0 }

// drop ends a watch.
func (c *changes) drop(w *watcher) {
	w.close()
	c.edit(func(list []*watcher) []*watcher {
		return slices.DeleteFunc(list, func(o *watcher) bool { return o == w })
	})
}

// end ends all.
func (c *changes) end() {
	for _, w := range c.list() {
		c.drop(w)
	}
}

func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out != nil {
		close(w.out)
		w.out = nil
	}
	if w.forget != nil {
		w.forget()
	}
}

// offer gives the watcher a change; false when it has to be cut off.
func (w *watcher) offer(change Change) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out == nil {
		return true
	}
	select {
	case w.out <- change:
		return true
	default:
		return false
	}
}

func (q ChangeQuery) matches(c Change) bool {
	return (q.Kind == "" || q.Kind == c.Kind) && (q.ID == "" || q.ID == c.ID) && (q.Profile == "" || q.Profile == c.Profile)
}

// tell offers the changes of one append to everybody who wants them.
func (c *changes) tell(first Change, n int, describe func(i int) (typeName, text string)) {
	for _, w := range c.list() {
		if !w.query.matches(first) {
			continue
		}
		for i := range n {
			change := first
			change.Version += uint64(i)
			change.Type, change.Text = describe(i)
			if !w.offer(change) {
				c.drop(w)
				break
			}
		}
	}
}

func (c *changes) profile(id string, s profile.State, version uint64, at time.Time, events []*messages.ProfileEvent) {
	n := len(events)
	c.tell(Change{Kind: "profile", ID: id, Profile: id, Version: version - uint64(n) + 1, At: at.UTC(), State: s.Status()}, n,
		func(i int) (string, string) { return events[i].TypeName(), profile.Describe(events[i]) })
}

func (c *changes) session(id string, s session.State, version uint64, at time.Time, events []*messages.SessionEvent) {
	n := len(events)
	c.tell(Change{
		Kind: "session", ID: id, Profile: s.Spec.GetProfile(), Version: version - uint64(n) + 1, At: at.UTC(), State: s.Status(),
	}, n, func(i int) (string, string) { return events[i].TypeName(), session.Describe(events[i]) })
}
