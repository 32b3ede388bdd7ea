package muster_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
	"github.com/sipmuster/muster/store"
)

// TestReloadReplacesTheRegistrar: a registrar that leaves the configuration is
// kept until the last binding there is withdrawn.
func TestReloadReplacesTheRegistrar(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	other := newRegistrar(t, siptest.Options{Authenticate: true})
	second := target(other)
	second.Name = "second"
	r.files.edit(func(d *muster.Desired) {
		d.Registrars = []actors.Registrar{second}
		d.Profiles = d.Profiles[:3]
		for i := range d.Profiles {
			d.Profiles[i].Registrar = "second"
		}
	})
	r.reload()
	eventually(t, "every old binding is withdrawn", func() bool { return r.registrar.Snapshot().Bindings == 0 })
	eventually(t, "the new ones are made", func() bool { return other.Snapshot().Bindings == 3 })
	waitState(t, r.node, actors.StateRegistered, numbered(3)...)
	r.gone("p3")
	eventually(t, "the old registrar is let go", func() bool {
		rs, err := r.node.Registrars(t.Context())
		return err == nil && len(rs) == 1 && rs[0].Name == "second"
	})
	r.quiet(r.reload, numbered(3)...)
	r.wantMetrics()
	wantInvariants(t, r.registrar)
	wantInvariants(t, other)
}

// TestFileOverrulesAPatchedSecret: once the file said something else, the
// secret of the API is forgotten for good.
func TestFileOverrulesAPatchedSecret(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	wrong := messages.NewSecret("not the one")
	password := func(s messages.Secret) func(*actors.Declaration) {
		return func(d *actors.Declaration) { d.Password = s }
	}
	if _, err := r.node.ChangeProfile(t.Context(), "p0", actors.Patch{Password: &wrong}); err != nil {
		t.Fatal(err)
	}
	waitState(t, r.node, actors.StateRejected, "p0")
	r.quiet(r.reload, "p0")
	r.files.row("p0", password(messages.NewSecret("another one")))
	r.reload()
	eventually(t, "the secret of the file is tried", func() bool {
		return strings.Count(story(t, r.node, "p0"), "refuses the user name or the secret") == 2
	})
	r.files.row("p0", password(messages.NewSecret("pw-p0")))
	r.reload()
	waitState(t, r.node, actors.StateRegistered, "p0")
	r.restart()
	r.refreshed("p0")
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}

