package muster

import (
	"context"
	"errors"
	"fmt"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// survey is how the farm differs from a plan. It is made in one walk over all
// profiles.
type survey struct {
	// registrars and xsps count the profiles of the API that need what is not
	// configured any more.
	registrars, xsps map[string]int
	// moved are the ids of rows whose profile is another binding than before, or
	// is still being removed; of withdraw the old one must be withdrawn first.
	moved    map[string]bool
	withdraw []string
	// gone are profiles that no file lists any more, tombs what is left of such
	// ones that an operator removed.
	gone, tombs []string
	// inForce counts the rows that the farm has already.
	inForce int
}

// survey compares the farm with a plan, and marks the rows that are in force.
func (n *Node) survey(ctx context.Context, p *plan) (*survey, error) {
	v := &survey{registrars: map[string]int{}, xsps: map[string]int{}, moved: map[string]bool{}}
	p.unmark()
	err := n.farm.PeekAll(ctx, func(id string, s *profile.State) {
		row, listed := p.row(id)
		same := listed && s.Source == sourceFile && row.isRow(s.Row)
		if s.Exists() && s.Source == sourceAPI && !p.registrars[s.Spec.Registrar] {
			v.registrars[s.Spec.Registrar]++
		}
		v.countXSPs(p, s, row, listed)
		switch {
		case same && !s.Removing && (s.Exists() || s.Gone):
			// An operator's removal outlasts the row, too.
			row.mark(true)
			v.inForce++
		case same && s.Removing, listed && !s.Exists():
		case listed && s.Removing:
			v.moved[id] = true
		case listed && !p.isBinding(row, &s.Spec):
			v.moved[id] = true
			v.withdraw = append(v.withdraw, id)
		case listed || s.Source != sourceFile:
		case s.Gone:
			v.tombs = append(v.tombs, id)
		case s.Exists() && !s.Removing:
			v.gone = append(v.gone, id)
		}
	})
	return v, err
}

// countXSPs counts a profile whose handlers somebody has chosen through the API.
// A row that changed says anew who answers, and one that is gone takes its
// profile along. One that did not change leaves what an operator chose.
func (v *survey) countXSPs(p *plan, s *profile.State, row planned, listed bool) {
	if !s.Exists() || listed && !row.isRow(s.Row) || !listed && s.Source == sourceFile {
		return
	}
	for _, chain := range [2]string{s.Spec.RegistrationHandler, s.Spec.SessionHandler} {
		if p.handlers[chain] {
			continue
		}
		for _, name := range messages.Handlers(chain) {
			if !p.handlers[name] {
				v.xsps[name]++
			}
		}
	}
}

// checkInUse refuses to drop what profiles of the API need. At the start nothing can
// be refused, and it only warns.
func (n *Node) checkInUse(v *survey) error {
	return errors.Join(
		n.stillUsed(v.registrars, "registrars", "that were added through the API; remove or change them first", func(name string, profiles int) {
			n.log.Warn("profiles that were added through the API name a registrar that is not configured; they stay unregistered",
				"registrar", name, "profiles", profiles)
		}),
		n.stillUsed(v.xsps, "xsp", "whose handlers were chosen through the API; change those first", func(name string, profiles int) {
			n.log.Warn("handlers that were chosen through the API name an xSP that is not configured; those challenges stay unanswered",
				"xsp", name, "profiles", profiles)
		}),
	)
}

// stillUsed refuses what is used and not configured any more: count by name in a
// section of the configuration.
func (n *Node) stillUsed(orphans map[string]int, section, how string, warn func(name string, profiles int)) error {
	var errs []error
	for name, count := range orphans {
		if n.ready.Load() {
			errs = append(errs, fmt.Errorf("%s.%s: still used by %d profiles %s", section, name, count, how))
			continue
		}
		warn(name, count)
	}
	return errors.Join(errs...)
}

// dropUnlisted removes the profiles of files that no file lists any more, and
// their tombstones.
func (n *Node) dropUnlisted(ctx context.Context, v *survey) error {
	for _, id := range v.gone {
		if _, err := n.farm.Do(ctx, id, profile.Remove{}); err != nil {
			return fmt.Errorf("remove profile %s: %w", id, err)
		}
	}
	for _, id := range v.tombs {
		if _, err := n.farm.Do(ctx, id, profile.Clear{}); err != nil {
			return fmt.Errorf("clear profile %s: %w", id, err)
		}
	}
	return nil
}
