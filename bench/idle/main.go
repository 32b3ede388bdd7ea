// Command idle measures what profiles cost that are registered and have nothing
// to do: how long a node with that many live bindings takes to start, whether it
// leaves the registrar alone, its memory, and what a scrape of /metrics costs.
//
//	go run ./bench/idle -profiles 1000000
//	go run ./bench/idle -profiles 100000 -later 60s -refresh-rounds 10
//
// It writes a data folder with that many registered profiles, and a profile
// file with the same rows, and runs the binary from cmd/node on them. What is
// measured is that process; a registrar in a process of its own counts what
// arrives.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sipmuster/muster/bench/measure"
)

// options are the flags.
type options struct {
	profiles, rounds             int
	expires, later, lead, minute time.Duration
	dir, binary                  string
}

func main() {
	var o options
	flag.IntVar(&o.profiles, "profiles", 1_000_000, "number of profiles")
	flag.DurationVar(&o.expires, "expires", time.Hour, "what the bindings were granted; their ends are spread evenly over it")
	flag.DurationVar(&o.lead, "lead", 0, "no refresh is due before this time has passed; 0 leaves room for the preparation, the start and a minute")
	flag.DurationVar(&o.minute, "minute", time.Minute, "how long to watch the node when it is ready")
	flag.IntVar(&o.rounds, "refresh-rounds", 0, "then watch the memory over so many refreshes of each profile")
	flag.DurationVar(&o.later, "later", time.Hour, "what the registrar grants to a refresh")
	flag.StringVar(&o.dir, "dir", "", "folder to work in, and to keep; empty uses one that is deleted")
	flag.StringVar(&o.binary, "muster", "", "binary to measure; empty builds cmd/node")
	flag.Parse()
	measure.Main("idle", func() error { return respond(o) }, func() error { return run(context.Background(), o) })
}

func respond(o options) error {
	conn, err := measure.Listen("")
	if err != nil {
		return err
	}
	fmt.Printf("sip:%s;transport=udp\n", conn.LocalAddr())
	far := measure.Registrar{First: o.later, Later: o.later}
	return far.Serve(conn)
}

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "muster-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	if o.binary == "" {
		o.binary = filepath.Join(o.dir, "muster")
		build := exec.Command("go", "build", "-o", o.binary, "github.com/sipmuster/muster/cmd/node")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the node: %w", err)
		}
	}
	if o.lead == 0 {
		const each = 250 * time.Microsecond // to prepare and to load
		o.lead = o.minute + time.Minute + time.Duration(o.profiles)*each
	}
	registrar, stop, err := measure.StartResponder("sip:")
	if err != nil {
		return err
	}
	defer stop()
	began := time.Now()
	data := filepath.Join(o.dir, "data")
	if err := prepare(ctx, o, data, began); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if err := writeFiles(o, registrar); err != nil {
		return err
	}
	fmt.Printf("%d registered profiles written in %s, %d MiB; the first refresh is due in %s\n", o.profiles,
		time.Since(began).Round(time.Second), measure.DirBytes(data)>>20, time.Until(began.Add(o.lead)).Round(time.Second))
	if err := watch(o, registrar); err != nil {
		return err
	}
	return reportSchedule(ctx, data)
}

// watch runs the node and prints what it costs.
func watch(o options, registrar string) error {
	n, err := launch(o)
	if err != nil {
		return err
	}
	defer n.kill()
	if err := n.waitReady(); err != nil {
		return err
	}
	n.report("ready")
	ready := time.Now()
	before, err := measure.AskCounts(registrar)
	if err != nil {
		return err
	}
	cpu := n.process.CPU()
	time.Sleep(o.minute)
	after, err := measure.AskCounts(registrar)
	if err != nil {
		return err
	}
	n.report("after " + o.minute.String())
	fmt.Printf("%-32s %d REGISTERs to ready, %d after it, %.2f %% of a processor\n", "meanwhile", before.Received, after.Received-before.Received,
		100*(n.process.CPU()-cpu).Seconds()/time.Since(ready).Seconds())
	if err := n.scrape(o.profiles); err != nil {
		return err
	}
	for round := range o.rounds {
		began := time.Now()
		for done := false; !done; time.Sleep(time.Second) {
			counts, err := measure.AskCounts(registrar)
			if err != nil {
				return err
			}
			done = counts.Granted+counts.Refreshed >= (round+1)*o.profiles
			if n.ended() {
				return errors.New("the node ended")
			}
		}
		n.report(fmt.Sprintf("refresh round %d, in %s", round+1, time.Since(began).Round(time.Second)))
	}
	return n.stop()
}
