package actors

import (
	"cmp"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// A session's id is three hexadecimal digits for its shard, which is that of its
// profile, and seventeen random ones: 68 bits, so that it can be our tag as well
// (RFC 3261 §19.3, S-05). By our tag a request finds its session.
const (
	shardDigits = 3
	idDigits    = shardDigits + 17
)

// newSessionID makes an id for a session of a profile.
func (f *Farm) newSessionID(profile string) string {
	return fmt.Sprintf("%03x%s", Shard(profile), f.token()[:idDigits-shardDigits])
}

// sessionShard is the shard of a session.
func sessionShard(id string) (int, bool) {
	if len(id) != idDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(id[:shardDigits], 16, 16)
	return int(n), err == nil && n < Shards
}

// session finds a session that is not forgotten. Its shard and its actor write
// to it; what is read elsewhere is constant or atomic.
func (f *Farm) session(id string) (*sessionEntry, bool) {
	e, ok := f.live.Load(id)
	if !ok {
		return nil, false
	}
	return e.(*sessionEntry), true
}

// mail sends a session a message, if there is such a session.
func (f *Farm) mail(id string, message any) bool {
	if _, ok := f.live.Load(id); !ok {
		return false
	}
	f.mailAhead(id, message)
	return true
}

// mailAhead sends a message also to a session whose beginning is still on its
// way to the shard.
func (f *Farm) mailAhead(id string, message any) {
	shard, _ := sessionShard(id)
	f.root.Send(f.shards[shard], &sessionMail{id: id, message: message})
}

// sessionCounts counts the sessions that are limited.
type sessionCounts struct {
	mu        sync.Mutex
	registrar map[string]int
	profile   map[string]int
}

// Defaults of SessionLimits.
const (
	defaultTotal      = 10_000
	defaultPerProfile = 100
)

// take counts a session, or tells which limit it would break.
func (c *sessionCounts) take(r Registrar, profile string) error {
	total, each := cmp.Or(r.Sessions.Total, defaultTotal), cmp.Or(r.Sessions.PerProfile, defaultPerProfile)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case total > 0 && c.registrar[r.Name] >= total:
		return fmt.Errorf("%w: registrar %q has %d sessions; end some or raise its limit", ErrSessionLimit, r.Name, total)
	case each > 0 && c.profile[profile] >= each:
		return fmt.Errorf("%w: profile %q has %d sessions; end some or raise the limit of registrar %q",
			ErrSessionLimit, profile, each, r.Name)
	}
	c.add(r.Name, profile, 1)
	return nil
}

// give is for a session that is over.
func (c *sessionCounts) give(registrar, profile string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(registrar, profile, -1)
}

// restored counts a session that was loaded: it is there, whatever the limit.
func (c *sessionCounts) restored(registrar, profile string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(registrar, profile, 1)
}

// add needs the lock.
func (c *sessionCounts) add(registrar, profile string, n int) {
	if c.registrar == nil {
		c.registrar, c.profile = map[string]int{}, map[string]int{}
	}
	if c.registrar[registrar] += n; c.registrar[registrar] == 0 {
		delete(c.registrar, registrar)
	}
	if c.profile[profile] += n; c.profile[profile] == 0 {
		delete(c.profile, profile)
	}
}

// endedSessions shows the sessions that ended last.
type endedSessions struct {
	mu    sync.Mutex
	views map[string]SessionView
	order []string // a ring
	next  int
}

const maxEnded = 1000

func (s *endedSessions) add(v SessionView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.views == nil {
		s.views = map[string]SessionView{}
	}
	if len(s.order) < maxEnded {
		s.order = append(s.order, v.ID)
	} else {
		delete(s.views, s.order[s.next])
		s.order[s.next] = v.ID
		s.next = (s.next + 1) % maxEnded
	}
	s.views[v.ID] = v
}

func (s *endedSessions) find(id string) (SessionView, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.views[id]
	return v, ok
}

func sessionStream(id string) string { return "s/" + id }

// loadSession folds a session's stream.
func loadSession(j Journal, id string) (session.State, uint64, error) {
	return load(j, sessionStream(id), session.Unmarshal, applyToSession)
}

// applyToSession is false for an event of an unknown type.
func applyToSession(s session.State, e *messages.Envelope) (session.State, bool) {
	if e.GetSession().TypeName() == "" {
		return s, false
	}
	return session.Apply(s, e.GetSession(), time.Unix(0, e.GetAtUnixNano())), true
}
