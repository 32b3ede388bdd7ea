package main

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/signature"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/remotexsp"
	"github.com/sipmuster/muster/cmd/node/config"
	"github.com/sipmuster/muster/messages"
)

// closing is an xSP that says when it is closed.
type closing struct {
	xsp.Func
	closed *int
}

func (c closing) Close() error {
	*c.closed++
	return nil
}

func TestXSPsOfAConfiguration(t *testing.T) {
	var log bytes.Buffer
	p := &xspMaker{log: slog.New(slog.NewTextHandler(&log, nil))}
	key := messages.NewSecret("canary-of-the-key")
	list := []config.XSP{
		{
			Name: "hook", Timeout: time.Second, Concurrency: 7, Waiting: 9, Headers: []string{"X-Tenant"},
			Webhook: &config.Webhook{URL: "http://127.0.0.1:9/", Secret: key},
		},
		{Name: "near", GRPC: &config.GRPC{Target: "127.0.0.1:9"}},
		{Name: "sim", AKA: &config.AKA{}},
		{Name: "sign", HMAC: &signature.Options{Key: key}},
	}
	built, err := p.build(list)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range built {
		if x.Name != list[i].Name || x.Kind != list[i].Kind() || x.Authenticator == nil {
			t.Errorf("%s became %+v", list[i].Name, x)
		}
	}
	if x := built[0]; x.Timeout != time.Second || x.Concurrency != 7 || x.Waiting != 9 || len(x.Headers) != 1 {
		t.Errorf("limits became %+v", x)
	}
	if err := closeAll(built); err != nil {
		t.Error(err)
	}

	// An actor on another node cannot be reached without the endpoint, which
	// opens at the start only.
	list = append(list, config.XSP{Name: "far", Actor: &remotexsp.Peer{Address: "127.0.0.1:9", Actor: "radius", Identity: "radius.example.test"}})
	if _, err := p.build(list); err == nil || err.Error() != "xsp.far: needs the section remote, which takes effect at the next start" {
		t.Errorf("an actor without endpoint: %v", err)
	}
}

func TestCloseAllClosesEveryCloser(t *testing.T) {
	closed := 0
	one := closing{closed: &closed}
	if err := closeAll([]actors.XSP{{Authenticator: one}, {Authenticator: xsp.Func(nil)}, {}, {Authenticator: one}}); err != nil || closed != 2 {
		t.Errorf("closed %d of 2: %v", closed, errors.Join(err))
	}
}
