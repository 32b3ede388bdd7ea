package xsp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/messages"
)

// Authenticator answers challenges. Implementations are safe for concurrent
// use.
type Authenticator interface {
	// Answer answers one question before ctx ends, which is at the question's
	// deadline. A *Refusal as error refuses it, on purpose; any other error
	// counts as no answer, and is logged, so it holds no secret. An answer with
	// an empty Ref is an answer to q. q is shared and must not be changed.
	Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error)
}

// Func is a function that is an Authenticator.
type Func func(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error)

// Answer implements Authenticator.
func (f Func) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	return f(ctx, q)
}

// Refusal is the error of an authenticator that refuses a question.
type Refusal struct {
	// Reason is for people: it is recorded, cut to printable characters.
	Reason string
	// RetryAfter asks for another attempt after that time; without it the next
	// handler of the profile's chain is asked, and after the last one the
	// profile is rejected.
	RetryAfter time.Duration
}

// Error implements error.
func (r *Refusal) Error() string { return "refused: " + r.Reason }

// Refuse returns a *Refusal.
func Refuse(reason string, retryAfter time.Duration) error {
	return &Refusal{Reason: reason, RetryAfter: retryAfter}
}

// Vault keeps what an authenticator must remember across restarts, sealed in
// the node's store. Methods are safe for concurrent use; keys are the
// authenticator's own.
type Vault interface {
	// Get returns a value, or nil when there is none.
	Get(ctx context.Context, key string) ([]byte, error)
	// Put makes a value durable before it returns.
	Put(ctx context.Context, key string, value []byte) error
}

// Keeper is an Authenticator that remembers. Keep is called once, before the
// first question.
type Keeper interface {
	Authenticator
	Keep(v Vault) error
}

// ErrMalformed is wrapped by the errors of the ways (webhook, gRPC, actor) for
// a reply that is not one; it counts as an invalid answer.
var ErrMalformed = errors.New("malformed reply")

// Unpack turns the reply of a remote xSP into what Answer returns. A reply
// that answers another question is malformed.
func Unpack(q *messages.AuthChallenge, r *messages.AuthReply) (*messages.AuthAnswer, error) {
	if r.GetRef() != q.GetRef() {
		return nil, fmt.Errorf("%w: it is not for this question", ErrMalformed)
	}
	if refusal := r.GetRefusal(); refusal != nil {
		return nil, refusalOf(refusal)
	}
	return answerOf(r), nil
}

// Pack is the reply that an xSP sends for what Answer returned. Only a refusal
// has one: ok is false for any other error, which is answered by silence or by
// the way's own status.
func Pack(q *messages.AuthChallenge, a *messages.AuthAnswer, err error) (r *messages.AuthReply, ok bool) {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return &messages.AuthReply{Ref: q.GetRef(), Refusal: refusal.Proto()}, true
	case err != nil || a == nil:
		return nil, false
	}
	r = replyOf(a)
	r.Ref = q.GetRef()
	return r, true
}

// FromMessage is the reply that an actor's message is: AuthAnswer, AuthRefusal
// or AuthReply. A refusal without a word is one, too.
func FromMessage(m any) (r *messages.AuthReply, ok bool) {
	switch m := m.(type) {
	case *messages.AuthAnswer:
		return replyOf(m), true
	case *messages.AuthRefusal:
		r := &messages.AuthReply{Ref: m.GetRef(), Refusal: m.GetRefusal()}
		if r.Refusal == nil {
			r.Refusal = &messages.Refusal{}
		}
		return r, true
	case *messages.AuthReply:
		return m, true
	}
	return nil, false
}

// ToMessage is the message that an actor sends for a reply: *messages.AuthAnswer
// or *messages.AuthRefusal.
func ToMessage(r *messages.AuthReply) proto.Message {
	if r.GetRefusal() != nil {
		return &messages.AuthRefusal{Ref: r.GetRef(), Refusal: r.GetRefusal()}
	}
	return answerOf(r)
}

// answerOf and replyOf are the only places that know the fields of both.
func answerOf(r *messages.AuthReply) *messages.AuthAnswer {
	return &messages.AuthAnswer{
		Ref: r.GetRef(), Answered: r.GetAnswered(), Mutations: r.GetMutations(),
		Proofs: r.GetProofs(), Preemptive: r.GetPreemptive(), Continues: r.GetContinues(),
	}
}

func replyOf(a *messages.AuthAnswer) *messages.AuthReply {
	return &messages.AuthReply{
		Ref: a.GetRef(), Answered: a.GetAnswered(), Mutations: a.GetMutations(),
		Proofs: a.GetProofs(), Preemptive: a.GetPreemptive(), Continues: a.GetContinues(),
	}
}

// Proto is the refusal as a message, with its time in whole seconds, rounded
// up.
func (r *Refusal) Proto() *messages.Refusal {
	seconds := (max(r.RetryAfter, 0) + time.Second - 1) / time.Second
	return &messages.Refusal{Reason: r.Reason, RetryAfterSeconds: uint32(min(seconds, 1<<31-1))}
}

func refusalOf(r *messages.Refusal) *Refusal {
	return &Refusal{Reason: r.GetReason(), RetryAfter: time.Duration(r.GetRetryAfterSeconds()) * time.Second}
}

// Printable cuts a text of a stranger down to what a log line and an event may
// hold: at most 120 printable ASCII characters.
func Printable(text string) string {
	const most = 120
	var b strings.Builder
	for _, r := range text {
		if b.Len() >= most {
			break
		}
		if r < 0x20 || r > 0x7e {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
