package actors

import (
	"io"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/xsp"
)

// XSP is the configuration of one extensible Service Provider: somebody's own
// procedure to answer challenges. Either Authenticator or Actor is set.
type XSP struct {
	// Name is what profiles and registrars choose it by, and a label of
	// metrics; "digest" is taken.
	Name string
	// Kind is shown to operators: "webhook", "grpc", "aka", ...; empty means
	// "go" or "actor".
	Kind string
	// Authenticator answers. If it is an xsp.Keeper, it is given its vault
	// first; if it is an io.Closer, it is closed once it is not needed.
	Authenticator xsp.Authenticator
	// Actor answers: the node spawns it, and restarts it when it fails. It is
	// sent *messages.AuthChallenge and responds with *messages.AuthAnswer or
	// *messages.AuthRefusal.
	Actor *actor.Props
	// Timeout is how long it may take; 0 means 3 s.
	Timeout time.Duration
	// Concurrency bounds the questions that are out; 0 means 100. Waiting
	// bounds those that wait for their turn; 0 means 100 times as many.
	Concurrency, Waiting int
	// Headers are those that its answers may change besides Authorization and
	// Proxy-Authorization; see mutation.Listable.
	Headers []string
}

// Close closes the authenticator of an xSP that no node has taken over.
func (x XSP) Close() error { return closeAuthenticator(x.Authenticator) }

// closeAuthenticator closes one that is an io.Closer.
func closeAuthenticator(a xsp.Authenticator) error {
	if c, ok := a.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// XSPView is an xSP as the API shows it. The counts are of this node since it
// started.
type XSPView struct {
	Name string `json:"name"`
	Kind string `json:"kind" doc:"how it is reached"`
	// State is "up", or "down" while its breaker is open.
	State       string     `json:"state" enum:"up,down"`
	Waiting     int        `json:"waiting" doc:"questions that wait for their turn"`
	InFlight    int        `json:"in_flight" doc:"questions that are out"`
	Concurrency int        `json:"concurrency"`
	Answered    uint64     `json:"answered"`
	Refused     uint64     `json:"refused"`
	Failed      uint64     `json:"failed" doc:"questions without a valid answer: silence, errors, answers that break the header policy"`
	MeanMS      float64    `json:"mean_ms" doc:"mean time to an answer in milliseconds"`
	LastAnswer  *time.Time `json:"last_answer,omitempty"`
	LastError   string     `json:"last_error,omitempty" doc:"why the latest question has no valid answer, without values"`
}
