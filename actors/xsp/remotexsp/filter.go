package remotexsp

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// maxAnswer is the size of the largest answer (S-44).
	maxAnswer = 16 << 10
	// maxBatch is remote's default of 1,000 messages in a batch, each as large
	// as an answer may be. A larger batch ends the stream that it came by.
	maxBatch = 1000*maxAnswer + 1<<20
	// maxGreeting is what a server may say to a client: it accepts, or leaves.
	maxGreeting = 4 << 10
)

// Why something is dropped; see Endpoint.Dropped.
const (
	dropIdentity = "identity"
	dropType     = "type"
	dropSize     = "size"
	dropForeign  = "foreign"
	dropLate     = "late"
	dropSecond   = "second"
)

type drops struct {
	counts map[string]*atomic.Uint64 // fixed keys
	warned atomic.Int64              // when a refused connection was logged, Unix seconds
}

func newDrops() *drops {
	d := &drops{counts: map[string]*atomic.Uint64{}}
	for _, reason := range []string{dropIdentity, dropType, dropSize, dropForeign, dropLate, dropSecond} {
		d.counts[reason] = new(atomic.Uint64)
	}
	return d
}

func (l *link) drop(reason string) {
	l.drops.counts[reason].Add(1)
	if reason != dropIdentity {
		return
	}
	// A wrong name in the configuration shows here first, so it is logged; but
	// anybody who can connect can repeat it.
	now, last := time.Now().Unix(), l.drops.warned.Load()
	if now-last >= 60 && l.drops.warned.CompareAndSwap(last, now) {
		l.log.Warn("refused a connection: no name of its certificate is on the list")
	}
}

func (l *link) dropped() map[string]uint64 {
	counts := make(map[string]uint64, len(l.drops.counts))
	for reason, n := range l.drops.counts {
		counts[reason] = n.Load()
	}
	return counts
}

// envelope is one message as it came off a connection.
type envelope struct {
	target, typeName string
	data             []byte
	sender           *actor.PID // nil when it has none
}

// refuseUnary: remote's unary methods are not implemented and panic, which
// would end the process.
func refuseUnary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.Unimplemented, "")
}

// filterStream puts a filter between a connection and remote.
func (l *link) filterStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	from := l.admitted(connectionOf(stream.Context()))
	if len(from) == 0 || info.FullMethod != remote.Remoting_Receive_FullMethodName {
		l.drop(dropIdentity)
		return status.Error(codes.PermissionDenied, "")
	}
	return handler(srv, &filter{ServerStream: stream, link: l, from: from})
}

// filter takes the messages off a stream. Remote sees the greeting only: it
// indexes the tables of a batch without a look at their length, and delivers
// system messages to whoever is named.
type filter struct {
	grpc.ServerStream
	link    *link
	from    identities
	greeted bool
}

// RecvMsg implements grpc.ServerStream.
func (f *filter) RecvMsg(m any) error {
	message, ok := m.(*remote.RemoteMessage)
	if !ok {
		return status.Error(codes.Internal, "")
	}
	for {
		if err := f.ServerStream.RecvMsg(message); err != nil {
			return err
		}
		switch t := message.MessageType.(type) {
		case *remote.RemoteMessage_MessageBatch:
			f.open(t.MessageBatch)
		case *remote.RemoteMessage_ConnectRequest:
			// Each is answered by remote, so that one is enough.
			if !f.greeted && t.ConnectRequest.GetServerConnection() != nil {
				f.greeted = true
				return nil
			}
			f.link.drop(dropType)
		default:
			f.link.drop(dropType)
		}
	}
}

func (f *filter) open(b *remote.MessageBatch) {
	for _, e := range b.GetEnvelopes() {
		m, ok := unwrap(b, e)
		switch {
		case !ok:
			f.link.drop(dropType)
		case len(m.data) > f.link.maxData:
			f.link.drop(dropSize)
		default:
			f.link.end.receive(f.Context(), f.from, m)
		}
	}
}

// unwrap looks a message's names up in the tables of its batch; the sender's
// index begins with 1. Serializer 0 is protobuf.
func unwrap(b *remote.MessageBatch, e *remote.MessageEnvelope) (*envelope, bool) {
	names, targets, senders := b.GetTypeNames(), b.GetTargets(), b.GetSenders()
	kind, target, sender := int(e.GetTypeId()), int(e.GetTarget()), int(e.GetSender())
	if kind < 0 || kind >= len(names) || target < 0 || target >= len(targets) ||
		sender < 0 || sender > len(senders) || e.GetSerializerId() != 0 {
		return nil, false
	}
	m := &envelope{target: targets[target], typeName: names[kind], data: e.GetMessageData()}
	if sender > 0 {
		from := senders[sender-1]
		m.sender = &actor.PID{Address: from.GetAddress(), Id: from.GetId(), RequestId: e.GetSenderRequestId()}
	}
	return m, true
}

// boundStream puts limits on a stream of ours: remote waits without one for
// the greeting and for every write, while questions pile up behind.
func (l *link) boundStream(_ context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancel(l.ctx)
	greeting := time.AfterFunc(patience, cancel)
	stream, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		greeting.Stop()
		cancel()
		l.unreachable(cc.Target(), err)
		return nil, err
	}
	return &bounded{ClientStream: stream, link: l, address: cc.Target(), cancel: cancel, greeting: greeting}, nil
}

type bounded struct {
	grpc.ClientStream
	link     *link
	address  string
	cancel   context.CancelFunc
	greeting *time.Timer
	greeted  bool
}

// SendMsg implements grpc.ClientStream.
func (b *bounded) SendMsg(m any) error {
	limit := time.AfterFunc(patience, b.cancel)
	defer limit.Stop()
	return b.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (b *bounded) RecvMsg(m any) error {
	err := b.ClientStream.RecvMsg(m)
	b.greeting.Stop()
	if err == nil {
		b.greeted = true
		return nil
	}
	b.cancel()
	if !b.greeted { // with TLS 1.3 a server refuses us after the handshake
		b.link.unreachable(b.address, err)
	}
	if errors.Is(err, io.EOF) {
		// Remote takes the regular end of a stream for nothing, and would go on
		// to use it.
		return status.Error(codes.Unavailable, "the peer ended the stream")
	}
	return err
}
