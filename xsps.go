package muster

import (
	"context"
	"errors"
	"strings"

	"github.com/sipmuster/muster/actors"
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

// closeXSPs closes authenticators that were not put into force.
func closeXSPs(xs []actors.XSP) {
	for _, x := range xs {
		_ = x.Close()
	}
}

// isXSPSecret tells the values of xSPs from the secrets of profiles.
func isXSPSecret(id string) bool { return strings.HasPrefix(id, xspSecret) }
