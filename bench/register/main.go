// Command register measures what it costs to keep profiles registered: CPU per
// challenged registration and per refresh with a cached nonce, allocations,
// memory and journal bytes. It drives a whole node against a registrar in a
// process of its own, so that only the client's CPU is counted.
//
//	go run ./bench/register -profiles 10000
//	go run ./bench/register -profiles 10000 -registrar sip:127.0.0.1:5060
//
// With -registrar the users' passwords must be "pw-" and the user name, as with
// interop/kamailio/registrar.sh.
package main

import (
	"context"
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

func main() {
	if measure.IsResponder() {
		respond()
		return
	}
	profiles := flag.Int("profiles", 10_000, "number of profiles")
	rate := flag.Float64("rate", -1, "requests per second; negative for flat out")
	concurrency := flag.Int("concurrency", 500, "open attempts")
	registrar := flag.String("registrar", "", "URI of a registrar; empty starts one")
	refreshes := flag.Int("refreshes", 3, "rounds of refreshes")
	cpuProfile := flag.String("cpuprofile", "", "write a CPU profile of the registrations to this file")
	flag.Parse()
	err := measure.Profiled(*cpuProfile, func() error { return run(*profiles, *refreshes, *rate, *concurrency, *registrar) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "register:", err)
		os.Exit(1)
	}
}

func respond() {
	r, err := siptest.NewRegistrar(siptest.Options{
		Authenticate: true, LogSize: -1, NonceLifetime: time.Hour,
		Password: func(user string) (string, bool) { return "pw-" + user, true },
	})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(r.URI("udp"))
	select {}
}

func run(profiles, refreshes int, rate float64, concurrency int, registrar string) error {
	if registrar == "" {
		uri, stop, err := measure.StartResponder("sip:")
		if err != nil {
			return err
		}
		defer stop()
		registrar = uri
	}
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	desired := muster.Desired{Registrars: []actors.Registrar{{Name: "r", URI: registrar, Rate: rate, Concurrency: concurrency}}}
	for i := range profiles {
		id := fmt.Sprintf("u%d", i)
		desired.Profiles = append(desired.Profiles, actors.Declaration{
			ID: id, AOR: "sip:" + id + "@example.test", Registrar: "r", Password: messages.NewSecret("pw-" + id), Disabled: true,
		})
	}
	data := filepath.Join(dir, "data")
	node, err := muster.New(muster.Options{DataDir: data, Desired: desired, SIP: muster.SIP{Listen: []string{"udp://127.0.0.1:0"}}})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := node.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = node.Stop(ctx) }()

	fmt.Printf("%d profiles, rate %.0f, concurrency %d, %s, %s\n", profiles, rate, concurrency, registrar, runtime.Version())
	// Declaring is not registering: the profiles exist, and are enabled here.
	for i := range desired.Profiles {
		desired.Profiles[i].Disabled = false
	}
	before := measure.Now(data)
	if err := node.Apply(ctx, desired); err != nil {
		return err
	}
	if err := waitRegistered(ctx, node, profiles); err != nil {
		return err
	}
	measure.Report("challenged registration", profiles, before, measure.Now(data))
	for range refreshes {
		seen := requests(node)
		before = measure.Now(data)
		for i := range profiles {
			if _, err := node.RefreshProfile(ctx, fmt.Sprintf("u%d", i)); err != nil {
				return err
			}
		}
		for requests(node) < seen+float64(profiles) {
			time.Sleep(10 * time.Millisecond)
		}
		if err := waitRegistered(ctx, node, profiles); err != nil {
			return err
		}
		measure.Report("refresh, with its command", profiles, before, measure.Now(data))
	}
	return nil
}

func waitRegistered(ctx context.Context, node *muster.Node, want int) error {
	for range 6000 {
		rs, err := node.Registrars(ctx)
		if err != nil {
			return err
		}
		if rs[0].Profiles[actors.StateRegistered] == want && rs[0].InFlight == 0 && rs[0].Waiting == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("not all profiles were registered within ten minutes")
}

func requests(node *muster.Node) float64 {
	families, err := node.Metrics().Gatherer().Gather()
	if err != nil {
		return 0
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == "muster_sip_requests_total" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
