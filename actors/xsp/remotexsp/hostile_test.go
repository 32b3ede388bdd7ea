package remotexsp

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
	"github.com/sipmuster/muster/messages"
)

func TestS41_LateSecondAndUnknownAnswersAreDropped(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	r := newRogue(t, ca.Config("xsp.test"))
	a := e.Authenticator(Peer{Address: r.addr, Actor: "answerer", Identity: "xsp.test"})
	ctx, cancel := context.WithCancel(t.Context())
	late := make(chan error)
	go func() {
		_, err := a.Answer(ctx, questionOf("late"))
		late <- err
	}()
	inbox := (<-r.asked).inbox.GetId()
	cancel()
	if err := <-late; err == nil {
		t.Error("no error for a question that is not answered")
	}
	c := mustCall(t, ca.Config("xsp.test"), e.Addr(), "node.test")
	first, last := ask(t, a, "first"), ask(t, a, "last")
	<-r.asked
	<-r.asked
	c.send(inbox, answerTo("late"))
	c.send(inbox, answerTo("never asked"))
	c.send(inbox, answerTo(""))
	c.send(inbox, answerTo("first"))
	c.send(inbox, &messages.AuthRefusal{Ref: "first"})
	c.send(inbox, answerTo("last"))
	wantAnswer(t, first, "first")
	wantAnswer(t, last, "last")
	wantDropped(t, e.Dropped(), map[string]uint64{dropLate: 1, dropSecond: 1, dropForeign: 2})
}

func TestS41_AnAnswerOfAnotherPeerIsDropped(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	one, two := newRogue(t, ca.Config("one.test")), newRogue(t, ca.Config("two.test"))
	a := e.Authenticator(Peer{Address: one.addr, Actor: "answerer", Identity: "one.test"})
	b := e.Authenticator(Peer{Address: two.addr, Actor: "answerer", Identity: "two.test"})
	toOne, toTwo := ask(t, a, "to one"), ask(t, b, "to two")
	atOne, atTwo := <-one.asked, <-two.asked

	intruder := mustCall(t, ca.Config("two.test"), e.Addr(), "node.test")
	intruder.send(atOne.inbox.GetId(), answerTo("to one"))
	intruder.send(atTwo.inbox.GetId(), answerTo("to one"))
	intruder.send(atTwo.inbox.GetId(), answerTo("to two"))
	wantAnswer(t, toTwo, "to two")
	wantDropped(t, e.Dropped(), map[string]uint64{dropForeign: 2})
	select {
	case r := <-toOne:
		t.Errorf("a question to another peer has ended: %v", r)
	default:
	}
	mustCall(t, ca.Config("one.test"), e.Addr(), "node.test").send(atOne.inbox.GetId(), answerTo("to one"))
	wantAnswer(t, toOne, "to one")
}

func TestS40_StrangersAreRefused(t *testing.T) {
	if !alone(t) {
		return
	}
	ca, other := xsptlstest.New(t), xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	s := serve(t, ServeOptions{TLS: ca.Config("xsp.test")}, echo)
	a := e.Authenticator(Peer{Address: s.Addr(), Actor: "answerer", Identity: "xsp.test"})
	bare := ca.Config("xsp.test")
	bare.Certificates = nil
	// These two are refused before their names are looked at, and not counted.
	foreign := other.Config("xsp.test")
	foreign.RootCAs = ca.Config("x").RootCAs
	for _, end := range []struct{ addr, name, friend string }{
		{e.Addr(), "node.test", "xsp.test"},
		{s.Addr(), "xsp.test", "node.test"},
	} {
		for name, config := range map[string]*tls.Config{
			"not on the list":     ca.Config("stranger.test"),
			"no name":             ca.Config(),
			"a wildcard":          ca.Config("*.test"),
			"another authority":   foreign,
			"without certificate": bare,
		} {
			if _, err := call(t, config, end.addr, end.name); err == nil {
				t.Errorf("%s was let in by %s", name, end.name)
			}
		}
		if _, err := call(t, ca.Config("more.test", end.friend), end.addr, end.name); err != nil {
			t.Errorf("%s does not let in %s: %v", end.name, end.friend, err)
		}
	}
	wantAnswer(t, ask(t, a, "friend"), "friend")
	wantDropped(t, e.Dropped(), map[string]uint64{dropIdentity: 3})
	wantDropped(t, s.Dropped(), map[string]uint64{dropIdentity: 3})
}

