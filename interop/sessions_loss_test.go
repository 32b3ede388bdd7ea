//go:build interop

package interop

import (
	"fmt"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// TestCallsThroughALossyNetwork: between the node and SIPp every tenth datagram
// is lost, others come twice or too late. Every call is taken all the same,
// every 200 is acknowledged at last, and no dialog is left. CHA-04 INV-01 TRX-04
// TRX-06 TRX-09
func TestCallsThroughALossyNetwork(t *testing.T) {
	t.Parallel()
	const calls = 500
	if _, err := FindSIPp(); err != nil {
		t.Skip(err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	relay, err := StartRelay(RelayOptions{Target: fmt.Sprintf("127.0.0.1:%d", port), Seed: 4, Drop: 0.1, Duplicate: 0.1, Delay: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.Close)
	far := sippFor(t, SIPpOptions{
		Scenario: "lossy", Calls: calls, Port: port, Keys: map[string]string{"relay": relay.Addr()},
		Limit: 3 * time.Minute, Patience: 40 * time.Second,
	})
	n := newCallNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{farEnd("far", relay.Addr())}, Profiles: callers(20, "caller", "far"),
	}})
	// A BYE may take all its 64*T1, behind an INVITE that did.
	n.run(campaign{count: calls, rate: 50, limit: 100 * time.Second, play: talk, call: func(i int) muster.Call {
		return muster.Call{
			Profile: fmt.Sprintf("caller%d", i%20), Target: "sip:bob@" + relay.Addr(), Body: offer(i),
			Headers: []messages.Header{{Name: "Subject", Value: fmt.Sprint("call ", i)}},
		}
	}})
	n.wantQuiet()
	if err := far.Wait(); err != nil {
		t.Error(err)
	}
	if c, err := far.Counts(); err != nil || c.Successful != calls || c.Failed != 0 {
		t.Errorf("SIPp counts %+v (%v), want %d calls, all successful", c, err, calls)
	}
	found := wantWire(t, far, judgement{lossy: true})
	if len(found) != calls {
		t.Errorf("SIPp saw %d calls, want %d", len(found), calls)
	}
	for _, call := range found {
		wantOffered(t, call)
		if invites, byes := len(call.of("INVITE")), len(call.of("BYE")); invites != 2 || byes != 1 {
			t.Errorf("%s: %d INVITEs and %d BYEs, want 2 and 1", call.id, invites, byes)
		}
	}
	counts := relay.Counts()
	t.Logf("the relay: %+v", counts)
	if counts.Dropped < counts.Received/20 || counts.Duplicated == 0 || counts.Delayed == 0 {
		t.Errorf("the network was too good: %+v", counts)
	}
}
