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
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// responderEnv makes this program the registrar.
const responderEnv = "MUSTER_BENCH_RESPONDER"

func main() {
	if os.Getenv(responderEnv) != "" {
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
	err := profiled(*cpuProfile, func() error { return run(*profiles, *refreshes, *rate, *concurrency, *registrar) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "register:", err)
		os.Exit(1)
	}
}

func profiled(path string, do func() error) error {
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

func startResponder() (uri string, stop func(), err error) {
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
	if err != nil || !strings.HasPrefix(line, "sip:") {
		stop()
		return "", nil, fmt.Errorf("the registrar did not start: %q %w", line, err)
	}
	return strings.TrimSpace(line), stop, nil
}

func run(profiles, refreshes int, rate float64, concurrency int, registrar string) error {
	if registrar == "" {
		uri, stop, err := startResponder()
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
	before := now(data)
	if err := node.Apply(ctx, desired); err != nil {
		return err
	}
	if err := waitRegistered(ctx, node, profiles); err != nil {
		return err
	}
	report("challenged registration", profiles, before, now(data))
	for range refreshes {
		seen := requests(node)
		before = now(data)
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
		report("refresh, with its command", profiles, before, now(data))
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

// sample is the process at one moment.
type sample struct {
	wall    time.Time
	cpu     time.Duration
	mallocs uint64
	bytes   uint64
	rss     int64
	journal int64
}

func now(data string) sample {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	s := sample{
		wall: time.Now(), cpu: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		mallocs: mem.Mallocs, bytes: mem.TotalAlloc, rss: residentBytes(),
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

func report(what string, n int, a, b sample) {
	per := float64(n)
	fmt.Printf("%-26s %.4f CPU-ms  %5.0f allocations  %6.0f B allocated  %5.0f B journal file  %6.0f /s  RSS %d MiB\n", what,
		float64((b.cpu-a.cpu).Microseconds())/1000/per, float64(b.mallocs-a.mallocs)/per, float64(b.bytes-a.bytes)/per,
		float64(b.journal-a.journal)/per, per/b.wall.Sub(a.wall).Seconds(), b.rss>>20)
}
