// Command register measures what it costs to keep profiles registered: CPU per
// challenged registration and per refresh with a cached nonce, REGISTERs,
// allocations, memory and journal bytes. It drives a whole node against a
// registrar in a process of its own, so that only the client's CPU is counted.
//
//	go run ./bench/register -profiles 10000 -pace 2500
//	go run ./bench/register -profiles 10000
//	go run ./bench/register -profiles 10000 -pace 2500 -expires 120s -registrar sip:127.0.0.1:5060
//
// Refreshes are not commanded: they fall due, because the far end grants what
// makes -refresh-rate refreshes a second of the number of profiles. With
// -registrar, which grants what is asked, -expires decides; the users'
// passwords must be "pw-" and the user name, as with
// interop/kamailio/registrar.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/bench/measure"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// options are the flags.
type options struct {
	profiles, concurrency, rounds   int
	pace, refreshRate               float64
	expires                         time.Duration
	registrar, responder, qop, data string
	cpuProfile, memProfile, phase   string
}

func main() {
	var o options
	flag.IntVar(&o.profiles, "profiles", 10_000, "number of profiles")
	flag.Float64Var(&o.pace, "pace", 0, "challenged registrations a second, by the node's own gate; 0 for flat out")
	flag.IntVar(&o.concurrency, "concurrency", 500, "open attempts")
	flag.DurationVar(&o.expires, "expires", 0, "asked for and granted to a first registration; 0 follows from the number of profiles and the rates")
	flag.IntVar(&o.rounds, "refresh-rounds", 2, "refreshes of each profile to measure; 0 for none")
	flag.Float64Var(&o.refreshRate, "refresh-rate", 2500, "refreshes a second, all profiles together")
	flag.StringVar(&o.registrar, "registrar", "", "URI of a registrar; empty starts one")
	flag.StringVar(&o.responder, "responder", "raw", "which one it starts: raw, or siptest, which checks everything and is slower")
	flag.StringVar(&o.qop, "qop", "", "qop that the far end offers; empty offers none, as Kamailio does without nonce counts")
	flag.StringVar(&o.data, "data", "", "data folder to keep; empty uses one that is deleted")
	flag.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile of a phase to this file")
	flag.StringVar(&o.phase, "phase", "register", "the phase that is profiled: register or refresh")
	flag.StringVar(&o.memProfile, "memprofile", "", "write a profile of the heap at the end to this file")
	flag.Parse()
	measure.Main("register", func() error { return respond(o) }, func() error { return run(context.Background(), o) })
}

// interval is the mean time between two refreshes of one profile.
func (o options) interval() time.Duration {
	return time.Duration(float64(o.profiles) / o.refreshRate * float64(time.Second))
}

// registering is how long the first registrations are expected to take.
func (o options) registering() time.Duration {
	const flatOut = 2500 // a second, at least
	pace := o.pace
	if pace <= 0 {
		pace = flatOut
	}
	return time.Duration(float64(o.profiles) / pace * float64(time.Second))
}

// first is granted to a first registration: no refresh falls due before the
// last profile is registered. A refresh leaves after 80 to 100 % of what the
// grant allows.
func (o options) first() time.Duration {
	if o.expires > 0 {
		return o.expires
	}
	const earliest, settle = 0.8, 2 * time.Second
	return granting(time.Duration(float64(o.registering()+settle) / earliest))
}

// later is granted to a refresh, for a mean of refreshRate.
func (o options) later() time.Duration {
	const mean = 0.9
	return granting(time.Duration(float64(o.interval()) / mean))
}

// granting is the grant that allows a refresh to wait so long: all but 32 s of
// it, and half of a short one (RFC 5627 §4.2).
func granting(allowed time.Duration) time.Duration {
	const margin = 32 * time.Second
	grant := 2 * allowed
	if allowed > margin {
		grant = allowed + margin
	}
	return max(grant.Round(time.Second), time.Second)
}

func respond(o options) error {
	if o.responder == "siptest" {
		r, err := siptest.NewRegistrar(siptest.Options{
			Authenticate: true, LogSize: -1, NonceLifetime: time.Hour, GrantExpires: uint32(o.later() / time.Second),
			Password: func(user string) (string, bool) { return "pw-" + user, true },
		})
		if err != nil {
			return err
		}
		fmt.Println(r.URI("udp"))
		select {}
	}
	conn, err := measure.Listen("")
	if err != nil {
		return err
	}
	fmt.Printf("sip:%s;transport=udp\n", conn.LocalAddr())
	far := measure.Registrar{First: o.first(), Later: o.later(), QOP: o.qop}
	return far.Serve(conn)
}

