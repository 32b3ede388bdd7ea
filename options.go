package muster

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors"
)

// Options are what a Node is made of. Only DataDir is required.
type Options struct {
	// ID names the node in logs; empty means "node-1".
	ID string
	// DataDir holds the journal. One node at a time can use it.
	DataDir string
	// KeyFile holds the key that seals secrets given through the API; it must
	// not be inside DataDir. It is created when missing. Empty means
	// "muster.key" beside DataDir.
	KeyFile string
	// Retention bounds the journal; zero fields mean 1,000,000 events, 7 days
	// and no limit in bytes.
	Retention Retention

	SIP SIP
	// Desired is what shall be kept registered; see Apply.
	Desired
	// Load reads Desired again for a reload; nil refuses a reload.
	Load func(context.Context) (Desired, error)

	// OnInvite is called, in a goroutine of its own, for each call to a contact
	// of a profile. It answers with the methods of the Invitation, also after it
	// has returned, and must return before the call's Events come. nil refuses
	// calls with 480.
	OnInvite func(*Invitation)

	// Admin is the HTTP API; without Listen there is none.
	Admin Admin
	// Deregister removes every binding at shutdown, at the registrars' pace.
	// The default keeps them: a restart is not an outage.
	Deregister bool
	// StopLimit bounds Stop; 0 means 33 s, one second more than Timer F.
	StopLimit time.Duration
	// Logger receives everything; nil discards.
	Logger *slog.Logger
	// Version is shown by the API and the metrics.
	Version string
}

// Desired is the declarative part of the configuration: what a reload can
// change.
type Desired struct {
	Registrars []actors.Registrar
	// Profiles are what shall be there.
	Profiles []actors.Declaration
	// Rows are more of them, for files with more rows than one wants to hold as
	// values: it yields the same ones in the same order each time it is called.
	// nil has none.
	Rows iter.Seq[actors.Declaration]
	// XSPs answer challenges beside the DigestActor.
	XSPs []actors.XSP
	// Trunks are peers whose calls are bridged to sessions of profiles.
	Trunks []actors.Trunk
}

// SIP configures the SIP side.
type SIP struct {
	// Listen are addresses such as "udp://127.0.0.1:5070"; empty means UDP and
	// TCP on a free port of 127.0.0.1, which changes at each start and with it
	// the contacts.
	Listen []string
	// Advertise is the host, with or without a port, that peers shall use to
	// reach us; empty means the local address.
	Advertise string
	// UserAgent is the header of that name; empty means "Muster".
	UserAgent string
	// AcceptFrom are addresses from which responses are accepted besides the
	// one that was asked (S-04).
	AcceptFrom []netip.Addr
}

// Retention bounds the journal behind the checkpoint; a negative value means
// no limit.
type Retention struct {
	Events int
	Age    time.Duration
	Bytes  int64
}

// Admin configures the HTTP API.
type Admin struct {
	// Listen is host:port; any host but loopback needs TLS and tokens.
	Listen string
	// TLSCert and TLSKey are PEM files, both or neither.
	TLSCert, TLSKey string
	// TokenFile lists who may call, see admin.ReadTokens.
	TokenFile string
}

func (o Options) withDefaults() Options {
	if o.ID == "" {
		o.ID = "node-1"
	}
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(filepath.Dir(filepath.Clean(o.DataDir)), "muster.key")
	}
	if o.SIP.UserAgent == "" {
		o.SIP.UserAgent = "Muster"
	}
	if o.StopLimit == 0 {
		o.StopLimit = 33 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.SIP.Listen) == 0 {
		o.SIP.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
	}
	return o
}

// validate reports everything that is wrong with what the rows refer to.
func (d Desired) validate() []error {
	var errs []error
	names, xsps := map[string]bool{}, xspNames(d.XSPs)
	for i, x := range d.XSPs {
		errs = append(errs, x.Check())
		if slices.Contains(xsps[:i], x.Name) {
			errs = append(errs, fmt.Errorf("xSP %q is configured twice", x.Name))
		}
	}
	for _, r := range d.Registrars {
		if r.Name == "" || r.URI == "" {
			errs = append(errs, fmt.Errorf("registrar %q: name and URI are required", r.Name))
		}
		if names[r.Name] {
			errs = append(errs, fmt.Errorf("registrar %q is configured twice", r.Name))
		}
		names[r.Name] = true
		for field, handler := range map[string]string{"registration_handler": r.RegistrationHandler, "session_handler": r.SessionHandler} {
			if err := actors.CheckHandler(handler, xsps); err != nil {
				errs = append(errs, fmt.Errorf("registrar %q: %s: %w", r.Name, field, err))
			}
		}
	}
	errs = append(errs, actors.CheckTrunks(d.Trunks, d.Registrars))
	return errs
}
