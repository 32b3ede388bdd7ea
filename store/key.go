package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// LoadOrCreateKey reads the key for secrets from a file, 64 hex digits, and
// makes a random one when there is no such file. It refuses a file that others
// than its owner may read, and a path inside the data folder: whoever copies
// the folder, a backup for instance, must not get the key along with it.
func LoadOrCreateKey(path, dataDir string) ([]byte, error) {
	inside, err := isInside(path, dataDir)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if inside {
		return nil, fmt.Errorf("key file %s lies inside the data folder %s, whose copies would then open themselves", path, dataDir)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, err
		}
	}
	return loadKey(path)
}

func loadKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	// Windows has no such bits.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("key file %s has mode %04o, others may use it: want 0600", path, mode)
	}
	text := make([]byte, 2*keySize+2)
	n, _ := f.Read(text)
	key, err := hex.DecodeString(strings.TrimSpace(string(text[:n])))
	if err != nil || len(key) != keySize {
		// The cause is hidden: it quotes the content.
		return nil, fmt.Errorf("key file %s does not hold %d hex digits", path, 2*keySize)
	}
	return key, nil
}

// createKey writes a new key under another name and links it into place: a
// crash leaves no half key, and of two nodes that start at once one wins.
func createKey(path string) error {
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create key file: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// isInside follows symbolic links as far as the paths exist.
func isInside(path, dir string) (bool, error) {
	path, err := realPath(path)
	if err != nil {
		return false, err
	}
	if dir, err = realPath(dir); err != nil {
		return false, err
	}
	// Between two volumes there is no relative path, and then it is not inside.
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel), nil
}

func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		there, err := filepath.EvalSymlinks(at)
		if err == nil {
			return filepath.Join(there, rest), nil
		}
		if !errors.Is(err, os.ErrNotExist) || at == filepath.Dir(at) {
			return "", err
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
