package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

const (
	// maxLeeway and a tenth of its life bound how early a token is renewed.
	maxLeeway = time.Minute
	// unknownLife is how long a token is used whose server does not say how
	// long it lives (RFC 6749 §5.1 only recommends expires_in).
	unknownLife = 5 * time.Minute
	// inFlight is how long after a token was replaced a request with the old
	// one can still be refused: twice the 32 s of a transaction (RFC 3261
	// §17.1.2.2).
	inFlight = 64 * time.Second
	// sweepFloor is how many entries are kept before expired ones are looked
	// for: a server may name a new scope in every challenge.
	sweepFloor = 256
)

var errClosed = errors.New("the bearer provider is closed")

// key is what makes two tokens the same.
type key struct {
	server *server
	// profile is empty when all profiles share the client's token.
	profile string
	scope   string
}

// entry is the token of one key, and the request that gets the next one.
type entry struct {
	token   *token
	pending *request
}

// token is a cached access token.
type token struct {
	value   messages.Secret
	since   time.Time
	renewAt time.Time
	expires time.Time
	// given holds the profiles that got it within inFlight of its arrival.
	// Another profile that is refused in this time was refused with the token
	// before, which is gone already. Later refusals mean this token.
	given map[string]struct{}
	// replaces holds the profiles that got it instead of a refused one.
	replaces map[string]struct{}
}

// request is one token request, for all who wait for it. Its results may be
// read once done is closed.
type request struct {
	done  chan struct{}
	token *token
	err   error
}

// token returns the token of a key for a profile: from the cache, or from a
// request that it joins or starts.
func (p *Provider) token(ctx context.Context, k key, profile string, d doubt) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	e := p.entryOf(k, now)
	if e.token != nil && !now.Before(e.token.expires) {
		e.token = nil
	}
	if e.token != nil {
		drop, err := e.token.judge(profile, d, now)
		if err != nil {
			return "", err
		}
		if drop {
			e.token = nil
		}
	}
	t := e.token
	if t == nil || !now.Before(t.renewAt) {
		if err := p.start(k, e); err != nil {
			return "", err
		}
	}
	if t == nil { // one that is only to be renewed serves until it expires
		var err error
		if t, err = p.wait(ctx, e.pending); err != nil {
			return "", err
		}
	}
	t.give(profile, d, p.now())
	return t.value.Reveal(), nil
}

// wait lets go of p.mu until the request is done. The request goes on when the
// question's time is over: the next question finds its token.
func (p *Provider) wait(ctx context.Context, r *request) (*token, error) {
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-r.done:
		return r.token, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the token endpoint: %w", ctx.Err())
	}
}

// start starts the request for an entry unless there is one.
func (p *Provider) start(k key, e *entry) error {
	if e.pending != nil {
		return nil
	}
	if p.closed {
		return errClosed
	}
	r := &request{done: make(chan struct{})}
	e.pending = r
	p.work.Go(func() {
		t, err := p.request(k)
		if err != nil {
			p.log.Warn("no access token", slog.String("authorization_server", k.server.url.String()),
				slog.String("profile", k.profile), slog.Any("error", err))
		} else {
			p.log.Debug("access token", slog.String("authorization_server", k.server.url.String()),
				slog.String("profile", k.profile), slog.Time("expires", t.expires))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		r.token, r.err = t, err
		e.pending = nil
		if err == nil {
			e.token = t
		}
		close(r.done)
	})
	return nil
}

// entryOf finds or makes the entry of a key.
func (p *Provider) entryOf(k key, now time.Time) *entry {
	if e := p.entries[k]; e != nil {
		return e
	}
	if len(p.entries) >= p.sweepAt {
		for k, e := range p.entries {
			if e.pending == nil && (e.token == nil || !now.Before(e.token.expires)) {
				delete(p.entries, k)
			}
		}
		p.sweepAt = max(sweepFloor, 2*len(p.entries))
	}
	e := &entry{}
	p.entries[k] = e
	return e
}

func newToken(value string, since time.Time, life time.Duration) *token {
	if life <= 0 {
		life = unknownLife
	}
	expires := since.Add(life)
	return &token{
		value: messages.NewSecret(value), since: since, expires: expires,
		renewAt: expires.Add(-min(life/10, maxLeeway)),
		given:   make(map[string]struct{}), replaces: make(map[string]struct{}),
	}
}

// judge says what a profile's doubt means for the token in the cache: nothing,
// that it is dropped, or, when it came instead of a refused one and is refused
// as well, a refusal (BEA-04).
func (t *token) judge(profile string, d doubt, now time.Time) (drop bool, err error) {
	if d == accepted {
		delete(t.replaces, profile)
		return false, nil
	}
	if d == unknown {
		return false, nil
	}
	if _, second := t.replaces[profile]; second {
		if d == rejected {
			return false, xsp.Refuse("a new access token was refused as well", 0)
		}
		return false, nil
	}
	_, given := t.given[profile]
	return given || now.Sub(t.since) > inFlight, nil
}

// give notes who has the token.
func (t *token) give(profile string, d doubt, now time.Time) {
	if now.Sub(t.since) <= inFlight {
		t.given[profile] = struct{}{}
	}
	if d >= suspected {
		t.replaces[profile] = struct{}{}
	}
}

// turn is a lock that can be waited for until a deadline: what it guards is
// done by one request at a time.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) pass() { <-t }
