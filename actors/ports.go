package actors

import (
	"context"
	"errors"
	"time"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// ErrConflict is returned by Journal.Append when the stream is not at the
// expected version or the epoch is old: somebody else owns the stream.
var ErrConflict = errors.New("stream is owned by another writer")

// ErrStoreFailed is returned by every Append after a failed sync, until the
// journal was reopened: what the failed batch left on disk is unknown.
var ErrStoreFailed = errors.New("the store failed and must be reopened")

// Journal is the event log, as far as the actors need it. *store.Store and
// *store.Memory satisfy it.
type Journal interface {
	// AppendThen queues events to become the versions after+1, after+2, ... of the
	// stream of a profile, and returns at once. done is told once, from any
	// goroutine, perhaps before AppendThen returns: nil when they are synced,
	// ErrConflict when nothing was written; after any other error the outcome is
	// unknown and the stream must be loaded again. It must not block, and the events
	// must not be changed before. Appends take effect in the order in which they
	// were queued; one of no events only checks the version.
	AppendThen(stream string, after uint64, at time.Time, events []*messages.ProfileEvent, done func(error))
	// AppendSession makes events durable as the next versions of the stream of a
	// session, and returns when they are.
	AppendSession(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error
	// Load reads one stream: its newest snapshot (nil when none) at version,
	// and the envelopes after it, oldest first.
	Load(ctx context.Context, stream string) (snapshot []byte, version uint64, events []*messages.Envelope, err error)
	// Replay walks the whole store at start: every snapshot in key order, then
	// every envelope after the checkpoint in journal order. An event that is
	// already part of its stream's snapshot is not delivered.
	Replay(ctx context.Context, r Replayer) error
	// History calls yield with the envelopes of a stream, newest first, that
	// come before version before (0: from the newest), until yield returns
	// false or retention ends.
	History(ctx context.Context, stream string, before uint64, yield func(*messages.Envelope) bool) error
}

// Replayer receives what Journal.Replay reads. An error stops the walk.
type Replayer interface {
	Snapshot(stream string, version uint64, state []byte) error
	Event(e *messages.Envelope) error
}

// Sender sends SIP requests. *sipadapter.Adapter satisfies it.
type Sender interface {
	// Send starts a client transaction and returns at once. done is called
	// exactly once, from any goroutine, and must not block.
	Send(req *messages.SIPRequest, done func(messages.SIPOutcome))
	// Flush lets leave what Send may have kept for company. It is called after
	// some actors have run, often.
	Flush()
	// Invite starts an INVITE client transaction, or takes one up (see
	// SIPRequest.Resume), and returns at once. report is called from any
	// goroutine, one call at a time, in order, and must not block.
	Invite(req *messages.SIPRequest, report func(messages.InviteReport)) messages.Invitation
	// Ack sends the ACK of a 2xx (RFC 3261 §13.2.2.4).
	Ack(req *messages.SIPRequest)
}

// Bodies keeps the session descriptions that a restart must not lose: a
// re-INVITE that refreshes a session repeats ours. They can hold media keys, so
// they are kept as secrets are. Implementations are safe for concurrent use.
type Bodies interface {
	KeepBody(session, contentType string, body []byte) error
	Body(session string) (contentType string, body []byte, ok bool)
	ForgetBody(session string)
}

// Credential is the secret of one profile.
type Credential struct {
	Username string
	Password messages.Secret
	// HA1 is the lower-case hex of H(user:realm:password) and works only for
	// its realm and algorithm (DIG-15); used when Password is empty.
	HA1 messages.Secret
}

// Credentials finds the secret of a profile. Implementations are safe for
// concurrent use.
type Credentials interface {
	Credential(profileID string) (Credential, bool)
}

// Vaults gives each xSP that remembers something a vault of its own, see
// xsp.Keeper.
type Vaults interface {
	Vault(name string) xsp.Vault
}

// Observer is told what was recorded, after it is durable, and what only the
// shell knows. *metrics.Metrics satisfies it. Methods must not block.
type Observer interface {
	// ProfileEvents is called per append. before and after are the API states
	// ("registered", ...), empty for a profile that does not exist (yet, any
	// more).
	ProfileEvents(registrar, before, after string, started time.Time, events []*messages.ProfileEvent)
	// ProfileRestored counts a profile that was loaded at start.
	ProfileRestored(registrar, state string)
	// SessionEvents is ProfileEvents for a session; before and after are of
	// session.Statuses, or "ended", or "" before it exists. started and
	// established are StartedAt and EstablishedAt of the state after the append.
	SessionEvents(registrar, before, after string, started, established time.Time, events []*messages.SessionEvent)
	// SessionRestored counts a session that was loaded at start; state is as
	// after.
	SessionRestored(state string)
	// ChallengeWithheld counts a challenge that was not answered because the
	// credentials must not go where it came from (S-01, S-03).
	ChallengeWithheld(registrar string, reason messages.Reason)
	// Appended reports one append and how long it took until durable.
	Appended(d time.Duration)
	// Dropped counts an input that changed nothing.
	Dropped(reason messages.Reason)
	// ChallengeAnswered counts a question: handler is "digest" or the name of
	// an xSP, outcome is one of Outcomes.
	ChallengeAnswered(handler, outcome string, elapsed time.Duration)
	// XSP reports the gate of an xSP: up is false while its breaker is open.
	XSP(name string, waiting, inFlight int, up bool)
	// NonceShared counts a nonce that a target gave to two profiles in a row.
	NonceShared(registrar string)
	// ActorRestarted counts a profile actor that failed; parked when it will
	// not be restarted by itself.
	ActorRestarted(parked bool)
	// Overdue sets how many profiles of a shard have passed their deadline
	// without anything being done about it: the watchdog.
	Overdue(shard, profiles int)
	// RefreshMargin reports how long before its end a binding was refreshed;
	// negative when it was late.
	RefreshMargin(registrar string, margin time.Duration)
}
