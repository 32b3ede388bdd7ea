package sipadapter

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// roughConn is a socket whose packets are answered while they are sent, and whose
// writes may fail afterwards.
type roughConn struct {
	memConn
	packets chan []byte
}

func (c *roughConn) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	select {
	case c.packets <- bytes.Clone(b):
	default: // lost
	}
	if rand.IntN(16) == 0 {
		runtime.Gosched()
		return 0, syscall.ENETUNREACH
	}
	return len(b), nil
}

// An exchange that is used again is one that nobody holds: whatever comes late, twice
// or at the same time, each request has one outcome, and it is its own. After that
// the request is the caller's, who writes to it.
func TestExchangesAreUsedAgain(t *testing.T) {
	conn := &roughConn{memConn: *newMemConn(), packets: make(chan []byte, 256)}
	a, err := newAdapter(Options{
		Listen: []string{"udp://" + ourAddr.String()},
		T1:     time.Millisecond, T2: 4 * time.Millisecond, T4: 5 * time.Millisecond,
	}, seams{
		listenUDP: func(addr netip.AddrPort) (packetConn, netip.AddrPort, error) { return conn, addr, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	defer shut(t, a)

	var peers, senders sync.WaitGroup
	given := &givenAnswers{}
	for range 3 {
		peers.Go(func() { given.give(t, a, conn.packets) })
	}
	var answered atomic.Int64
	const rounds, each = 150, 8
	for sender := range 4 {
		senders.Go(func() {
			for round := range rounds {
				var pending sync.WaitGroup
				for i := range each {
					id := uint32((sender*rounds+round)*each + i + 1)
					pending.Add(1)
					r := register()
					r.CallID, r.CSeq, r.ContactUser = fmt.Sprint("call-", id), id, fmt.Sprint("u", id)
					r.From = "sip:" + r.ContactUser + "@example.test"
					r.To = r.From
					r.Retransmitted = func() {}
					if id%4 == 0 { // stays in the table for Timer K
						r.Method, r.NoContact = "MESSAGE", true
					}
					var outcomes atomic.Int32
					a.Send(r, func(o messages.SIPOutcome) {
						if outcomes.Add(1) != 1 {
							t.Errorf("request %d has %d outcomes", id, outcomes.Load())
							return
						}
						if o.Response != nil {
							answered.Add(1)
						}
						if o.Response != nil && !r.NoContact {
							checkGrant(t, o.Response, id)
						}
						*r = messages.SIPRequest{}
						pending.Done()
					})
				}
				pending.Wait()
			}
		})
	}
	senders.Wait()
	for range 3 { // not closed: the last retransmissions may be on their way
		conn.packets <- nil
	}
	peers.Wait()
	if n := a.Stats().Pending; n != 0 || answered.Load() < rounds*each {
		t.Errorf("%d are pending, %d were granted", n, answered.Load())
	}
}

// checkGrant: the answer carries the number of the request twice.
func checkGrant(t *testing.T, r *messages.SIPResponse, id uint32) {
	want := fmt.Sprintf("sip:u%d@%s", id, ourAddr)
	if r.Contact != messages.ContactOurs || r.ContactExpires != id || len(r.Contacts) != 1 || r.Contacts[0].URI != want {
		t.Errorf("request %d has the answer %+v", id, r)
	}
}

// givenAnswers are the last answers of all peers.
type givenAnswers struct {
	mu    sync.Mutex
	given [64][]byte
	next  int
}

// give answers requests: some not at all, some twice, and now and then one again that
// is long over, or is just being answered by another.
func (s *givenAnswers) give(t *testing.T, a *Adapter, packets <-chan []byte) {
	o := origin{from: peerAddr, socket: a.sockets[0]}
	buffer := make([]byte, maxDatagram)
	receive := func(answer []byte) { a.receive(buffer[:copy(buffer, answer)], o) }
	for packet := range packets {
		if packet == nil {
			return
		}
		if rand.IntN(20) == 0 {
			continue
		}
		number, _, _ := strings.Cut(headerLine(t, packet, "CSeq"), " ")
		answer := granted(replaceAll(packet, ";expires=3600", ";expires="+number))
		if rand.IntN(8) == 0 {
			receive(answerTo(packet, "100 Trying"))
		}
		if rand.IntN(8) == 0 { // not byte for byte what was sent
			answer = replaceAll(answer, "From: <", "From:  \"A\" <")
		}
		if rand.IntN(8) == 0 { // what only the parser reads
			answer = replaceAll(answer, "Call-ID", "i")
		}
		s.mu.Lock()
		s.given[s.next%len(s.given)] = answer
		s.next++
		old := s.given[rand.IntN(len(s.given))]
		s.mu.Unlock()
		receive(answer)
		if rand.IntN(4) == 0 {
			receive(answer)
		}
		if old != nil {
			receive(old)
		}
		if k, ok := parseBranch(branchOf(t, packet)); ok && rand.IntN(16) == 0 {
			a.table.fail(k, "REGISTER", result{err: errEnding})
		}
	}
}
