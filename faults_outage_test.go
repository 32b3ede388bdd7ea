package muster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// quick is a registrar whose failures are tried again after one to two
// seconds.
func quick(r *siptest.Registrar, transport string) actors.Registrar {
	config := target(r)
	config.URI += ";transport=" + transport
	config.RetryBase, config.RetryMax = time.Second, 2*time.Second
	return config
}

func setMode(t *testing.T, r *siptest.Registrar, m siptest.Mode) {
	t.Helper()
	if err := r.SetDown(m); err != nil {
		t.Fatal(err)
	}
}

// TestRegistrarWithoutListener: nothing listens at first, then the registrar
// comes up, goes away for a while, and comes back.
func TestRegistrarWithoutListener(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	setMode(t, registrar, siptest.Refusing)
	ids := numbered(5)
	node := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{quick(registrar, "tcp")}, Profiles: rows(ids...),
	}})
	waitState(t, node, actors.StateBackoff, ids...)
	for _, id := range ids {
		if v := view(t, node, id); v.Reason != "transport" || v.NextAttemptAt == nil {
			t.Errorf("%s: reason %q, next attempt %v, want transport and a time", id, v.Reason, v.NextAttemptAt)
		}
	}
	if text := story(t, node, ids[0]); !strings.Contains(text, "could not be sent or the connection broke") {
		t.Errorf("the history does not say that nothing could be sent:\n%s", text)
	}
	setMode(t, registrar, siptest.Up)
	waitState(t, node, actors.StateRegistered, ids...)

	// A refresh that fails leaves the binding, and says why it failed.
	setMode(t, registrar, siptest.Refusing)
	if _, err := node.RefreshProfile(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refresh fails", func() bool { return view(t, node, ids[0]).Reason == "transport" })
	if v := view(t, node, ids[0]); v.State != actors.StateRegistered || v.ExpiresAt == nil {
		t.Errorf("after a failed refresh: %s until %v, want registered as before", v.State, v.ExpiresAt)
	}
	setMode(t, registrar, siptest.Up)
	eventually(t, "the refresh succeeds", func() bool { return view(t, node, ids[0]).Reason == "" })
	wantInvariants(t, registrar)
}

// TestRegistrarUnavailable: a 503 with Retry-After holds back everything to
// that registrar, and nothing to another one.
func TestRegistrarUnavailable(t *testing.T) {
	t.Parallel()
	const pause = 4 * time.Second
	registrar := newRegistrar(t, siptest.Options{Authenticate: true, RetryAfter: pause})
	other := newRegistrar(t, siptest.Options{Authenticate: true})
	setMode(t, registrar, siptest.Unavailable)
	ids := numbered(20)
	one := quick(registrar, "udp")
	one.Concurrency = 1 // so that the first answer comes before the others are sent
	two := target(other)
	two.Name = "other"
	elsewhere := rows("neighbour")
	elsewhere[0].Registrar = "other"
	node := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{one, two}, Profiles: append(rows(ids...), elsewhere...),
	}})
	waitState(t, node, actors.StateRegistered, "neighbour")
	stateOf := func() actors.RegistrarView {
		rs, err := node.Registrars(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return rs[1] // "other" comes first
	}
	eventually(t, "the registrar's state is retry_after", func() bool { return stateOf().State == "retry_after" })
	if v := stateOf(); v.RetryAfter == nil || time.Until(*v.RetryAfter) > pause {
		t.Errorf("retry after %v, want within %v", v.RetryAfter, pause)
	}
	eventually(t, "one profile says why", func() bool {
		page, err := node.Profiles(t.Context(), actors.Query{Registrar: "r", State: actors.StateBackoff})
		return err == nil && len(page.Profiles) == 1 && page.Profiles[0].Reason == "registrar.unavailable" && page.Profiles[0].LastStatus == 503
	})
	setMode(t, registrar, siptest.Up)
	if n := registrar.Snapshot().Registers; n > 2 {
		t.Errorf("%d requests although the first answer was 503 with Retry-After", n)
	}
	waitState(t, node, actors.StateRegistered, ids...)
	wantInvariants(t, registrar)
	wantInvariants(t, other)
}

