package interop

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// RelayOptions are the faults of a Relay, each with its probability for a
// datagram, in [0,1]. The zero value has none.
type RelayOptions struct {
	// Target is the "host:port" behind the relay.
	Target string
	// Seed makes the faults the same for the same sequence of datagrams.
	Seed uint64
	// Drop loses a datagram, Duplicate delivers it twice, and Delay holds it
	// back for up to Hold, so that later ones pass it.
	Drop, Duplicate, Delay float64
	// Hold is how long at most; 0 means 50 ms.
	Hold time.Duration
}

// Relay passes UDP datagrams between one client and a target, with faults. The
// client talks to Addr; the target sees the relay's other socket as its peer.
type Relay struct {
	options RelayOptions
	front   *net.UDPConn // towards the client
	back    *net.UDPConn // towards the target

	mu     sync.Mutex
	client *net.UDPAddr
	random *rand.Rand
	counts RelayCounts
	late   sync.WaitGroup // what is held back
	done   sync.WaitGroup
	closed bool
}

// RelayCounts are datagrams by what became of them, both directions together.
type RelayCounts struct{ Received, Dropped, Duplicated, Delayed int }

// StartRelay opens a relay on loopback. The caller closes it.
func StartRelay(o RelayOptions) (*Relay, error) {
	target, err := net.ResolveUDPAddr("udp4", o.Target)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	back, err := net.DialUDP("udp4", nil, target)
	if err != nil {
		front.Close()
		return nil, fmt.Errorf("relay: %w", err)
	}
	if o.Hold == 0 {
		o.Hold = 50 * time.Millisecond
	}
	r := &Relay{options: o, front: front, back: back, random: rand.New(rand.NewPCG(o.Seed, 0))}
	// What is lost is the relay's choice, so the kernel shall lose nothing.
	const buffer = 4 << 20
	if err := errors.Join(front.SetReadBuffer(buffer), back.SetReadBuffer(buffer)); err != nil {
		r.Close()
		return nil, fmt.Errorf("relay: %w", err)
	}
	r.done.Go(r.fromClient)
	r.done.Go(r.fromTarget)
	return r, nil
}

// Addr is where the client finds it.
func (r *Relay) Addr() string { return r.front.LocalAddr().String() }

// Counts tells what became of the datagrams so far.
func (r *Relay) Counts() RelayCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// Close ends it; what is held back is not delivered any more.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.front.Close()
	r.back.Close()
	r.done.Wait()
	r.late.Wait()
}

func (r *Relay) fromClient() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.front.ReadFromUDP(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		r.mu.Lock()
		r.client = from
		r.mu.Unlock()
		r.pass(buf[:n], func(b []byte) { _, _ = r.back.Write(b) })
	}
}

func (r *Relay) fromTarget() {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.back.Read(buf)
		if err != nil {
			// A target that is not there yet is refused, which is no end.
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		r.mu.Lock()
		client := r.client
		r.mu.Unlock()
		if client != nil {
			r.pass(buf[:n], func(b []byte) { _, _ = r.front.WriteToUDP(b, client) })
		}
	}
}

// pass delivers a datagram as its fate wants it: not at all, once or twice, at
// once or later.
func (r *Relay) pass(b []byte, deliver func([]byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.counts.Received++
	if r.random.Float64() < r.options.Drop {
		r.counts.Dropped++
		return
	}
	copies := 1
	if r.random.Float64() < r.options.Duplicate {
		r.counts.Duplicated++
		copies = 2
	}
	for range copies {
		if r.random.Float64() >= r.options.Delay {
			deliver(b)
			continue
		}
		r.counts.Delayed++
		held := append([]byte(nil), b...)
		r.late.Add(1)
		time.AfterFunc(time.Duration(r.random.Int64N(int64(r.options.Hold))), func() {
			defer r.late.Done()
			deliver(held)
		})
	}
}