func run(ctx context.Context, o options) (err error) {
	if o.registrar == "" {
		uri, stop, err := measure.StartResponder("sip:")
		if err != nil {
			return err
		}
		defer stop()
		o.registrar = uri
	}
	if o.data == "" {
		dir, err := os.MkdirTemp("", "muster-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.data = filepath.Join(dir, "data")
	}
	node, err := start(ctx, o)
	if err != nil {
		return err
	}
	err = phases(ctx, o, node)
	err = errors.Join(err, measure.WriteHeap(o.memProfile))
	stop, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := errors.Join(err, node.Stop(stop)); err != nil {
		return err
	}
	return reportLag(filepath.Join(o.data, "journal.db"))
}

// start builds a node that knows the profiles and lets none of them go.
func start(ctx context.Context, o options) (*muster.Node, error) {
	const closed = 1e-9 // requests a second
	node, err := muster.New(muster.Options{
		DataDir: o.data, Desired: o.desired(closed), SIP: muster.SIP{Listen: []string{"udp://127.0.0.1:0"}},
		Retention: muster.Retention{Events: -1}, // for reportLag
	})
	if err != nil {
		return nil, err
	}
	if err := node.Start(ctx); err != nil {
		return nil, err
	}
	fmt.Printf("%d profiles, %g registrations and %g refreshes a second (0: flat out), concurrency %d, %s, %s, %d processors\n",
		o.profiles, o.pace, o.refreshRate, o.concurrency, o.registrar, runtime.Version(), runtime.GOMAXPROCS(0))
	before := measure.Now(o.data)
	const batch = 20_000
	for from := 0; from < o.profiles; from += batch {
		for _, r := range node.ImportProfiles(ctx, declarations(from, min(from+batch, o.profiles)), false) {
			if r.Error != "" {
				return node, errors.New(r.Error)
			}
		}
	}
	measure.Report("declared profile", o.profiles, before, measure.Now(o.data))
	return node, nil
}

// desired is the registrar at a rate of requests.
func (o options) desired(rate float64) muster.Desired {
	return muster.Desired{Registrars: []actors.Registrar{{
		Name: "r", URI: o.registrar, Rate: rate, Concurrency: o.concurrency, Expires: o.first(),
	}}}
}

func declarations(from, to int) []actors.Declaration {
	ds := make([]actors.Declaration, 0, to-from)
	for i := from; i < to; i++ {
		id := fmt.Sprintf("u%d", i)
		ds = append(ds, actors.Declaration{ID: id, AOR: "sip:" + id + "@example.test", Registrar: "r", Password: messages.NewSecret("pw-" + id)})
	}
	return ds
}

func phases(ctx context.Context, o options, node *muster.Node) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go muster.TendMemory(ctx) // as cmd/node does
	time.Sleep(time.Second)
	rate := -1.0
	if o.pace > 0 {
		rate = 2 * o.pace // the gate counts requests, a challenged registration has two
	}
	before, seen := measure.Now(o.data), read(node)
	err := measure.Profiled(o.profileOf("register"), func() error {
		if err := node.Apply(ctx, o.desired(rate)); err != nil {
			return err
		}
		return waitFor(o, func() bool { return read(node).granted >= float64(o.profiles) })
	})
	if err != nil {
		return err
	}
	after, now := measure.Now(o.data), read(node)
	measure.Report("challenged registration", o.profiles, before, after)
	report(seen, now)
	if o.rounds == 0 {
		return nil
	}
	// The first refreshes come as the registrations did; after one round they are
	// spread.
	skip := now.granted + float64(o.profiles)
	if err := waitFor(o, func() bool { return read(node).granted >= skip }); err != nil {
		return err
	}
	before, seen = measure.Now(o.data), read(node)
	err = measure.Profiled(o.profileOf("refresh"), func() error {
		until := seen.granted + float64(o.rounds*o.profiles)
		return waitFor(o, func() bool { return read(node).granted >= until })
	})
	if err != nil {
		return err
	}
	after, now = measure.Now(o.data), read(node)
	measure.Report("refresh that fell due", int(now.granted-seen.granted), before, after)
	report(seen, now)
	return nil
}

func (o options) profileOf(phase string) string {
	if phase == o.phase {
		return o.cpuProfile
	}
	return ""
}

// waitFor polls once a second: looking at the metrics costs some milliseconds of
// the CPU that is measured.
func waitFor(o options, done func() bool) error {
	limit := time.Now().Add(10*time.Minute + 3*time.Duration(o.rounds+1)*max(o.first(), o.interval()))
	for !done() {
		if time.Now().After(limit) {
			return errors.New("the profiles were not registered in time")
		}
		time.Sleep(time.Second)
	}
	return nil
}
