package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/admintest"
)

// pipes is a listener in memory, so that a server can live in virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.closed); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// inMemory serves like Start does, with all limits of time.
func (h *harness) inMemory() *http.Client {
	h.t.Helper()
	listener := &pipes{make(chan net.Conn), make(chan struct{})}
	s := h.server
	s.listener, s.done, s.server = listener, make(chan struct{}), s.httpServer()
	go s.serve(s.server, listener, s.done)
	transport := &http.Transport{DialContext: listener.dial}
	h.t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Stop(context.Background()); err != nil {
			h.t.Error(err)
		}
	})
	return &http.Client{Transport: transport}
}

// loopback serves on a socket.
func (h *harness) loopback() string {
	h.t.Helper()
	if err := h.server.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = h.server.Stop(context.Background()) })
	return h.server.URL()
}

func onLoopback(change func(*Options)) func(*Options) {
	return func(o *Options) {
		o.Listen = "127.0.0.1:0"
		if change != nil {
			change(o)
		}
	}
}

// sse is one server-sent event; a comment has only a text.
type sse struct {
	id, kind, comment string
	noID              bool
	change            actors.Change
}

// sseReader reads a stream of events.
type sseReader struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Reader
}

// watch subscribes; it returns once the node knows.
func watch(t *testing.T, client *http.Client, url string, header ...string) *sseReader {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" || answer.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %s, %v", url, answer.Status, answer.Header)
	}
	return &sseReader{t, answer.Body, bufio.NewReader(answer.Body)}
}

// any reads the next event or comment.
func (r *sseReader) any() (sse, error) {
	var e sse
	for {
		line, err := r.in.ReadString('\n')
		if err != nil {
			if line != "" {
				r.t.Errorf("the stream ends in %q", line)
			}
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n":
			return e, nil
		case name == "":
			e.comment = value
		case name == "id":
			e.id, e.noID = value, value == ""
		case name == "event":
			e.kind = value
		case name == "data":
			if err := json.Unmarshal([]byte(value), &e.change); err != nil {
				r.t.Errorf("data %q: %v", value, err)
			}
		default:
			r.t.Errorf("the line %q is none of a stream of events", line)
		}
	}
}

// next reads the next event.
func (r *sseReader) next() sse {
	r.t.Helper()
	for {
		e, err := r.any()
		if err != nil {
			r.t.Fatal(err)
		}
		if e.comment == "" {
			return e
		}
	}
}

// ends reads to the end and returns the last event.
func (r *sseReader) ends() (last sse) {
	r.t.Helper()
	for {
		e, err := r.any()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.t.Errorf("the stream ends with %v", err)
			}
			return last
		}
		last = e
	}
}

func TestEventsAsTheyHappen(t *testing.T) {
	h := newHarness(t, onLoopback(nil))
	h.node.Put(mustDeclare(t, alice))
	base := h.loopback() + "/api/v1/events"
	all := watch(t, http.DefaultClient, base)
	mine := watch(t, http.DefaultClient, base+"?kind=session&profile=sip:alice@example.test")
	other := watch(t, http.DefaultClient, base+"?id=call-2")

	h.node.Tell(actors.Change{Kind: "profile", ID: "bob/<1>", Profile: "bob/<1>", Version: 7, Type: "BindingGranted", Text: "ümlaut\nand a break", State: "registered"})
	h.do(201, "POST", "/api/v1/sessions", bobCalled)
	h.node.Call("call-1").Establish("v=0")
	h.do(201, "POST", "/api/v1/sessions", bobCalled)

	e := all.next()
	want := actors.Change{Kind: "profile", ID: "bob/<1>", Profile: "bob/<1>", Version: 7, Type: "BindingGranted", Text: "ümlaut\nand a break", State: "registered"}
	if diff := cmp.Diff(want, e.change); diff != "" || e.id != "p/bob/<1>/7" || e.kind != "BindingGranted" {
		t.Errorf("%q %q (-want +got):\n%s", e.id, e.kind, diff)
	}
	for _, r := range []*sseReader{all, mine} {
		for i, kind := range []string{"SessionStarted", "RequestStarted", "SessionEstablished"} {
			if e := r.next(); e.kind != kind || e.id != fmt.Sprintf("s/call-1/%d", i+1) || e.change.Type != kind || e.change.Profile != "sip:alice@example.test" {
				t.Errorf("event %d: %+v", i, e)
			}
		}
	}
	if e := other.next(); e.id != "s/call-2/1" {
		t.Errorf("the stream of one session begins with %+v", e)
	}
}

