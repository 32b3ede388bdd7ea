package muster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sipmuster/muster/actors"
)

// settling is what a reload leaves to do after it was accepted: an old binding
// must be withdrawn before its row is declared, and before its registrar goes.
type settling struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

func newSettling(ctx context.Context) *settling {
	s := &settling{done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// active tells whether something is left to do; nil never has anything.
func (s *settling) active() bool {
	if s == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// end leaves the rest undone, for a reload that knows better. ctx is that of the
// node.
func (s *settling) end(ctx context.Context) {
	s.cancel()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
}

// settle declares the moved profiles as their old bindings are gone, and then
// lets the registrars go that nobody uses.
func (n *Node) settle(s *settling, moved map[string]actors.Declaration, leaving, registrars []actors.Registrar) {
	defer close(s.done)
	ctx := s.ctx
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
			// What is begun is done, so that whoever ends this sees what came of it.
			n.declareAll(n.ctx, []actors.Declared{{ID: id, Command: declaration(d, sourceFile, false)}})
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

// leaving are the registrars that are not configured any more. They stay until
// the last binding there is withdrawn.
func (n *Node) leaving(next []actors.Registrar) []actors.Registrar {
	names := namesOf(next)
	return slices.DeleteFunc(n.farm.Configured(), func(r actors.Registrar) bool { return slices.Contains(names, r.Name) })
}

// used tells whether any profile is still with one of the registrars.
func (n *Node) used(ctx context.Context, rs []actors.Registrar) bool {
	return ctx.Err() != nil || slices.ContainsFunc(namesOf(rs), n.farm.Populated)
}
