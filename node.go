package muster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/admin"
	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
	"github.com/sipmuster/muster/sipadapter"
	"github.com/sipmuster/muster/store"
)

// Node keeps the declared profiles registered. Its methods are safe for
// concurrent use; Start and Stop are called once each.
type Node struct {
	options     Options
	log         *slog.Logger
	store       *store.Store
	metrics     *metrics.Metrics
	adapter     *sipadapter.Adapter
	farm        *actors.Farm
	running     atomic.Pointer[actors.Farm] // farm, for the store, which is there before it
	admin       *admin.Server
	credentials *credentials
	bindings    bindingIndex

	ready      atomic.Bool
	starting   atomic.Pointer[string] // what Start is doing, for Ready
	storeError atomic.Pointer[error]
	reloading  sync.Mutex // one reload at a time
	settling   *settling  // what the reload before left to do
	sealing    sync.Mutex // sealed secrets and those in memory change together
	registrars atomic.Pointer[map[string]bool]
	ctx        context.Context // ends with Stop, for what runs beside
	cancel     context.CancelFunc
	beside     sync.WaitGroup
	besides    sync.Mutex     // see alongside
	changing   chan struct{}  // see alone
	sealed     *declare.Table // ids of the secrets found at the start
	plan       *plan          // what the start applies, until then
	bodies     keptBodies
	started    atomic.Bool
	stopOnce   sync.Once
	stopErr    error
}

