package muster_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// closing counts how often it is closed.
type closing struct {
	tokens
	closed atomic.Int64
}

func (c *closing) Close() error { c.closed.Add(1); return nil }

// hangUp is a caller who goes away in the middle of a reload.
type hangUp struct {
	*closing
	cancel func()
}

func (h *hangUp) Keep(xsp.Vault) error { h.cancel(); return nil }

func TestAReloadGoesOnWithoutItsCaller(t *testing.T) {
	r := newRegistrar(t, siptest.Options{Authenticate: true})
	node := startNode(t, muster.Options{Desired: answeredBy(r, &closing{}, "p0")})
	waitState(t, node, actors.StateRegistered, "p0")
	next := &closing{}
	ctx, cancel := context.WithCancel(t.Context())
	if err := node.Apply(ctx, answeredBy(r, &hangUp{next, cancel}, "p0", "p1")); err != nil {
		t.Error(err)
	}
	waitState(t, node, actors.StateRegistered, "p0", "p1")
	if next.asked.Load() == 0 || next.closed.Load() != 0 {
		t.Errorf("the new xSP was asked %d times and closed %d times", next.asked.Load(), next.closed.Load())
	}
	stopNode(t, node)
	if next.closed.Load() != 1 {
		t.Errorf("after the end it was closed %d times", next.closed.Load())
	}
}

// broken cannot get at what it keeps.
type broken struct{ closing }

func (*broken) Keep(xsp.Vault) error { return errors.New("no") }

func TestARefusedXSPChangesNothing(t *testing.T) {
	r := newRegistrar(t, siptest.Options{Authenticate: true})
	node := startNode(t, muster.Options{Desired: answeredBy(r, &tokens{}, "p0")})
	waitState(t, node, actors.StateRegistered, "p0")
	bad := &broken{}
	d := answeredBy(r, bad, "p0")
	d.Profiles[0].AOR = "sip:other@example.test" // which would withdraw the old binding
	if err := node.Apply(t.Context(), d); err == nil {
		t.Fatal("an xSP that cannot work is put into force")
	}
	if bad.closed.Load() != 1 {
		t.Errorf("the refused xSP was closed %d times", bad.closed.Load())
	}
	if v := view(t, node, "p0"); v.State != actors.StateRegistered || v.AOR != aorOf("p0") {
		t.Errorf("the refused reload left %+v", v)
	}
}

// TestAnXSPInUseIsKept: what an operator chose for a profile of a file counts as
// long as its row does not change; an xSP goes together with its rows.
func TestAnXSPInUseIsKept(t *testing.T) {
	r := newRegistrar(t, siptest.Options{Authenticate: true})
	d := answeredBy(r, &tokens{}, "p0")
	d.XSPs = append(d.XSPs, actors.XSP{Name: "second", Authenticator: &tokens{}})
	node := startNode(t, muster.Options{Desired: d})
	waitState(t, node, actors.StateRegistered, "p0")
	second, none := "second", ""
	if _, err := node.SetSecurity(t.Context(), "p0", &second, nil); err != nil {
		t.Fatal(err)
	}
	err := node.Apply(t.Context(), answeredBy(r, &tokens{}, "p0"))
	if err == nil || !strings.Contains(err.Error(), "xsp.second: still used by 1 profiles") {
		t.Errorf("dropping an xSP that is in use: %v", err)
	}
	if _, err := node.SetSecurity(t.Context(), "p0", &none, nil); err != nil {
		t.Fatal(err)
	}
	if err := node.Apply(t.Context(), answeredBy(r, &tokens{}, "p0")); err != nil {
		t.Error(err)
	}
	plain := muster.Desired{Registrars: []actors.Registrar{d.Registrars[0]}}
	plain.Registrars[0].RegistrationHandler = ""
	if err := node.Apply(t.Context(), plain); err != nil {
		t.Errorf("dropping an xSP together with its rows: %v", err)
	}
	eventually(t, "p0 is gone", func() bool {
		_, err := node.Profile(t.Context(), "p0")
		return errors.Is(err, actors.ErrNotFound)
	})
}
