package muster_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/sipadapter/siptest"
	"github.com/sipmuster/muster/store"
)

// TestStopWithRequestsInFlight: a shutdown waits for open attempts only as long
// as it may. What is still open is in the journal, and the next start goes on
// from there.
func TestStopWithRequestsInFlight(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	registrar := newRegistrar(t, siptest.Options{Authenticate: true, Outstanding: -1})
	ids := numbered(30)
	options := muster.Options{
		DataDir: t.TempDir() + "/data", StopLimit: limit,
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows(ids...)},
	}
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	setMode(t, registrar, siptest.Silent)
	lost := ids[:10]
	for _, id := range lost {
		before := len(seenOf(registrar, id))
		if _, err := node.RefreshProfile(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		eventually(t, id+" is asked for", func() bool { return len(seenOf(registrar, id)) > before })
	}
	began := time.Now()
	if err := node.Stop(t.Context()); err != nil {
		t.Errorf("stop with requests in flight: %v", err)
	}
	if took := time.Since(began); took < limit || took > limit+10*time.Second {
		t.Errorf("stop took %v, want the limit of %v", took, limit)
	}
	report, err := store.Verify(options.DataDir + "/journal.db")
	if err != nil || !report.OK() {
		t.Errorf("the journal after the stop: %v %v", err, report.Findings)
	}

	setMode(t, registrar, siptest.Up)
	node = startNode(t, options)
	for _, id := range lost { // recovering goes on after the node is ready
		eventually(t, id+" is recovered", func() bool {
			return strings.Contains(story(t, node, id), "was interrupted by a restart")
		})
	}
	for i, id := range ids {
		interrupted := strings.Contains(story(t, node, id), "was interrupted by a restart")
		if v := view(t, node, id); interrupted != (i < len(lost)) || v.State != actors.StateRegistered {
			t.Errorf("%s: interrupted %t, %s after the restart", id, interrupted, v.State)
		}
	}
	if _, err := node.RefreshProfile(t.Context(), lost[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an interrupted profile is refreshed", func() bool {
		return strings.Count(story(t, node, lost[0]), "registered (200)") == 2
	})
	wantInvariants(t, registrar)
	stopNode(t, node)
	checkJournal(t, options.DataDir+"/journal.db", registrar.Requests(), nil)
}

// TestStopWithdraws: with Deregister a node leaves nothing behind, at the
// registrar's pace, and keeps its limit when the registrar is silent.
func TestStopWithdraws(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true, MaxRate: 100})
	ids := numbered(40)
	config := target(registrar)
	config.Rate = 80 // granted; a commit between grant and request blurs it a little
	options := muster.Options{
		DataDir: t.TempDir() + "/data", Deregister: true,
		Desired: muster.Desired{Registrars: []actors.Registrar{config}, Profiles: rows(ids...)},
	}
	node := startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	stopNode(t, node)
	if n := registrar.Snapshot().Bindings; n != 0 {
		t.Errorf("the registrar holds %d bindings after the stop", n)
	}

	// Without a change they come back with the next start.
	node = startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	wantInvariants(t, registrar)
	stopNode(t, node)

	options.StopLimit = 2 * time.Second
	node = startNode(t, options)
	waitState(t, node, actors.StateRegistered, ids...)
	setMode(t, registrar, siptest.Silent)
	began := time.Now()
	if err := node.Stop(t.Context()); err != nil {
		t.Errorf("stop against a silent registrar: %v", err)
	}
	if took := time.Since(began); took > options.StopLimit+10*time.Second {
		t.Errorf("stop took %v, the limit is %v", took, options.StopLimit)
	}
}

