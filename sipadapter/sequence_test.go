package sipadapter

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// Calls that post others run in the order of posting, none inside another.
func TestSequence(t *testing.T) {
	var s sequence
	var order []string
	note := func(name string, more ...func()) func() {
		return func() {
			order = append(order, name+" begins")
			for _, f := range more {
				s.do(f)
			}
			order = append(order, name+" ends")
		}
	}
	s.post(note("first", note("third")))
	s.post(note("second"))
	if len(order) != 0 {
		t.Errorf("post ran %v", order)
	}
	s.run()
	want := []string{"first begins", "first ends", "second begins", "second ends", "third begins", "third ends"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Responses from several readers, cancels and lost wires at once: reports come
// one at a time, nothing follows the last one, the final response is behind
// every provisional one, and nothing is left.
func TestReportsInOrder(t *testing.T) {
	for round := range 200 {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			defer shut(t, a)
			w := place(t, a, callRequest())
			invite := conn.packets()[0].data
			key, _ := parseBranch(branchOf(t, invite))
			o := origin{from: peerAddr, socket: a.sockets[0]}
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					for n := range 5 {
						a.receive(answerTo(invite, fmt.Sprintf("18%d Ringing", n)), o)
					}
					final := "200 OK"
					if round%2 == 0 {
						final = "486 Busy"
					}
					if i%2 == 0 {
						a.receive(answerTo(invite, final), o)
					}
					w.call.Cancel()
				})
			}
			if round%4 == 3 {
				wg.Go(func() { a.table.fail(key, "INVITE", result{err: errEnding}) })
			}
			wg.Wait()
			synctest.Wait()
			reports := strings.Fields(w.text())
			final := slices.IndexFunc(reports, func(s string) bool { return !strings.HasPrefix(s, "18") })
			if final < 0 {
				t.Fatalf("round %d: no final report: %v", round, reports)
			}
			for _, r := range reports[final:] {
				if strings.HasPrefix(r, "18") {
					t.Errorf("round %d: a provisional response behind the final one: %v", round, reports)
				}
			}
			if n := len(conn.requests("CANCEL")); n > 1 {
				t.Errorf("round %d: %d CANCELs", round, n)
			}
			time.Sleep(2 * time.Minute)
			if s := a.Stats(); s.Pending != 0 || a.table.size() != 0 {
				t.Errorf("round %d: stats %+v, %d transactions", round, s, a.table.size())
			}
		})
	}
}

// A report may cancel its own call.
func TestCancelInsideAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{})
		defer shut(t, a)
		w := &witness{t: t}
		w.seen = func(messages.InviteReport) { w.call.Cancel() }
		w.call = a.Invite(callRequest(), w.take)
		invite := conn.packets()[0].data
		conn.deliver(answerTo(invite, "180 Ringing"), peerAddr)
		synctest.Wait()
		conn.deliver(answerTo(invite, "487 Terminated"), peerAddr)
		synctest.Wait()
		w.want("180 487.")
		if got := methodsOf(conn.packets()); got != "INVITE CANCEL ACK" {
			t.Errorf("sent %s", got)
		}
	})
}
