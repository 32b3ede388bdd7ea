package grpcxsp

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// Register makes an authenticator an AuthenticatorService of a server. Its
// errors other than refusals are answered with the status Unavailable
// (DeadlineExceeded where the deadline of the question passed), and its
// panics with Internal, neither with a word of what it said: that can hold a
// secret. An authenticator that wants to know its own faults logs them itself.
func Register(s grpc.ServiceRegistrar, a xsp.Authenticator) {
	RegisterAuthenticatorServiceServer(s, &service{authenticator: a})
}

type service struct {
	UnimplementedAuthenticatorServiceServer
	authenticator xsp.Authenticator
}

// Answer implements AuthenticatorServiceServer.
func (s *service) Answer(ctx context.Context, q *messages.AuthChallenge) (r *messages.AuthReply, err error) {
	defer func() {
		if recover() != nil {
			r, err = nil, status.Error(codes.Internal, "")
		}
	}()
	answer, err := s.authenticator.Answer(ctx, q)
	r, ok := xsp.Pack(q, answer, err)
	switch {
	case ok:
		return r, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, status.Error(codes.DeadlineExceeded, "")
	default:
		return nil, status.Error(codes.Unavailable, "")
	}
}
