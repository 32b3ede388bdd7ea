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
	n.reloading.Lock()
	defer n.reloading.Unlock()
	secrets := false
	p, err := newPlan(desired, func(d actors.Declaration) { secrets = secrets || !n.credentials.inForce(d) })
	if err != nil {
		closeXSPs(desired.XSPs)
		return err
	}
	p.secrets = secrets
	return n.apply(ctx, p, false)
}

// apply carries out a plan; with starting the xSPs and the secrets are in force
// already. Whoever calls it holds reloading.
func (n *Node) apply(ctx context.Context, p *plan, starting bool) error {
	desired, inForce := p.desired, starting
	defer func() {
		if !inForce {
			closeXSPs(desired.XSPs)
		}
	}()
	left := n.settling.active()
	found, err := n.survey(ctx, p)
	if err == nil {
		err = n.checkInUse(found)
	}
	if err != nil {
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
	if left {
		// What the reload before has left to do may have changed what was found.
		n.settling.end(n.ctx)
		if found, err = n.survey(ctx, p); err != nil {
			return err
		}
	}
	for _, id := range found.withdraw {
		if _, err := n.farm.Do(ctx, id, profile.Remove{}); err != nil {
			return fmt.Errorf("withdraw the old binding of %s: %w", id, err)
		}
	}
	leaving := n.leaving(desired.Registrars)
	n.setRegistrars(desired.Registrars)
	n.metrics.SetRegistrars(namesOf(desired.Registrars))
	n.farm.SetRegistrars(slices.Concat(desired.Registrars, leaving))
	if err := n.farm.SetTrunks(ctx, desired.Trunks); err != nil {
		return fmt.Errorf("set the trunks: %w", err)
	}
	moved := map[string]actors.Declaration{}
	if p.secrets || found.inForce < p.rows.Len() {
		moved = n.declareRows(ctx, p, found, starting)
	}
	if err := n.dropUnlisted(ctx, found); err != nil {
		return err
	}
	if len(moved) > 0 || len(leaving) > 0 {
		rest := newSettling(n.ctx)
		n.settling = rest
		n.alongside(func() { n.settle(rest, moved, leaving, desired.Registrars) })
	}
	return ctx.Err()
}

// declareRows gives the rows that are not in force to the farm, and returns
// those that must wait until an old binding is withdrawn.
func (n *Node) declareRows(ctx context.Context, p *plan, found *survey, starting bool) (moved map[string]actors.Declaration) {
	moved = map[string]actors.Declaration{}
	batch := make([]actors.Declared, 0, min(applyBatch, p.rows.Len()))
	for d := range p.desired.rows() {
		if found.moved[d.ID] {
			moved[d.ID] = detached(d) // the old secret still withdraws the old binding
			continue
		}
		changed := !starting && n.useFileSecret(d) && n.ready.Load()
		if row, listed := p.row(d.ID); listed && row.inForce() && !changed {
			continue
		}
		d = detached(d)
		batch = append(batch, actors.Declared{ID: d.ID, Command: declaration(d, sourceFile, changed)})
		if len(batch) == applyBatch {
			n.declareAll(ctx, batch)
			batch = batch[:0]
		}
	}
	n.declareAll(ctx, batch)
	return moved
}

// declareAll gives declarations to the farm and says which were not applied.
func (n *Node) declareAll(ctx context.Context, declared []actors.Declared) {
	// Both before and after, so that an index that is built meanwhile has them.
	n.bindings.addAll(declared)
	defer n.bindings.addAll(declared)
	for _, r := range n.farm.Declare(ctx, declared, false) {
		if r.Error != "" && ctx.Err() == nil {
			n.log.Error("profile not applied", "profile", r.ID, "error", r.Error)
		}
	}
}
