package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// nonceSize is that of GCM. Nonces are random: 2^32 seals with one key are
// safe (NIST SP 800-38D §8.3), far more than passwords ever change.
const nonceSize = 12

func newAEAD(key []byte) (cipher.AEAD, error) {
	if key == nil {
		return nil, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key for secrets: %w", err)
	}
	return cipher.NewGCM(block)
}

// secretLabel binds a sealed secret to its id: under another one, it does not
// open.
func secretLabel(id string) []byte { return []byte("muster secret 1\x00" + id) }

func sealSecret(aead cipher.AEAD, id string, secret []byte) []byte {
	sealed := make([]byte, nonceSize, nonceSize+len(secret)+aead.Overhead())
	rand.Read(sealed) // never fails
	return aead.Seal(sealed, sealed[:nonceSize], secret, secretLabel(id))
}

func openSecret(aead cipher.AEAD, id string, sealed []byte) ([]byte, error) {
	if len(sealed) >= nonceSize {
		secret, err := aead.Open([]byte{}, sealed[:nonceSize], sealed[nonceSize:], secretLabel(id))
		if err == nil {
			return secret, nil
		}
	}
	return nil, fmt.Errorf("secret of %s does not open: another key, or it is damaged", id)
}

// checkKey finds a wrong key file at the start and not at the first challenge.
func (s *Store) checkKey(db *bolt.DB) error {
	if s.aead == nil {
		return nil
	}
	return guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			id, sealed := tx.Bucket([]byte(bucketSecrets)).Cursor().First()
			if id == nil {
				return nil
			}
			_, err := openSecret(s.aead, string(id), sealed)
			return err
		})
	})
}

func checkSecretID(id string) error {
	if id == "" || len(id) > maxStreamName {
		return fmt.Errorf("secret: an id of %d bytes, want 1 to %d", len(id), maxStreamName)
	}
	return nil
}

// PutSecret seals a secret under its id, replacing an older one, and returns
// when it is durable.
func (s *Store) PutSecret(ctx context.Context, id string, secret []byte) error {
	return s.PutSecrets(ctx, map[string][]byte{id: secret})
}

// PutSecrets seals many secrets with one commit: all or none.
func (s *Store) PutSecrets(ctx context.Context, secrets map[string][]byte) error {
	size := 0
	for id, secret := range secrets {
		if err := checkSecretID(id); err != nil {
			return err
		}
		size += len(id) + len(secret)
	}
	return s.do(ctx, &request{size: size, secrets: func(b *bolt.Bucket) error {
		// Sealed here, on the writer, so that no secret with an old key can
		// slip in behind Reseal.
		if s.aead == nil {
			return ErrNoKey
		}
		for _, id := range slices.Sorted(maps.Keys(secrets)) {
			if err := b.Put([]byte(id), sealSecret(s.aead, id, secrets[id])); err != nil {
				return err
			}
		}
		return nil
	}})
}

// DeleteSecret removes a secret; one that is not there is no error.
func (s *Store) DeleteSecret(ctx context.Context, id string) error {
	return s.DeleteSecrets(ctx, id)
}

// DeleteSecrets removes many secrets with one commit.
func (s *Store) DeleteSecrets(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if err := checkSecretID(id); err != nil {
			return err
		}
	}
	return s.do(ctx, &request{secrets: func(b *bolt.Bucket) error {
		for _, id := range ids {
			if err := b.Delete([]byte(id)); err != nil {
				return err
			}
		}
		return nil
	}})
}

// Secret opens one secret. It returns ErrNoSecret when there is none.
func (s *Store) Secret(id string) ([]byte, error) {
	s.secretsMu.RLock()
	defer s.secretsMu.RUnlock()
	aead := s.currentAEAD()
	if aead == nil {
		return nil, ErrNoKey
	}
	var sealed []byte
	err := s.view(func(tx *bolt.Tx) error {
		sealed = bytes.Clone(tx.Bucket([]byte(bucketSecrets)).Get([]byte(id)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if sealed == nil {
		return nil, fmt.Errorf("%s: %w", id, ErrNoSecret)
	}
	return openSecret(aead, id, sealed)
}

// EachSecret calls fn with every secret, in the order of the ids, until fn
// returns an error. Secrets that change meanwhile are seen before or after.
func (s *Store) EachSecret(ctx context.Context, fn func(id string, secret []byte) error) error {
	var next []byte
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := s.secretsPage(&next)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := fn(e.id, e.secret); err != nil {
				return err
			}
		}
		if len(next) == 0 {
			return nil
		}
	}
}

type secretEntry struct {
	id     string
	secret []byte
}

// secretsPage opens a page of secrets from next on, and moves next.
func (s *Store) secretsPage(next *[]byte) ([]secretEntry, error) {
	s.secretsMu.RLock()
	defer s.secretsMu.RUnlock()
	aead := s.currentAEAD()
	if aead == nil {
		return nil, ErrNoKey
	}
	page := make([]secretEntry, 0, pageRecords)
	err := s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketSecrets)).Cursor()
		k, v := c.Seek(*next)
		for ; k != nil && len(page) < pageRecords; k, v = c.Next() {
			secret, err := openSecret(aead, string(k), v)
			if err != nil {
				return err
			}
			page = append(page, secretEntry{string(k), secret})
		}
		*next = append((*next)[:0], k...)
		return nil
	})
	return page, err
}

func (s *Store) currentAEAD() cipher.AEAD {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.aead
}

// Reseal seals every secret with a new key, with one commit. Write the new key
// to a file first, and move that file to its place afterwards: whichever of
// the two opens the store after a crash is the right one. Older backups need
// the old key.
func (s *Store) Reseal(ctx context.Context, newKey []byte) error {
	next, err := newAEAD(newKey)
	if err != nil {
		return err
	}
	if next == nil || len(newKey) != keySize {
		return fmt.Errorf("reseal: the new key has %d bytes, want %d", len(newKey), keySize)
	}
	s.secretsMu.Lock()
	defer s.secretsMu.Unlock()
	// Not to be abandoned halfway: readers must not meet the new seals with
	// the old key.
	return s.do(context.WithoutCancel(ctx), &request{
		job:     func(tx *bolt.Tx) error { return reseal(tx, s.aead, next) },
		publish: func() { s.aead = next },
	})
}

func reseal(tx *bolt.Tx, old, next cipher.AEAD) error {
	if old == nil {
		return ErrNoKey
	}
	b := tx.Bucket([]byte(bucketSecrets))
	sealed := make(map[string][]byte)
	err := b.ForEach(func(k, v []byte) error {
		id := string(k)
		secret, err := openSecret(old, id, v)
		if err != nil {
			return err
		}
		sealed[id] = sealSecret(next, id, secret)
		return nil
	})
	// bbolt does not allow writing while it iterates.
	for _, id := range slices.Sorted(maps.Keys(sealed)) {
		err = errors.Join(err, b.Put([]byte(id), sealed[id]))
	}
	return err
}
