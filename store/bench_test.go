//go:build linux

package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
	"github.com/sipmuster/muster/store/storetest"
)

// cpuTime is what the process has used so far, in user and system mode.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// written is how many bytes the process has passed to write calls, or 0 where
// the system does not tell.
func written(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if number, ok := strings.CutPrefix(line, "wchar: "); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(number), 64)
			return n
		}
	}
	return 0
}

// granted is a common event of realistic size.
func granted(attempt uint64) *messages.ProfileEvent {
	return messages.NewProfileEvent(&messages.BindingGranted{
		Attempt: attempt, Status: 200, GrantedSeconds: 3600,
		UntilMs: 1_800_000_000_000, RefreshAtMs: 1_799_999_000_000,
		ServiceRoute: []string{"<sip:edge-1.example.test;lr>"}, Proof: "verified",
	})
}

// BenchmarkAppend appends one event to each of 100,000 streams in turn, by
// many callers that wait for each other's commits, as actors do.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 256, 2048} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			benchmarkAppend(b, options(b.TempDir()), callers)
		})
	}
}

// BenchmarkAppendAndCheckpoint adds the snapshots and the trims.
func BenchmarkAppendAndCheckpoint(b *testing.B) {
	opts := options(b.TempDir())
	opts.CheckpointEvery = 0
	opts.Retention = store.Retention{Count: 10_000, Age: -1}
	benchmarkAppend(b, opts, 2048)
}

func benchmarkAppend(b *testing.B, opts store.Options, callers int) {
	const streams = 100_000
	names, versions := make([]string, streams), make([]uint64, streams)
	for i := range names {
		names[i] = "p/subscriber-" + strconv.Itoa(i)
	}
	s := mustOpen(b, opts)
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	cpu, bytes := cpuTime(b), written(b)
	for c := range callers {
		group.Go(func() {
			event, at := granted(uint64(c)), storetest.At(c)
			// Each caller owns every callers-th stream.
			for id := c; next.Add(1) <= int64(b.N); id += callers {
				if id >= streams {
					id = c
				}
				if err := s.Append(b.Context(), names[id], versions[id], at, event); err != nil {
					b.Error(err)
					return
				}
				versions[id]++
			}
		})
	}
	group.Wait()
	if opts.CheckpointEvery >= 0 {
		checkpoint(b, s)
	}
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/n, "cpu-µs/event")
	if total := written(b) - bytes; total > 0 {
		b.ReportMetric(total/n, "written-B/event")
	}
	if st := stats(b, s); st.Batches > 0 {
		b.ReportMetric(float64(st.Appended)/float64(st.Batches), "events/commit")
	}
}