// TestSecretsOfRemovedProfilesGo: the store keeps no secret of a profile that
// is forgotten, however the node ended.
func TestSecretsOfRemovedProfilesGo(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	for _, d := range rows("kept", "removed", "late") {
		if _, err := r.node.AddProfile(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	waitState(t, r.node, actors.StateRegistered, "kept", "removed", "late")
	if err := r.node.RemoveProfile(t.Context(), "removed"); err != nil {
		t.Fatal(err)
	}
	r.gone("removed")
	if err := r.node.RemoveProfile(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	r.restart() // in the middle of the removal
	r.gone("late")
	time.Sleep(200 * time.Millisecond) // the secret goes after the profile
	r.restart()                        // which drops what the one before left
	stopNode(t, r.node)
	var found []string
	eachSecret(t, r.options.DataDir, func(id string) { found = append(found, id) })
	if len(found) != 1 || found[0] != "kept" {
		t.Errorf("the store holds secrets of %v, want only that of the profile that is there", found)
	}
}

// eachSecret opens the store of a stopped node.
func eachSecret(t *testing.T, data string, do func(id string)) {
	t.Helper()
	key, err := store.LoadOrCreateKey(filepath.Join(filepath.Dir(data), "muster.key"), data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Options{Dir: data, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.EachSecret(t.Context(), func(id string, _ []byte) error { do(id); return nil }); err != nil {
		t.Fatal(err)
	}
}

// TestConcurrentChanges: of several that add the same profile one wins, and
// changes of different fields do not undo each other.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	const rounds, callers = 10, 6
	for round := range rounds {
		id := "race" + string(rune('a'+round))
		var wg sync.WaitGroup
		var mu sync.Mutex
		added := 0
		for range callers {
			wg.Go(func() {
				_, err := r.node.AddProfile(t.Context(), rows(id)[0])
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					added++
				} else if !errors.Is(err, actors.ErrExists) && !errors.Is(err, actors.ErrBusy) && !errors.Is(err, actors.ErrInvalid) {
					t.Errorf("add %s: %v", id, err)
				}
			})
		}
		wg.Wait()
		if added != 1 {
			t.Errorf("%s was added by %d callers, want one", id, added)
		}
		expires, username, register := time.Duration(600+round)*time.Second, "user", false
		secret := messages.NewSecret("pw-user")
		for _, patch := range []actors.Patch{{Expires: &expires}, {Username: &username}, {Password: &secret}, {Register: &register}} {
			wg.Go(func() {
				if _, err := r.node.ChangeProfile(t.Context(), id, patch); err != nil {
					t.Errorf("patch %s: %v", id, err)
				}
			})
		}
		wg.Wait()
		if v := view(t, r.node, id); v.Expires != 600+round || v.Username != username || v.Register {
			t.Errorf("%s: expires %d, user name %q, register %t: a patch was undone by another", id, v.Expires, v.Username, v.Register)
		}
		register = true
		if _, err := r.node.ChangeProfile(t.Context(), id, actors.Patch{Register: &register}); err != nil {
			t.Fatal(err)
		}
		waitState(t, r.node, actors.StateRegistered, id)
		r.refreshed(id)
	}
	r.wantMetrics()
	wantInvariants(t, r.registrar)
}

// TestImportOfAnExport: declarations without secrets, as an export has them,
// change what they say and keep the secrets.
func TestImportOfAnExport(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	if _, err := r.node.AddProfile(t.Context(), rows("own")[0]); err != nil {
		t.Fatal(err)
	}
	waitState(t, r.node, actors.StateRegistered, "own")
	d := rows("own")
	d[0].Password, d[0].ContactUser = messages.Secret{}, "desk"
	results := r.node.ImportProfiles(t.Context(), d, false)
	if results[0].Result != actors.ResultChanged {
		t.Errorf("import: %+v, want changed", results[0])
	}
	r.refreshed("own")
	if v := view(t, r.node, "own"); v.ContactUser != "desk" {
		t.Errorf("contact user %q, want that of the import", v.ContactUser)
	}
	// The digest uses the user name of the import with the known secret, which
	// the registrar refuses.
	d[0].Username = "stranger"
	if results := r.node.ImportProfiles(t.Context(), d, false); results[0].Result != actors.ResultChanged {
		t.Errorf("import: %+v, want changed", results[0])
	}
	waitState(t, r.node, actors.StateRejected, "own")
	r.restart()
	if v := view(t, r.node, "own"); v.Username != "stranger" || v.State != actors.StateRejected {
		t.Errorf("after a restart: user name %q, %s", v.Username, v.State)
	}
}

// TestAPIWhileStarting: whoever asks before the journal is replayed is told to
// try again, and nothing breaks.
func TestAPIWhileStarting(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{Authenticate: true})
	node, err := muster.New(muster.Options{
		DataDir: t.TempDir() + "/data", Admin: muster.Admin{Listen: "127.0.0.1:0"},
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}, Profiles: rows(numbered(200)...)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Stop(context.Background()) })
	ctx := t.Context()
	// Before Start there is no farm to ask.
	for what, err := range map[string]error{
		"profile":    second(node.Profile(ctx, "p0")),
		"profiles":   second(node.Profiles(ctx, actors.Query{})),
		"add":        second(node.AddProfile(ctx, rows("x")[0])),
		"change":     second(node.ChangeProfile(ctx, "p0", actors.Patch{})),
		"remove":     node.RemoveProfile(ctx, "p0"),
		"refresh":    second(node.RefreshProfile(ctx, "p0")),
		"fetch":      second(node.FetchBindings(ctx, "p0")),
		"history":    second(node.History(ctx, "p0", 0, 1)),
		"registrars": second(node.Registrars(ctx)),
		"apply":      node.Apply(ctx, muster.Desired{}),
		"ready":      node.Ready(),
	} {
		if err == nil {
			t.Errorf("%s before the start: no error", what)
		}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, path := range []string{"/api/v1/profiles", "/api/v1/profiles/p0", "/api/v1/registrars", "/-/ready", "/metrics"} {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if addr := node.AdminAddr(); addr != "" {
					wantNoServerError(t, "http://"+addr+path)
				}
			}
		})
	}
	err = node.Start(ctx)
	close(done)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	waitState(t, node, actors.StateRegistered, "p0", "p199")
}

func second[T any](_ T, err error) error { return err }

// wantNoServerError accepts every answer but 500.
func wantNoServerError(t *testing.T, url string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		return // the server is not there yet
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode == http.StatusInternalServerError {
		t.Errorf("%s: %d %s", url, response.StatusCode, body)
	}
}
