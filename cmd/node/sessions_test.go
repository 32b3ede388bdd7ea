package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin"
	"github.com/sipmuster/muster/admin/admintest"
)

// wire carries HTTP in memory, so that it can be cut and live in virtual time.
type wire struct {
	conns  chan net.Conn
	closed chan struct{}

	mu   sync.Mutex
	open []net.Conn
	dead bool
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { close(w.closed); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) dial(context.Context, string, string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil, net.ErrClosed
	}
	client, server := net.Pipe()
	select {
	case w.conns <- server:
		w.open = append(w.open, client)
		return client, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// cut closes what is open; with for ever, nobody gets through any more.
func (w *wire) cut(forEver bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = forEver
	for _, c := range w.open {
		_ = c.Close()
	}
	w.open = nil
}

// desk is a command line that talks to a fake node over a wire, in virtual
// time.
type desk struct {
	node     *admintest.Node
	wire     *wire
	client   *client
	c        *cobra.Command
	out, err bytes.Buffer
	press    context.CancelFunc // Ctrl-C
}

// newDesk starts the server. wrap, if any, replaces the node.
func newDesk(t *testing.T, wrap func(*admintest.Node) admin.Node) *desk {
	t.Helper()
	d := &desk{node: admintest.New(), wire: &wire{conns: make(chan net.Conn), closed: make(chan struct{})}, c: &cobra.Command{}}
	d.node.Put(actors.Declaration{ID: "alice", AOR: "sip:alice@example.test", Registrar: "acme"})
	var node admin.Node = d.node
	if wrap != nil {
		node = wrap(d.node)
	}
	handler, err := admin.New(admin.Options{Node: node})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(d.wire) }()
	transport := &http.Transport{DialContext: d.wire.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
	})
	d.client = &client{base: &url.URL{Scheme: "http", Host: "127.0.0.1"}, http: &http.Client{Transport: transport}}
	ctx, press := context.WithCancel(t.Context())
	d.press = press
	t.Cleanup(press)
	d.c.SetContext(ctx)
	d.c.SetOut(&d.out)
	d.c.SetErr(&d.err)
	return d
}

func (d *desk) place() error {
	p := &placing{c: d.c, node: d.client}
	return p.run("alice", []byte(`{"profile":"alice","target":"sip:bob@example.test"}`))
}

const wholeCall = `session call-1
    0.000s  calling      Call to sip:bob@example.test.
    0.010s  calling      INVITE sent, CSeq 1.
    0.020s  early        180 Ringing.
    0.030s  established  200 OK; acknowledged.
    0.040s  ending       Ending: hangup.local.
    0.050s  ending       BYE sent, CSeq 2.
    0.060s  ended        Ended: hangup.local.
the call was up for 30ms
`

// stateless takes the states away: a step that is told later has none.
func stateless(lines string) string {
	return regexp.MustCompile(`(s  )(\w+|-) +`).ReplaceAllString(lines, "$1")
}

// TestStartShowsEveryStepOnce: over connections that break at every point.
func TestStartShowsEveryStepOnce(t *testing.T) {
	for _, broken := range []string{"", "start", "ring", "establish", "start ring establish end"} {
		t.Run("at "+broken, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, nil)
				at := func(moment string) {
					time.Sleep(10 * time.Second)
					if strings.Contains(broken, moment) {
						d.wire.cut(false)
					}
				}
				d.node.OnCall = func(c *admintest.Call) {
					at("start")
					c.Ring()
					at("ring")
					c.Establish("v=0")
					at("establish")
					c.End(0, "hangup.local")
					at("end")
				}
				if err := d.place(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(stateless(wholeCall), stateless(d.out.String())); diff != "" || d.err.Len() > 0 {
					t.Errorf("(-want +got):\n%s%s", diff, &d.err)
				}
				time.Sleep(time.Minute) // until OnCall is over
			})
		})
	}
}

// TestStartShowsEveryStepOfABusyProfile: its other calls push the stream over.
func TestStartShowsEveryStepOfABusyProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.node.WatchBuffer = 5
		d.node.OnCall = func(c *admintest.Call) {
			c.Ring()
			for i := range 100 {
				d.node.Tell(actors.Change{Kind: "session", ID: "other", Profile: "alice", Version: uint64(i + 1), Type: "SessionEnded"})
			}
			c.Establish("v=0")
			c.End(0, "hangup.local")
		}
		if err := d.place(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stateless(wholeCall), stateless(d.out.String())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestStartTellsThatTheEndIsUnknown: the node forgot it before it was asked.
func TestStartTellsThatTheEndIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.node.OnCall = func(c *admintest.Call) {
			c.Establish("v=0")
			synctest.Wait()
			d.wire.cut(false)
			c.End(0, "hangup.local")
			c.Forget()
		}
		err := d.place()
		if err == nil || !strings.Contains(err.Error(), "read how the session ended: ") || !strings.Contains(d.out.String(), "Ended: hangup.local.") {
			t.Errorf("%v\n%s", err, &d.out)
		}
	})
}

func TestStartTellsThatTheNodeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.node.OnCall = func(c *admintest.Call) {
			c.Establish("v=0")
			time.Sleep(time.Second)
			d.wire.cut(true)
		}
		began := time.Now()
		err := d.place()
		if err == nil || !strings.Contains(err.Error(), "(the call may go on: muster sessions show call-1)") {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(began); took < reconnects*reconnectPause {
			t.Errorf("given up after %v", took)
		}
	})
}

// TestSilentStreamIsBroken: a node always says something.
func TestSilentStreamIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(n *admintest.Node) admin.Node { return n })
		d.client.http.Transport = mute{}
		f := &follower{node: d.client, query: url.Values{}}
		if err := f.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := f.stream.next(); err == nil {
			t.Error("a silent stream brought something")
		}
		if took := time.Since(began); took != silence {
			t.Errorf("given up after %v", took)
		}
		f.close()
	})
}

// mute answers and then says nothing, until the request ends.
type mute struct{}

func (mute) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: silent{r.Context()}, Request: r}, nil
}

type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }
func (silent) Close() error               { return nil }

// stubborn does not end its sessions.
type stubborn struct{ *admintest.Node }

func (s stubborn) EndSession(ctx context.Context, id string) (actors.SessionView, error) {
	return s.Session(ctx, id)
}

func TestStartGivesUpOnASessionThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(n *admintest.Node) admin.Node { return stubborn{n} })
		d.node.OnCall = func(c *admintest.Call) {
			c.Establish("v=0")
			time.Sleep(time.Minute)
			d.press()
		}
		began := time.Now()
		err := d.place()
		if err == nil || !strings.Contains(err.Error(), "the session does not end (the call may go on") {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(began); took != time.Minute+endTimeout {
			t.Errorf("given up after %v", took)
		}
	})
}

func TestStartIsInterruptedBeforeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.press()
		if err := d.place(); err == nil || err.Error() != "interrupted" {
			t.Errorf("the error is %v", err)
		}
		if d.node.Call("call-1") != nil {
			t.Error("a call was started")
		}
	})
}

func TestWatchShowsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, form := range []string{formTable, formJSON} {
			d := newDesk(t, nil)
			f := &follower{node: d.client, query: url.Values{"kind": {"session"}}}
			done := make(chan error)
			go func() { done <- watchChanges(d.c, f, form) }()
			synctest.Wait()
			c := actors.Change{Kind: "session", ID: "s1", Profile: "alice", Version: 1, At: time.Unix(0, 0).UTC(), Type: "SessionEnded", Text: "Ended: \x1b[2J.", State: "ended"}
			d.node.Tell(c)
			synctest.Wait()
			d.wire.cut(false)
			time.Sleep(2 * reconnectPause)
			c.Version++
			d.node.Tell(c)
			synctest.Wait()
			d.press()
			if err := <-done; err != nil {
				t.Errorf("Ctrl-C: %v", err)
			}
			want := strings.Repeat(c.At.Local().Format(localTime)+"  s1  ended         SessionEnded  Ended: �[2J.\n", 2)
			if form == formJSON {
				want = ""
				for v := range 2 {
					want += fmt.Sprintf(`{"kind":"session","id":"s1","profile":"alice","version":%d,"at":"1970-01-01T00:00:00Z","type":"SessionEnded","text":"Ended: \u001b[2J.","state":"ended"}`+"\n", v+1)
				}
			}
			if diff := cmp.Diff(want, d.out.String()); diff != "" || d.err.String() != "muster: some events are missing here\n" {
				t.Errorf("(-want +got):\n%s%s", diff, &d.err)
			}
		}
	})
}

// TestWatchOfOneMissesNothing: what happened meanwhile is shown.
func TestWatchOfOneMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		if _, err := d.node.StartSession(t.Context(), actors.SessionRequest{Profile: "alice", Target: "sip:bob@example.test"}); err != nil {
			t.Fatal(err)
		}
		c := d.node.Call("call-1")
		f := &follower{node: d.client, query: url.Values{"kind": {"session"}, "id": {"call-1"}}}
		done := make(chan error)
		go func() { done <- watchChanges(d.c, f, formTable) }()
		synctest.Wait()
		c.Ring()
		synctest.Wait()
		d.wire.cut(false)
		c.Establish("v=0")
		time.Sleep(2 * reconnectPause)
		c.End(0, "hangup.remote")
		synctest.Wait()
		d.press()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := strings.Count(d.out.String(), "\n"); got != 4 || d.err.Len() > 0 {
			t.Errorf("%d lines:\n%s%s", got, &d.out, &d.err)
		}
	})
}
