//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sipmuster/muster/store"
)

// samples is how often a run tells how it goes.
const samples = 12

// latencies counts appends by tenths of a millisecond, up to a second.
type latencies [10_000]atomic.Uint32

func (l *latencies) add(d time.Duration) {
	l[min(int(d/(100*time.Microsecond)), len(l)-1)].Add(1)
}

// quantile is an upper bound.
func (l *latencies) quantile(q float64) time.Duration {
	total, sum := uint64(0), uint64(0)
	for i := range l {
		total += uint64(l[i].Load())
	}
	for i := range l {
		if sum += uint64(l[i].Load()); float64(sum) >= q*float64(total) {
			return time.Duration(i+1) * 100 * time.Microsecond
		}
	}
	return 0
}

// usage is the process at one moment.
type usage struct {
	cpu     time.Duration
	written int64 // bytes sent to the disk
	mallocs uint64
	heap    uint64
	rss     int64 // of its own, without what it maps of files
}

func usageNow() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return usage{
		cpu:     time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		written: procNumber("/proc/self/io", "write_bytes"),
		mallocs: mem.Mallocs, heap: mem.HeapAlloc,
		rss: procNumber("/proc/self/status", "RssAnon") << 10,
	}
}

// procNumber reads one of the lines "name: number"; 0 without it.
func procNumber(path, name string) (n int64) {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}

// measure runs the registrations and prints what they cost.
func (d *driver) measure() error {
	every := max(d.o.duration/samples, time.Second)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for at := every; ; at += every {
			select {
			case <-time.After(every):
				d.sample(at)
			case <-stop:
				return
			}
		}
	}()
	d.slowest.Store(0)
	before, from := usageNow(), time.Now()
	stats, err := d.s.Stats()
	if err != nil {
		return err
	}
	events, err := d.run(d.o.duration)
	after, wall := usageNow(), time.Since(from)
	close(stop)
	<-done
	if err != nil {
		return err
	}
	d.sample(wall)
	end, err := d.s.Stats()
	if err != nil {
		return err
	}
	per, commits := float64(events), float64(end.Batches-stats.Batches)
	fmt.Printf("%d streams, %d events in %.1f s: %.0f events a second\n", d.o.streams, events, wall.Seconds(), per/wall.Seconds())
	fmt.Printf("CPU %.2f µs per event, %.1f allocations per event, %.0f bytes written per event\n",
		float64((after.cpu-before.cpu).Microseconds())/per, float64(after.mallocs-before.mallocs)/per, float64(after.written-before.written)/per)
	fmt.Printf("%.0f commits a second of %.1f events, append p50 %v, p99 %v, p99.99 %v; slowest commit %v\n",
		commits/wall.Seconds(), float64(end.Appended-stats.Appended)/commits, d.latencies.quantile(0.5), d.latencies.quantile(0.99), d.latencies.quantile(0.9999),
		time.Duration(d.slowest.Load()).Round(100*time.Microsecond))
	return nil
}

// sample prints one line about the store and the process as they are.
func (d *driver) sample(at time.Duration) {
	st, err := d.s.Stats()
	if err != nil {
		fmt.Println(err)
		return
	}
	u := usageNow()
	fmt.Printf("%7.0f s: file %d MiB, %d events kept in %d MiB (%d after the checkpoint), %d snapshots; heap %d MiB, RSS %d MiB; %.1f s CPU\n",
		at.Seconds(), st.FileBytes>>20, st.Events, st.JournalBytes>>20, st.Last-st.Checkpoint, st.Snapshots, u.heap>>20, u.rss>>20, u.cpu.Seconds())
}

// heapOf is the heap after a collection.
func heapOf() uint64 {
	runtime.GC()
	runtime.GC()
	return usageNow().heap
}

// counting is a replayer that only looks at what it gets.
type counting struct{ snapshots, events, bytes int }

var _ store.Replayer = (*counting)(nil)
