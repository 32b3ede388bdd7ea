package profile

import (
	"time"

	"github.com/sipmuster/muster/messages"
)

// Input is one thing that happened, with everything impure already settled.
type Input struct {
	// Now is UTC without a monotonic part, stamped once by the host.
	Now time.Time
	// Jitter is uniform in [0,1), drawn by the host.
	Jitter float64
	// Token is 32 hexadecimal digits from a cryptographic source, used when a
	// new Call-ID and From tag are needed (RFC 3261 §8.1.1.4, §19.3).
	Token   string
	Command Command
}

// Command is something asked or observed. ResponseReceived and
// CredentialsOffered, which every registration has, may be pointers: then they
// need no memory of their own.
type Command interface{ command() }

// The commands.
type (
	// Declare adds the profile or changes its declaration; the same
	// declaration again changes nothing.
	Declare struct {
		Spec        Spec
		Disabled    bool
		Source, Row string
		// NewSecret is true when the secret differs from the one known so far.
		NewSecret bool
		// Patch is true for a change through the API, whose fields count even
		// though the row of the file is the same.
		Patch bool
	}
	// Enable and Disable are the operator's switch.
	Enable  struct{}
	Disable struct{}
	// Remove withdraws the binding and forgets the profile. By an operator, it
	// leaves a tombstone for a file that still lists the profile.
	Remove struct{ ByOperator bool }
	// Clear drops a tombstone: the file does not list the profile any more.
	Clear struct{}
	// Refresh asks for an attempt now, also when the profile is halted.
	Refresh struct{}
	// Withdraw removes the binding now, whatever is wanted later: the node
	// shuts down for good.
	Withdraw struct{}
	// Fetch asks the registrar for all bindings (RFC 3261 §10.2.3).
	Fetch struct{}
	// SlotGranted: the registrar's gate lets one attempt through.
	SlotGranted struct{}
	// TimerFired: a deadline of the state may have passed.
	TimerFired struct{}
	// ResponseReceived is the final response to an attempt's request.
	ResponseReceived struct {
		Attempt  uint64
		Response *messages.SIPResponse
		// Proof is the verdict on Authentication-Info: "", "verified" or
		// "wrong".
		Proof string
	}
	// RequestFailed: no SIP message arrived (RFC 3261 §8.1.3.1).
	RequestFailed struct {
		Attempt uint64
		Failure messages.Reason
	}
	// CredentialsOffered: the authenticator answered. The host holds the
	// mutations; they are never seen here.
	CredentialsOffered struct {
		Attempt uint64
		Handler string
		Elapsed time.Duration
		// Unanswered are the realms that were asked for in vain.
		Unanswered []*messages.NonceCount
		// Headers are the names of the headers that change.
		Headers []string
		// Preemptive and Continues are the authenticator's word, see
		// AuthAnswer.
		Preemptive, Continues bool
	}
	// CredentialsWithheld: it did not. RetryAfter is negative when there is no
	// use in trying again.
	CredentialsWithheld struct {
		Attempt uint64
		Handler string
		Reason  messages.Reason
		// Detail is for people: the authenticator's own word or what was wrong
		// with its answer, printable and without values.
		Detail     string
		RetryAfter time.Duration
	}
	// SetSecurity chooses who answers challenges from the next attempt on; nil
	// leaves one as it is, empty is the registrar's default.
	SetSecurity struct{ Registration, Session *string }
	// Recovered is delivered once after the state was loaded.
	Recovered struct{}
)

func (Declare) command()             {}
func (Enable) command()              {}
func (Disable) command()             {}
func (Remove) command()              {}
func (Clear) command()               {}
func (Refresh) command()             {}
func (Withdraw) command()            {}
func (Fetch) command()               {}
func (SlotGranted) command()         {}
func (TimerFired) command()          {}
func (ResponseReceived) command()    {}
func (RequestFailed) command()       {}
func (CredentialsOffered) command()  {}
func (CredentialsWithheld) command() {}
func (SetSecurity) command()         {}
func (Recovered) command()           {}

// Effect is something the host must now do. It is never recorded: it follows
// from the state and the command.
type Effect interface{ effect() }

// The effects.
type (
	// SendRequest sends the open attempt's request; the host builds it from
	// the state and adds the mutations of the authenticator's answer.
	SendRequest struct{ Attempt uint64 }
	// AskCredentials asks the handler for the open attempt's answers. Status
	// is 401 or 407, or 0 when nothing was received yet.
	AskCredentials struct {
		Attempt  uint64
		Handler  string
		Status   uint32
		Rejected bool
	}
	// Deliver hands the contacts of a fetch to whoever asked.
	Deliver struct{ Contacts []messages.ContactBinding }
)

func (SendRequest) effect()    {}
func (AskCredentials) effect() {}
func (Deliver) effect()        {}

// Decision says what to record and then what to do.
type Decision struct {
	Events  []*messages.ProfileEvent
	Effects []Effect
	// Dropped is set when the input changes nothing because it was out of
	// date. A Declare of another registrar is dropped as busy, to be repeated,
	// although it records the removal that it waits for.
	Dropped messages.Reason
	// State is what the events make of the state that was given, for a host
	// that has recorded them.
	State State
}
