package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// Node is what the API needs of a node. Every method that changes something
// returns after the change is durable. Errors wrap those of package actors
// where a caller can do something about them.
type Node interface {
	Profile(ctx context.Context, id string) (actors.ProfileView, error)
	Profiles(ctx context.Context, q actors.Query) (actors.Page, error)
	AddProfile(ctx context.Context, d actors.Declaration) (actors.ProfileView, error)
	ImportProfiles(ctx context.Context, ds []actors.Declaration, dryRun bool) []actors.ImportResult
	ChangeProfile(ctx context.Context, id string, p actors.Patch) (actors.ProfileView, error)
	RemoveProfile(ctx context.Context, id string) error
	EnableProfile(ctx context.Context, id string) (actors.ProfileView, error)
	DisableProfile(ctx context.Context, id string) (actors.ProfileView, error)
	RefreshProfile(ctx context.Context, id string) (actors.ProfileView, error)
	FetchBindings(ctx context.Context, id string) ([]messages.ContactBinding, error)
	History(ctx context.Context, id string, before uint64, limit int) ([]actors.HistoryEntry, error)
	// SetSecurity chooses who answers the challenges to a profile, from its next
	// attempt on. nil leaves a handler alone, an empty one is the registrar's.
	SetSecurity(ctx context.Context, id string, registration, session *string) (actors.ProfileView, error)
	// StartSession places a call. It returns once the call is recorded; what
	// becomes of it is told by Session and Watch.
	StartSession(ctx context.Context, r actors.SessionRequest) (actors.SessionView, error)
	Session(ctx context.Context, id string) (actors.SessionView, error)
	Sessions(ctx context.Context, q actors.SessionQuery) (actors.SessionPage, error)
	// SessionHistory returns events before a version, 0 for all, newest first.
	SessionHistory(ctx context.Context, id string, before uint64, limit int) ([]actors.HistoryEntry, error)
	// EndSession hangs up; a session that is over stays so.
	EndSession(ctx context.Context, id string) (actors.SessionView, error)
	// SendInSession makes a request inside the dialog and waits for its outcome.
	SendInSession(ctx context.Context, id string, r actors.InDialog) (actors.InDialogResult, error)
	// Watch tells recorded events from its return on, until ctx ends. The
	// channel is closed early when the node stops, or because its reader is too
	// slow.
	Watch(ctx context.Context, q actors.ChangeQuery) (<-chan actors.Change, error)
	Registrars(ctx context.Context) ([]actors.RegistrarView, error)
	XSPs(ctx context.Context) ([]actors.XSPView, error)
	// Ready is nil when the node is ready, otherwise the reason why not.
	Ready() error
	// Healthy is nil unless the node should be restarted.
	Healthy() error
	// Reload reads the configuration and the profile files again.
	Reload(ctx context.Context) error
	// Backup writes a consistent copy of the journal while the node runs.
	Backup(w io.Writer) error
}

// Options configures a Server. Node is required.
type Options struct {
	Node Node
	// Metrics answers GET /metrics; nil means that there is no such route.
	Metrics http.Handler
	// Listen is host:port; empty means 127.0.0.1:8080. Port 0 takes a free
	// one.
	Listen string
	// TLSCert and TLSKey are PEM files, both or neither. They are read again
	// by Reload.
	TLSCert, TLSKey string
	// TokenFile lists who may call, see ReadTokens. It is read again by
	// Reload. Empty means no tokens, on loopback only.
	TokenFile string
	// Logger may be nil.
	Logger *slog.Logger
	// Version of the product, for the OpenAPI document.
	Version string
	// MaxRequests bounds the requests that are worked on at the same time;
	// 0 means 64.
	MaxRequests int
	// MaxWatchers bounds the open streams of events; 0 means 100.
	MaxWatchers int
}

// Limits of time and size (S-74).
const (
	defaultListen      = "127.0.0.1:8080"
	defaultMaxRequests = 64
	defaultMaxWatchers = 100

	headerTimeout  = 5 * time.Second
	bodyTimeout    = time.Minute
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10

	// requestTimeout bounds an ordinary request. fetchTimeout is above the 32 s
	// of a transaction's Timer F (RFC 3261 §17.1.2.2), and its retry after a
	// challenge; inDialogTimeout is above the 3 min that the node gives a
	// request inside a session. importTimeout is for 5,000 declarations.
	requestTimeout  = 30 * time.Second
	fetchTimeout    = 75 * time.Second
	inDialogTimeout = 200 * time.Second
	importTimeout   = 5 * time.Minute
	// writeGrace is how long the peer may take to read a piece of an answer.
	writeGrace = 30 * time.Second
)

