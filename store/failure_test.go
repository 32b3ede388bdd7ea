//go:build linux

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// bbolt syncs twice in a commit. When the first sync fails, the commit is not
// there; when the second does, it is, although both returned an error. The
// store must hold in both cases: nothing more is written, and after Reopen
// everybody sees what is on disk.
func TestAFailedSyncIsAnUnknownOutcome(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: strace is not installed, no sync can be made to fail")
	}
	if out, err := exec.Command(strace, "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: strace may not trace here, no sync can be made to fail: %s", out)
	}
	kept, dropped := 0, 0
	// The counter is one of each thread; the writer may move to another one.
	// So every N is tried until both rows of the table were seen.
	for n := 1; n <= 24 && (kept == 0 || dropped == 0); n++ {
		dir := memoryDir(t)
		mustOpen(t, options(dir)).Close()
		run := child(t, "fail", dir)
		cmd := exec.CommandContext(t.Context(), strace, append([]string{
			"-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
			"-e", fmt.Sprintf("inject=fdatasync:error=EIO:when=%d", n),
		}, run.Args...)...)
		cmd.Env = append(run.Env, "GOMAXPROCS=1")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("when=%d: %v", n, err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		for _, line := range lines {
			var version, found int
			var failed, after, load, reopened bool
			if _, err := fmt.Sscan(strings.TrimPrefix(line, "failed "), &version, &failed, &after, &load, &reopened, &found); err != nil {
				continue
			}
			if !failed || !after || !load || !reopened {
				t.Errorf("when=%d: ErrFailed from append %v, the next append %v, load %v; reopened %v", n, failed, after, load, reopened)
			}
			switch found {
			case version:
				dropped++
			case version + 1:
				kept++
			default:
				t.Errorf("when=%d: %d events after the append after %d failed", n, found, version)
			}
		}
		if lines[0] == "open failed" {
			continue
		}
		if lines[len(lines)-1] != "done" {
			t.Fatalf("when=%d: the child said %q", n, lines)
		}
		s := mustOpen(t, options(dir))
		if got := storetest.LoadStream(t, s, "p/alice").Version; got != failureAppends {
			t.Errorf("when=%d: %d events in the end, want %d", n, got, failureAppends)
		}
		s.Close()
		verifyClean(t, journalFile(dir))
	}
	if kept == 0 || dropped == 0 {
		t.Errorf("%d failed commits were kept and %d dropped, want some of both", kept, dropped)
	}
}

// manyAppends do not fit on a small disk.
const manyAppends = 100_000

// smallDisk mounts a file system of its own, or skips.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		t.Skipf("SKIPPED: no small disk can be mounted, a full one is not tested: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestAFullDiskIsSurvived(t *testing.T) {
	dir := smallDisk(t, "2m")
	failures := make(chan error, 10)
	opts := options(filepath.Join(dir, "data"))
	opts.OnFailure = func(err error) { failures <- err }
	s := mustOpen(t, opts)
	mustAppend(t, s, "p/alice", 0, 1, 2, 3)

	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	version, err := uint64(3), error(nil)
	for err == nil && version < manyAppends {
		if err = s.Append(t.Context(), "p/alice", version, storetest.At(0), storetest.Started(version+1)); err == nil {
			version++
		}
	}
	if !errors.Is(err, store.ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("append to a full disk = %v, want ErrFailed because of ENOSPC", err)
	}
	if err := <-failures; !errors.Is(err, store.ErrFailed) {
		t.Errorf("OnFailure was told %v", err)
	}
	for what, err := range map[string]error{
		"Err":        s.Err(),
		"Append":     s.Append(t.Context(), "p/bob", 0, storetest.At(0), storetest.Started(1)),
		"PutSecret":  s.PutSecret(t.Context(), "bob", []byte("x")),
		"Checkpoint": s.Checkpoint(t.Context()),
		"Replay":     s.Replay(t.Context(), storetest.NewReplayed()),
		"Reopen":     s.Reopen(t.Context()), // there is still no space
	} {
		if !errors.Is(err, store.ErrFailed) && (what != "Reopen" || err == nil) {
			t.Errorf("%s = %v, want ErrFailed", what, err)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := s.Reopen(t.Context()); err != nil || s.Err() != nil {
		t.Fatalf("Reopen = %v, Err = %v", err, s.Err())
	}
	got := storetest.LoadStream(t, s, "p/alice").Version
	if got != version && got != version+1 {
		t.Errorf("version %d after %d were acknowledged", got, version)
	}
	mustAppend(t, s, "p/alice", got, 100)
	mustAppend(t, s, "p/bob", 0, 1)
	if st := stats(t, s); st.Failures == 0 {
		t.Error("Stats counts no failure")
	}
	s.Close()
	verifyClean(t, journalFile(opts.Dir))
}

// fill takes all the space that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

func TestCloseWorksAfterAFailure(t *testing.T) {
	dir := smallDisk(t, "1m")
	opts := options(filepath.Join(dir, "data"))
	reopened := make(chan error, 1)
	var s *store.Store
	ready := make(chan struct{})
	opts.OnFailure = func(error) {
		<-ready
		reopened <- s.Reopen(context.Background())
	}
	s = mustOpen(t, opts)
	close(ready)
	fill(t, filepath.Join(dir, "filler"))
	for version := uint64(0); s.Err() == nil && version < manyAppends; version++ {
		_ = s.Append(t.Context(), "p/alice", version, storetest.At(0), storetest.Started(1))
	}
	if s.Err() == nil {
		t.Fatal("a full disk was no failure")
	}
	if err := <-reopened; err == nil {
		t.Error("Reopen on a full disk succeeded")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
