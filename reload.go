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
	if err != nil {
		err = fmt.Errorf("nothing changed: %w", err)
	} else if n.admin != nil {
		if err = n.admin.Reload(); err != nil {
			err = fmt.Errorf("registrars and profiles were applied, tokens and certificate were not: %w", err)
		}
	}
	n.metrics.Reloaded(err == nil, time.Now())
	if err != nil {
		n.log.Error("reload failed", "error", err)
		return err
	}
	n.log.Info("reloaded")
	return nil
}

// applyLimit bounds what is done of a reload after it was accepted.
const applyLimit = 10 * time.Minute

// applyBatch is how many declarations are on their way at once: enough to
// share commits, few enough to bound memory.
const applyBatch = 5000

// Apply makes the farm keep what is desired. Profiles whose declaration did
// not change keep Call-ID, CSeq and binding; those that are not declared any
// more are de-registered, unless they came through the API.
//
// The xSPs are built anew: their authenticators belong to the node from here
// on, also after an error.
func (n *Node) Apply(ctx context.Context, desired Desired) error {
	return n.apply(ctx, desired, false)
}

// apply is Apply; with starting the xSPs are in force already.
func (n *Node) apply(ctx context.Context, desired Desired, starting bool) error {
	inForce := starting
	defer func() {
		if !inForce {
			closeXSPs(desired.XSPs)
		}
	}()
	n.reloading.Lock()
	defer n.reloading.Unlock()
	if err := errors.Join(desired.validate()...); err != nil {
		return err
	}
	if err := n.registrarsInUse(ctx, desired); err != nil {
		return err
	}
	if err := n.xspsInUse(ctx, desired); err != nil {
		return err
	}
	if !starting {
		// The last thing that can be refused: an xSP may not get at what it keeps.
		if err := n.farm.SetXSPs(desired.XSPs); err != nil {
			return err
		}
		inForce = true
		n.metrics.SetXSPs(xspNames(desired.XSPs))
		// From here on it is done to the end, whoever asked has gone or not.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), applyLimit)
		defer cancel()
	}
	if n.unsettle != nil {
		n.unsettle()
	}
	moved, err := n.moved(ctx, desired.Profiles)
	if err != nil {
		return err
	}
	leaving := n.leaving(desired.Registrars)
	n.setRegistrars(desired.Registrars)
	n.metrics.SetRegistrars(namesOf(desired.Registrars))
	n.farm.SetRegistrars(slices.Concat(desired.Registrars, leaving))
	if err := n.farm.SetTrunks(ctx, desired.Trunks); err != nil {
		return fmt.Errorf("set the trunks: %w", err)
	}

	listed := make(map[string]bool, len(desired.Profiles))
	for batch := range slices.Chunk(desired.Profiles, applyBatch) {
		declared := make([]actors.Declared, 0, len(batch))
		for _, d := range batch {
			d = normalised(d)
			listed[d.ID] = true
			if _, later := moved[d.ID]; later {
				continue // the old secret still withdraws the old binding
			}
			changed := n.useFileSecret(d) && n.ready.Load()
			declared = append(declared, actors.Declared{ID: d.ID, Command: declare(d, sourceFile, changed)})
		}
		n.declareAll(ctx, declared)
	}
	if err := n.dropUnlisted(ctx, listed); err != nil {
		return err
	}
	if len(moved) > 0 || len(leaving) > 0 {
		settling, cancel := context.WithCancel(n.ctx)
		n.unsettle = cancel
		n.alongside(func() { n.settle(settling, moved, leaving, desired.Registrars) })
	}
	return ctx.Err()
}

// moved finds the rows whose profile is another binding than before, or is
// still being removed, and begins to withdraw the old one.
func (n *Node) moved(ctx context.Context, rows []actors.Declaration) (map[string]actors.Declaration, error) {
	byID := make(map[string]actors.Declaration, len(rows))
	for _, d := range rows {
		d = normalised(d)
		byID[d.ID] = d
	}
	moved := map[string]actors.Declaration{}
	var remove []string
	err := n.farm.Declarations(ctx, func(id string, s profile.State) {
		d, listed := byID[id]
		switch {
		case !listed || !s.Exists():
		case s.Removing && s.Source == sourceFile && s.Row == rowOf(d):
			// An operator removes it, and the row is the same.
		case s.Removing:
			moved[id] = d
		case s.Spec.AOR != d.AOR || s.Spec.Registrar != d.Registrar:
			moved[id] = d
			remove = append(remove, id)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, id := range remove {
		if _, err := n.farm.Do(ctx, id, profile.Remove{}); err != nil {
			return nil, fmt.Errorf("withdraw the old binding of %s: %w", id, err)
		}
	}
	return moved, nil
}

// leaving are the registrars that are not configured any more. They stay until
// the last binding there is withdrawn.
func (n *Node) leaving(next []actors.Registrar) []actors.Registrar {
	names := namesOf(next)
	return slices.DeleteFunc(n.farm.Configured(), func(r actors.Registrar) bool { return slices.Contains(names, r.Name) })
}

// settle declares the moved profiles as their old bindings are gone, and then
// lets the registrars go that nobody uses.
func (n *Node) settle(ctx context.Context, moved map[string]actors.Declaration, leaving, registrars []actors.Registrar) {
	const wait = time.Second
	for len(moved) > 0 || len(leaving) > 0 {
		for id, d := range moved {
			if _, _, err := n.farm.State(ctx, id); !errors.Is(err, actors.ErrNotFound) {
				continue
			}
			if n.farm.Vacant(ctx, id) != nil {
				continue
			}
			n.useFileSecret(d)
			n.declareAll(ctx, []actors.Declared{{ID: id, Command: declare(d, sourceFile, false)}})
			delete(moved, id)
		}
		if len(moved) == 0 && len(leaving) > 0 && !n.used(ctx, leaving) {
			n.farm.SetRegistrars(registrars)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// used tells whether any profile is still with one of the registrars.
func (n *Node) used(ctx context.Context, rs []actors.Registrar) bool {
	names, used := namesOf(rs), false
	err := n.farm.Declarations(ctx, func(_ string, s profile.State) {
		used = used || s.Exists() && slices.Contains(names, s.Spec.Registrar)
	})
	return used || err != nil
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
	return n.stillUsed(orphans, "registrars", "that were added through the API; remove or change them first", func(name string, profiles int) {
		n.log.Warn("profiles that were added through the API name a registrar that is not configured; they stay unregistered",
			"registrar", name, "profiles", profiles)
	})
}

// declareAll gives declarations to the farm and says which were not applied.
func (n *Node) declareAll(ctx context.Context, declared []actors.Declared) {
	for _, r := range n.farm.Declare(ctx, declared, false) {
		if r.Error != "" && ctx.Err() == nil {
			n.log.Error("profile not applied", "profile", r.ID, "error", r.Error)
		}
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
