package store_test

import (
	"bufio"
	"math/rand/v2"
	"testing"
)

// A killed process has lost nothing that it acknowledged, and has left nothing
// half. (That a power cut loses nothing either is a matter of syncs in the
// right order, which a kill does not show: the page cache survives it.)
func TestAKilledProcessLosesNothingAcknowledged(t *testing.T) {
	rounds := roundsOf(t, "MUSTER_CRASH_ROUNDS", 30, 5)
	dir := t.TempDir()
	known := make(map[string]uint64)
	for round := range rounds {
		cmd := child(t, "append", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed after a random number of lines, wherever the writer is then.
		lines := 1 + rand.IntN(300)
		acked := acknowledged(t, bufio.NewScanner(out), func() {
			if lines--; lines == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		})
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		for stream, version := range acked {
			known[stream] = max(known[stream], version)
		}
		if round%5 == 0 {
			verifyClean(t, journalFile(dir))
		}
		s := mustOpen(t, crashOptions(dir))
		replayed := replay(t, s) // fails on a gap
		for _, stream := range crashStreams() {
			got := replayed.Streams[stream].Version
			// At most one append of a writer is on its way.
			if got < known[stream] || got > known[stream]+1 {
				t.Fatalf("round %d: %s is at version %d, acknowledged was %d", round, stream, got, known[stream])
			}
			known[stream] = got
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	verifyClean(t, journalFile(dir))
}
