package muster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// xspSecret begins the ids of the sealed values that xSPs keep. No profile id
// has a control character, so the two never meet.
const xspSecret = "\x01xsp\x01"

// vaults gives each xSP a part of the store's secrets.
type vaults struct{ node *Node }

// Vault implements actors.Vaults.
func (v vaults) Vault(name string) xsp.Vault {
	return vault{node: v.node, prefix: xspSecret + name + "\x01"}
}

type vault struct {
	node   *Node
	prefix string
}

// Get implements xsp.Vault.
func (v vault) Get(_ context.Context, key string) ([]byte, error) {
	value, err := v.node.store.Secret(v.prefix + key)
	if errors.Is(err, store.ErrNoSecret) {
		return nil, nil
	}
	return value, err
}

// Put implements xsp.Vault.
func (v vault) Put(ctx context.Context, key string, value []byte) error {
	return v.node.putSecrets(ctx, map[string][]byte{v.prefix + key: value})
}

// xspsInUse refuses to drop an xSP that somebody has chosen through the API.
func (n *Node) xspsInUse(ctx context.Context, desired Desired) error {
	known := append(xspNames(desired.XSPs), messages.DigestHandler)
	type user struct {
		fromFile bool
		row      string
		lost     []string
	}
	users := map[string]user{} // few: rows are hashed for these only
	err := n.farm.Declarations(ctx, func(id string, s profile.State) {
		if !s.Exists() {
			return
		}
		var lost []string
		for _, handler := range []string{s.Spec.RegistrationHandler, s.Spec.SessionHandler} {
			for _, name := range messages.Handlers(handler) {
				if !slices.Contains(known, name) {
					lost = append(lost, name)
				}
			}
		}
		if len(lost) > 0 {
			users[id] = user{s.Source == sourceFile, s.Row, lost}
		}
	})
	if err != nil || len(users) == 0 {
		return err
	}
	// A row that changed says anew who answers, and one that is gone takes its
	// profile along. One that did not change leaves what an operator chose.
	listed := map[string]bool{}
	for _, d := range desired.Profiles {
		d = normalised(d)
		if u, uses := users[d.ID]; uses {
			listed[d.ID] = true
			if rowOf(d) != u.row {
				delete(users, d.ID)
			}
		}
	}
	orphans := map[string]int{}
	for id, u := range users {
		if u.fromFile && !listed[id] {
			continue
		}
		for _, name := range u.lost {
			orphans[name]++
		}
	}
	return n.stillUsed(orphans, "xsp", "whose handlers were chosen through the API; change those first", func(name string, profiles int) {
		n.log.Warn("handlers that were chosen through the API name an xSP that is not configured; those challenges stay unanswered",
			"xsp", name, "profiles", profiles)
	})
}

// stillUsed refuses what is used and not configured any more: count by name in a
// section of the configuration. At the start nothing can be refused, and it only
// warns.
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

// closeXSPs closes authenticators that were not put into force.
func closeXSPs(xs []actors.XSP) {
	for _, x := range xs {
		_ = x.Close()
	}
}

// isXSPSecret tells the values of xSPs from the secrets of profiles.
func isXSPSecret(id string) bool { return strings.HasPrefix(id, xspSecret) }
