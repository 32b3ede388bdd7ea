package store_test

import (
	"os"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// testKey is 32 bytes.
const testKey = "0123456789abcdef0123456789abcdef"

// options are those of most tests: checkpoints only when asked, nothing
// trimmed.
func options(dir string) store.Options {
	return store.Options{
		Dir: dir, Key: []byte(testKey), Fold: storetest.Fold, CheckpointEvery: -1, CommitInterval: -1,
		Retention: store.Retention{Count: -1, Age: -1},
	}
}

// memoryDir is a folder in memory where there is one: most tests are about what
// is written and not about how long a disk takes to sync it.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "muster") //nolint:usetesting // TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// roundsOf is how often a random test runs; the environment can ask for more.
func roundsOf(t *testing.T, variable string, normal, short int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		return n
	}
	if testing.Short() {
		return short
	}
	return normal
}

func mustOpen(t testing.TB, opts store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestStoreConforms(t *testing.T) {
	dirs := make(map[storetest.Journal]string)
	open := func(t *testing.T, dir string) storetest.Journal {
		s := mustOpen(t, options(dir))
		dirs[s] = dir
		return s
	}
	storetest.Run(t, storetest.Factory{
		Open: func(t *testing.T) storetest.Journal { return open(t, memoryDir(t)) },
		Restart: func(t *testing.T, j storetest.Journal) storetest.Journal {
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, dirs[j])
		},
	})
}

func TestMemoryConforms(t *testing.T) {
	storetest.Run(t, storetest.Factory{Open: func(*testing.T) storetest.Journal {
		return store.NewMemory(store.Options{Fold: storetest.Fold})
	}})
}

func TestMemoryWorksInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(store.Options{})
		done := make(chan error)
		go func() { done <- m.Append(t.Context(), "p/alice", 0, storetest.At(0), storetest.Started(1)) }()
		synctest.Wait()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