// TestEventsAfterAReconnect: nothing is lost and nothing comes twice.
func TestEventsAfterAReconnect(t *testing.T) {
	h := newHarness(t, onLoopback(nil))
	h.node.Put(mustDeclare(t, alice))
	url := h.loopback() + "/api/v1/events?kind=session&id=call-1"
	h.do(201, "POST", "/api/v1/sessions", bobCalled)
	c := h.node.Call("call-1")
	first := watch(t, http.DefaultClient, url)
	c.Ring()
	if e := first.next(); e.id != "s/call-1/3" {
		t.Fatalf("first event: %+v", e)
	}
	_ = first.body.Close()
	c.Establish("v=0")
	for since := range 5 {
		again := watch(t, http.DefaultClient, url, "Last-Event-ID", fmt.Sprintf("s/call-1/%d", since))
		for version := since + 1; version <= 4; version++ {
			if e := again.next(); e.id != fmt.Sprintf("s/call-1/%d", version) || e.change.Text == "" || e.change.At.IsZero() || e.change.Profile != "sip:alice@example.test" {
				t.Errorf("after %d: %+v", since, e)
			}
		}
		h.node.Tell(actors.Change{Kind: "session", ID: "call-1", Version: 4}) // the node told it before it was read
		h.node.Tell(actors.Change{Kind: "session", ID: "call-1", Version: 5, Type: "SessionEnding"})
		if e := again.next(); e.id != "s/call-1/5" {
			t.Errorf("after the replay: %+v", e)
		}
	}
	// What is not of this stream, or no version, repeats nothing.
	for _, last := range []string{"p/call-1/1", "s/call-2/1", "s/call-1/x", "1", "s/call-1/-1"} {
		again := watch(t, http.DefaultClient, url, "Last-Event-ID", last)
		h.node.Tell(actors.Change{Kind: "session", ID: "call-1", Version: 6})
		if e := again.next(); e.id != "s/call-1/6" {
			t.Errorf("Last-Event-ID %q: %+v", last, e)
		}
	}
	h.do(404, "GET", "/api/v1/events?id=nobody", "", "Last-Event-ID", "s/nobody/3")
	// The end is told as long as the journal has it.
	c.End(0, "hangup.remote")
	c.Forget()
	h.do(404, "GET", "/api/v1/sessions/call-1", "")
	again := watch(t, http.DefaultClient, url, "Last-Event-ID", "s/call-1/5")
	if e := again.next(); e.id != "s/call-1/6" || e.kind != "SessionEnded" || e.change.Profile != "" {
		t.Errorf("of a session that is forgotten: %+v", e)
	}
}

// TestEventsOfAProfileAreRepeated: the fake's history of a profile ends at 5.
func TestEventsOfAProfileAreRepeated(t *testing.T) {
	h := newHarness(t, onLoopback(nil))
	h.node.Put(mustDeclare(t, alice))
	const id = "sip:alice@example.test"
	r := watch(t, http.DefaultClient, h.loopback()+"/api/v1/events?id="+id, "Last-Event-ID", "p/"+id+"/3")
	for _, version := range []string{"4", "5"} {
		if e := r.next(); e.id != "p/"+id+"/"+version || e.kind != "AttemptStarted" || e.change.Kind != "profile" || e.change.Profile != id {
			t.Errorf("version %s: %+v", version, e)
		}
	}
	// A version of another life of the node does not silence what follows.
	r = watch(t, http.DefaultClient, h.server.URL()+"/api/v1/events?id="+id, "Last-Event-ID", "p/"+id+"/99")
	h.node.Tell(actors.Change{Kind: "profile", ID: id, Version: 6})
	if e := r.next(); e.id != "p/"+id+"/6" {
		t.Errorf("after a version that does not exist: %+v", e)
	}
}

// TestGapInAReplayIsTold: what is no longer kept cannot be repeated.
func TestGapInAReplayIsTold(t *testing.T) {
	h := newHarness(t, onLoopback(nil))
	h.node.Put(mustDeclare(t, alice))
	h.do(201, "POST", "/api/v1/sessions", bobCalled)
	c := h.node.Call("call-1")
	for range maxReplay + 10 {
		c.Ring()
	}
	r := watch(t, http.DefaultClient, h.loopback()+"/api/v1/events?id=call-1", "Last-Event-ID", "s/call-1/1")
	if e := r.next(); e.kind != "overflow" || !e.noID {
		t.Errorf("a gap: %+v", e)
	}
	c.Establish("v=0")
	if e := r.next(); e.kind != "SessionEstablished" {
		t.Errorf("after a gap: %+v", e)
	}
}

func TestEventsEndWithTheServer(t *testing.T) {
	h := newHarness(t, onLoopback(nil))
	r := watch(t, http.DefaultClient, h.loopback()+"/api/v1/events")
	if err := h.server.Stop(t.Context()); err != nil { // and is not held up by it
		t.Fatal(err)
	}
	if last := r.ends(); last.kind != "" {
		t.Errorf("the last event is %+v", last)
	}
	if h.node.Watchers() != 0 {
		t.Error("the node is still watched")
	}
}