// TestConnectionCut: a TCP connection that breaks in the middle of a
// transaction fails the attempt at once, the next one uses a new connection,
// and all profiles share it.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	cut := make(chan struct{}, 100)
	registrar := scripted(t, siptest.Options{}, map[string]script{
		"p0": func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
			if req.HadCredentials && req.CSeq == 2 {
				cut <- struct{}{}
				return &siptest.Reply{Drop: true}
			}
			return nil
		},
	})
	ids := numbered(10)
	node := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{quick(registrar, "tcp")}, Profiles: rows(ids...),
	}})
	<-cut
	waitState(t, node, actors.StateRegistered, ids[1:]...)
	setMode(t, registrar, siptest.Refusing)
	waitState(t, node, actors.StateBackoff, "p0")
	if v := view(t, node, "p0"); v.Reason != "transport" {
		t.Errorf("reason %q after the connection was cut, want transport", v.Reason)
	}
	for _, id := range ids[1:] {
		if v := view(t, node, id); v.State != actors.StateRegistered || v.Reason != "" {
			t.Errorf("%s: %s because of %q: it had nothing on the connection", id, v.State, v.Reason)
		}
	}
	setMode(t, registrar, siptest.Up)
	registrar.ClientRestarted() // its request was lost with the connection
	waitState(t, node, actors.StateRegistered, ids...)
	for _, id := range ids {
		if _, err := node.RefreshProfile(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are refreshed", func() bool {
		n := 0
		for _, id := range ids {
			if v := view(t, node, id); v.Reason == "" && len(seenOf(registrar, id)) >= 3 {
				n++
			}
		}
		return n == len(ids)
	})
	if n := registrar.Snapshot().Connections; n != 2 {
		t.Errorf("%d connections, want one before the cut and one after", n)
	}
	wantInvariants(t, registrar)
}

// TestBrokenFramingEndsTheConnection: when the boundary of a message on a
// stream is lost, everything after it is noise. The connection ends and the
// next one works (S-32).
func TestBrokenFramingEndsTheConnection(t *testing.T) {
	t.Parallel()
	for name, noise := range map[string]func(m message) []byte{
		"noend":   func(m message) []byte { return append(m[:1:1], "X: "+strings.Repeat("A", 70<<10)).bytes()[:70<<10] },
		"promise": func(m message) []byte { return m.with("Content-Length", replaces("0", "2147483647")).bytes() },
		"minus":   func(m message) []byte { return m.with("Content-Length", replaces("0", "-1")).bytes() },
		"twice":   func(m message) []byte { return m.twice("Content-Length").bytes() },
		"none":    func(m message) []byte { return m.without("Content-Length").bytes() },
		"half":    spoiled["truncated"],
		"longer":  spoiled["length"],
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && (name == "half" || name == "longer") {
				t.Skip("SKIPPED: it takes the ten seconds that a message may take to arrive")
			}
			t.Parallel()
			registrar := scripted(t, siptest.Options{}, map[string]script{
				"p0": func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
					if req.CSeq == 1 {
						return &siptest.Reply{Raw: noise(answerTo(req, "SIP/2.0 403 Forbidden"))}
					}
					return nil
				},
			})
			node := startNode(t, muster.Options{Desired: muster.Desired{
				Registrars: []actors.Registrar{quick(registrar, "tcp")}, Profiles: rows("p0"),
			}})
			waitState(t, node, actors.StateBackoff, "p0")
			if v := view(t, node, "p0"); v.Reason != "transport" {
				t.Errorf("reason %q, want transport", v.Reason)
			}
			registrar.ClientRestarted()
			waitState(t, node, actors.StateRegistered, "p0")
			if n := registrar.Snapshot().Connections; n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
			wantInvariants(t, registrar)
		})
	}
}