// TestStartAndStopOnce: a node is started and stopped once; everything else is
// an error that says so and breaks nothing.
func TestStartAndStopOnce(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	options := muster.Options{
		DataDir: t.TempDir() + "/data", Admin: muster.Admin{Listen: "127.0.0.1:0"},
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows("p0")},
	}
	wantOnce := func(err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "started once") {
			t.Errorf("start: %v, want an error that says that a node is started once", err)
		}
	}

	node, err := muster.New(options)
	if err != nil {
		t.Fatal(err)
	}
	stopNode(t, node) // before the start
	wantOnce(node.Start(t.Context()))

	node = startNode(t, options)
	wantOnce(node.Start(t.Context()))
	waitState(t, node, actors.StateRegistered, "p0") // it runs on
	api := node.AdminAddr()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := node.Stop(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
	wg.Wait()
	wantOnce(node.Start(t.Context()))
	if c, err := net.Dial("tcp", api); err == nil {
		c.Close()
		t.Error("the API still listens after the stop")
	}

	// A node that is stopped answers with errors and not with a hang.
	ctx := context.Background()
	for what, ask := range map[string]func() error{
		"profile":    func() error { return second(node.Profile(ctx, "p0")) },
		"profiles":   func() error { return second(node.Profiles(ctx, actors.Query{})) },
		"add":        func() error { return second(node.AddProfile(ctx, rows("x")[0])) },
		"change":     func() error { return second(node.ChangeProfile(ctx, "p0", actors.Patch{})) },
		"remove":     func() error { return node.RemoveProfile(ctx, "p0") },
		"refresh":    func() error { return second(node.RefreshProfile(ctx, "p0")) },
		"fetch":      func() error { return second(node.FetchBindings(ctx, "p0")) },
		"registrars": func() error { return second(node.Registrars(ctx)) },
		"apply":      func() error { return node.Apply(ctx, options.Desired) },
		"ready":      node.Ready,
	} {
		if err := ask(); err == nil {
			t.Errorf("%s after the stop: no error", what)
		}
	}
	if r := node.ImportProfiles(ctx, rows("x"), false); r[0].Result != actors.ResultInvalid {
		t.Errorf("import after the stop: %+v", r)
	}
	wantInvariants(t, registrar)
}

// TestTwoNodesSideBySide: two nodes share a process, and nothing else.
func TestTwoNodesSideBySide(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	var nodes []*muster.Node
	for i := range 2 {
		nodes = append(nodes, startNode(t, muster.Options{
			ID: "node-" + string(rune('a'+i)), Admin: muster.Admin{Listen: "127.0.0.1:0"},
			Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows(numbered(20 * (i + 1))[20*i:]...)},
		}))
	}
	for _, node := range nodes {
		eventually(t, "20 profiles are registered", func() bool { return count(t, node, actors.StateRegistered) == 20 })
		if states := profileStates(t, node); states[actors.StateRegistered] != 20 {
			t.Errorf("the metrics show %v, want 20 registered: each node has its own", states)
		}
	}
	stopNode(t, nodes[0])
	if _, err := nodes[1].RefreshProfile(t.Context(), "p20"); err != nil {
		t.Errorf("the other node after the stop of one: %v", err)
	}
	eventually(t, "p20 is refreshed", func() bool { return len(seenOf(registrar, "p20")) == 3 })
	wantInvariants(t, registrar)
}

// goroutines counts those that run code of this module or of the actor
// library.
func goroutines() int {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	running := 0
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		ours := strings.Contains(stack, "sipmuster/muster/") || strings.Contains(stack, "sipmuster/muster.") ||
			strings.Contains(stack, "asynkron") || strings.Contains(stack, "bbolt")
		if ours && !strings.Contains(stack, "testing.tRunner") && !strings.Contains(stack, "siptest") {
			running++
		}
	}
	return running
}

// wantNothingRunning waits until as many goroutines are left as before. It is
// for tests that are not parallel.
func wantNothingRunning(t *testing.T, before int) {
	t.Helper()
	for range 200 {
		if goroutines() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines were running, now %d:\n%s", before, goroutines(), buf[:runtime.Stack(buf, true)])
}
