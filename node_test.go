package muster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

func TestNodeRegistersOverRealSockets(t *testing.T) {
	registrar, err := siptest.NewRegistrar(siptest.Options{Authenticate: true, Realm: "example.test", Password: passwordOf})
	if err != nil {
		t.Fatal(err)
	}
	defer registrar.Close()
	node, err := muster.New(muster.Options{
		DataDir: t.TempDir() + "/data", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Desired: desired(100, registrar.Addr()),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return count(t, node, actors.StateRegistered) == 100 })
	if err := node.RemoveProfile(t.Context(), "p3"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return count(t, node, actors.StateRegistered) == 99 })
	waitFor(t, func() bool { _, err := node.Profile(t.Context(), "p3"); return errors.Is(err, actors.ErrNotFound) })
	if states := profileStates(t, node); states["registered"] != 99 || len(states) != 1 {
		t.Errorf("muster_profiles: %v, want 99 registered and nothing else", states)
	}
	if err := node.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, err := range registrar.CheckInvariants() {
		t.Error(err)
	}
}

// profileStates is muster_profiles by state, without the zeros.
func profileStates(t *testing.T, node *muster.Node) map[string]float64 {
	t.Helper()
	families, err := node.Metrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "muster_profiles" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if v := m.GetGauge().GetValue(); l.GetName() == "state" && v != 0 {
					states[l.GetValue()] += v
				}
			}
		}
	}
	return states
}

func passwordOf(user string) (string, bool) { return "pw-" + user, strings.HasPrefix(user, "p") }

func desired(profiles int, target string) muster.Desired {
	d := muster.Desired{Registrars: []actors.Registrar{{Name: "r", URI: "sip:" + target, Rate: -1}}}
	for i := range profiles {
		id := fmt.Sprintf("p%d", i)
		d.Profiles = append(d.Profiles, actors.Declaration{
			ID: id, AOR: "sip:" + id + "@example.test", Registrar: "r", Password: messages.NewSecret("pw-" + id),
		})
	}
	return d
}

func count(t *testing.T, node *muster.Node, state string) int {
	t.Helper()
	rs, err := node.Registrars(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rs[0].Profiles[state]
}

// waitFor polls until ok, within the test's deadline.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("it did not happen within 30 s")
}
