package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/sipmuster/muster/store"
)

const otherKey = "fedcba9876543210fedcba9876543210"

func putSecrets(t *testing.T, s *store.Store, secrets map[string]string) {
	t.Helper()
	for id, secret := range secrets {
		if err := s.PutSecret(t.Context(), id, []byte(secret)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestASecretIsNowhereInTheFile(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	putSecrets(t, s, map[string]string{"alice": "canary-7f3a9c"})
	s.Close()
	journal, err := os.ReadFile(journalFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(journal, []byte("canary")) {
		t.Error("the file holds the secret in clear")
	}
}

func TestASealedSecretOpensUnderItsOwnIDOnly(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	putSecrets(t, s, map[string]string{"alice": "a", "bob": "b"})
	s.Close()
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("secrets"))
		return b.Put([]byte("bob"), bytes.Clone(b.Get([]byte("alice"))))
	})
	s = mustOpen(t, options(dir))
	if secret, err := s.Secret("bob"); err == nil {
		t.Errorf("the secret of alice opened as that of bob: %q", secret)
	}
	if secret, err := s.Secret("alice"); err != nil || string(secret) != "a" {
		t.Errorf("Secret(alice) = %q, %v", secret, err)
	}
}

func TestAWrongKeyIsFoundAtTheStart(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	putSecrets(t, s, map[string]string{"alice": "a"})
	s.Close()
	opts := options(dir)
	opts.Key = []byte(otherKey)
	if _, err := store.Open(opts); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("Open with another key = %v", err)
	}
	opts.Key = nil
	s = mustOpen(t, opts)
	_, err := s.Secret("alice")
	for what, err := range map[string]error{
		"Secret":     err,
		"PutSecret":  s.PutSecret(t.Context(), "bob", nil),
		"EachSecret": s.EachSecret(t.Context(), func(string, []byte) error { return nil }),
		"Reseal":     s.Reseal(t.Context(), []byte(testKey)),
	} {
		if !errors.Is(err, store.ErrNoKey) {
			t.Errorf("%s without a key = %v, want ErrNoKey", what, err)
		}
	}
	if s.Err() != nil {
		t.Errorf("a missing key is no failure of the store: %v", s.Err())
	}
}

func TestResealChangesTheKeyOfAllSecrets(t *testing.T) {
	dir := memoryDir(t)
	s := mustOpen(t, options(dir))
	many := make(map[string][]byte)
	for i := range 1500 {
		many[fmt.Sprintf("user-%04d", i)] = fmt.Appendf(nil, "secret %d", i)
	}
	if err := s.PutSecrets(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	check := func(s *store.Store) {
		t.Helper()
		n := 0
		err := s.EachSecret(t.Context(), func(id string, secret []byte) error {
			if n++; !bytes.Equal(secret, many[id]) {
				t.Errorf("%s is %q, want %q", id, secret, many[id])
			}
			return nil
		})
		if err != nil || n != len(many) {
			t.Fatalf("%d secrets, %v; want %d", n, err, len(many))
		}
	}
	// Whoever reads or writes meanwhile sees one key or the other.
	var group sync.WaitGroup
	group.Go(func() {
		for range 50 {
			if secret, err := s.Secret("user-0007"); err != nil || string(secret) != "secret 7" {
				t.Errorf("Secret = %q, %v", secret, err)
			}
		}
	})
	group.Go(func() {
		for range 10 {
			if err := s.PutSecret(t.Context(), "user-0008", []byte("secret 8")); err != nil {
				t.Error(err)
			}
		}
	})
	if err := s.Reseal(t.Context(), []byte("short")); err == nil {
		t.Error("Reseal with a short key succeeded")
	}
	if err := s.Reseal(t.Context(), []byte(otherKey)); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	check(s)
	s.Close()
	if _, err := store.Open(options(dir)); err == nil {
		t.Error("the old key still opens the store")
	}
	opts := options(dir)
	opts.Key = []byte(otherKey)
	check(mustOpen(t, opts))
}

func TestLoadOrCreateKey(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	path := filepath.Join(dir, "muster.key")
	key, err := store.LoadOrCreateKey(path, data)
	if err != nil || len(key) != 32 {
		t.Fatalf("key of %d bytes, %v", len(key), err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o, want 0600", info.Mode().Perm())
	}
	again, err := store.LoadOrCreateKey(path, data)
	if err != nil || !bytes.Equal(key, again) {
		t.Errorf("the second time: another key, %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".key-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := store.LoadOrCreateKey(path, data); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Errorf("a key that the group may read: %v", err)
	}
}

func TestLoadOrCreateKeyRefuses(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short.key")
	if err := os.WriteFile(short, []byte("abc123-not-to-be-printed"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"inside":          filepath.Join(data, "muster.key"),
		"deep inside":     filepath.Join(data, "keys", "muster.key"),
		"through a link":  filepath.Join(link, "muster.key"),
		"by another name": filepath.Join(data, "..", "data", "muster.key"),
		"short":           short,
		"a folder":        dir,
		"no folder":       filepath.Join(dir, "none", "muster.key"),
	} {
		_, err := store.LoadOrCreateKey(path, data)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "abc123") {
			t.Errorf("%s: the error shows the content: %v", name, err)
		}
	}
	if _, err := store.LoadOrCreateKey(filepath.Join(dir, "data.key"), data); err != nil {
		t.Errorf("beside the data folder: %v", err)
	}
}
