package muster_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// files stands for the configuration on disk, which a reload reads again.
type files struct {
	mu      sync.Mutex
	desired muster.Desired
	err     error
}

func (f *files) load(context.Context) (muster.Desired, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.desired, f.err
}

// edit changes the rows, as an editor would: in a copy.
func (f *files) edit(change func(d *muster.Desired)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := muster.Desired{Registrars: slices.Clone(f.desired.Registrars), Profiles: slices.Clone(f.desired.Profiles)}
	change(&next)
	f.desired = next
}

// row changes one row.
func (f *files) row(id string, change func(d *actors.Declaration)) {
	f.edit(func(desired *muster.Desired) {
		for i := range desired.Profiles {
			if desired.Profiles[i].ID == id {
				change(&desired.Profiles[i])
			}
		}
	})
}

// remove leaves a row out.
func (f *files) remove(id string) {
	f.edit(func(d *muster.Desired) {
		d.Profiles = slices.DeleteFunc(d.Profiles, func(p actors.Declaration) bool { return p.ID == id })
	})
}

// reloading is a running node with its files and its registrar.
type reloading struct {
	t         *testing.T
	files     *files
	options   muster.Options
	node      *muster.Node
	registrar *siptest.Registrar
}

// newReloading starts a node with the profiles p0 to p4, all registered.
func newReloading(t *testing.T) *reloading {
	t.Helper()
	r := &reloading{t: t, registrar: newRegistrar(t, siptest.Options{Authenticate: true})}
	r.files = &files{desired: muster.Desired{Registrars: []actors.Registrar{target(r.registrar)}, Profiles: rows(numbered(5)...)}}
	r.options = muster.Options{DataDir: t.TempDir() + "/data", Load: r.files.load}
	r.start()
	waitState(t, r.node, actors.StateRegistered, numbered(5)...)
	return r
}

func (r *reloading) start() {
	r.t.Helper()
	r.options.Desired, _ = r.files.load(r.t.Context())
	r.node = startNode(r.t, r.options)
	r.options.SIP.Listen = r.node.SIPAddrs() // a restart keeps the contacts
}

func (r *reloading) restart() {
	r.t.Helper()
	stopNode(r.t, r.node)
	r.start()
}

func (r *reloading) reload() {
	r.t.Helper()
	if err := r.node.Reload(r.t.Context()); err != nil {
		r.t.Fatalf("reload: %v", err)
	}
}

// requests is how many requests of a profile the registrar has seen.
func (r *reloading) requests(id string) int { return len(seenOf(r.registrar, id)) }

// quiet checks that nothing leaves for a profile, for a while.
func (r *reloading) quiet(do func(), ids ...string) {
	r.t.Helper()
	before := map[string]int{}
	views := map[string]actors.ProfileView{}
	for _, id := range ids {
		before[id], views[id] = r.requests(id), view(r.t, r.node, id)
	}
	do()
	time.Sleep(500 * time.Millisecond)
	for _, id := range ids {
		v, was := view(r.t, r.node, id), views[id]
		if n := r.requests(id) - before[id]; n != 0 {
			r.t.Errorf("%s: %d requests, want none", id, n)
		}
		if v.CallID != was.CallID || v.CSeq != was.CSeq || v.State != was.State {
			r.t.Errorf("%s: Call-ID %s, CSeq %d, %s; before: %s, %d, %s", id, v.CallID, v.CSeq, v.State, was.CallID, was.CSeq, was.State)
		}
	}
}

