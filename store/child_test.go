package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// childMode makes the test binary one of the programs below instead: a store
// that is killed, or whose disk fails, needs a process of its own.
const childMode = "MUSTER_STORE_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "append":
		childAppends(os.Args[1])
	case "fail":
		childMeetsAFailure(os.Args[1])
	}
}

// child prepares this binary to run as another program on a folder.
func child(t *testing.T, mode, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, dir)
	cmd.Env = append(os.Environ(), childMode+"="+mode, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	return cmd
}

// crashStreams are what childAppends writes at the same time.
func crashStreams() []string {
	var streams []string
	for w := range 4 {
		streams = append(streams, fmt.Sprintf("p/%d", w), fmt.Sprintf("s/%d", w))
	}
	return streams
}

// crashOptions make checkpoints and trims happen all the time, between commits
// that are as far apart as a node's.
func crashOptions(dir string) store.Options {
	opts := options(dir)
	opts.CheckpointEvery = 40
	opts.CommitInterval = 0
	opts.Retention = store.Retention{Count: 100, Age: -1}
	return opts
}

// childAppends appends for ever and prints "stream version" after each append
// that was acknowledged.
func childAppends(dir string) {
	s, err := store.Open(crashOptions(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	done := make(chan error)
	for _, stream := range crashStreams() {
		go func() {
			_, version, events, err := s.Load(ctx, stream)
			version += uint64(len(events))
			for ; err == nil; version++ {
				if err = storetest.Append(ctx, s, stream, version, storetest.At(0), version+1); err == nil {
					// One write call: a line is there as a whole or not at all.
					fmt.Fprintf(os.Stdout, "%s %d\n", stream, version+1)
				}
			}
			done <- err
		}()
	}
	fmt.Fprintln(os.Stderr, <-done)
	os.Exit(1)
}

// failureAppends is how many events childMeetsAFailure tries to append.
const failureAppends = 6

// childMeetsAFailure appends one event after the other. When one fails, it
// reopens the store and prints what became of it.
func childMeetsAFailure(dir string) {
	s, err := store.Open(options(dir))
	if err != nil {
		fmt.Println("open failed")
		return
	}
	ctx := context.Background()
	for version := uint64(0); version < failureAppends; version++ {
		err := s.Append(ctx, "p/alice", version, storetest.At(0), storetest.Started(version+1))
		if err == nil {
			continue
		}
		after := s.Append(ctx, "p/bob", 0, storetest.At(0), storetest.Started(1))
		_, _, _, loadErr := s.Load(ctx, "p/alice")
		reopenErr := s.Reopen(ctx)
		_, _, events, _ := s.Load(ctx, "p/alice")
		fmt.Println("failed", version, errors.Is(err, store.ErrFailed), errors.Is(after, store.ErrFailed),
			errors.Is(loadErr, store.ErrFailed), reopenErr == nil, len(events))
		version = uint64(len(events)) - 1
	}
	if err := s.Close(); err == nil {
		fmt.Println("done")
	}
}

// acknowledged reads lines of "stream version" to the end of the output, and
// keeps the highest version of each stream. onLine is called for each.
func acknowledged(t *testing.T, out *bufio.Scanner, onLine func()) map[string]uint64 {
	t.Helper()
	acked := make(map[string]uint64)
	for out.Scan() {
		stream, number, _ := strings.Cut(out.Text(), " ")
		version, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatalf("the child said %q", out.Text())
		}
		acked[stream] = max(acked[stream], version)
		onLine()
	}
	return acked
}
