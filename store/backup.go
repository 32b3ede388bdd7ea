package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// Backup writes a copy of the whole file as it is at one moment, while the
// store works on. The copy is a journal: to restore it, stop the node and put
// it into the data folder as journal.db. Pages that the copy needs are not
// used again while it is written, so the file grows behind a slow writer, and
// Reopen and Close wait for it.
func (s *Store) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		n, err = tx.WriteTo(contextWriter{ctx, w})
		return err
	})
	if err != nil {
		// bbolt flattens errors of the writer to text.
		return n, fmt.Errorf("backup: %w", cmp.Or(ctx.Err(), err))
	}
	return n, nil
}

// contextWriter stops a long copy when its context ends.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// BackupTo makes a backup at path, replacing an older one only after the new
// one is on disk and Verify has found nothing wrong with it.
func (s *Store) BackupTo(ctx context.Context, path string) error {
	if old, err := os.Stat(path); err == nil {
		if live, err := os.Stat(s.path); err == nil && os.SameFile(old, live) {
			return fmt.Errorf("backup: %s is the journal itself", path)
		}
	}
	temp := path + newSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	defer os.Remove(temp) // unless it was renamed
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	_, err = s.Backup(ctx, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	report, err := Verify(temp)
	if err != nil {
		return fmt.Errorf("verify backup: %w", err)
	}
	if !report.OK() {
		return fmt.Errorf("verify backup: %d findings, the first: %v", len(report.Findings), report.Findings[0])
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return syncDir(filepath.Dir(path))
}