// wantMetrics compares what the metrics count with what the API lists.
func (r *reloading) wantMetrics() {
	r.t.Helper()
	page, err := r.node.Profiles(r.t.Context(), actors.Query{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	listed := map[string]float64{}
	for _, p := range page.Profiles {
		listed[p.State]++
	}
	if counted := profileStates(r.t, r.node); !maps.Equal(counted, listed) {
		r.t.Errorf("the metrics count %v, the API lists %v", counted, listed)
	}
}

// gone waits until a profile is not known any more.
func (r *reloading) gone(id string) {
	r.t.Helper()
	eventually(r.t, id+" is forgotten", func() bool {
		_, err := r.node.Profile(r.t.Context(), id)
		return errors.Is(err, actors.ErrNotFound)
	})
}

func (r *reloading) bindings(id string) int { return len(r.registrar.Bindings(aorOf(id))) }

// TestReloadTouchesOnlyWhatChanged is the promise of a reload.
func TestReloadTouchesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.quiet(r.reload, numbered(5)...)

	before := view(t, r.node, "p0")
	r.files.row("p0", func(d *actors.Declaration) { d.Expires = 10 * time.Minute })
	r.quiet(r.reload, "p1", "p2", "p3", "p4")
	eventually(t, "p0 asks for the other expiry", func() bool { return r.requests("p0") > 2 })
	waitState(t, r.node, actors.StateRegistered, "p0")
	after := view(t, r.node, "p0")
	if after.CallID != before.CallID || after.CSeq != before.CSeq+1 {
		t.Errorf("another expiry: Call-ID %s CSeq %d after %s %d, want the same and the next", after.CallID, after.CSeq, before.CallID, before.CSeq)
	}
	if left := time.Until(*after.ExpiresAt); left > 10*time.Minute {
		t.Errorf("the binding ends in %v, want the 10 minutes of the file", left)
	}

	r.files.row("p1", func(d *actors.Declaration) { d.Disabled = true })
	r.reload()
	eventually(t, "p1 withdraws", func() bool { return r.bindings("p1") == 0 })
	r.files.row("p1", func(d *actors.Declaration) { d.Disabled = false })
	r.reload()
	waitState(t, r.node, actors.StateRegistered, "p1")
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}

// TestReloadMovesProfiles: another registrar or AOR is another binding. The
// old one is withdrawn, and then the new one is made.
func TestReloadMovesProfiles(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	other := newRegistrar(t, siptest.Options{Authenticate: true})
	second := target(other)
	second.Name = "second"
	r.files.edit(func(d *muster.Desired) { d.Registrars = append(d.Registrars, second) })
	r.files.row("p0", func(d *actors.Declaration) { d.Registrar = "second" })
	r.files.row("p1", func(d *actors.Declaration) { d.AOR, d.Password = aorOf("moved"), messages.NewSecret("pw-moved") })
	r.quiet(r.reload, "p2", "p3", "p4")
	eventually(t, "the old bindings are withdrawn", func() bool { return r.bindings("p0")+r.bindings("p1") == 0 })
	eventually(t, "p0 is at the second registrar", func() bool { return len(other.Bindings(aorOf("p0"))) == 1 })
	eventually(t, "p1 has its new address", func() bool { return r.bindings("moved") == 1 })
	waitState(t, r.node, actors.StateRegistered, "p0", "p1")
	r.quiet(r.reload, numbered(5)...)
	r.restart()
	r.quiet(func() {}, numbered(5)...)
	r.wantMetrics()
	wantInvariants(t, r.registrar)
	wantInvariants(t, other)
}

// TestReloadRemovesAndAddsRows: a row that is gone de-registers, and comes back
// as a new profile.
func TestReloadRemovesAndAddsRows(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	old := view(t, r.node, "p0").CallID
	r.files.remove("p0")
	r.quiet(r.reload, "p1", "p2", "p3", "p4")
	eventually(t, "p0 withdraws", func() bool { return r.bindings("p0") == 0 })
	r.gone("p0")

	r.files.edit(func(d *muster.Desired) { d.Profiles = append(d.Profiles, rows("p0")...) })
	r.reload()
	eventually(t, "p0 is back", func() bool { return r.bindings("p0") == 1 })
	waitState(t, r.node, actors.StateRegistered, "p0")
	if v := view(t, r.node, "p0"); v.CallID == old {
		t.Error("the Call-ID of a forgotten profile is used again")
	}

	// Gone and back before the withdrawal is over.
	r.files.remove("p0")
	r.reload()
	r.files.edit(func(d *muster.Desired) { d.Profiles = append(d.Profiles, rows("p0")...) })
	r.reload()
	eventually(t, "p0 is back again", func() bool {
		v, err := r.node.Profile(t.Context(), "p0")
		return err == nil && v.State == actors.StateRegistered && r.bindings("p0") == 1
	})

	// Gone, back and gone again: the last word counts, whatever waits for the
	// withdrawal.
	r.files.remove("p0")
	r.reload()
	r.files.edit(func(d *muster.Desired) { d.Profiles = append(d.Profiles, rows("p0")...) })
	r.reload()
	r.files.remove("p0")
	r.reload()
	eventually(t, "p0 withdraws for good", func() bool { return r.bindings("p0") == 0 })
	time.Sleep(3 * time.Second) // longer than a declaration waits for its second try
	if _, err := r.node.Profile(t.Context(), "p0"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("a profile that no file lists is back: %v", err)
	}
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}

// TestReloadAndTheOperator: what an operator did through the API stays as long
// as the row stays the same.
func TestReloadAndTheOperator(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	if err := r.node.RemoveProfile(t.Context(), "p0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "p0 withdraws", func() bool { return r.bindings("p0") == 0 })
	r.gone("p0")
	for _, again := range []func(){r.reload, r.restart, r.reload} {
		again()
		time.Sleep(200 * time.Millisecond)
		if _, err := r.node.Profile(t.Context(), "p0"); !errors.Is(err, actors.ErrNotFound) {
			t.Fatalf("p0 is back although its row did not change: %v", err)
		}
	}
	r.files.row("p0", func(d *actors.Declaration) { d.Expires = time.Hour })
	r.reload()
	eventually(t, "p0 is back with another row", func() bool { return r.bindings("p0") == 1 })

	expires, disabled, username := 20*time.Minute, false, "renamed"
	secret := messages.NewSecret("pw-renamed")
	for id, patch := range map[string]actors.Patch{
		"p1": {Expires: &expires}, "p2": {Enabled: &disabled}, "p3": {Username: &username, Password: &secret},
	} {
		if _, err := r.node.ChangeProfile(t.Context(), id, patch); err != nil {
			t.Fatalf("patch %s: %v", id, err)
		}
	}
	patched := func() bool {
		one, two, three := view(t, r.node, "p1"), view(t, r.node, "p2"), view(t, r.node, "p3")
		return one.Expires == 1200 && one.State == actors.StateRegistered && time.Until(*one.ExpiresAt) <= expires &&
			two.State == actors.StateDisabled && three.Username == username && three.State == actors.StateRegistered
	}
	eventually(t, "the patches have effect", func() bool {
		return patched() && r.bindings("p2") == 0 && r.successes("p1") == 2 && r.successes("p3") == 2
	})
	r.quiet(r.reload, "p1", "p2", "p3", "p4")
	if !patched() {
		t.Error("a reload of the same file undid a patch")
	}
	r.restart()
	r.quiet(r.reload, "p1", "p2", "p3", "p4")
	if !patched() {
		t.Error("a restart with the same file undid a patch")
	}
	// The patched secret is the one in use.
	r.refreshed("p3")

	// The row is another one now: it wins.
	for _, id := range []string{"p1", "p2", "p3"} {
		r.files.row(id, func(d *actors.Declaration) { d.ContactUser = "desk-" + id })
	}
	r.reload()
	waitState(t, r.node, actors.StateRegistered, "p1", "p2", "p3")
	r.refreshed("p3")
	if v := view(t, r.node, "p3"); v.Username != "" || v.ContactUser != "desk-p3" {
		t.Errorf("user name %q, contact user %q: want those of the new row", v.Username, v.ContactUser)
	}
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}

// successes is how often a profile was registered or refreshed.
func (r *reloading) successes(id string) int {
	r.t.Helper()
	return strings.Count(story(r.t, r.node, id), "registered (200)")
}

// refreshed asks for an attempt without a known nonce, which needs the secret,
// and waits until it succeeds.
func (r *reloading) refreshed(id string) {
	r.t.Helper()
	eventually(r.t, id+" has nothing under way", func() bool {
		v := view(r.t, r.node, id)
		return v.NextAttemptAt != nil && time.Until(*v.NextAttemptAt) > time.Second
	})
	r.registrar.Restart()
	before := r.successes(id)
	if _, err := r.node.RefreshProfile(r.t.Context(), id); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, id+" is registered anew", func() bool {
		if view(r.t, r.node, id).State == actors.StateRejected {
			r.t.Fatalf("%s is rejected:\n%s", id, story(r.t, r.node, id))
		}
		return r.successes(id) > before && r.bindings(id) == 1
	})
}

// TestReloadChangesSecrets: a corrected password is tried at once.
func TestReloadChangesSecrets(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.files.edit(func(d *muster.Desired) {
		d.Profiles = append(d.Profiles, rows("late")...)
		d.Profiles[5].Password = messages.NewSecret("a typing error")
	})
	r.reload()
	waitState(t, r.node, actors.StateRejected, "late")
	if v := view(t, r.node, "late"); v.Reason != "credentials.refused" || v.LastStatus != 401 {
		t.Errorf("%d %s, want 401 credentials.refused", v.LastStatus, v.Reason)
	}
	r.quiet(r.reload, append(numbered(5), "late")...)
	r.files.row("late", func(d *actors.Declaration) { d.Password = messages.NewSecret("pw-late") })
	r.quiet(r.reload, numbered(5)...)
	waitState(t, r.node, actors.StateRegistered, "late")
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}

// TestFailedReloadChangesNothing: whatever is wrong with the new
// configuration, the old one goes on.
func TestFailedReloadChangesNothing(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	if _, err := r.node.AddProfile(t.Context(), rows("own")[0]); err != nil {
		t.Fatal(err)
	}
	waitState(t, r.node, actors.StateRegistered, "own")
	good, _ := r.files.load(t.Context())
	for what, spoil := range map[string]func(){
		"line 3: no aor": func() { r.files.err = errors.New("profiles.csv: line 3: no aor") },
		"twice": func() {
			r.files.edit(func(d *muster.Desired) { d.Profiles = append(d.Profiles[1:], d.Profiles[2]) })
		},
		"is not configured": func() { r.files.row("p2", func(d *actors.Declaration) { d.Registrar = "nobody" }) },
		"want a SIP URI":    func() { r.files.row("p3", func(d *actors.Declaration) { d.AOR = "bob" }) },
		"still used by 1":   func() { r.files.edit(func(d *muster.Desired) { d.Registrars, d.Profiles = nil, nil }) },
	} {
		r.files.desired, r.files.err = good, nil
		spoil()
		r.quiet(func() {
			if err := r.node.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("reload: %v, want an error that says %q", err, what)
			}
		}, append(numbered(5), "own")...)
	}
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}

