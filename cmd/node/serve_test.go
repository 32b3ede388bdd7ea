package main

import (
	"context"
	"crypto/rand"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/grpcxsp"
	"github.com/sipmuster/muster/actors/xsp/remotexsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
	"github.com/sipmuster/muster/messages"
)

func passwordOf(user string) string { return "canary-" + user }

// answerer is somebody's own procedure: it knows the passwords that the node
// does not.
var answerer = xsp.Func(func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	user, _, _ := strings.Cut(strings.TrimPrefix(q.GetAor(), "sip:"), "@")
	answer, refusal := digest.Answer(q, digest.Credential{Username: user, Password: messages.NewSecret(passwordOf(user))},
		func(int, bool, string, string) string { return rand.Text() })
	if refusal != nil {
		return nil, xsp.Refuse(refusal.GetReason(), 0)
	}
	return answer, nil
})

// setupXSPs serves the answerer in the three ways that leave the process, at
// $HOOK, $GRPC and $FAR, with what they need in the script's folder.
func setupXSPs(t *testing.T, env *testscript.Env) error {
	authority := xsptlstest.New(t)
	cert, key, ca := authority.Files("node.example.test")
	for name, from := range map[string]string{"node.pem": cert, "node.key": key, "ca.pem": ca} {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), content, 0o600); err != nil {
			return err
		}
	}
	// It comes first: it replaces gRPC's logger.
	far, err := remotexsp.Serve(remotexsp.ServeOptions{
		Listen: "127.0.0.1:0", Name: "radius", TLS: authority.Config("radius.example.test"), Nodes: []string{"node.example.test"},
	}, answerer)
	if err != nil {
		return err
	}
	env.Defer(func() { _ = far.Close() })
	env.Setenv("FAR", far.Addr())

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	near := grpc.NewServer()
	grpcxsp.Register(near, answerer)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = near.Serve(listener) // it ends with Stop
	}()
	env.Defer(func() {
		near.Stop()
		<-served
	})
	env.Setenv("GRPC", listener.Addr().String())

	hook := httptest.NewServer(webhook.Handler(messages.NewSecret("canary-of-the-hook"), answerer, webhook.HandlerOptions{}))
	env.Defer(hook.Close)
	env.Setenv("HOOK", hook.URL)
	return nil
}
