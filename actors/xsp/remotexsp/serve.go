package remotexsp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// ServeOptions are what a Server is made of. Listen, Name, TLS and Nodes are
// required.
type ServeOptions struct {
	// Listen is host:port, where the questions arrive; port 0 takes a free one.
	Listen string
	// Advertise is host:port by which the nodes reach Listen; empty means
	// Listen, which must then name one address.
	Advertise string
	// Name is the actor's name, which the nodes are configured with.
	Name string
	// TLS is the program's certificate and the authority of the nodes'; see
	// xsptls.Load.
	TLS *tls.Config
	// Nodes are the DNS names in the certificates of the nodes that may ask.
	Nodes []string
	// Concurrency bounds the questions that are worked on; 0 means 100. Others
	// wait on the connection.
	Concurrency int
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// GRPCLogger is given to gRPC after remote has replaced its process-wide
	// logger; nil means gRPC's default.
	GRPCLogger grpclog.LoggerV2
}

const (
	// maxQuestion is above what a SIP message can hold.
	maxQuestion = 128 << 10
	// longest bounds the time for a question whatever its deadline says, and
	// usual is for one without.
	longest = time.Minute
	usual   = 3 * time.Second
	// maxAddresses bounds the connections that one node can make us open. It
	// uses one; a restarted node can have another.
	maxAddresses = 8
)

// Server answers the questions of nodes with an authenticator.
type Server struct {
	*link
	name          string
	nodes         identities
	authenticator xsp.Authenticator
	slots         chan struct{}

	mu sync.Mutex
	// addresses are where each node is answered, the latest last.
	addresses map[string][]string
}

// Serve makes an authenticator an actor that nodes can ask. It gets a context
// that ends at the question's deadline. An error other than a refusal, and a
// panic, are silence for the node; both are logged.
func Serve(o ServeOptions, a xsp.Authenticator) (*Server, error) {
	s := &Server{name: o.Name, authenticator: a, addresses: map[string][]string{}}
	common := settings{listen: o.Listen, advertise: o.Advertise, tls: o.TLS, log: o.Logger, grpcLogger: o.GRPCLogger}
	faults := []error{common.validate()}
	if o.Name == "" {
		faults = append(faults, errors.New("name: it is required"))
	}
	if len(o.Nodes) == 0 {
		faults = append(faults, errors.New("nodes: nobody may ask"))
	}
	for _, node := range o.Nodes {
		if err := validIdentity(node); err != nil {
			faults = append(faults, fmt.Errorf("nodes: %w", err))
		}
		s.nodes = append(s.nodes, canonical(node))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 100
	}
	s.slots = make(chan struct{}, o.Concurrency)
	s.link = newLink(s, common, maxQuestion)
	if err := s.start(common); err != nil {
		return nil, err
	}
	return s, nil
}

// Addr is the address that nodes ask at.
func (s *Server) Addr() string { return s.system.Address() }

// Dropped counts what was not let through, by reason: "identity" (connections
// of who is not on the list), "type" (messages that are no questions), "size",
// "foreign" (to another name, or without an address to answer to) and "late"
// (the deadline had passed).
func (s *Server) Dropped() map[string]uint64 { return s.dropped() }

// Close ends all links. The contexts of open questions end, but it does not
// wait for authenticators that ignore that.
func (s *Server) Close() error {
	s.stop()
	return nil
}

// admits implements end.
func (s *Server) admits(identity string) bool { return s.nodes.has(identity) }

// expects implements end.
func (s *Server) expects(address string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner(address)
}

// owner is the node that is answered at an address. s.mu is held.
func (s *Server) owner(address string) (string, bool) {
	for identity, known := range s.addresses {
		if slices.Contains(known, address) {
			return identity, true
		}
	}
	return "", false
}

// lost implements end. The next question tells the address again: a node that
// took it over, or was kept from it by another's claim, then gets it.
func (s *Server) lost(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for identity, known := range s.addresses {
		if i := slices.Index(known, address); i >= 0 {
			s.addresses[identity] = slices.Delete(known, i, i+1)
		}
	}
}

// receive implements end. It waits for a free slot, so that the nodes' writes
// are held back by the connection and not by memory.
func (s *Server) receive(ctx context.Context, from identities, m *envelope) {
	q := new(messages.AuthChallenge)
	switch {
	case m.typeName != "muster.v1.AuthChallenge" || !decode(m, q):
		s.drop(dropType)
		return
	case m.target != s.name || !s.learn(from[0], m.sender):
		s.drop(dropForeign)
		return
	}
	work, cancel := context.WithTimeout(s.ctx, patienceFor(q))
	select {
	case s.slots <- struct{}{}:
		if work.Err() == nil {
			go func() {
				defer func() { <-s.slots }()
				defer cancel()
				s.answer(work, q, m.sender)
			}()
			return
		}
		<-s.slots
	case <-work.Done():
	case <-ctx.Done():
	}
	cancel()
	s.drop(dropLate)
}

// patienceFor is how long a question is worked on.
func patienceFor(q *messages.AuthChallenge) time.Duration {
	if q.GetDeadline() == nil {
		return usual
	}
	return min(time.Until(q.GetDeadline().AsTime()), longest)
}

// learn notes that a node is answered at an address, where the connection must
// then prove that it is that node. While there is a connection, or an attempt,
// the address belongs to the one who named it first.
func (s *Server) learn(identity string, sender *actor.PID) bool {
	address := sender.GetAddress()
	if host, port, err := splitAddress(address); err != nil || host == "" || port == 0 || len(address) > 300 {
		return false
	}
	s.mu.Lock()
	if owner, known := s.owner(address); known {
		s.mu.Unlock()
		return owner == identity
	}
	known := append(s.addresses[identity], address)
	var old string
	if len(known) > maxAddresses {
		old = known[0]
		known = slices.Clone(known[1:])
	}
	s.addresses[identity] = known
	s.mu.Unlock()
	if old != "" {
		s.cut(old)
	}
	return true
}

// answer asks the authenticator and sends what it says.
func (s *Server) answer(ctx context.Context, q *messages.AuthChallenge, to *actor.PID) {
	defer func() {
		if recover() != nil {
			// What it said can hold a secret; where it was cannot.
			s.log.Error("the authenticator panicked", "ref", q.GetRef(), "stack", string(debug.Stack()))
		}
	}()
	answer, err := s.authenticator.Answer(ctx, q)
	r, ok := xsp.Pack(q, answer, err)
	if !ok {
		s.log.Warn("the authenticator has no answer", "ref", q.GetRef(), "error", err)
		return
	}
	if _, known := s.expects(to.GetAddress()); !known || ctx.Err() != nil {
		return // nobody waits
	}
	message := xsp.ToMessage(r)
	if proto.Size(message) > maxAnswer {
		s.log.Warn("the answer is too large for a node", "ref", q.GetRef(), "bytes", proto.Size(message))
		return
	}
	_ = s.send(to, message, nil) // closed: nobody waits either
}
