// Command sessions measures what a call costs: CPU, allocations and journal
// bytes from the command to the answered BYE, through a challenge (INVITE, 407,
// ACK, INVITE with credentials, 180, 200, ACK, BYE, 200), how long the set-up
// takes, and what a call that is up keeps in memory. It drives a whole node
// against a far end in a process of its own, so that only the caller's CPU is
// counted.
//
//	go run ./bench/sessions -calls 5000
//	go run ./bench/sessions -calls 3000 -rate 100
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/bench/measure"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

const profiles = 100

// offer is about as long as that of a phone.
var offer = []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n" +
	"m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n")

func main() {
	if measure.IsResponder() {
		respond()
		return
	}
	calls := flag.Int("calls", 5000, "number of calls")
	rate := flag.Float64("rate", -1, "requests per second of the registrar, two for each challenged call; negative for flat out")
	concurrency := flag.Int("concurrency", 200, "calls that are being set up or ended at a time")
	cpuProfile := flag.String("cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	if err := measure.Profiled(*cpuProfile, func() error { return run(*calls, *rate, *concurrency) }); err != nil {
		fmt.Fprintln(os.Stderr, "sessions:", err)
		os.Exit(1)
	}
}

// respond is the far end: it challenges every INVITE outside a dialog that has
// no credentials, and takes the others. What they are worth is not the question
// here.
func respond() {
	c, err := siptest.NewCallee(siptest.CalleeOptions{
		Body: string(offer), ContentType: "application/sdp",
		Behaviour: func(r *siptest.Request) *siptest.Reply {
			if r.Method != "INVITE" || r.Message.GetHeader("Proxy-Authorization") != nil {
				return nil
			}
			return &siptest.Reply{Status: 407, Headers: []string{
				fmt.Sprintf(`Proxy-Authenticate: Digest realm="example.test", nonce="%s", algorithm=MD5, qop="auth"`, r.CallID),
			}}
		},
	})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(c.Addr())
	select {}
}

func run(calls int, rate float64, concurrency int) error {
	addr, stop, err := measure.StartResponder("127.")
	if err != nil {
		return err
	}
	defer stop()
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	desired := muster.Desired{Registrars: []actors.Registrar{{
		Name: "r", URI: "sip:" + addr + ";transport=udp", Rate: rate, Concurrency: -1,
		Sessions: actors.SessionLimits{Total: -1, PerProfile: -1},
	}}}
	for i := range profiles {
		id := fmt.Sprintf("u%d", i)
		desired.Profiles = append(desired.Profiles, actors.Declaration{
			ID: id, AOR: "sip:" + id + "@example.test", Registrar: "r", Password: messages.NewSecret("pw-" + id), NoRegister: true,
		})
	}
	node, err := muster.New(muster.Options{DataDir: data, Desired: desired, SIP: muster.SIP{Listen: []string{"udp://127.0.0.1:0"}}})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := node.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = node.Stop(ctx) }()
	fmt.Printf("%d calls, rate %.0f, concurrency %d, %s\n", calls, rate, concurrency, runtime.Version())

	up := make([]*muster.Session, calls)
	setup := make([]time.Duration, calls)
	before := measure.Now(data)
	err = each(calls, concurrency, func(i int) error {
		began := time.Now()
		s, err := node.StartSession(ctx, muster.Call{Profile: fmt.Sprintf("u%d", i%profiles), Target: "sip:bob@" + addr, Body: offer})
		if err != nil {
			return err
		}
		up[i] = s
		err = s.WaitEstablished(ctx)
		setup[i] = time.Since(began)
		return err
	})
	if err != nil {
		return err
	}
	after := measure.Now(data)
	measure.Report("challenged call, until it is up", calls, before, after)
	slices.Sort(setup)
	fmt.Printf("%-32s median %v, 99 %% %v, longest %v\n", "set-up", setup[calls/2].Round(100*time.Microsecond),
		setup[calls*99/100].Round(100*time.Microsecond), setup[calls-1].Round(100*time.Microsecond))
	runtime.GC()
	held := measure.Now(data)
	fmt.Printf("%-32s %.1f kB of heap for each call\n", "calls that are up", float64(held.Heap-before.Heap)/1000/float64(calls))

	before = measure.Now(data)
	err = each(calls, concurrency, func(i int) error {
		if err := up[i].End(ctx); err != nil {
			return err
		}
		for e := range up[i].Events() {
			if e.Kind == session.NoticeEnded {
				return nil
			}
		}
		return errors.New("a session ended without saying so")
	})
	if err != nil {
		return err
	}
	measure.Report("hang-up", calls, before, measure.Now(data))
	return nil
}

// each does something for every call, so many at a time.
func each(calls, concurrency int, do func(i int) error) error {
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	turns := make(chan struct{}, concurrency)
	for i := range calls {
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			if err := do(i); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("call %d: %w", i, err))
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return errors.Join(errs[:min(len(errs), 5)]...)
}
