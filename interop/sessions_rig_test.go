//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// callNode is a node that places and takes calls.
type callNode struct {
	t *testing.T
	*muster.Node
}

func newCallNode(t *testing.T, o muster.Options) *callNode {
	t.Helper()
	o.DataDir = filepath.Join(t.TempDir(), "data")
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	o.StopLimit = 5 * time.Second
	if len(o.SIP.Listen) == 0 {
		o.SIP.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
	}
	node, err := muster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Stop(context.Background()) })
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &callNode{t, node}
}

// sipPort is "127.0.0.1:port" where the node listens on UDP.
func (n *callNode) sipAddr() string {
	n.t.Helper()
	for _, addr := range n.SIPAddrs() {
		if at, ok := strings.CutPrefix(addr, "udp://"); ok {
			return at
		}
	}
	n.t.Fatalf("no UDP address in %v", n.SIPAddrs())
	return ""
}

// farEnd is a registrar that is somebody's SIPp.
func farEnd(name, addr string) actors.Registrar {
	return actors.Registrar{
		Name: name, URI: "sip:" + addr + ";transport=udp",
		Realms: []string{Realm, "a." + Realm, "b." + Realm}, Rate: 500,
	}
}

// callers makes n profiles that only place calls.
func callers(n int, prefix, registrar string) []actors.Declaration {
	ds := declare(n, prefix, registrar)
	for i := range ds {
		ds[i].NoRegister = true
	}
	return ds
}

// campaign are calls that are placed one after the other at a pace.
type campaign struct {
	count, rate int
	call        func(i int) muster.Call
	// play does what the test wants with a call and waits for its end.
	play func(ctx context.Context, i int, s *muster.Session) error
	// limit bounds each call; 0 means 30 s.
	limit time.Duration
}

// run places the calls and waits until all are over.
func (n *callNode) run(c campaign) {
	n.t.Helper()
	if c.limit == 0 {
		c.limit = 30 * time.Second
	}
	var (
		mu   sync.Mutex
		errs []error
		wait sync.WaitGroup
	)
	pace := time.NewTicker(time.Second / time.Duration(c.rate))
	defer pace.Stop()
	for i := range c.count {
		<-pace.C
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(n.t.Context(), c.limit)
			defer cancel()
			s, err := n.StartSession(ctx, c.call(i))
			if err == nil {
				if err = c.play(ctx, i, s); err != nil {
					err = fmt.Errorf("call %d: %w\n%s", i, err, n.sessionStory(s.ID()))
				}
			}
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if len(errs) > 0 {
		n.t.Errorf("%d of %d calls went wrong:\n%v", len(errs), c.count, errors.Join(errs[:min(len(errs), 3)]...))
	}
}

// sessionStory is the history of a session as text, oldest event first.
func (n *callNode) sessionStory(id string) string {
	entries, err := n.SessionHistory(context.Background(), id, 0, 1000)
	if err != nil {
		return err.Error()
	}
	lines := make([]string, len(entries))
	for i, e := range entries {
		lines[len(entries)-1-i] = "  " + e.Text
	}
	return strings.Join(lines, "\n")
}

// next waits for an event of a kind and returns it, or an error when the
// session ends before.
func next(ctx context.Context, s *muster.Session, kind session.Notice) (muster.SessionEvent, error) {
	for {
		select {
		case <-ctx.Done():
			return muster.SessionEvent{}, fmt.Errorf("waiting for %s: %w", kind, ctx.Err())
		case e, open := <-s.Events():
			switch {
			case !open:
				return e, fmt.Errorf("waiting for %s: the session is over", kind)
			case e.Kind == kind:
				return e, nil
			case e.Kind == session.NoticeEnded:
				return e, fmt.Errorf("waiting for %s: the session ended: %s (%d)", kind, e.Reason, e.Status)
			}
		}
	}
}

// hangUp ends a session and waits until that is done.
func hangUp(ctx context.Context, s *muster.Session) error {
	if err := s.End(ctx); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	return wantEnded(ctx, s, messages.ReasonHangup)
}

// wantEnded waits for the end and checks why it came.
func wantEnded(ctx context.Context, s *muster.Session, reason messages.Reason) error {
	e, err := next(ctx, s, session.NoticeEnded)
	if err != nil {
		return err
	}
	if e.Reason != reason {
		return fmt.Errorf("the session ended with %s (%d), want %s", e.Reason, e.Status, reason)
	}
	return nil
}

// talk is the plain course of a call of ours: it is taken and ended by us.
func talk(ctx context.Context, _ int, s *muster.Session) error {
	e, err := next(ctx, s, session.NoticeEstablished)
	if err != nil {
		return err
	}
	if body := string(e.Response.Dialog.Body); !strings.HasPrefix(body, "v=0\r\no=- ") || !strings.HasSuffix(body, "\r\nm=audio 40000 RTP/AVP 0\r\n") {
		return fmt.Errorf("the answer of the far end arrived as %q", body)
	}
	return hangUp(ctx, s)
}

// offer is a body that only survives when nobody reads it.
func offer(i int) []byte {
	return fmt.Appendf(nil, "v=0\r\no=- %d 1 IN IP4 127.0.0.1\r\ns=\xc3\xa9 \xff\t \r\n\r\n\nlast line without end", i)
}

// wantQuiet checks that no session is left, by the list and by the metrics, at
// most 64*T1 and some time for the machine after the last message.
func (n *callNode) wantQuiet() {
	n.t.Helper()
	eventually(n.t, 40*time.Second, func() string {
		page, err := n.Sessions(n.t.Context(), actors.SessionQuery{Limit: 1000})
		if err != nil {
			n.t.Fatal(err)
		}
		if len(page.Sessions) > 0 {
			first := page.Sessions[0]
			return fmt.Sprintf("%d sessions are left, the first is %s: %s\n%s", len(page.Sessions), first.ID, first.State, n.sessionStory(first.ID))
		}
		return ""
	})
	if left := n.metric("muster_sessions", nil); left != 0 {
		n.t.Errorf("muster_sessions counts %v that are not over", left)
	}
}

// metric sums a metric over the series that have these labels.
func (n *callNode) metric(name string, labels map[string]string) float64 {
	n.t.Helper()
	families, err := n.Metrics().Gatherer().(*prometheus.Registry).Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		found = true
		for _, m := range family.GetMetric() {
			matching := 0
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want == l.GetValue() {
					matching++
				}
			}
			if matching == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	if !found {
		n.t.Errorf("there is no metric %s", name)
	}
	return sum
}

// together runs subtests at the same time, however few run in parallel
// otherwise: they wait and do not compute.
func together[T any](t *testing.T, name func(T) string, tests []T, run func(t *testing.T, test T)) {
	var wait sync.WaitGroup
	for _, test := range tests {
		wait.Go(func() { t.Run(name(test), func(t *testing.T) { run(t, test) }) })
	}
	wait.Wait()
}