// TestProfilesOfTheAPI: they and their secrets survive reloads and restarts,
// and a dry run leaves no trace.
func TestProfilesOfTheAPI(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	ctx := t.Context()
	if _, err := r.node.AddProfile(ctx, rows("own")[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.node.AddProfile(ctx, rows("own")[0]); !errors.Is(err, actors.ErrExists) {
		t.Errorf("added twice: %v, want %v", err, actors.ErrExists)
	}
	waitState(t, r.node, actors.StateRegistered, "own")
	r.quiet(r.reload, "own")
	r.restart()
	r.quiet(r.reload, append(numbered(5), "own")...)
	r.refreshed("own")

	before := story(t, r.node, "own")
	dry := rows("own", "newcomer", "p1")
	dry[0].Password, dry[1].Password = messages.NewSecret("another"), messages.NewSecret("another")
	results := r.node.ImportProfiles(ctx, append(dry, actors.Declaration{ID: "bad", AOR: "x", Registrar: "r"}), true)
	for i, want := range []string{actors.ResultChanged, actors.ResultAdded, actors.ResultChanged, actors.ResultInvalid} {
		if results[i].Result != want {
			t.Errorf("dry run: %s %s (%s), want %s", results[i].ID, results[i].Result, results[i].Error, want)
		}
	}
	if story(t, r.node, "own") != before {
		t.Error("a dry run changed a profile")
	}
	if _, err := r.node.Profile(ctx, "newcomer"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("a dry run added a profile: %v", err)
	}
	r.refreshed("own") // with the old secret

	// Without its secret a profile says so, also after a restart.
	none := messages.Secret{}
	if _, err := r.node.ChangeProfile(ctx, "own", actors.Patch{Password: &none}); err != nil {
		t.Fatal(err)
	}
	waitState(t, r.node, actors.StateRejected, "own")
	r.restart()
	if _, err := r.node.RefreshProfile(ctx, "own"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "own is tried once more", func() bool {
		return strings.Count(story(t, r.node, "own"), "has no secret for this challenge") >= 2*2 // refused, then rejected
	})
	if v := view(t, r.node, "own"); v.State != actors.StateRejected || v.Reason != "credentials.missing" {
		t.Errorf("without its secret: %s %s, want rejected credentials.missing", v.State, v.Reason)
	}

	// Removed, and added again under the same name with another secret.
	if err := r.node.RemoveProfile(ctx, "own"); err != nil {
		t.Fatal(err)
	}
	r.gone("own")
	if _, err := r.node.AddProfile(ctx, rows("own")[0]); err != nil {
		t.Fatal(err)
	}
	waitState(t, r.node, actors.StateRegistered, "own")
	r.restart()
	r.refreshed("own")
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}
