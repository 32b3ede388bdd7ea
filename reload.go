package muster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
)

// errNoReload is for a node that an embedder built.
var errNoReload = errors.New("this node was started without a configuration to reload")

func (n *Node) setRegistrars(rs []actors.Registrar) {
	names := map[string]bool{}
	for _, r := range rs {
		names[r.Name] = true
	}
	n.registrars.Store(&names)
}

func (n *Node) knowsRegistrar(name string) bool { return (*n.registrars.Load())[name] }

// Reload reads the configuration again and applies what changed. On an error
// everything stays as it was.
func (n *Node) Reload(ctx context.Context) error {
	if n.options.Load == nil {
		return errNoReload
	}
	desired, err := n.options.Load(ctx)
	if err == nil {
		err = n.Apply(ctx, desired)
	}
	if err == nil && n.admin != nil {
		err = n.admin.Reload() // tokens and certificate
	}
	n.metrics.Reloaded(err == nil, time.Now())
	if err != nil {
		n.log.Error("reload failed, nothing changed", "error", err)
		return err
	}
	n.log.Info("reloaded")
	return nil
}

// applyBatch is how many declarations are on their way at once: enough to
// share commits, few enough to bound memory.
const applyBatch = 5000

// Apply makes the farm keep what is desired. Profiles whose declaration did
// not change keep Call-ID, CSeq and binding; those that are not declared any
// more are de-registered, unless they came through the API.
func (n *Node) Apply(ctx context.Context, desired Desired) error {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	if err := errors.Join(desired.validate()...); err != nil {
		return err
	}
	if err := n.registrarsInUse(ctx, desired); err != nil {
		return err
	}
	n.setRegistrars(desired.Registrars)
	n.metrics.SetRegistrars(namesOf(desired.Registrars))
	n.farm.SetRegistrars(desired.Registrars)

	listed := make(map[string]bool, len(desired.Profiles))
	var again []actors.Declared
	for batch := range slices.Chunk(desired.Profiles, applyBatch) {
		declared := make([]actors.Declared, len(batch))
		for i, d := range batch {
			d = normalised(d)
			listed[d.ID] = true
			changed := n.credentials.set(d.ID, credentialOf(d)) && n.ready.Load()
			declared[i] = actors.Declared{ID: d.ID, Command: declare(d, sourceFile, changed)}
		}
		again = append(again, n.declareAll(ctx, declared)...)
	}
	if err := n.dropUnlisted(ctx, listed); err != nil {
		return err
	}
	if len(again) > 0 {
		n.beside.Go(func() { n.declareLater(again) })
	}
	return ctx.Err()
}

// registrarsInUse refuses to drop a registrar that profiles of the API need.
func (n *Node) registrarsInUse(ctx context.Context, desired Desired) error {
	names := map[string]bool{}
	for _, r := range desired.Registrars {
		names[r.Name] = true
	}
	orphans := map[string]int{}
	err := n.farm.Declarations(ctx, func(_ string, s profile.State) {
		if s.Exists() && s.Source == sourceAPI && !names[s.Spec.Registrar] {
			orphans[s.Spec.Registrar]++
		}
	})
	if err != nil {
		return err
	}
	var errs []error
	for name, count := range orphans {
		if n.ready.Load() {
			errs = append(errs, fmt.Errorf("registrars.%s: still used by %d profiles that were added through the API; remove or change them first", name, count))
			continue
		}
		n.log.Warn("profiles that were added through the API name a registrar that is not configured; they stay unregistered",
			"registrar", name, "profiles", count)
	}
	return errors.Join(errs...)
}

// declareAll returns the declarations that must wait because their profile is
// being removed first.
func (n *Node) declareAll(ctx context.Context, declared []actors.Declared) []actors.Declared {
	var again []actors.Declared
	for i, r := range n.farm.Declare(ctx, declared, false) {
		switch r.Error {
		case "":
		case actors.ErrBusy.Error():
			again = append(again, declared[i])
		default:
			n.log.Error("profile not applied", "profile", r.ID, "error", r.Error)
		}
	}
	return again
}

// declareLater repeats declarations until the old bindings are gone.
func (n *Node) declareLater(again []actors.Declared) {
	const wait = 2 * time.Second
	for len(again) > 0 {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(wait):
		}
		again = n.declareAll(n.ctx, again)
	}
}

// dropUnlisted removes the profiles of files that no file lists any more, and
// their tombstones.
func (n *Node) dropUnlisted(ctx context.Context, listed map[string]bool) error {
	var gone, tombs []string
	err := n.farm.Declarations(ctx, func(id string, s profile.State) {
		switch {
		case s.Source != sourceFile || listed[id]:
		case s.Gone:
			tombs = append(tombs, id)
		case s.Exists() && !s.Removing:
			gone = append(gone, id)
		}
	})
	if err != nil {
		return err
	}
	for _, id := range gone {
		if _, err := n.farm.Do(ctx, id, profile.Remove{}); err != nil {
			return fmt.Errorf("remove profile %s: %w", id, err)
		}
	}
	for _, id := range tombs {
		if _, err := n.farm.Do(ctx, id, profile.Clear{}); err != nil {
			return fmt.Errorf("clear profile %s: %w", id, err)
		}
	}
	return nil
}
