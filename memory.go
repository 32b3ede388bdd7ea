package muster

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The rule of TendMemory. Go's own lets the heap double, which for a million idle
// profiles is hundreds of megabytes that nobody uses. A fifth would do for them,
// but a hundred thousand profiles that are refreshed every minute would then
// collect without pause. So the headroom grows with the work that collecting
// makes, and only a node that is busy takes more than it needs.
const (
	leastHeadroom, mostHeadroom = 24 << 20, 64 << 20 // bytes
	leastShare, mostShare       = 20, 100            // percent of what is in use
	// collecting is what part of one processor it may take.
	collecting = 0.01
	// mostPercent bounds GOGC for a heap that is nearly empty.
	mostPercent = 800
)

// TendMemory gives back the memory that only the start needed, and keeps the
// garbage collector to a rule until ctx ends: between two collections the heap
// grows by a fifth of what is in use, or by 24 MiB when that is more; while
// collecting would take more than a hundredth of a processor, by up to 64 MiB, or
// to twice its size when that is more. With GOGC or GOMEMLIMIT in the environment it only gives back. It is
// for a process whose work is its nodes, once after they have started.
func TendMemory(ctx context.Context) {
	debug.FreeOSMemory()
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	const every = 2 * time.Second
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	percent, before, cost := 0, readCollector(), 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		now := readCollector()
		if cycles := now.cycles - before.cycles; cycles > 0 {
			cost = (now.seconds - before.seconds) / float64(cycles)
		}
		rate := float64(now.allocated-before.allocated) / every.Seconds()
		before = now
		// Setting it stops the world for a moment, so only for a difference.
		if next := gcPercent(now.inUse, rate, cost); next < percent*9/10 || next > percent*11/10 {
			percent = next
			debug.SetGCPercent(percent)
		}
	}
}

// gcPercent is the value of GOGC, where a collection looks at so many bytes and
// takes cost seconds of a processor, and rate bytes a second are allocated.
func gcPercent(inUse uint64, rate, cost float64) int {
	if inUse == 0 {
		return mostPercent
	}
	live := float64(inUse)
	least := max(leastHeadroom, live*leastShare/100)
	most := max(mostHeadroom, live*mostShare/100)
	headroom := min(max(rate*cost/collecting, least), most)
	return int(min(100*headroom/live, mostPercent))
}

// collector is what the garbage collector says of itself.
type collector struct {
	// inUse is what GOGC is a percentage of: what the last collection found, and
	// the roots.
	inUse     uint64
	allocated uint64
	cycles    uint64
	seconds   float64
}

func readCollector() collector {
	samples := [...]metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/scan/stack:bytes"},
		{Name: "/gc/scan/globals:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
	}
	metrics.Read(samples[:])
	number := func(i int) uint64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return samples[i].Value.Uint64()
	}
	c := collector{inUse: number(0) + number(1) + number(2), allocated: number(3), cycles: number(4)}
	if v := samples[5].Value; v.Kind() == metrics.KindFloat64 {
		c.seconds = v.Float64()
	}
	return c
}
