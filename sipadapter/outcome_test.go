package sipadapter

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

// chaos is a network in which everything goes wrong that can, by a seed.
type chaos struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (c *chaos) roll(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

// answers is what a server sends back to one packet.
func (c *chaos) answers(request []byte) [][]byte {
	switch c.roll(10) {
	case 0:
		return nil
	case 1:
		return [][]byte{answerTo(request, "503 Busy", "Retry-After: 1")}
	case 2:
		return [][]byte{answerTo(request, "100 Trying")}
	case 3:
		return [][]byte{granted(request), granted(request), answerTo(request, "401 Who")}
	case 4:
		return [][]byte{replaceHeader(granted(request), "Call-ID", "other")}
	case 5:
		return [][]byte{[]byte("SIP/2.0 \r\n\r\n"), granted(request)[:40]}
	}
	return [][]byte{granted(request)}
}

// dial connects, refuses, hangs, or connects to a peer that goes away.
func (c *chaos) dial(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (net.Conn, error) {
	switch c.roll(4) {
	case 0:
		return nil, syscall.ECONNREFUSED
	case 1:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	go func() {
		defer func() { _ = far.Close() }()
		var f framer
		for c.roll(20) > 0 {
			n, err := far.Read(f.space())
			if err != nil {
				return
			}
			f.filled(n)
			for {
				request, err := f.next()
				if err != nil || request == nil {
					break
				}
				for _, answer := range c.answers(request) {
					if _, err := far.Write(answer); err != nil {
						return
					}
				}
			}
		}
	}()
	return near, nil
}

// Whatever happens, each request has one outcome: over both transports, with
// failover, with requests that are sent from a callback, and when the adapter
// closes in the middle.
func TestExactlyOneOutcome(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			c := &chaos{rng: rand.New(rand.NewPCG(seed, 1))}
			dns := farm("192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.24")
			a, conn := memAdapter(t, Options{Resolver: dns, MaxPending: 300}, seams{dial: c.dial})
			conn.peer = func(d datagram) []datagram {
				var out []datagram
				for _, answer := range c.answers(d.data) {
					out = append(out, datagram{data: answer, addr: d.addr})
				}
				return out
			}
			const requests = 400
			outcomes := make([]atomic.Int32, 2*requests)
			start := func(i int, done func(messages.SIPOutcome)) {
				r := toName(transportUDP)
				if c.roll(3) == 0 {
					r = toName(transportTCP)
				}
				if c.roll(5) == 0 {
					r.Mutations = large(1500).Mutations
				}
				a.Send(r, func(o messages.SIPOutcome) {
					if (o.Response == nil) == (o.Failure == "") {
						t.Errorf("outcome %+v", o)
					}
					outcomes[i].Add(1)
					done(o)
				})
			}
			for i := range requests {
				start(i, func(messages.SIPOutcome) {
					start(requests+i, func(messages.SIPOutcome) {})
				})
				if c.roll(20) == 0 {
					time.Sleep(time.Duration(c.roll(1000)) * time.Millisecond)
				}
			}
			time.Sleep(time.Duration(c.roll(300)) * time.Second)
			shut(t, a)
			synctest.Wait()
			for i := range outcomes {
				if n := outcomes[i].Load(); n != 1 {
					t.Errorf("seed %d: request %d has %d outcomes", seed, i, n)
				}
			}
			if s := a.Stats(); s.Pending != 0 || s.Connections != 0 {
				t.Errorf("seed %d: stats %+v", seed, s)
			}
		})
	}
}

// A callback that sends the next request, as a challenge does, holds no lock
// and needs no other goroutine.
func TestSendFromCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
		left := 1000
		finished := make(chan error, 1)
		var next func(messages.SIPOutcome)
		next = func(o messages.SIPOutcome) {
			if o.Response == nil {
				finished <- errors.New(o.Detail)
				return
			}
			if left--; left == 0 {
				finished <- nil
				return
			}
			a.Send(register(), next)
		}
		a.Send(register(), next)
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
	})
}
