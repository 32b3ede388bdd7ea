package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ownerFile is locked while a node uses the folder, and names that node for
// whoever comes second. Its content is a hint; the lock is what counts, so a
// file left behind by a crash is no obstacle.
const ownerFile = "journal.owner"

// lockPause is the time between two tries for a lock.
const lockPause = 20 * time.Millisecond

// lockFolder takes the data folder, or says who has it.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, ownerFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := waitLock(f, true); err != nil {
		f.Close()
		if errors.Is(err, ErrInUse) {
			return nil, fmt.Errorf("data folder %s is %w (%s)", dir, err, describeOwner(path))
		}
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	text := fmt.Sprintf("pid %d since %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if err := errors.Join(f.Truncate(0), writeAt0(f, text)); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	return f, nil
}

func writeAt0(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// waitLock tries for lockTimeout, because a predecessor may be closing.
func waitLock(f *os.File, exclusive bool) error {
	for until := time.Now().Add(lockTimeout); ; time.Sleep(lockPause) {
		taken, err := tryLock(f, exclusive)
		if err != nil {
			return err
		}
		if taken {
			return nil
		}
		if !time.Now().Before(until) {
			return ErrInUse
		}
	}
}

func describeOwner(path string) string {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 || len(text) > 200 {
		return "it does not say which"
	}
	return strings.TrimSpace(string(text))
}
