//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sipmuster/muster/bench/measure"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/store"
)

// measureStart fills a store with a snapshot for each stream and events after
// the checkpoint, and measures a start.
func measureStart(o settings) error {
	filled := o.store
	filled.CheckpointEvery = -1
	if err := fill(o, filled); err != nil {
		return err
	}
	// Without a checkpoint: what is measured is the start as after a crash.
	o.store.CheckpointEvery = -1
	return measure.Profiled(o.profile, func() error { return start(o) })
}

func fill(o settings, opts store.Options) error {
	d := newDriver(o)
	if err := d.openStore(opts); err != nil {
		return err
	}
	s := d.s
	if err := d.declare(); err != nil {
		return err
	}
	for range o.rounds {
		if err := d.each(o.streams, (*registration).register); err != nil {
			return err
		}
	}
	before, from := usageNow(), time.Now()
	if err := s.Checkpoint(context.Background()); err != nil {
		return err
	}
	after := usageNow()
	each := 1 + eventsOfOne*o.rounds
	per := float64(each * o.streams)
	fmt.Printf("checkpoint of %d events on each of %d streams: %.2f CPU-µs and %.0f bytes written per event, %.1f s\n",
		each, o.streams, float64((after.cpu-before.cpu).Microseconds())/per, float64(after.written-before.written)/per, time.Since(from).Seconds())
	if err := d.each(min(o.tail/eventsOfOne, o.streams), (*registration).register); err != nil {
		return err
	}
	return s.Close()
}

func start(o settings) error {
	heap, before, from := heapOf(), usageNow(), time.Now()
	s, err := store.Open(o.store)
	if err != nil {
		return err
	}
	defer s.Close()
	opened, at := usageNow(), time.Now()
	fmt.Printf("open:   %.2f s, %.2f s CPU\n", at.Sub(from).Seconds(), (opened.cpu - before.cpu).Seconds())
	var c counting
	if err := s.Replay(context.Background(), &c); err != nil {
		return err
	}
	replayed := usageNow()
	fmt.Printf("replay: %.2f s, %.2f s CPU; %d snapshots, %d events, %d bytes of state each\n",
		time.Since(at).Seconds(), (replayed.cpu - opened.cpu).Seconds(), c.snapshots, c.events, c.bytes/max(1, c.snapshots))
	fmt.Printf("memory: heap %.1f bytes per stream, RSS %d MiB\n", float64(heapOf()-heap)/float64(o.streams), usageNow().rss>>20)
	from, before = time.Now(), usageNow()
	const loads = 10_000
	for i := range loads {
		if _, _, _, err := s.Load(context.Background(), fmt.Sprintf("p/subscriber-%d", i*(o.streams/loads))); err != nil {
			return err
		}
	}
	fmt.Printf("load:   %.1f CPU-µs, %.1f µs each\n", float64((usageNow().cpu-before.cpu).Microseconds())/loads, float64(time.Since(from).Microseconds())/loads)
	return nil
}

// Snapshot implements store.Replayer.
func (c *counting) Snapshot(_ string, _ uint64, state []byte) error {
	c.snapshots++
	c.bytes += len(state)
	return nil
}

// Event implements store.Replayer.
func (c *counting) Event(*messages.Envelope) error {
	c.events++
	return nil
}