// New opens the data folder and builds a node, or returns an error with
// nothing left running.
func New(o Options) (*Node, error) {
	o = o.withDefaults()
	n := &Node{options: o, log: o.Logger.With("node", o.ID), credentials: newCredentials(), changing: make(chan struct{}, 1)}
	var err error
	n.plan, err = newPlan(o.Desired, func(d actors.Declaration) { n.credentials.set(d.ID, credentialOf(d)) })
	if o.DataDir == "" {
		err = errors.Join(errors.New("DataDir is empty"), err)
	}
	if err != nil {
		return nil, err
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.starting.Store(new("not started"))
	if err := n.build(); err != nil {
		n.cancel()
		if n.farm != nil {
			n.farm.Stop(n.ctx, false)
		}
		n.beside.Wait()
		if n.store != nil {
			err = errors.Join(err, n.store.Close())
		}
		return nil, err
	}
	return n, nil
}

// build introduces the parts to each other.
func (n *Node) build() error {
	o := n.options
	n.metrics = metrics.New(metrics.Options{Registrars: namesOf(o.Registrars), XSPs: xspNames(o.XSPs), Version: o.Version})
	if err := n.openStore(); err != nil {
		return err
	}
	var err error
	n.adapter, err = sipadapter.New(sipadapter.Options{
		Listen: o.SIP.Listen, Advertise: o.SIP.Advertise, UserAgent: o.SIP.UserAgent,
		AllowSources: o.SIP.AcceptFrom, Collect: true, Logger: n.log, Counters: sipCounters{n.metrics},
		OnRequest: func(in *messages.SIPInbound) bool { return n.farm.Inbound(in) },
	})
	if err != nil {
		return err
	}
	n.farm = actors.NewFarm(actors.FarmOptions{
		Journal: journal{n.store}, Sender: n.adapter, Credentials: n.credentials, Observer: n.metrics,
		Token: newToken, Registrars: o.Registrars, Logger: n.log, SecretGone: n.secretGone, Vaults: vaults{n},
		Bodies: bodies{n}, OnInvite: n.onInvite(), Trunks: o.Trunks, Here: n.isHere,
	})
	n.running.Store(n.farm)
	n.setRegistrars(o.Registrars)
	if o.Admin.Listen == "" {
		return nil
	}
	n.admin, err = admin.New(admin.Options{
		Node: api{n}, Metrics: n.metrics.Handler(), Listen: o.Admin.Listen, TLSCert: o.Admin.TLSCert, TLSKey: o.Admin.TLSKey,
		TokenFile: o.Admin.TokenFile, Logger: n.log, Version: o.Version,
	})
	return err
}

func (n *Node) openStore() error {
	o := n.options
	key, err := store.LoadOrCreateKey(o.KeyFile, o.DataDir)
	if err != nil {
		return err
	}
	n.store, err = store.Open(store.Options{
		Dir: o.DataDir, Key: key, Logger: n.log, OnFailure: n.storeFailed,
		Fold: fold, Live: n.live,
		Retention: store.Retention{Count: o.Retention.Events, Age: o.Retention.Age, Bytes: o.Retention.Bytes},
	})
	if err != nil {
		return err
	}
	n.metrics.WatchJournal(func() int64 {
		stats, err := n.store.Stats()
		if err != nil {
			return 0
		}
		return stats.FileBytes
	})
	n.metrics.WatchGates(func(tell func(name string, waiting, inFlight int, open bool)) {
		if f := n.running.Load(); f != nil {
			f.TellGates(tell)
		}
	})
	return n.openSecrets()
}

// live gives a checkpoint the states that the farm has.
func (n *Node) live(stream string) ([]byte, uint64, bool) {
	if f := n.running.Load(); f != nil {
		return f.Live(stream)
	}
	return nil, 0, false
}

// Start binds the addresses, replays the journal and applies the declared
// profiles. When it returns nil the node is ready. After an error the node is
// stopped.
func (n *Node) Start(ctx context.Context) error {
	if n.started.Swap(true) || n.ctx.Err() != nil {
		return errors.New("muster: a node is started once; build another one with New")
	}
	if err := n.start(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return errors.Join(err, n.Stop(stop))
	}
	return nil
}

func (n *Node) start(ctx context.Context) error {
	began := time.Now()
	if n.admin != nil {
		if err := n.admin.Start(); err != nil {
			return err
		}
	}
	if err := n.adapter.Start(); err != nil {
		return err
	}
	// The xSPs come before the profiles that were interrupted: those go on as soon
	// as the journal is replayed. So do the secrets, which New has read.
	if err := n.farm.SetXSPs(n.options.XSPs); err != nil {
		return err
	}
	n.starting.Store(new("replaying the journal"))
	if err := n.farm.Start(ctx); err != nil {
		return err
	}
	n.starting.Store(new("applying the profile files"))
	p := n.plan
	n.plan, n.options.Desired = nil, Desired{} // of a million rows nothing stays
	n.reloading.Lock()
	err := n.apply(ctx, p, true)
	n.reloading.Unlock()
	if err != nil {
		return err
	}
	if err := n.dropOrphans(ctx); err != nil {
		return err
	}
	n.dropOrphanBodies(func(id string) bool {
		v, err := n.farm.Session(ctx, id)
		return err == nil && v.EndedAt == nil
	})
	n.ready.Store(true)
	n.log.Info("ready", "took", time.Since(began).Round(time.Millisecond), "sip", n.adapter.Addrs(), "api", n.AdminAddr())
	return nil
}

// Stop ends the node: attempts that are open finish or are left as they are
// recorded, the journal is checkpointed and closed. It returns within
// StopLimit or when ctx ends. Calling it again returns the same.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, n.options.StopLimit)
		defer cancel()
		n.ready.Store(false)
		n.starting.Store(new("stopping"))
		n.besides.Lock()
		n.cancel()
		n.besides.Unlock()
		n.beside.Wait()
		var errs []error
		n.farm.Stop(ctx, n.options.Deregister)
		// The sockets close at once, even when the attempts took all the time.
		const grace = time.Second
		closing, cancelClosing := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancelClosing()
		errs = append(errs, n.adapter.Close(closing))
		if n.admin != nil {
			errs = append(errs, n.admin.Stop(ctx))
		}
		if n.store.Err() == nil {
			errs = append(errs, n.store.Checkpoint(context.WithoutCancel(ctx)))
		}
		errs = append(errs, n.store.Close())
		n.stopErr = errors.Join(errs...)
	})
	return n.stopErr
}

// AdminAddr is where the API listens, or "" without one.
func (n *Node) AdminAddr() string {
	if n.admin == nil {
		return ""
	}
	return n.admin.Addr()
}

// SIPAddrs are the addresses that the SIP side is bound to, such as
// "udp://127.0.0.1:5070".
func (n *Node) SIPAddrs() []string { return n.adapter.Addrs() }

// Metrics serves the node's metrics, for an embedder with a server of its own.
func (n *Node) Metrics() *metrics.Metrics { return n.metrics }

