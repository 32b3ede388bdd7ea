// Command peers measures the CPU time that clients need to keep users
// registered at one Kamailio registrar, in one run on one machine: SIPp, which
// generates load and keeps nothing, Kamailio's own client (module uac), and
// Muster by bench/register. Only the clients' CPU counts, user and system.
//
//	go run ./bench/peers -profiles 20000 -rate 2500
//	go run ./bench/peers -profiles 20000 -rate 0
//
// It needs Kamailio for the registrar (interop/kamailio), and leaves out a
// client that is not installed. Every client has the same users and passwords,
// UDP, MD5, one 401 for each first registration, and a registrar that was just
// started.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/sipmuster/muster/interop"
)

var errNotInstalled = errors.New("is not installed")

func main() {
	profiles := flag.Int("profiles", 20_000, "number of users")
	rate := flag.Float64("rate", 2500, "registrations and refreshes a second; 0 for flat out, without refreshes of uac and Muster")
	only := flag.String("only", "sipp,uac,muster", "which clients")
	flag.Parse()
	if err := run(*profiles, *rate, *only); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// result is what one client needed.
type result struct {
	cpu, wall time.Duration
	registers int // REGISTERs that the registrar saw
	accepted  int
}

// each is the CPU time of one registration in milliseconds, 0 when nothing was
// measured.
func (r result) each() float64 {
	if r.accepted == 0 {
		return 0
	}
	return float64(r.cpu.Microseconds()) / 1000 / float64(r.accepted)
}

// String is a cell of the table.
func (r result) String() string {
	if r.accepted == 0 {
		return "–"
	}
	return fmt.Sprintf("%.4f (%.2f, %.0f/s)", r.each(), float64(r.registers)/float64(r.accepted), float64(r.accepted)/r.wall.Seconds())
}

func run(profiles int, rate float64, only string) error {
	dir, err := os.MkdirTemp("", "muster-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := enlarge(dir); err != nil {
		return err
	}
	register := filepath.Join(dir, "register")
	build := exec.Command("go", "build", "-o", register, "github.com/sipmuster/muster/bench/register")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build bench/register: %w", err)
	}
	fmt.Printf("%d users, %g a second (0: flat out), %s, %d processors\n\n", profiles, rate, runtime.Version(), runtime.NumCPU())
	fmt.Println("| client | CPU-ms of a challenged registration (REGISTERs each, rate) | CPU-ms of a refresh (REGISTERs each, rate) |\n| --- | --- | --- |")
	clients := []client{
		{"sipp", func(k *interop.Kamailio, refresh bool) (result, error) {
			return runSIPp(dir, k, profiles, rate, refresh)
		}},
		{"uac", func(k *interop.Kamailio, refresh bool) (result, error) { return uac(dir, k, profiles, rate, refresh) }},
		{"muster", func(k *interop.Kamailio, refresh bool) (result, error) {
			return muster(register, k, profiles, rate, refresh)
		}},
	}
	results := map[string]pair{}
	for _, c := range clients {
		if !strings.Contains(only, c.name) {
			continue
		}
		// What falls due has a rate; SIPp's refreshes do not fall due.
		p, err := c.both(rate > 0 || c.name == "sipp")
		if errors.Is(err, errNotInstalled) {
			fmt.Printf("| %s | %v | |\n", c.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results[c.name] = p
		fmt.Printf("| %s | %v | %v |\n", c.name, p.challenged, p.refreshed)
	}
	fmt.Println()
	ours := results["muster"]
	for _, c := range clients[:len(clients)-1] {
		theirs, measured := results[c.name]
		if measured && ours.challenged.accepted > 0 {
			fmt.Printf("muster / %s: %s challenged, %s refreshed\n", c.name,
				ratio(ours.challenged, theirs.challenged), ratio(ours.refreshed, theirs.refreshed))
		}
	}
	return nil
}

// client is a client and how it is measured.
type client struct {
	name    string
	measure func(k *interop.Kamailio, refresh bool) (result, error)
}

type pair struct{ challenged, refreshed result }

// both measures registrations and, unless they are left out, refreshes, each
// with a registrar of its own.
func (c client) both(refresh bool) (p pair, err error) {
	p.challenged, err = withRegistrar(func(k *interop.Kamailio) (result, error) { return c.measure(k, false) })
	if err == nil && refresh {
		p.refreshed, err = withRegistrar(func(k *interop.Kamailio) (result, error) { return c.measure(k, true) })
	}
	return p, err
}

func ratio(a, b result) string {
	if a.each() == 0 || b.each() == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a.each()/b.each())
}

// enlarge gives the registrar the memory for the transactions of a few thousand
// registrations a second.
func enlarge(dir string) error {
	path, err := findKamailio()
	if err != nil {
		return fmt.Errorf("kamailio %w", err)
	}
	wrapper := filepath.Join(dir, "kamailio")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\nexec "+path+" \"$@\" -m 1024\n"), 0o700); err != nil {
		return err
	}
	return os.Setenv("KAMAILIO", wrapper)
}

func withRegistrar(do func(k *interop.Kamailio) (result, error)) (result, error) {
	k, err := interop.StartKamailio(interop.Options{Transports: []string{"udp"}, NonceExpire: time.Hour})
	if err != nil {
		return result{}, err
	}
	defer k.Stop()
	return do(k)
}

func registrarAddr(k *interop.Kamailio) string { return fmt.Sprintf("127.0.0.1:%d", k.Port()) }

// moment is what was done up to it.
type moment struct {
	at                  time.Time
	cpu                 time.Duration
	registers, accepted int
}

func sample(k *interop.Kamailio, cpu func() time.Duration) (moment, error) {
	counts, err := k.Counters()
	return moment{time.Now(), cpu(), counts.Received, counts.Accepted}, err
}

// until waits for so many accepted REGISTERs.
func until(k *interop.Kamailio, cpu func() time.Duration, accepted int) (moment, error) {
	const limit, every = 5 * time.Minute, 200 * time.Millisecond
	for deadline := time.Now().Add(limit); ; time.Sleep(every) {
		m, err := sample(k, cpu)
		if err != nil || m.accepted >= accepted {
			return m, err
		}
		if time.Now().After(deadline) {
			return m, fmt.Errorf("%d of %d registrations after %s", m.accepted, accepted, limit)
		}
	}
}

func (m moment) since(before moment) result {
	return result{cpu: m.cpu - before.cpu, wall: m.at.Sub(before.at), registers: m.registers - before.registers, accepted: m.accepted - before.accepted}
}

// runSIPp measures SIPp. A refresh costs what a scenario with some of them costs
// more than one without.
func runSIPp(dir string, k *interop.Kamailio, users int, rate float64, refresh bool) (result, error) {
	once := func(refreshes int, rate float64) (result, error) {
		began, err := sample(k, func() time.Duration { return 0 })
		if err != nil {
			return result{}, err
		}
		cpu, err := sipp(dir, registrarAddr(k), users, refreshes, rate)
		if err != nil {
			return result{}, err
		}
		ended, err := sample(k, func() time.Duration { return cpu })
		return ended.since(began), err
	}
	const refreshes = 4
	plain, err := once(0, rate)
	if err != nil || !refresh {
		return plain, err
	}
	more, err := once(refreshes, rate/(1+refreshes))
	return result{
		cpu: more.cpu - plain.cpu, wall: more.wall * refreshes / (1 + refreshes),
		registers: more.registers - plain.registers, accepted: more.accepted - plain.accepted,
	}, err
}

func freePort() (int, error) {
	p, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.LocalAddr().(*net.UDPAddr).Port, nil
}
