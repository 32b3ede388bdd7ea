// Package measure is what the benchmark programs share: the far end in a process
// of its own, and what a piece of work has cost.
package measure

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"
)

// responderEnv makes a benchmark program its own far end.
const responderEnv = "MUSTER_BENCH_RESPONDER"

// IsResponder tells whether this process is the far end.
func IsResponder() bool { return os.Getenv(responderEnv) != "" }

// StartResponder starts this program as the far end, so that only the client's
// CPU is counted. The far end prints where it is, which begins with prefix.
func StartResponder(prefix string) (at string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), responderEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		stop()
		return "", nil, fmt.Errorf("the far end did not start: %q %w", line, err)
	}
	return strings.TrimSpace(line), stop, nil
}

// Profiled writes a CPU profile of what do does; an empty path writes none.
func Profiled(path string, do func() error) error {
	if path == "" {
		return do()
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return do()
}

// Sample is the process at one moment.
type Sample struct {
	wall    time.Time
	cpu     time.Duration
	mallocs uint64
	bytes   uint64
	journal int64
	// Heap and RSS are in bytes.
	Heap, RSS int64
}

// Now is the process, and the journal in a data folder, as they are.
func Now(data string) Sample {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	s := Sample{
		wall: time.Now(), cpu: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		mallocs: mem.Mallocs, bytes: mem.TotalAlloc, Heap: int64(mem.HeapAlloc), RSS: residentBytes(),
	}
	if info, err := os.Stat(filepath.Join(data, "journal.db")); err == nil {
		s.journal = info.Size()
	}
	return s
}

func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	_, _ = fmt.Sscan(string(text), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// Report prints what each of n pieces of work cost between two samples.
func Report(what string, n int, a, b Sample) {
	per := float64(n)
	fmt.Printf("%-32s %.4f CPU-ms  %5.0f allocations  %6.0f B allocated  %5.0f B journal file  %6.0f /s  RSS %d MiB\n", what,
		float64((b.cpu-a.cpu).Microseconds())/1000/per, float64(b.mallocs-a.mallocs)/per, float64(b.bytes-a.bytes)/per,
		float64(b.journal-a.journal)/per, per/b.wall.Sub(a.wall).Seconds(), b.RSS>>20)
}
