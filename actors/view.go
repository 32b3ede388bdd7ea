package actors

import (
	"errors"
	"net/netip"
	"time"

	"github.com/sipmuster/muster/messages"
)

// Errors that callers of a Farm decide on.
var (
	// ErrNotFound: there is no such profile.
	ErrNotFound = errors.New("no such profile")
	// ErrExists: a profile with this id exists already.
	ErrExists = errors.New("profile exists already")
	// ErrBusy: an attempt is open or the profile is being removed; try again.
	ErrBusy = errors.New("the profile is busy, try again later")
	// ErrStarting: the journal is being replayed.
	ErrStarting = errors.New("the node is starting, try again later")
	// ErrStopping: the node is shutting down.
	ErrStopping = errors.New("the node is stopping")
	// ErrInvalid wraps what is wrong with a declaration.
	ErrInvalid = errors.New("invalid profile")
)

// The API states of a profile (design §9).
const (
	StateRegistered   = "registered"
	StateRegistering  = "registering"
	StateChallenged   = "challenged"
	StateBackoff      = "backoff"
	StateRejected     = "rejected"
	StateDisabled     = "disabled"
	StateUnregistered = "unregistered"
)

// States lists every API state.
func States() []string {
	return []string{
		StateRegistered, StateRegistering, StateChallenged, StateBackoff,
		StateRejected, StateDisabled, StateUnregistered,
	}
}

// Declaration is a profile as an operator writes it, in a file or through the
// API. Only AOR and Registrar are required.
type Declaration struct {
	ID        string
	AOR       string
	Registrar string
	Username  string
	Password  messages.Secret
	HA1       messages.Secret
	// ContactUser defaults to the user part of the AOR.
	ContactUser string
	// Expires is the wanted expiry; zero means the registrar's.
	Expires time.Duration
	// Handlers default to the registrar's. Each is "digest", the name of an
	// xSP, or a chain such as "token-service>digest", in which the next one is
	// asked when one refuses for good.
	RegistrationHandler string
	SessionHandler      string
	// NoRegister is true for a profile that only places and takes sessions.
	NoRegister bool
	Disabled   bool
}

// ProfileView is a profile as the API shows it.
type ProfileView struct {
	ID                  string     `json:"id"`
	AOR                 string     `json:"aor"`
	Registrar           string     `json:"registrar"`
	State               string     `json:"state" enum:"registered,registering,challenged,backoff,rejected,disabled,unregistered"`
	Enabled             bool       `json:"enabled"`
	RegistrationHandler string     `json:"registration_handler"`
	SessionHandler      string     `json:"session_handler"`
	ExpiresAt           *time.Time `json:"expires_at" doc:"when the binding ends, null without one"`
	NextAttemptAt       *time.Time `json:"next_attempt_at" doc:"when the next REGISTER is due, null when none is"`
	Attempt             uint64     `json:"attempt" doc:"number of the latest attempt"`
	LastStatus          int        `json:"last_status" doc:"SIP status of the latest final response, 0 when none came"`
	Reason              string     `json:"reason" doc:"why the profile is not registered or its refresh failed, empty when all is well"`
	// The rest is beyond the contract, for people.
	Inherited   []string `json:"inherited,omitempty" doc:"which of the handlers are the registrar's default"`
	Username    string   `json:"username,omitempty"`
	ContactUser string   `json:"contact_user,omitempty"`
	Expires     int      `json:"expires,omitempty" doc:"wanted expiry in seconds, 0 for the registrar's"`
	Register    bool     `json:"register"`
	Source      string   `json:"source" doc:"file or api"`
	CallID      string   `json:"call_id,omitempty"`
	CSeq        uint32   `json:"cseq,omitempty"`
	Waiting     bool     `json:"waiting" doc:"due, and waiting for the registrar's pace, concurrency or breaker"`
}

// Query filters a listing. Zero fields do not filter.
type Query struct {
	State     string
	Registrar string
	// Text must be part of the id or the AOR.
	Text string
	// After is the Next of the page before; Limit at most 1,000, 0 means 100.
	After string
	Limit int
}

// Page is one page of a listing, in a stable order. Next is empty on the last.
type Page struct {
	Profiles []ProfileView `json:"profiles"`
	Next     string        `json:"next,omitempty"`
}

// Patch changes some fields of a profile; nil leaves a field alone.
type Patch struct {
	AOR, Registrar, Username, ContactUser *string
	Password, HA1                         *messages.Secret
	Expires                               *time.Duration
	RegistrationHandler, SessionHandler   *string
	Register, Enabled                     *bool
}

// ImportResult tells what became of one declaration: "added", "changed",
// "unchanged" or "invalid" with an error text. In a dry run it tells what
// would.
type ImportResult struct {
	ID     string `json:"id"`
	Result string `json:"result" enum:"added,changed,unchanged,invalid"`
	Error  string `json:"error,omitempty"`
}

