package remotexsp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/remote"

	"github.com/sipmuster/muster/actors/xsp/xsptls"
	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
)

// losses tells each time that remote gives an address up.
func losses(t *testing.T, e *Endpoint, address string) <-chan struct{} {
	t.Helper()
	lost := make(chan struct{}, 100)
	s := e.system.EventStream.Subscribe(func(event any) {
		if x, ok := event.(*remote.EndpointTerminatedEvent); ok && x.Address == address {
			lost <- struct{}{}
		}
	})
	t.Cleanup(func() { e.system.EventStream.Unsubscribe(s) })
	return lost
}

const childFiles = "REMOTEXSP_TEST_CHILD"

// TestPeerIsKilledAndComesBack has the peer in a process that is killed.
func TestPeerIsKilledAndComesBack(t *testing.T) {
	if files := os.Getenv(childFiles); files != "" {
		child(t, strings.Split(files, "|"))
		return
	}
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	cert, key, root := ca.Files("xsp.test")
	start := func(address string) (*exec.Cmd, string) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), childFiles+"="+strings.Join([]string{address, cert, key, root}, "|"))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return cmd, strings.TrimSpace(line)
	}
	first, address := start("127.0.0.1:0")
	a := e.Authenticator(Peer{Address: address, Actor: "answerer", Identity: "xsp.test"})
	wantAnswer(t, ask(t, a, "before"), "before")
	lost := losses(t, e, address)
	_ = first.Process.Kill()
	_ = first.Wait()
	<-lost
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-lost
		cancel()
	}()
	if _, err := a.Answer(ctx, questionOf("dead")); !errors.Is(err, context.Canceled) {
		t.Fatalf("a dead peer: %v", err)
	}
	second, _ := start(address)
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := a.Answer(ctx, questionOf(fmt.Sprint("after", i)))
		cancel()
		if err == nil {
			break
		}
	}
	_ = second.Process.Kill()
	_ = second.Wait()
}

func child(t *testing.T, files []string) {
	config, err := xsptls.Load(files[1], files[2], files[3])
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, ServeOptions{Listen: files[0], TLS: config}, echo)
	fmt.Println(s.Addr())
	<-t.Context().Done()
	select {}
}

// TestUnreachablePeer asks where nobody listens.
func TestUnreachablePeer(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test"), MaxPending: 3})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	a := e.Authenticator(Peer{Address: address, Actor: "answerer", Identity: "xsp.test"})
	lost := losses(t, e, address)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	// What has ended waits in remote's queue, so that counts as well.
	for i := range 3 {
		if _, err := a.Answer(ended, questionOf(fmt.Sprint("q", i))); !errors.Is(err, context.Canceled) {
			t.Errorf("question %d: %v", i, err)
		}
	}
	if _, err := a.Answer(t.Context(), questionOf("more")); !errors.Is(err, errTooMany) {
		t.Errorf("a question beyond the bound: %v", err)
	}
	<-lost
	if _, err := a.Answer(ended, questionOf("later")); !errors.Is(err, context.Canceled) {
		t.Errorf("a question after the queue was dropped: %v", err)
	}
	if n := len(a.(*asker).pending); n != 0 {
		t.Errorf("%d questions are kept", n)
	}
}

func TestPendingQuestionsAreBounded(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test"), MaxPending: 2})
	r := newRogue(t, ca.Config("xsp.test"))
	a := e.Authenticator(Peer{Address: r.addr, Actor: "answerer", Identity: "xsp.test"})
	one, two := ask(t, a, "one"), ask(t, a, "two")
	at := <-r.asked
	<-r.asked
	if _, err := a.Answer(t.Context(), questionOf("three")); !errors.Is(err, errTooMany) {
		t.Errorf("a question beyond the bound: %v", err)
	}
	if _, err := a.Answer(t.Context(), questionOf("")); err == nil {
		t.Error("a question without a ref was asked")
	}
	c := mustCall(t, ca.Config("xsp.test"), e.Addr(), "node.test")
	c.send(at.inbox.GetId(), answerTo("one"))
	wantAnswer(t, one, "one")
	if _, err := a.Answer(t.Context(), questionOf("two")); err == nil || errors.Is(err, errTooMany) {
		t.Errorf("a question that is open was asked again: %v", err)
	}
	c.send(at.inbox.GetId(), answerTo("two"))
	wantAnswer(t, two, "two")
}

// TestS44_APeerThatNeverGreets is given up, so that what waits is dropped.
func TestS44_APeerThatNeverGreets(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test"), MaxPending: 1})
	r := &rogue{t: t, config: ca.Config("xsp.test"), asked: make(chan asked, 1), mute: true}
	r.serve("127.0.0.1:0")
	a := e.Authenticator(Peer{Address: r.addr, Actor: "answerer", Identity: "xsp.test"})
	lost := losses(t, e, r.addr)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Answer(ended, questionOf("q")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-lost
	if _, err := a.Answer(ended, questionOf("q2")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the peer was given up: %v", err)
	}
}
