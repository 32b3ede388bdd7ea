package muster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
)

// wantTaken asks, in a dry run, who stands in the way of a new profile.
func wantTaken(t *testing.T, node *muster.Node, d actors.Declaration, want string) {
	t.Helper()
	d.ID = "candidate"
	got := node.ImportProfiles(t.Context(), []actors.Declaration{d}, true)[0]
	if want == "" && got.Result != actors.ResultAdded || want != "" && !strings.Contains(got.Error, fmt.Sprintf("profile %q registers", want)) {
		t.Errorf("%s with contact %q: %+v, want it taken by %q", d.AOR, d.ContactUser, got, want)
	}
}

func TestBindingIsTakenAsLongAsSomebodyHasIt(t *testing.T) {
	r := newReloading(t)
	row := func(id, contact string) actors.Declaration {
		d := rows(id)[0]
		d.ContactUser = contact
		return d
	}
	taken := func(id, contact, by string) {
		t.Helper()
		wantTaken(t, r.node, row(id, contact), by)
	}
	// Of a file, at the start.
	taken("p0", "", "p0")
	taken("p0", "p0", "p0")
	taken("p0", "desk", "")
	taken("added", "", "")
	// Through the API, later.
	if _, err := r.node.AddProfile(t.Context(), row("added", "")); err != nil {
		t.Fatal(err)
	}
	taken("added", "", "added")
	twice := row("added", "")
	twice.ID = "twice"
	if _, err := r.node.AddProfile(t.Context(), twice); !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("a second profile for one binding: %v", err)
	}
	if results := r.node.ImportProfiles(t.Context(), []actors.Declaration{row("added", ""), twice}, false); results[0].Result != actors.ResultUnchanged || results[1].Result != actors.ResultInvalid {
		t.Errorf("the same import again: %+v", results)
	}
	// Its contact changes, by PATCH and by an import.
	if _, err := r.node.ChangeProfile(t.Context(), "added", actors.Patch{ContactUser: new("desk")}); err != nil {
		t.Fatal(err)
	}
	taken("added", "", "")
	taken("added", "desk", "added")
	if results := r.node.ImportProfiles(t.Context(), []actors.Declaration{row("added", "door")}, false); results[0].Result != actors.ResultChanged {
		t.Errorf("import: %+v", results)
	}
	taken("added", "desk", "")
	taken("added", "door", "added")
	// It is removed, and added again under another id.
	if err := r.node.RemoveProfile(t.Context(), "added"); err != nil {
		t.Fatal(err)
	}
	r.gone("added")
	taken("added", "door", "")
	again := row("added", "door")
	again.ID = "again"
	if _, err := r.node.AddProfile(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	taken("added", "door", "again")
	// Of files, by a reload: a row comes, one changes, one goes.
	r.files.edit(func(d *muster.Desired) { d.Profiles = append(d.Profiles, row("later", "")) })
	r.files.row("p1", func(d *actors.Declaration) { d.ContactUser = "hall" })
	r.files.remove("p2")
	r.reload()
	r.gone("p2")
	taken("later", "", "later")
	taken("p1", "", "")
	taken("p1", "hall", "p1")
	taken("p2", "", "")
	// And a restart knows all that.
	r.restart()
	taken("p0", "", "p0")
	taken("added", "door", "again")
	taken("added", "desk", "")
	taken("later", "", "later")
	taken("p1", "hall", "p1")
	taken("p2", "", "")
}