// HistoryEntry is one event of a profile, readable.
type HistoryEntry struct {
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	Type    string    `json:"type"`
	Text    string    `json:"text" doc:"the event as a sentence"`
}

// RegistrarView is a registrar as the API shows it.
type RegistrarView struct {
	Name        string         `json:"name"`
	URI         string         `json:"uri"`
	Profiles    map[string]int `json:"profiles" doc:"number of profiles per state"`
	Waiting     int            `json:"waiting" doc:"profiles that wait for a slot"`
	InFlight    int            `json:"in_flight"`
	Rate        float64        `json:"rate" doc:"requests per second, negative without a limit"`
	Concurrency int            `json:"concurrency"`
	// State is "up", "silent" (nothing heard for a while), "down" (breaker
	// open, one probe at a time) or "retry_after".
	State        string     `json:"state" enum:"up,silent,down,retry_after"`
	RetryAfter   *time.Time `json:"retry_after,omitempty"`
	LastResponse *time.Time `json:"last_response,omitempty"`
	// RegistrationHandler and SessionHandler answer for profiles that name none.
	RegistrationHandler string `json:"registration_handler"`
	SessionHandler      string `json:"session_handler"`
	// Answers tells who answered the challenges of this target, by handler,
	// since the node started.
	Answers map[string]AnswersView `json:"answers"`
}

// AnswersView counts what became of the questions to one handler.
type AnswersView struct {
	Answered uint64  `json:"answered"`
	Refused  uint64  `json:"refused"`
	Failed   uint64  `json:"failed"`
	MeanMS   float64 `json:"mean_ms" doc:"mean time to an answer in milliseconds"`
}

// Registrar is the configuration of one target.
type Registrar struct {
	Name string
	// URI is the Request-URI of REGISTER and, without OutboundProxy, the next
	// hop: a SIP URI without a user part (REG-01).
	URI string
	// OutboundProxy is an optional SIP URI; it becomes the topmost Route.
	OutboundProxy string
	// Realms are answered; when empty the first seen is pinned per profile.
	Realms []string
	// Expires is the wanted expiry; 0 means 3600 s.
	Expires time.Duration
	// Rate is requests per second: 0 means 200, negative no limit. With
	// CountRegistrations it is registrations and calls per second: answers to
	// challenges cost nothing then.
	Rate               float64
	CountRegistrations bool
	// Concurrency is the number of open attempts: 0 means 500, negative no
	// limit.
	Concurrency int
	// Algorithms are acceptable; empty means SHA-512-256, SHA-256, MD5.
	Algorithms []string
	// Tolerate accepts a 2xx that does not list our contact (REG-13).
	Tolerate bool
	// RequireProof believes a 2xx only with a right rspauth (AIN-04).
	RequireProof bool
	// RequireQOP refuses Digest challenges without qop, which leave no room for
	// a client nonce (RFC 7616 §5.9, S-07).
	RequireQOP bool
	// AllowDowngrade answers a weaker algorithm than the realm once asked.
	AllowDowngrade bool
	// RegistrationHandler and SessionHandler answer the challenges to profiles
	// that name none: "digest", the name of an xSP, or a chain of them such as
	// "token-service>digest"; empty means "digest".
	RegistrationHandler, SessionHandler string
	// Sessions bounds the sessions in the name of this registrar's profiles.
	Sessions SessionLimits
	// RetryBase and RetryMax shape the back-off (RFC 5626 §4.5); 0 means 30 s
	// and 1800 s.
	RetryBase, RetryMax time.Duration
}

// SessionLimits bounds sessions; 0 means the default.
type SessionLimits struct {
	// Total is for all profiles of the registrar, default 10,000; PerProfile
	// for each, default 100. Negative means no limit.
	Total, PerProfile int
	// Expires is the session interval that is asked for (RFC 4028), default 30
	// min; negative asks for none.
	Expires time.Duration
	// Ring is how long a call may ring, default 3 min.
	Ring time.Duration
}

// Trunk is a trusted peer, such as a PBX, whose calls are bridged to sessions
// of profiles, and which gets the calls to them.
type Trunk struct {
	Name string
	// Peers are the addresses that its requests come from, without a port, or
	// address prefixes.
	Peers []netip.Prefix
	// URI is where calls to its profiles go, a SIP URI without user part.
	URI string
	// Profile says how the profile of a call from the peer is found: "from" (the
	// From URI is its AOR, or the user part of it its id or contact user) or
	// "header:NAME" (the header holds its id or AOR).
	Profile string
	// Profiles are the ids whose inbound calls go to the peer; empty takes
	// those of Registrar.
	Profiles []string
	// Registrar takes the inbound calls of all profiles of that registrar.
	Registrar string
	// Headers are the names of the headers that pass the bridge, in both
	// directions.
	Headers []string
}
