package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
)

// PutSecret is Store.PutSecret.
func (m *Memory) PutSecret(ctx context.Context, id string, secret []byte) error {
	return m.PutSecrets(ctx, map[string][]byte{id: secret})
}

// PutSecrets is Store.PutSecrets.
func (m *Memory) PutSecrets(ctx context.Context, secrets map[string][]byte) error {
	for id := range secrets {
		if err := checkSecretID(id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	for id, secret := range secrets {
		m.secrets[id] = append([]byte{}, secret...)
	}
	return nil
}

// DeleteSecret is Store.DeleteSecret.
func (m *Memory) DeleteSecret(ctx context.Context, id string) error {
	return m.DeleteSecrets(ctx, id)
}

// DeleteSecrets is Store.DeleteSecrets.
func (m *Memory) DeleteSecrets(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if err := checkSecretID(id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		delete(m.secrets, id)
	}
	return nil
}

// Secret is Store.Secret.
func (m *Memory) Secret(id string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	secret, ok := m.secrets[id]
	if !ok {
		return nil, fmt.Errorf("%s: %w", id, ErrNoSecret)
	}
	return bytes.Clone(secret), nil
}

// EachSecret is Store.EachSecret.
func (m *Memory) EachSecret(ctx context.Context, fn func(id string, secret []byte) error) error {
	m.mu.Lock()
	secrets := maps.Clone(m.secrets)
	m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(secrets)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(id, bytes.Clone(secrets[id])); err != nil {
			return err
		}
	}
	return nil
}