// TestBindingsAgreeWithTheList makes changes at random and compares every answer
// with a look at all profiles.
func TestBindingsAgreeWithTheList(t *testing.T) {
	registrar := actors.Registrar{Name: "r", URI: "sip:127.0.0.1:9"}
	options := muster.Options{DataDir: t.TempDir() + "/data", Desired: muster.Desired{Registrars: []actors.Registrar{registrar}}}
	node := startNode(t, options)
	rng := rand.New(rand.NewPCG(5, 6))
	// Nobody registers, so that what is removed is gone at once.
	declared := func(id string) actors.Declaration {
		aor := fmt.Sprintf("sip:a%d@example.test", rng.IntN(6))
		return actors.Declaration{ID: id, AOR: aor, Registrar: "r", ContactUser: [...]string{"", "a1", "desk"}[rng.IntN(3)], NoRegister: true}
	}
	anID := func() string { return fmt.Sprintf("id%d", rng.IntN(12)) }
	ctx := t.Context()
	for step := range 400 {
		switch rng.IntN(8) {
		case 0, 1:
			_, _ = node.AddProfile(ctx, declared(anID()))
		case 2:
			node.ImportProfiles(ctx, []actors.Declaration{declared(anID()), declared(anID())}, false)
		case 3:
			_, _ = node.ChangeProfile(ctx, anID(), actors.Patch{ContactUser: new([...]string{"desk", "a2"}[rng.IntN(2)])})
		case 4, 5:
			_ = node.RemoveProfile(ctx, anID())
		case 6:
			next := options.Desired
			for i := range rng.IntN(6) {
				d := declared(fmt.Sprintf("file%d", i))
				d.AOR, d.ContactUser = fmt.Sprintf("sip:a%d@example.test", i), "" // files have each AOR once
				next.Profiles = append(next.Profiles, d)
			}
			if err := node.Apply(ctx, next); err != nil {
				t.Fatal(err)
			}
		default:
			muster.BeginBindings(node)
		}
		page, err := node.Profiles(ctx, actors.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for aor := range 6 {
			for _, contact := range []string{"", "desk", "a1"} {
				d := actors.Declaration{ID: "candidate", AOR: fmt.Sprintf("sip:a%d@example.test", aor), Registrar: "r", ContactUser: contact}
				by, err := muster.TakenBy(node, d)
				if err != nil {
					t.Fatal(err)
				}
				holders := []string{}
				for _, p := range page.Profiles {
					if p.AOR == d.AOR && (p.ContactUser == contact || contact == "" && p.ContactUser == userOf(d.AOR)) {
						holders = append(holders, p.ID)
					}
				}
				if by == "" && len(holders) > 0 || by != "" && !slices.Contains(holders, by) {
					t.Fatalf("step %d: %s with contact %q is taken by %q, the list has %q", step, d.AOR, contact, by, holders)
				}
			}
		}
	}
}

// TestBindingsOfAReloadMeanwhile: an index that is built while a reload declares
// profiles has them all.
func TestBindingsOfAReloadMeanwhile(t *testing.T) {
	registrar := actors.Registrar{Name: "r", URI: "sip:127.0.0.1:9"}
	node := startNode(t, muster.Options{Desired: muster.Desired{Registrars: []actors.Registrar{registrar}}})
	ds := rows(numbered(2000)...)
	for i := range ds {
		ds[i].NoRegister = true
	}
	var applied sync.WaitGroup
	applied.Go(func() {
		for n := 200; n <= len(ds); n += 200 {
			if err := node.Apply(t.Context(), muster.Desired{Registrars: []actors.Registrar{registrar}, Profiles: ds[:n]}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 200 {
		muster.BeginBindings(node)
		node.ImportProfiles(t.Context(), rows("candidate"), true)
	}
	applied.Wait()
	for _, d := range ds {
		want := d.ID
		d.ID = "candidate"
		if by, err := muster.TakenBy(node, d); by != want || err != nil {
			t.Errorf("the binding of %s is taken by %q, %v", want, by, err)
		}
	}
}

// BenchmarkTakenBinding looks up one binding beside a million others: free is the
// usual answer, for taken it looks at a shard of 1,000 profiles.
func BenchmarkTakenBinding(b *testing.B) {
	const million = 1_000_000
	registrar := actors.Registrar{Name: "r", URI: "sip:127.0.0.1:9"}
	var ds []actors.Declaration
	for i := 0; len(ds) < million/actors.Shards; i++ {
		if id := fmt.Sprintf("p%d", i); actors.Shard(id) == 0 {
			ds = append(ds, rows(id)[0])
			ds[len(ds)-1].NoRegister = true
		}
	}
	node, err := muster.New(muster.Options{DataDir: b.TempDir() + "/data", Desired: muster.Desired{Registrars: []actors.Registrar{registrar}, Profiles: ds}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = node.Stop(b.Context()) }()
	if err := node.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := muster.TakenBy(node, rows("candidate")[0]); err != nil {
		b.Fatal(err)
	}
	muster.FillBindings(node, million-len(ds))
	taken := ds[500]
	taken.ID = "candidate"
	for name, d := range map[string]actors.Declaration{"free": rows("candidate")[0], "taken": taken} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if by, err := muster.TakenBy(node, d); err != nil || (by != "") != (name == "taken") {
					b.Fatal(by, err)
				}
			}
			b.ReportMetric(float64(muster.BindingBytes(node))/million, "B/profile")
		})
	}
}