// Ready is nil when the node does its work, else why not.
func (n *Node) Ready() error {
	if err := n.storeError.Load(); err != nil {
		return fmt.Errorf("the store failed, nothing is sent: %w", *err)
	}
	if !n.ready.Load() {
		return errors.New(*n.starting.Load())
	}
	return nil
}

// Healthy is nil while the process can answer.
func (n *Node) Healthy() error { return nil }

// Backup writes a consistent copy of the journal.
func (n *Node) Backup(w io.Writer) error {
	_, err := n.store.Backup(n.ctx, w)
	return err
}

// storeFailed is told that what the last commit left on disk is unknown. The
// farm holds, the file is opened again, and every profile actor reads what is
// there before it goes on.
func (n *Node) storeFailed(cause error) {
	n.storeError.Store(&cause)
	n.farm.Hold(true)
	n.log.Error("the store failed; nothing is sent until it is open again", "error", cause)
	n.alongside(func() {
		const first, most = time.Second, 10 * time.Second
		for wait := first; ; wait = min(2*wait, most) {
			select {
			case <-n.ctx.Done():
				return
			case <-time.After(wait):
			}
			err := n.store.Reopen(n.ctx)
			if err == nil {
				break
			}
			n.log.Warn("the store does not open yet", "error", err)
		}
		n.storeError.Store(nil)
		n.farm.Hold(false)
		n.log.Info("the store is open again")
	})
}

// alongside runs do on a goroutine that Stop waits for, unless Stop has begun.
func (n *Node) alongside(do func()) {
	n.besides.Lock()
	defer n.besides.Unlock()
	if n.ctx.Err() == nil {
		n.beside.Go(do)
	}
}

// newToken returns 128 random bits as 32 hexadecimal digits.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func namesOf(rs []actors.Registrar) []string {
	names := make([]string, len(rs))
	for i, r := range rs {
		names[i] = r.Name
	}
	return names
}

func xspNames(xs []actors.XSP) []string {
	names := make([]string, len(xs))
	for i, x := range xs {
		names[i] = x.Name
	}
	return names
}

// fold adds events to the snapshot of a stream, which is nil without one and
// once the profile is forgotten or the session is over.
func fold(stream string, state []byte, events []*messages.Envelope) ([]byte, error) {
	if strings.HasPrefix(stream, "s/") {
		return session.Fold(state, events)
	}
	return profile.Fold(state, events)
}

// journal makes the store what the actors ask for.
type journal struct{ *store.Store }

// AppendThen implements actors.Journal.
func (j journal) AppendThen(stream string, after uint64, at time.Time, events []*messages.ProfileEvent, done func(error)) {
	j.Store.AppendThen(stream, after, at, events, func(err error) { done(appendError(err)) })
}

// AppendSession implements actors.Journal.
func (j journal) AppendSession(ctx context.Context, stream string, after uint64, at time.Time, events ...*messages.SessionEvent) error {
	return appendError(j.Store.AppendSession(ctx, stream, after, at, events...))
}

// appendError says the same with the errors of package actors.
func appendError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrConflict):
		return fmt.Errorf("%w: %w", actors.ErrConflict, err)
	case errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrClosed):
		return fmt.Errorf("%w: %w", actors.ErrStoreFailed, err)
	}
	return err
}

// Load implements actors.Journal.
func (j journal) Load(ctx context.Context, stream string) ([]byte, uint64, []*messages.Envelope, error) {
	b, version, events, err := j.Store.Load(ctx, stream)
	if err != nil && j.Err() != nil {
		err = fmt.Errorf("%w: %w", actors.ErrStoreFailed, err)
	}
	return b, version, events, err
}

// History implements actors.Journal.
func (j journal) History(ctx context.Context, stream string, before uint64, yield func(*messages.Envelope) bool) error {
	err := j.Store.History(ctx, stream, before, yield)
	if errors.Is(err, store.ErrFailed) {
		err = fmt.Errorf("%w: %w", actors.ErrStoreFailed, err)
	}
	return err
}

// Replay implements actors.Journal.
func (j journal) Replay(ctx context.Context, r actors.Replayer) error { return j.Store.Replay(ctx, r) }

// sipCounters gives the adapter's counts to the metrics.
type sipCounters struct{ *metrics.Metrics }

// Dropped implements sipadapter.Counters.
func (c sipCounters) Dropped(reason string) { c.PacketDropped(reason) }
