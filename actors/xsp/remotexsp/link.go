package remotexsp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/sipmuster/muster/actors/xsp"
)

// end is what differs between the node and the other side.
type end interface {
	// admits tells whether a peer with this identity may connect.
	admits(identity string) bool
	// expects is the identity that an address must prove before anything is
	// sent there; false when nothing may be sent there.
	expects(address string) (string, bool)
	// receive takes one message off a connection. ctx ends with the connection.
	receive(ctx context.Context, from identities, m *envelope)
	// lost is told that the connection to an address is over, and that what
	// waited for it will not be sent.
	lost(address string)
}

// settings are what Options and ServeOptions share.
type settings struct {
	listen, advertise string
	tls               *tls.Config
	log               *slog.Logger
	grpcLogger        grpclog.LoggerV2
}

// validate tells all faults at once.
func (s *settings) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	host, port, err := splitAddress(s.listen)
	switch {
	case err != nil:
		fault("listen: %w", err)
	case s.advertise != "":
		if port == 0 {
			fault("listen: port 0 cannot be advertised")
		}
		if host, port, err := splitAddress(s.advertise); err != nil {
			fault("advertise: %w", err)
		} else if host == "" || port == 0 {
			fault("advertise: %q is not host:port", s.advertise)
		}
	default:
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			fault("advertise: peers cannot answer to %q, so it is required", s.listen)
		}
	}
	switch t := s.tls; {
	case t == nil:
		fault("tls: it is required")
	case len(t.Certificates) == 0 && (t.GetCertificate == nil || t.GetClientCertificate == nil):
		fault("tls: it has no certificate of our own")
	case t.RootCAs == nil || t.ClientCAs == nil:
		fault("tls: it has no authority for both directions")
	case t.InsecureSkipVerify:
		fault("tls: it does not verify")
	}
	return errors.Join(faults...)
}

func splitAddress(address string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(digits)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q: the port is not a number up to 65535", address)
	}
	// gRPC would take unix:7100 for a file.
	if resolver.Get(host) != nil {
		return "", 0, fmt.Errorf("%q: the host is the name of a scheme of gRPC", address)
	}
	return host, port, nil
}

// link is an ActorSystem with remote for one end.
type link struct {
	end       end
	system    *actor.ActorSystem
	remote    *remote.Remote
	tls       *tls.Config
	log       *slog.Logger
	maxData   int // bytes of the largest message
	drops     *drops
	connected sync.Map // addresses that a stream of ours reached
	faults    faults

	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	// closed is set before remote stops: a message that is sent to it then
	// would wait for ever.
	sending sync.RWMutex
	closed  bool

	// probe holds the address of our own connection, accepted is closed when
	// it arrived, and ready when others are served.
	probe           chan string
	accepted, ready chan struct{}
}

const (
	// batchSize keeps what we send below gRPC's default limit of 4 MiB, which
	// a plain actor may have, while questions are below 40 KiB.
	batchSize = 100
	// queueSize is where the queue of a peer begins; remote's default is a ring
	// of a million slots, 16 MB.
	queueSize = 1024
	// patience bounds an attempt to connect, and every write.
	patience = 5 * time.Second
)

// newLink prepares a link from valid settings. The end keeps it before start,
// when the first message can arrive.
func newLink(e end, s settings, maxData int) *link {
	l := &link{
		end: e, log: s.log, tls: s.tls.Clone(), maxData: maxData, drops: newDrops(),
		probe: make(chan string, 1), accepted: make(chan struct{}), ready: make(chan struct{}),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.log = l.log.With("component", "remotexsp")
	l.tls.MinVersion = max(l.tls.MinVersion, tls.VersionTLS13)
	l.tls.ClientAuth = tls.RequireAndVerifyClientCert
	l.ctx, l.cancel = context.WithCancel(context.Background())
	host, port, _ := splitAddress(s.listen)
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // remote joins the two without a look at them
	}
	config := remote.Configure(
		host, port,
		remote.WithAdvertisedHost(s.advertise),
		remote.WithEndpointWriterBatchSize(batchSize),
		remote.WithEndpointWriterQueueSize(queueSize),
		remote.WithServerOptions(l.serverOptions()...),
		remote.WithDialOptions(l.dialOptions()...),
	)
	// Remote sleeps two seconds after each failure, the last one too, before it
	// drops what waits. A question does not outlive one attempt.
	config.MaxRetryCount = 1
	// The library logs messages, which can hold an answer to a challenge (S-62).
	l.system = actor.NewActorSystem(actor.WithLoggerFactory(quiet))
	l.remote = remote.NewRemote(l.system, config)
	l.system.EventStream.Subscribe(l.observe)
	return l
}

func quiet(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }

// send hands a message to remote, which connects first when it must, on a
// goroutine of its own.
func (l *link) send(to *actor.PID, message any, sender *actor.PID) error {
	l.sending.RLock()
	defer l.sending.RUnlock()
	if l.closed {
		return errClosed
	}
	l.system.Root.RequestWithCustomSender(to, message, sender)
	return nil
}

// cut ends our connection to an address. The next message makes another.
func (l *link) cut(address string) {
	l.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: address})
}

// observe is told by remote what becomes of connections.
func (l *link) observe(event any) {
	switch e := event.(type) {
	case *remote.EndpointConnectedEvent:
		l.connected.Store(e.Address, true)
		l.log.Info("connected", "address", e.Address)
	case *remote.EndpointTerminatedEvent:
		if _, was := l.connected.LoadAndDelete(e.Address); was {
			l.log.Warn("connection lost; the next message makes another", "address", e.Address)
		}
		l.end.lost(e.Address)
	}
}

// faults are when it was logged for which address that it cannot be reached.
type faults struct {
	sync.Mutex
	logged map[string]time.Time
}

// unreachable logs why a connection failed: remote only tells its own log, which
// nobody sees. It tries every two seconds, so the log has it once a minute.
func (l *link) unreachable(address string, err error) {
	l.faults.Lock()
	defer l.faults.Unlock()
	if time.Since(l.faults.logged[address]) < time.Minute || l.ctx.Err() != nil {
		return
	}
	if l.faults.logged == nil || len(l.faults.logged) > 1000 { // peers name addresses
		l.faults.logged = map[string]time.Time{}
	}
	l.faults.logged[address] = time.Now()
	reason := strings.TrimPrefix(status.Convert(err).Message(), `connection error: desc = "transport: `)
	l.log.Warn("cannot connect", "address", address, "error", xsp.Printable(reason))
}

// stop ends remote. It takes up to two seconds while a peer cannot be reached.
func (l *link) stop() {
	l.sending.Lock()
	was := l.closed
	l.closed = true
	l.sending.Unlock()
	if was {
		return
	}
	l.cancel()
	// Shutdown would either leave the connections to peers open, or wait for
	// the peers to end theirs.
	for _, name := range []string{"EndpointSupervisor", "activator"} {
		_ = l.system.Root.StopFuture(l.system.NewLocalPID(name)).Wait()
	}
	l.remote.Shutdown(false)
	l.system.Shutdown()
}

var errClosed = errors.New("the endpoint is closed")