// TestS40_AQuestionGoesOnlyToTheIdentityOfItsAddress: another peer, or a
// wildcard, at the address is not told the question.
func TestS40_AQuestionGoesOnlyToTheIdentityOfItsAddress(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	var log strings.Builder
	e := listen(t, Options{TLS: ca.Config("node.test"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for i, name := range []string{"two.test", "*.test"} {
		r := newRogue(t, ca.Config(name))
		a := e.Authenticator(Peer{Address: r.addr, Actor: "answerer", Identity: "one.test"})
		lost := losses(t, e, r.addr)
		done := ask(t, a, "refused")
		<-lost
		if n := strings.Count(log.String(), "cannot connect"); n != i+1 {
			t.Errorf("%d lines say that nothing can be sent to %s, want one for each address:\n%s", n, name, log.String())
		}
		select {
		case q := <-r.asked:
			t.Errorf("%s was asked %s, which was for one.test", name, q.ref)
		default:
		}
		// With its own name it is asked by the next connection, and the older
		// authenticator is not.
		if name == "two.test" {
			b := e.Authenticator(Peer{Address: r.addr, Actor: "answerer", Identity: "two.test"})
			if _, err := a.Answer(t.Context(), questionOf("older")); err == nil || !strings.Contains(err.Error(), "another identity") {
				t.Errorf("the older authenticator: %v", err)
			}
			q := ask(t, b, "newer")
			at := <-r.asked
			mustCall(t, ca.Config("two.test"), e.Addr(), "node.test").send(at.inbox.GetId(), answerTo("newer"))
			wantAnswer(t, q, "newer")
		}
		_ = a.(*asker).Close()
		<-done
	}
}

func TestS76_HostileMessagesNeitherStopNorEndTheLink(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	r := newRogue(t, ca.Config("xsp.test"))
	a := e.Authenticator(Peer{Address: r.addr, Actor: "answerer", Identity: "xsp.test"})
	done := ask(t, a, "good")
	inbox := (<-r.asked).inbox.GetId()
	c := mustCall(t, ca.Config("xsp.test"), e.Addr(), "node.test")
	me := &actor.PID{Address: r.addr, Id: "me"}
	types := uint64(0)
	for _, target := range []string{inbox, "activator", "EndpointSupervisor", "eventstream", "deadletter", "$1", "$2", ""} {
		for _, m := range []proto.Message{
			&actor.Stop{}, &actor.PoisonPill{}, &actor.Watch{Watcher: me}, &actor.Unwatch{Watcher: me}, &actor.Terminated{Who: me}, &actor.Touch{},
			&remote.ActorPidRequest{Name: "x", Kind: "none"}, questionOf("hello"),
		} {
			c.send(target, m)
			types++
		}
		c.sendRaw(target, "muster.v2.Unknown", []byte("x"))
		c.sendRaw(target, "muster.v1.AuthAnswer", []byte{0xff})
		types += 2
	}
	for _, b := range []*remote.MessageBatch{
		{Envelopes: []*remote.MessageEnvelope{{}}},
		{TypeNames: []string{"muster.v1.AuthAnswer"}, Targets: []string{inbox}, Envelopes: []*remote.MessageEnvelope{{TypeId: -1}}},
		{TypeNames: []string{"muster.v1.AuthAnswer"}, Targets: []string{inbox}, Envelopes: []*remote.MessageEnvelope{{Target: 7}}},
		{TypeNames: []string{"muster.v1.AuthAnswer"}, Targets: []string{inbox}, Envelopes: []*remote.MessageEnvelope{{Sender: 1}}},
		{TypeNames: []string{"muster.v1.AuthAnswer"}, Targets: []string{inbox}, Envelopes: []*remote.MessageEnvelope{{SerializerId: 1}}},
	} {
		c.sendBatch(b)
		types++
	}
	// A million empty envelopes are two megabytes here and a hundred there.
	dense := &remote.MessageBatch{TypeNames: []string{"x"}, Targets: []string{inbox}}
	for range 1_000_000 {
		dense.Envelopes = append(dense.Envelopes, &remote.MessageEnvelope{})
	}
	c.sendBatch(dense)
	types++
	for _, m := range []*remote.RemoteMessage{
		greeting("127.0.0.1:1"),
		{},
		{MessageType: &remote.RemoteMessage_ConnectRequest{ConnectRequest: &remote.ConnectRequest{}}},
		{MessageType: &remote.RemoteMessage_DisconnectRequest{DisconnectRequest: &remote.DisconnectRequest{}}},
	} {
		if err := c.stream.Send(m); err != nil {
			t.Fatal(err)
		}
		types++
	}
	c.send("activator", answerTo("good"))
	large := answerTo("good")
	large.Mutations[0].Value = strings.Repeat("x", maxAnswer)
	c.send(inbox, large)
	c.sendRaw(inbox, "muster.v1.AuthAnswer", make([]byte, 16<<20))
	// Remote's unary methods panic.
	if _, err := remote.NewRemotingClient(c.conn).ListProcesses(t.Context(), &remote.ListProcessesRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("ListProcesses: %v", err)
	}
	c.send(inbox, answerTo("good"))
	wantAnswer(t, done, "good")
	wantDropped(t, e.Dropped(), map[string]uint64{dropType: types, dropForeign: 1, dropSize: 2})

	// Above the limit of a whole batch gRPC ends the stream, and that one only.
	_ = c.stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: &remote.MessageBatch{
		Envelopes: []*remote.MessageEnvelope{{MessageData: make([]byte, maxBatch)}},
	}}})
	if _, err := c.stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a batch above the limit: %v", err)
	}
	done = ask(t, a, "next")
	<-r.asked
	mustCall(t, ca.Config("xsp.test"), e.Addr(), "node.test").send(inbox, answerTo("next"))
	wantAnswer(t, done, "next")
}

