package siptest

import (
	"errors"
	"fmt"
	"time"

	"github.com/sipmuster/muster/actors/digest"
)

// Options configure a Registrar. The zero value is an open registrar on a free
// loopback port.
type Options struct {
	// Listen is the address for UDP and TCP alike; empty means 127.0.0.1 with a
	// free port.
	Listen string

	// Authenticate challenges every REGISTER with 401. It needs Password.
	Authenticate bool
	// ProxyRealm makes a proxy in front ask with 407 first, for this realm;
	// empty means no proxy. It needs Password.
	ProxyRealm string
	// Password finds the password of a user. It may be called from several
	// goroutines.
	Password func(user string) (string, bool)
	// Realm of the registrar; empty means "example.test".
	Realm string
	// Algorithms are offered in this order, one challenge each; empty means MD5
	// alone. The empty name stands for a challenge without the parameter.
	Algorithms []string
	// OneLine joins the challenges by commas in one header line.
	OneLine bool
	// QOP is the offered list; empty means "auth", "none" leaves it out.
	QOP string
	// NonceLifetime is how long a nonce may be used; 0 means five minutes.
	NonceLifetime time.Duration
	// CheckNC challenges again when a nonce count does not rise. Without it the
	// violation is recorded and the answer accepted.
	CheckNC bool
	// StaleFlag adds stale=true when only the nonce was wrong. Without it the
	// client cannot tell that from a wrong password, as with Kamailio.
	StaleFlag bool
	// AuthInfo adds Authentication-Info with rspauth and nextnonce to a 200.
	AuthInfo bool
	// Forbid answers wrong credentials with 403 instead of a new challenge.
	Forbid bool

	// MinExpires refuses shorter bindings with 423; 0 accepts all.
	MinExpires uint32
	// MaxExpires shortens longer bindings; 0 means no limit.
	MaxExpires uint32
	// GrantExpires is what every binding gets, whatever was asked; 0 means what
	// was asked.
	GrantExpires uint32
	// Headers are lines, as "Service-Route: <sip:...>", added to every 200 to
	// REGISTER.
	Headers []string

	// Behaviour is asked about every request that was not answered yet, of any
	// method but ACK, before the registrar decides; nil as Reply leaves the
	// decision to the registrar. It runs on the reading goroutine of the socket
	// or connection: it may be called concurrently, and must neither block nor
	// call Close or SetDown(Refusing), which wait for that goroutine.
	Behaviour func(*Request) *Reply

	// RetryAfter is written into the 503 of the mode Unavailable; 0 means none.
	RetryAfter time.Duration
	// MaxRate is the number of requests in any one second that CheckInvariants
	// accepts; 0 accepts all.
	MaxRate int
	// Outstanding is how long a request that got no final answer counts as
	// outstanding (I-5); 0 means five seconds, which is safe for a client with
	// the timers of RFC 3261 even if it was heard late. Negative means never.
	Outstanding time.Duration
	// LogSize bounds Requests; 0 means 100,000, negative none.
	LogSize int

	// onACK is told of every ACK, for a Callee.
	onACK func(*Request)
}

// Defaults and bounds.
const (
	defaultListen   = "127.0.0.1:0"
	defaultRealm    = "example.test"
	defaultLifetime = 5 * time.Minute
	defaultLogSize  = 100_000
	defaultOverdue  = 5 * time.Second
	defaultExpires  = 3600                  // RFC 3261 §20.19 for a malformed value
	answerLifetime  = 64 * 500e6            // 64*T1 in nanoseconds: RFC 3261 §17.2.2, timer J
	maxMessage      = 65535                 // RFC 3261 §18.1.1
	maxContacts     = 64                    // of one address-of-record
	maxViolations   = 100                   // kept in full
	maxSeconds      = 3600                  // of the histogram
	maxCSeq         = 1<<31 - 1             // RFC 3261 §8.1.1.5
	writeTimeout    = 5 * time.Second       // of one response on a stream
	wantedBuffer    = 8 << 20               // bytes of a UDP socket buffer
	portAttempts    = 20                    // to find a port that is free for UDP and TCP
	acceptPause     = 50 * time.Millisecond // after a failed accept
)

func (o *Options) validate() error {
	var faults []error
	if (o.Authenticate || o.ProxyRealm != "") && o.Password == nil {
		faults = append(faults, errors.New("password: needed to authenticate"))
	}
	for _, name := range o.Algorithms {
		if digest.HA1(name, "", "", "") == "" {
			faults = append(faults, fmt.Errorf("algorithms: %q is not known", name))
		}
	}
	if o.MaxExpires != 0 && o.MinExpires > o.MaxExpires {
		faults = append(faults, errors.New("min expires: above max expires"))
	}
	return errors.Join(faults...)
}

func (o *Options) setDefaults() {
	if o.Listen == "" {
		o.Listen = defaultListen
	}
	if o.Realm == "" {
		o.Realm = defaultRealm
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{"MD5"}
	}
	switch o.QOP {
	case "":
		o.QOP = "auth"
	case "none":
		o.QOP = ""
	}
	if o.NonceLifetime == 0 {
		o.NonceLifetime = defaultLifetime
	}
	if o.LogSize == 0 {
		o.LogSize = defaultLogSize
	}
	if o.Outstanding == 0 {
		o.Outstanding = defaultOverdue
	}
}
