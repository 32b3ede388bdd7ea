package remotexsp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/grpc/grpclog"

	"github.com/sipmuster/muster/actors/xsp"
)

// Options are what an Endpoint is made of. Listen and TLS are required.
type Options struct {
	// Listen is host:port, where the peers' answers arrive; port 0 takes a
	// free one.
	Listen string
	// Advertise is host:port by which the peers reach Listen; empty means
	// Listen, which must then name one address.
	Advertise string
	// TLS is the node's certificate and the authority of the peers'; see
	// xsptls.Load. There is no plaintext.
	TLS *tls.Config
	// MaxPending bounds the questions to one peer that are open, and those that
	// wait to be sent; 0 means 10,000. Beyond it a question fails at once.
	MaxPending int
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// GRPCLogger is given to gRPC after remote has replaced its process-wide
	// logger; nil means gRPC's default.
	GRPCLogger grpclog.LoggerV2
}

// Peer is one xSP actor on another node.
type Peer struct {
	// Address is host:port of its remote, as that advertises itself.
	Address string
	// Actor is its name there.
	Actor string
	// Identity is the DNS name in its certificate. One address has one
	// identity.
	Identity string
}

// Validate tells what is wrong with a peer, all at once.
func (p Peer) Validate() error {
	var faults []error
	if host, port, err := splitAddress(p.Address); err != nil {
		faults = append(faults, fmt.Errorf("address: %w", err))
	} else if host == "" || port == 0 {
		faults = append(faults, fmt.Errorf("address: %q is not host:port", p.Address))
	}
	if p.Actor == "" {
		faults = append(faults, errors.New("actor: it is required"))
	}
	return errors.Join(append(faults, validIdentity(p.Identity))...)
}

// Endpoint is the node's end of the links to all its peers. Its methods are
// safe for concurrent use.
type Endpoint struct {
	*link
	maxPending int

	mu      sync.Mutex
	inboxes map[string]*asker // by the name that a peer answers to
	routes  map[string]*route // by address
}

// route is where questions leave for an address.
type route struct {
	// claims are the askers of the address, oldest first. The last one says
	// which identity is expected there: while a configuration changes, old and
	// new stand side by side.
	claims []*asker
	// queued counts the questions that remote has not sent. A lost connection
	// drops them all, which begins another era.
	queued int
	era    int
}

func (r *route) identity() string { return r.claims[len(r.claims)-1].peer.Identity }

// Listen opens the node's end.
func Listen(o Options) (*Endpoint, error) {
	e := &Endpoint{maxPending: o.MaxPending, inboxes: map[string]*asker{}, routes: map[string]*route{}}
	if e.maxPending == 0 {
		e.maxPending = 10_000
	}
	s := settings{listen: o.Listen, advertise: o.Advertise, tls: o.TLS, log: o.Logger, grpcLogger: o.GRPCLogger}
	if err := s.validate(); err != nil {
		return nil, err
	}
	e.link = newLink(e, s, maxAnswer)
	if err := e.start(s); err != nil {
		return nil, err
	}
	return e, nil
}

// Authenticator is the xSP that p names. It is an io.Closer: once closed, its
// peer may not connect any more. Every question to a peer that is not valid
// fails; see Peer.Validate.
func (e *Endpoint) Authenticator(p Peer) xsp.Authenticator {
	a := &asker{endpoint: e, peer: p, fault: p.Validate(), pending: map[string]*question{}, gone: make(chan struct{})}
	if a.fault != nil {
		return a
	}
	a.peer.Identity = canonical(p.Identity)
	a.target = actor.NewPID(p.Address, p.Actor)
	// Nobody can guess the name, though the filter does not rely on that.
	a.inbox = e.system.NewLocalPID("inbox-" + rand.Text())
	e.mu.Lock()
	e.inboxes[a.inbox.GetId()] = a
	r := e.routes[p.Address]
	if r == nil {
		r = &route{}
		e.routes[p.Address] = r
	}
	other := len(r.claims) > 0 && r.identity() != a.peer.Identity
	r.claims = append(r.claims, a)
	e.mu.Unlock()
	if other {
		e.cut(p.Address)
	}
	return a
}

// leave takes an asker out.
func (e *Endpoint) leave(a *asker) {
	e.mu.Lock()
	delete(e.inboxes, a.inbox.GetId())
	r := e.routes[a.peer.Address]
	i := slices.Index(r.claims, a)
	if i < 0 {
		e.mu.Unlock()
		return
	}
	before := r.identity()
	r.claims = slices.Delete(r.claims, i, i+1)
	if len(r.claims) == 0 {
		delete(e.routes, a.peer.Address)
	}
	other := len(r.claims) == 0 || r.identity() != before
	e.mu.Unlock()
	if other {
		e.cut(a.peer.Address)
	}
}

// Addr is the address that peers answer to.
func (e *Endpoint) Addr() string { return e.system.Address() }

// Dropped counts what was not let through, by reason: "identity" (connections
// of who is not on the list), "type" (messages that are no answers), "size"
// (larger than 16 KiB), "foreign" (to another's inbox, or for a question that
// this peer was not asked), "late" (the question had ended) and "second" (it
// was answered).
func (e *Endpoint) Dropped() map[string]uint64 { return e.dropped() }

// Close ends all links; open questions fail. It takes up to two seconds while
// a peer cannot be reached.
func (e *Endpoint) Close() error {
	e.stop()
	return nil
}

// admits implements end.
func (e *Endpoint) admits(identity string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.inboxes {
		if a.peer.Identity == identity {
			return true
		}
	}
	return false
}

// expects implements end.
func (e *Endpoint) expects(address string) (string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.routes[address]
	if r == nil {
		return "", false
	}
	return r.identity(), true
}

// lost implements end.
func (e *Endpoint) lost(address string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.routes[address]; r != nil {
		r.queued = 0
		r.era++
	}
}

// receive implements end.
func (e *Endpoint) receive(_ context.Context, from identities, m *envelope) {
	reply, ok := decodeReply(m)
	if !ok {
		e.drop(dropType)
		return
	}
	e.mu.Lock()
	a := e.inboxes[m.target]
	e.mu.Unlock()
	if a == nil || !from.has(a.peer.Identity) {
		e.drop(dropForeign)
		return
	}
	if reason := a.take(reply); reason != "" {
		e.drop(reason)
	}
}