// TestS76_TheOtherSideTakesQuestionsOnly is the same for Serve.
func TestS76_TheOtherSideTakesQuestionsOnly(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := xsptlstest.New(t)
	e := listen(t, Options{TLS: ca.Config("node.test")})
	s := serve(t, ServeOptions{TLS: ca.Config("xsp.test"), Nodes: []string{"node.test", "second.test"}}, echo)
	a := e.Authenticator(Peer{Address: s.Addr(), Actor: "answerer", Identity: "xsp.test"})
	wantAnswer(t, ask(t, a, "before"), "before")

	c := mustCall(t, ca.Config("second.test"), s.Addr(), "xsp.test")
	for _, m := range []proto.Message{&actor.Stop{}, &actor.PoisonPill{}, &remote.ActorPidRequest{}, answerTo("before")} {
		c.send("answerer", m)
	}
	c.sendRaw("answerer", "muster.v2.Unknown", nil)
	c.send("another", questionOf("q"))
	c.send("answerer", questionOf("no sender"))
	askBy := func(address string, q *messages.AuthChallenge) {
		data, err := proto.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		c.sendBatch(&remote.MessageBatch{
			TypeNames: []string{"muster.v1.AuthChallenge"}, Targets: []string{"answerer"}, Senders: []*actor.PID{{Address: address, Id: "x"}},
			Envelopes: []*remote.MessageEnvelope{{MessageData: data, Sender: 1}},
		})
	}
	askBy("nowhere", questionOf("no address"))
	askBy(e.Addr(), questionOf("another's address"))
	late := questionOf("late")
	late.Deadline = timestamppb.New(timestamppb.Now().AsTime().Add(-1))
	r := newRogue(t, ca.Config("second.test"))
	askBy(r.addr, late)
	c.sendRaw("answerer", "muster.v1.AuthChallenge", make([]byte, maxQuestion+1))
	for i := range 2 * maxAddresses {
		askBy(newRogue(t, ca.Config("second.test")).addr, questionOf("many "+string(rune('a'+i))))
	}
	// The stream ends when all of that was read.
	if err := c.stream.CloseSend(); err != nil {
		t.Error(err)
	}
	for {
		if _, err := c.stream.Recv(); err != nil {
			break
		}
	}
	wantDropped(t, s.Dropped(), map[string]uint64{dropType: 5, dropForeign: 4, dropSize: 1, dropLate: 1})
	s.mu.Lock()
	if n := len(s.addresses["second.test"]); n > maxAddresses {
		t.Errorf("%d addresses of one node are known, want at most %d", n, maxAddresses)
	}
	s.mu.Unlock()
	wantAnswer(t, ask(t, a, "after"), "after")
}
