package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// xspTable is the xSPs in force. It is replaced as a whole.
type xspTable struct {
	pids    map[string]*actor.PID
	headers map[string][]string
	// limits is how long each may take, for the cores.
	limits map[string]time.Duration
	// names are those of all, sorted.
	names []string
}

// CheckHandler tells what is wrong with the name of a handler or a chain of
// them, or nil; xsps are the names besides digest. Empty is the registrar's
// default.
func CheckHandler(handler string, xsps []string) error {
	if handler == "" {
		return nil
	}
	chain := messages.Handlers(handler)
	if len(chain) > messages.MaxHandlers {
		return fmt.Errorf("is a chain of %d handlers, at most %d are allowed", len(chain), messages.MaxHandlers)
	}
	for i, name := range chain {
		if name != messages.DigestHandler && !slices.Contains(xsps, name) {
			return fmt.Errorf("%q is not available; known are %s", xsp.Printable(name), strings.Join(append([]string{messages.DigestHandler}, xsps...), ", "))
		}
		if slices.Contains(chain[:i], name) {
			return fmt.Errorf("%q stands there twice", name)
		}
	}
	return nil
}

// reservedNames are the built-in handler, and the label value of metrics for
// what is not configured.
var reservedNames = []string{messages.DigestHandler, "other"}

// Check tells what is wrong with the configuration of an xSP, or nil.
func (x XSP) Check() error {
	switch {
	case x.Name == "" || slices.Contains(reservedNames, x.Name) || strings.ContainsAny(x.Name, "> \t"):
		return fmt.Errorf("xSP %q: want a name other than digest and other, without blanks and >", x.Name)
	case (x.Authenticator == nil) == (x.Actor == nil):
		return fmt.Errorf("xSP %q: want either an Authenticator or an Actor", x.Name)
	case x.Timeout < 0 || x.Timeout > maxXSPTimeout:
		return fmt.Errorf("xSP %q: Timeout %v: want at most %v", x.Name, x.Timeout, maxXSPTimeout)
	case x.Concurrency < 0 || x.Waiting < 0:
		return fmt.Errorf("xSP %q: Concurrency and Waiting must not be negative", x.Name)
	}
	return nil
}

// maxXSPTimeout leaves a challenge's nonce a chance to be still alive.
const maxXSPTimeout = time.Minute

// SetXSPs replaces the xSPs. Those of the same name keep their queue and
// breaker; questions that are out with one that is gone end as unavailable.
// After an error nothing has changed.
func (f *Farm) SetXSPs(xs []XSP) error {
	var errs []error
	for i, x := range xs {
		errs = append(errs, x.Check())
		if slices.ContainsFunc(xs[:i], func(y XSP) bool { return y.Name == x.Name }) {
			errs = append(errs, fmt.Errorf("xSP %q is configured twice", x.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, x := range xs {
		if keeper, ok := x.Authenticator.(xsp.Keeper); ok {
			if err := f.keep(keeper, x.Name); err != nil {
				return fmt.Errorf("xSP %q: %w", x.Name, err)
			}
		}
	}
	f.changing.Lock()
	defer f.changing.Unlock()
	old := f.xsps.Load()
	next := &xspTable{pids: map[string]*actor.PID{}, headers: map[string][]string{}, limits: map[string]time.Duration{}}
	for _, x := range xs {
		if x.Timeout == 0 {
			x.Timeout = defaultXSPTimeout
		}
		next.headers[x.Name], next.limits[x.Name] = x.Headers, x.Timeout
		if pid, known := old.pids[x.Name]; known {
			f.root.Send(pid, &reconfigureXSP{config: x})
			next.pids[x.Name] = pid
			continue
		}
		a := &xspActor{farm: f, config: x, gate: newXSPGate(x), pending: map[string]*asking{}}
		props := f.props(func() actor.Actor { return a }, actor.WithSupervisor(xspSupervision{farm: f, name: x.Name}))
		next.pids[x.Name] = f.root.Spawn(props)
	}
	next.names = slices.Sorted(maps.Keys(next.pids))
	f.xsps.Store(next)
	f.setLimits(next.limits)
	for name, pid := range old.pids {
		if next.pids[name] == nil {
			f.root.Stop(pid)
		}
	}
	return nil
}

func (f *Farm) keep(k xsp.Keeper, name string) error {
	if f.vaults == nil {
		return errors.New("it must remember something, and this node has no vault")
	}
	return k.Keep(f.vaults.Vault(name))
}

// XSPNames are the names of the xSPs in force, sorted.
func (f *Farm) XSPNames() []string { return f.xsps.Load().names }

// XSPs returns every xSP, in the order of the names.
func (f *Farm) XSPs(ctx context.Context) ([]XSPView, error) {
	if f.stopping.Load() {
		return nil, ErrStopping
	}
	views := []XSPView{}
	table := f.xsps.Load()
	for _, name := range table.names {
		reply := make(chan XSPView, 1)
		f.root.Send(table.pids[name], &xspStatus{reply: reply})
		select {
		case v := <-reply:
			views = append(views, v)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(commandLimit):
			return nil, errTimeout
		}
	}
	return views, nil
}

// tally counts what became of questions. It is safe for concurrent use.
type tally struct {
	answered, refused, failed, nanos atomic.Uint64
}

func (t *tally) add(outcome string, elapsed time.Duration) {
	switch outcome {
	case outcomeAnswered:
		t.answered.Add(1)
		t.nanos.Add(uint64(max(elapsed, 0)))
	case outcomeRefused:
		t.refused.Add(1)
	case outcomeLate:
	default:
		t.failed.Add(1)
	}
}

func (t *tally) view() AnswersView {
	v := AnswersView{Answered: t.answered.Load(), Refused: t.refused.Load(), Failed: t.failed.Load()}
	if v.Answered > 0 {
		v.MeanMS = float64(t.nanos.Load()) / float64(v.Answered) / float64(time.Millisecond)
	}
	return v
}

// tallies counts by registrar and handler. Both come from the configuration,
// so there are few.
type tallies struct{ all sync.Map }

type tallyKey struct{ registrar, handler string }

func (t *tallies) of(registrar, handler string) *tally {
	key := tallyKey{registrar, handler}
	if found, ok := t.all.Load(key); ok {
		return found.(*tally)
	}
	found, _ := t.all.LoadOrStore(key, &tally{})
	return found.(*tally)
}

// digested is the tally of the DigestActor for a registrar.
func (f *Farm) digested(name string, r *registrar) *tally {
	if t := r.digests.Load(); t != nil {
		return t
	}
	t := f.tallies.of(name, messages.DigestHandler)
	if r != &unknownRegistrar { // which all farms share
		r.digests.Store(t)
	}
	return t
}

// view is what each handler did for a registrar.
func (t *tallies) view(registrar string) map[string]AnswersView {
	views := map[string]AnswersView{}
	t.all.Range(func(key, value any) bool {
		if k := key.(tallyKey); k.registrar == registrar {
			views[k.handler] = value.(*tally).view()
		}
		return true
	})
	return views
}
