//go:build linux

// Command store measures what the journal costs: CPU and bytes written for each
// event at a given rate, the time that an append takes, the file and the memory.
//
//	go run ./bench/store -rate 10000 -streams 100000 -duration 60s
//	go run ./bench/store -start -streams 1000000
//
// It appends as registrations do: three appends with four events on one stream,
// each when the one before is durable, for many streams at once, to the real store
// with the fold of the profiles. All that the process uses is counted: commits,
// checkpoints, trims, and
// the program's own part, which is small. With -start it fills a store and
// measures what a start of it takes.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/bench/measure"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

type settings struct {
	rate     float64
	streams  int
	open     int
	duration time.Duration
	live     bool
	start    bool
	rounds   int
	tail     int
	profile  string
	store    store.Options
}

func main() {
	var o settings
	flag.Float64Var(&o.rate, "rate", 10_000, "events a second")
	flag.IntVar(&o.streams, "streams", 100_000, "number of streams")
	flag.IntVar(&o.open, "open", 2000, "registrations that can be open at once")
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long to append")
	flag.BoolVar(&o.live, "live", true, "checkpoints take the states from their owners (Options.Live)")
	flag.BoolVar(&o.start, "start", false, "measure a start instead")
	flag.IntVar(&o.rounds, "rounds", 1, "with -start: registrations of each stream before the checkpoint")
	flag.IntVar(&o.tail, "tail", 1_000_000, "with -start: events after the checkpoint")
	flag.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of what is measured to this file")
	flag.StringVar(&o.store.Dir, "dir", "", "empty folder on the disk to measure; empty makes one")
	flag.DurationVar(&o.store.CommitInterval, "interval", 0, "Options.CommitInterval")
	flag.IntVar(&o.store.CheckpointEvery, "checkpoint", 0, "Options.CheckpointEvery")
	flag.IntVar(&o.store.Retention.Count, "retention", 0, "Options.Retention.Count")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}

func run(o settings) error {
	if o.streams < 2*o.open {
		return fmt.Errorf("%d streams are too few for %d open registrations", o.streams, o.open)
	}
	if o.store.Dir == "" {
		dir, err := os.MkdirTemp("", "muster-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.store.Dir = dir
	}
	o.store.Fold = func(_ string, state []byte, events []*messages.Envelope) ([]byte, error) {
		return profile.Fold(state, events)
	}
	if o.start {
		return measureStart(o)
	}
	return measureAppends(o)
}

func measureAppends(o settings) error {
	d := newDriver(o)
	if err := d.openStore(o.store); err != nil {
		return err
	}
	defer d.s.Close()
	if err := d.declare(); err != nil {
		return err
	}
	return measure.Profiled(o.profile, func() error { return d.measure() })
}