func TestEventsEndWithTheNode(t *testing.T) {
	h := newHarness(t, onLoopback(nil))
	r := watch(t, http.DefaultClient, h.loopback()+"/api/v1/events")
	h.node.StopSessions()
	if last := r.ends(); last.kind != "" {
		t.Errorf("a node that stops is taken for a slow reader: %+v", last)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	h := newHarness(t, onLoopback(func(o *Options) { o.MaxWatchers, o.MaxRequests = 2, 1 }))
	url := h.loopback() + "/api/v1/events"
	first := watch(t, http.DefaultClient, url)
	watch(t, http.DefaultClient, url)
	w := h.send(request("GET", "/api/v1/events", ""))
	if w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("a third watcher got %d", w.Code)
	}
	h.checkProblem(w)
	h.do(200, "GET", "/api/v1/profiles", "") // they take no other request's place
	_ = first.body.Close()
	for h.node.Watchers() > 1 || len(h.server.watchers) > 1 {
		runtime.Gosched()
	}
	watch(t, http.DefaultClient, url)
}

// TestEventsOutliveEveryTimeout: nothing of the server ends a stream that is
// read, and something arrives every 15 seconds (S-74).
func TestEventsOutliveEveryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, nil)
		r := watch(t, h.inMemory(), "http://127.0.0.1/api/v1/events")
		const long = 3 * time.Hour
		go func() {
			time.Sleep(long)
			h.node.Tell(actors.Change{Kind: "profile", ID: "a", Version: 1, Type: "Late"})
		}()
		began, comments := time.Now(), 0
		for {
			e, err := r.any()
			if err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			if e.kind == "Late" {
				break
			}
			comments++
		}
		if least := int(long/keepAlive) - 1; comments < least {
			t.Errorf("%d comments in %v, want %d", comments, long, least)
		}
		_ = r.body.Close()
		synctest.Wait()
		if h.node.Watchers() != 0 || len(h.server.watchers) != 0 {
			t.Error("the place of a caller who left is still taken")
		}
	})
}

// TestSlowReaderIsTold: who reads again finds the overflow as the last event.
func TestSlowReaderIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, nil)
		h.node.WatchBuffer = 10
		r := watch(t, h.inMemory(), "http://127.0.0.1/api/v1/events")
		flood(h.node)
		last := r.ends()
		if last.kind != "overflow" || last.noID || last.change.Text == "" {
			t.Errorf("the last event is %+v", last)
		}
	})
}

// TestReaderThatStopsIsLeft: its place is free after the time for one write.
func TestReaderThatStopsIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, nil)
		h.node.WatchBuffer = 10
		watch(t, h.inMemory(), "http://127.0.0.1/api/v1/events")
		flood(h.node)
		time.Sleep(writeGrace + time.Second)
		synctest.Wait()
		if len(h.server.watchers) != 0 || h.node.Watchers() != 0 {
			t.Error("the place of a reader that stopped is still taken")
		}
	})
}

// flood tells more than fits anywhere on the way.
func flood(node *admintest.Node) {
	for i := range 1000 {
		node.Tell(actors.Change{Kind: "profile", ID: "a", Version: uint64(i + 1), Type: "Flood", Text: strings.Repeat("x", 500)})
		synctest.Wait()
	}
}

// TestRevokedTokenEndsItsEvents: within the time between two comments.
func TestRevokedTokenEndsItsEvents(t *testing.T) {
	path := tokenFile(t, "viewer read", "boss admin")
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, func(o *Options) { o.TokenFile = path })
		client := h.inMemory()
		const url = "http://127.0.0.1/api/v1/events"
		h.do(401, "GET", "/api/v1/events", "")
		viewer := watch(t, client, url, "Authorization", "Bearer viewer")
		boss := watch(t, client, url, "Authorization", "Bearer boss")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(content), "viewer", "#")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.server.Reload(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		viewer.ends()
		if time.Since(began) > keepAlive {
			t.Errorf("the stream ended after %v", time.Since(began))
		}
		h.node.Tell(actors.Change{Kind: "profile", ID: "a", Version: 1, Type: "Still"})
		if e := boss.next(); e.kind != "Still" {
			t.Errorf("the other caller got %+v", e)
		}
	})
}

// TestInDialogRequestMayTakeLong: longer than the server gives a caller to send
// a request, because a transaction and its repetition take that long.
func TestInDialogRequestMayTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, nil)
		h.node.Put(mustDeclare(t, alice))
		h.do(201, "POST", "/api/v1/sessions", bobCalled)
		h.node.Call("call-1").Establish("v=0")
		const long = inDialogTimeout - time.Second
		h.node.OnRequest = func(string, actors.InDialog) actors.InDialogResult {
			time.Sleep(long)
			return actors.InDialogResult{Status: 200}
		}
		answer, err := h.inMemory().Post("http://127.0.0.1/api/v1/sessions/call-1/reinvite", "application/json", strings.NewReader(`{"body":"v=0"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 {
			t.Errorf("%s %s %v", answer.Status, body, err)
		}
	})
}