// Server is the HTTP server of a node.
type Server struct {
	options  Options
	log      *slog.Logger
	mux      *http.ServeMux
	roles    map[string]Role
	origins  *http.CrossOriginProtection
	slots    chan struct{}
	watchers chan struct{}
	loopback bool
	tokens   atomic.Pointer[Tokens]
	cert     atomic.Pointer[tls.Certificate]
	// stopping ends the streams of events.
	stopping context.Context
	stop     context.CancelFunc

	mu       sync.Mutex
	server   *http.Server
	listener net.Listener
	done     chan struct{}
}

// New checks the options and reads the token and certificate files. Nothing is
// bound yet.
func New(o Options) (*Server, error) {
	if o.Listen == "" {
		o.Listen = defaultListen
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxRequests == 0 {
		o.MaxRequests = defaultMaxRequests
	}
	if o.MaxWatchers == 0 {
		o.MaxWatchers = defaultMaxWatchers
	}
	s := &Server{
		options:  o,
		log:      o.Logger.With("component", "admin"),
		mux:      http.NewServeMux(),
		roles:    map[string]Role{},
		origins:  http.NewCrossOriginProtection(),
		loopback: IsLoopback(o.Listen),
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	s.slots = make(chan struct{}, o.MaxRequests)
	s.watchers = make(chan struct{}, o.MaxWatchers)
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.routes()
	return s, nil
}

// validate reports all faults at once.
func (o Options) validate() error {
	var faults []error
	if o.Node == nil {
		faults = append(faults, errors.New("admin: Node is missing"))
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		faults = append(faults, fmt.Errorf("admin: listen address %q is not host:port", o.Listen))
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		faults = append(faults, errors.New("admin: a TLS certificate and its key go together"))
	}
	if !IsLoopback(o.Listen) && (o.TLSCert == "" || o.TokenFile == "") {
		faults = append(faults, fmt.Errorf("admin: %s can be reached from other machines and needs TLS and tokens (set admin.tls_cert, admin.tls_key and admin.token_file, or listen on 127.0.0.1)", o.Listen))
	}
	if o.MaxRequests < 0 {
		faults = append(faults, errors.New("admin: MaxRequests is negative"))
	}
	if o.MaxWatchers < 0 {
		faults = append(faults, errors.New("admin: MaxWatchers is negative"))
	}
	return errors.Join(faults...)
}

// IsLoopback tells whether only this machine can reach an address, given as
// host or host:port. A name other than localhost is not looked up, so it is
// not.
func IsLoopback(address string) bool {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// Reload reads the token and certificate files again. On an error the old ones
// stay in use.
func (s *Server) Reload() error {
	var tokens Tokens
	if s.options.TokenFile != "" {
		var err error
		if tokens, err = ReadTokens(s.options.TokenFile); err != nil {
			return err
		}
	}
	if s.options.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(s.options.TLSCert, s.options.TLSKey)
		if err != nil {
			return fmt.Errorf("read TLS certificate %s: %w", s.options.TLSCert, err)
		}
		s.cert.Store(&cert)
	}
	s.tokens.Store(&tokens)
	return nil
}

// Start binds the address and serves until Stop.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return errors.New("admin: started already")
	}
	listener, err := net.Listen("tcp", s.options.Listen)
	if err != nil {
		return listenError(s.options.Listen, err)
	}
	s.listener = listener
	s.done = make(chan struct{})
	s.server = s.httpServer()
	go s.serve(s.server, listener, s.done)
	s.log.Info("listening", "url", s.url())
	return nil
}

func (s *Server) httpServer() *http.Server {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      requestTimeout + writeGrace,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.cert.Load() != nil {
		server.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
		}
	}
	return server
}

func (s *Server) serve(server *http.Server, listener net.Listener, done chan struct{}) {
	defer close(done)
	var err error
	if server.TLSConfig != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("stopped serving", "error", err)
	}
}

// listenError says what to do about an address that cannot be bound.
func listenError(address string, err error) error {
	mend := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		mend = " (another node or program uses it: stop that, or change admin.listen)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		mend = " (no network interface of this machine has the address: change admin.listen)"
	case errors.Is(err, syscall.EACCES):
		mend = " (ports below 1024 need a privilege: change admin.listen)"
	}
	if cause, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Errorf("admin: listen on %s: %w%s", address, cause, mend)
	}
	return fmt.Errorf("admin: listen on %s: %w", address, err)
}

// Addr is the bound address, empty before Start.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// URL is where the server is found, empty before Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.url()
}

func (s *Server) url() string {
	scheme := "http://"
	if s.cert.Load() != nil {
		scheme = "https://"
	}
	return scheme + s.listener.Addr().String()
}

// Stop ends the streams of events and lets other requests finish until ctx
// ends, then cuts them off. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	server, done := s.server, s.done
	s.mu.Unlock()
	if server == nil {
		return nil
	}
	s.stop()
	if err := server.Shutdown(ctx); err != nil {
		if closing := server.Close(); closing != nil {
			return fmt.Errorf("stop admin: %w", closing)
		}
	}
	<-done
	return nil
}
