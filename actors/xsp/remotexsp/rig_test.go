package remotexsp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

const isolation = "REMOTEXSP_TEST_ALONE"

// alone runs a test in a process of its own, and is false in the one that
// waits for it. remote.Start replaces gRPC's process-wide logger without a lock,
// which races with whatever an earlier test left of its connections. So a test
// starts all ends that it needs first, and others are rogues, which need no
// Start.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolation) != "" {
		return true
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s", "-test.v")
	cmd.Env = append(os.Environ(), isolation+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func listen(t testing.TB, o Options) *Endpoint {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	e, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func serve(t testing.TB, o ServeOptions, f xsp.Func) *Server {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Name == "" {
		o.Name = "answerer"
	}
	if o.Nodes == nil {
		o.Nodes = []string{"node.test"}
	}
	s, err := Serve(o, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func echo(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	return answerTo(q.GetRef()), nil
}

func answerTo(ref string) *messages.AuthAnswer {
	return &messages.AuthAnswer{
		Ref: ref, Answered: []uint32{0}, Preemptive: true, Continues: true,
		Mutations: []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: "Digest of " + ref}},
	}
}

func questionOf(ref string) *messages.AuthChallenge {
	return &messages.AuthChallenge{
		Ref: ref, ProfileId: "alice", Method: "REGISTER", RequestUri: "sip:example.test",
		Deadline: timestamppb.New(time.Now().Add(20 * time.Second)),
	}
}

type result struct {
	answer *messages.AuthAnswer
	err    error
}

// ask asks without waiting. The context is far longer than any test needs.
func ask(t testing.TB, a xsp.Authenticator, ref string) <-chan result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	done := make(chan result, 1)
	go func() {
		defer cancel()
		answer, err := a.Answer(ctx, questionOf(ref))
		done <- result{answer, err}
	}()
	return done
}

func wantAnswer(t testing.TB, done <-chan result, ref string) {
	t.Helper()
	r := <-done
	if r.err != nil || !proto.Equal(r.answer, answerTo(ref)) {
		t.Fatalf("%s: %v, %v", ref, r.answer, r.err)
	}
}

func wantDropped(t testing.TB, got, want map[string]uint64) {
	t.Helper()
	for reason, n := range got {
		if n != want[reason] {
			t.Errorf("dropped %d by reason %s, want %d", n, reason, want[reason])
		}
	}
}

// rogue is a peer of its own making: it speaks remote's protocol by its stubs
// and does as the test says.
type rogue struct {
	remote.UnimplementedRemotingServer
	t      testing.TB
	config *tls.Config
	addr   string
	asked  chan asked
	// mute keeps it from greeting.
	mute bool
}

// asked is a question as it arrived.
type asked struct {
	ref    string
	target string
	inbox  *actor.PID
}

func newRogue(t testing.TB, config *tls.Config) *rogue {
	t.Helper()
	r := &rogue{t: t, config: config, asked: make(chan asked, 100)}
	r.serve("127.0.0.1:0")
	return r
}

func (r *rogue) serve(address string) {
	r.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(r.config)))
	remote.RegisterRemotingServer(s, r)
	go func() { _ = s.Serve(listener) }()
	r.t.Cleanup(s.Stop)
}

// Receive implements remote.RemotingServer.
func (r *rogue) Receive(stream grpc.BidiStreamingServer[remote.RemoteMessage, remote.RemoteMessage]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetConnectRequest() != nil && !r.mute {
			greeting := &remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectResponse{ConnectResponse: &remote.ConnectResponse{MemberId: "rogue"}}}
			if err := stream.Send(greeting); err != nil {
				return err
			}
		}
		for _, e := range m.GetMessageBatch().GetEnvelopes() {
			u, ok := unwrap(m.GetMessageBatch(), e)
			q := new(messages.AuthChallenge)
			if !ok || u.typeName != "muster.v1.AuthChallenge" || proto.Unmarshal(u.data, q) != nil {
				return errors.New("not a question")
			}
			r.asked <- asked{ref: q.GetRef(), target: u.target, inbox: u.sender}
		}
	}
}

// caller is a connection to an end.
type caller struct {
	t      testing.TB
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[remote.RemoteMessage, remote.RemoteMessage]
}

// call connects to address, which is to be named name.
func call(t testing.TB, config *tls.Config, address, name string) (*caller, error) {
	t.Helper()
	config = config.Clone()
	config.ServerName = name
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := remote.NewRemotingClient(conn).Receive(t.Context())
	if err != nil {
		return nil, err
	}
	c := &caller{t: t, conn: conn, stream: stream}
	if err := c.stream.Send(greeting("127.0.0.1:1")); err != nil && !errors.Is(err, context.Canceled) {
		_, err = stream.Recv()
		return nil, err
	}
	_, err = stream.Recv()
	return c, err
}

func mustCall(t testing.TB, config *tls.Config, address, name string) *caller {
	t.Helper()
	c, err := call(t, config, address, name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func greeting(address string) *remote.RemoteMessage {
	return &remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectRequest{ConnectRequest: &remote.ConnectRequest{
		ConnectionType: &remote.ConnectRequest_ServerConnection{ServerConnection: &remote.ServerConnection{MemberId: "rogue", Address: address}},
	}}}
}

// send sends one message to a name.
func (c *caller) send(target string, m proto.Message) {
	c.t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	c.sendRaw(target, string(proto.MessageName(m)), data)
}

func (c *caller) sendRaw(target, typeName string, data []byte) {
	c.t.Helper()
	c.sendBatch(&remote.MessageBatch{
		TypeNames: []string{typeName}, Targets: []string{target},
		Envelopes: []*remote.MessageEnvelope{{MessageData: data}},
	})
}

func (c *caller) sendBatch(b *remote.MessageBatch) {
	c.t.Helper()
	if err := c.stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: b}}); err != nil {
		_, err = c.stream.Recv()
		c.t.Fatalf("the stream has ended: %v", err)
	}
}
