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

// Main runs a benchmark program, or its far end when this process is that.
func Main(name string, respond, run func() error) {
	do := run
	if IsResponder() {
		do = respond
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// StartResponder starts this program, with the same arguments, as the far end,
// so that only the client's CPU is counted. The far end prints where it is,
// which begins with prefix.
func StartResponder(prefix string, more ...string) (at string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self, append(os.Args[1:len(os.Args):len(os.Args)], more...)...)
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

// WriteHeap writes a profile of what is in memory, after a collection; an empty
// path writes none.
func WriteHeap(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.GC()
	return pprof.WriteHeapProfile(f)
}

// Sample is the process at one moment.
type Sample struct {
	wall    time.Time
	cpu     time.Duration
	mallocs uint64
	bytes   uint64
	journal int64
	written int64 // to the disk, as the kernel counts it
	// Heap and RSS are in bytes. Of RSS, Anon is the process's own memory and
	// File what it maps of files: the program and the page cache of the store.
	Heap, RSS, Anon, File int64
}

// Now is the process, and the journal in a data folder, as they are.
func Now(data string) Sample {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	s := Sample{
		wall: time.Now(), cpu: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		mallocs: mem.Mallocs, bytes: mem.TotalAlloc, Heap: int64(mem.HeapAlloc),
		written: procField("/proc/self/io", "write_bytes"),
	}
	s.Anon, s.File, _ = Process(os.Getpid()).Memory()
	s.RSS = s.Anon + s.File
	s.journal = DirBytes(data)
	return s
}

// DirBytes is the size of the files of a folder, such as that of the journal.
func DirBytes(dir string) int64 {
	var sum int64
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// procField reads a number from a file of "name: number" lines; 0 without one.
func procField(path, name string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			var n int64
			_, _ = fmt.Sscan(rest, &n)
			return n
		}
	}
	return 0
}

// Wall is the time between two samples, CPU what the process used of it.
func (s Sample) Wall(since Sample) time.Duration { return s.wall.Sub(since.wall) }

// CPU is the user and system time between two samples.
func (s Sample) CPU(since Sample) time.Duration { return s.cpu - since.cpu }

// Report prints what each of n pieces of work cost between two samples.
func Report(what string, n int, a, b Sample) {
	per := float64(n)
	wall := b.Wall(a).Seconds()
	fmt.Printf("%-32s %.4f CPU-ms  %5.0f allocations  %6.0f B allocated  %5.0f B journal files  %5.0f B written  %6.0f /s  %.1f s  RSS %d MiB anon + %d MiB file\n", what,
		float64(b.CPU(a).Microseconds())/1000/per, float64(b.mallocs-a.mallocs)/per, float64(b.bytes-a.bytes)/per,
		float64(b.journal-a.journal)/per, float64(b.written-a.written)/per, per/wall, wall, b.Anon>>20, b.File>>20)
}
