package muster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/xsp"
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
	known := map[string]bool{"digest": true}
	for _, x := range desired.XSPs {
		known[x.Name] = true
	}
	rows := make(map[string]string, len(desired.Profiles))
	for _, d := range desired.Profiles {
		d = normalised(d)
		rows[d.ID] = rowOf(d)
	}
	orphans := map[string]int{}
	err := n.farm.Declarations(ctx, func(id string, s profile.State) {
		// A row that changed says anew who answers, and one that is gone takes its
		// profile along. One that did not change leaves what an operator chose.
		if row, listed := rows[id]; !s.Exists() || listed && row != s.Row || !listed && s.Source == sourceFile {
			return
		}
		for _, handler := range []string{s.Spec.RegistrationHandler, s.Spec.SessionHandler} {
			for _, name := range profile.Chain(handler) {
				if !known[name] {
					orphans[name]++
				}
			}
		}
	})
	if err != nil {
		return err
	}
	var errs []error
	for name, count := range orphans {
		if n.ready.Load() {
			errs = append(errs, fmt.Errorf("xsp.%s: still used by %d profiles whose handlers were chosen through the API; change those first", name, count))
			continue
		}
		n.log.Warn("handlers that were chosen through the API name an xSP that is not configured; those challenges stay unanswered",
			"xsp", name, "profiles", count)
	}
	return errors.Join(errs...)
}

// closeXSPs closes authenticators that were not put into force.
func closeXSPs(xs []actors.XSP) {
	for _, x := range xs {
		if c, ok := x.Authenticator.(io.Closer); ok {
			_ = c.Close()
		}
	}
}

// isXSPSecret tells the values of xSPs from the secrets of profiles.
func isXSPSecret(id string) bool { return strings.HasPrefix(id, xspSecret) }