// BenchmarkAppendThen is what an append costs when a hundred share a commit and
// nobody waits, on a disk that costs nothing. Run it with -cpu 1.
func BenchmarkAppendThen(b *testing.B) {
	const streams, batch, step = 100_000, 100, 1_000_003 // the step is a prime
	names, versions := make([]string, streams), make([]uint64, streams)
	for i := range names {
		names[i] = "p/subscriber-" + strconv.Itoa(i)
	}
	s := mustOpen(b, options(memoryDir(b)))
	answers := make(chan error, batch)
	done := func(err error) { answers <- err }
	event, at := []*messages.ProfileEvent{granted(1)}, storetest.At(1)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		id := n * step % streams
		s.AppendThen(names[id], versions[id], at, event, done)
		versions[id]++
		if n%batch < batch-1 {
			continue
		}
		for range batch {
			if err := <-answers; err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkCall is what a call costs the journal: its body, nine events in seven
// appends, and the body's end, 256 calls at a time.
func BenchmarkCall(b *testing.B) {
	const callers = 256
	body := make([]byte, 700) // an offer with two codecs and ICE
	event := messages.NewSessionEvent
	dialog := &messages.Dialog{RemoteTag: "as5c7b2e1d", Target: "sip:bob@198.51.100.7:5060", RouteSet: []string{"<sip:edge-1.example.test;lr>"}}
	call := [][]*messages.SessionEvent{
		{event(&messages.SessionStarted{Spec: &messages.SessionSpec{
			Profile: "subscriber-1", Registrar: "acme", Aor: "sip:subscriber-1@example.test", Peer: "sip:bob@example.test",
		}, CallId: "f1d2d2f924e986ac86fdf7b36c94bcdf", LocalTag: "f1d2d2f924e986ac86fdf7b36c94bcdf", Body: true})},
		{event(&messages.RequestStarted{Attempt: 1, Chain: 1, Method: "INVITE", Cseq: 1, Branch: "z9hG4bK0123456789abcdef", Body: true})},
		{
			event(&messages.ChallengeReceived{Attempt: 1, Status: 407, Challenges: []*messages.RecordedChallenge{
				{Raw: `Digest realm="example.test", nonce="18ea7d93a0c1", qop="auth", algorithm=MD5`},
			}}),
			event(&messages.RequestStarted{Attempt: 2, Chain: 1, Method: "INVITE", Cseq: 2, Round: 1, Branch: "z9hG4bK0123456789abcdee", Body: true}),
		},
		{event(&messages.ProgressReceived{Attempt: 2, Status: 180, Dialog: dialog})},
		{event(&messages.SessionEstablished{Attempt: 2, Status: 200, Dialog: dialog, IntervalSeconds: 1800})},
		{event(&messages.SessionEnding{Reason: "hangup"}), event(&messages.RequestStarted{Attempt: 3, Chain: 3, Method: "BYE", Cseq: 3})},
		{event(&messages.SessionEnded{Status: 200, Reason: "hangup"})},
	}
	s := mustOpen(b, options(b.TempDir()))
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	cpu, bytes := cpuTime(b), written(b)
	for range callers {
		group.Go(func() {
			for id := next.Add(1); id <= int64(b.N); id = next.Add(1) {
				stream, secret, version := "s/"+strconv.FormatInt(id, 16), "body/"+strconv.FormatInt(id, 16), uint64(0)
				err := s.PutSecret(b.Context(), secret, body)
				for _, events := range call {
					err = errors.Join(err, s.AppendSession(b.Context(), stream, version, storetest.At(int(version)), events...))
					version += uint64(len(events))
				}
				if err = errors.Join(err, s.DeleteSecret(b.Context(), secret)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	n := float64(b.N)
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/n, "cpu-µs/call")
	if total := written(b) - bytes; total > 0 {
		b.ReportMetric(total/n, "written-B/call")
	}
}

// filled is a closed store with one snapshot for each stream, and one event
// after the checkpoint for every tenth.
func filled(b *testing.B, streams int) string {
	b.Helper()
	dir := memoryDir(b)
	opts := options(dir)
	opts.Fold = func(string, []byte, []*messages.Envelope) ([]byte, error) { return make([]byte, 250), nil }
	s := mustOpen(b, opts)
	appendEach := func(after uint64, step int) {
		var group sync.WaitGroup
		for c := range 1000 {
			group.Go(func() {
				for i := c * step; i < streams; i += 1000 * step {
					if err := s.Append(b.Context(), "p/subscriber-"+strconv.Itoa(i), after, storetest.At(i), granted(uint64(i))); err != nil {
						b.Error(err)
					}
				}
			})
		}
		group.Wait()
	}
	appendEach(0, 1)
	checkpoint(b, s)
	appendEach(1, 10)
	s.Close()
	return dir
}

// BenchmarkStart opens and replays a store of 100,000 streams.
func BenchmarkStart(b *testing.B) {
	const streams = 100_000
	dir := filled(b, streams)
	info, err := os.Stat(filepath.Join(dir, "journal.db"))
	if err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		s, err := store.Open(options(dir))
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Replay(b.Context(), discard{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		s.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/streams, "heap-B/stream")
	b.ReportMetric(float64(info.Size())/streams, "file-B/stream")
}

type discard struct{}

func (discard) Snapshot(string, uint64, []byte) error { return nil }
func (discard) Event(*messages.Envelope) error        { return nil }
