//go:build interop

package interop

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
)

// pbxHost is where the PBX of these tests is: an address of its own, because a
// trunk's peer is known by its address and must not be that of a registrar.
const pbxHost = "127.0.0.2"

// TestTrunk: SIPp is the PBX on one side, Kamailio and another SIPp are on the
// other, and the node between them makes calls of the PBX those of its profiles,
// and calls to its profiles those of the PBX, in both directions at once.
func TestTrunk(t *testing.T) {
	t.Parallel()
	calls := map[string]int{"call": 500, "call_hold": 40, "call_cancel": 40, "call_refused": 40}
	together(t, itself, slices.Sorted(maps.Keys(calls)), func(t *testing.T, call string) { testTrunk(t, call, calls[call]) })
}

// testTrunk makes calls in each direction, by a scenario and its counterpart.
func testTrunk(t *testing.T, call string, calls int) {
	t.Helper()
	take := "take" + strings.TrimPrefix(call, "call")
	limit := time.Minute
	outside := sippFor(t, SIPpOptions{Scenario: take, Calls: calls, Limit: limit})
	pbx := sippFor(t, SIPpOptions{Scenario: take, Calls: calls, Host: pbxHost, Limit: limit})
	const profiles = 10
	// One worker, so that Kamailio does not let messages overtake others.
	n, k := newKamailioNode(t, Options{NonceCount: true, Callee: outside.Addr(), Workers: 1}, profiles, muster.Options{
		Desired: muster.Desired{Trunks: []actors.Trunk{{
			Name: "pbx", Peers: []netip.Prefix{netip.MustParsePrefix(pbxHost + "/32")}, URI: "sip:" + pbx.Addr(),
			Profile: actors.ProfileFrom, Registrar: "kamailio", Headers: []string{"Subject"},
		}}},
	})
	fromPBX := sippFor(t, SIPpOptions{
		Scenario: call, Calls: calls, Rate: 50, Host: pbxHost, Target: n.sipAddr(), Limit: limit,
		Users: users(calls, func(i int) string { return fmt.Sprintf("5%04d;k%d@%s", i, i%profiles, pbxHost) }),
	})
	toPBX := sippFor(t, SIPpOptions{
		Scenario: call, Calls: calls, Rate: 50, Target: fmt.Sprintf("127.0.0.1:%d", k.Port()), Limit: limit,
		Users: users(calls, func(i int) string { return fmt.Sprintf("k%d;someone@elsewhere.test", i%profiles) }),
	})
	for _, s := range []*SIPp{fromPBX, toPBX, outside, pbx} {
		wantDone(t, s, calls)
	}
	n.wantQuiet()
	// One challenge for each call of the PBX, which it never sees.
	n.wantCallCounters(k, CallCounters{Challenged: calls, Relayed: 2 * calls})
	wantUnchallenged(t, fromPBX)
	wantUnchallenged(t, pbx)
	// The placed legs are calls like others: to the outside in the name of a
	// profile, to the PBX in that of the caller.
	for _, leg := range []struct {
		calls []*wireCall
		from  string
	}{
		{wantWire(t, outside, judgement{foreign: true}), "@" + Realm},
		{wantWire(t, pbx, judgement{}), "someone@elsewhere.test"},
	} {
		for _, c := range leg.calls {
			if invite := c.requests[0]; !strings.Contains(invite.header("from"), leg.from) || invite.header("subject") == "" {
				t.Errorf("%s: the call came from %q with Subject %q", c.id, invite.header("from"), invite.header("subject"))
			}
		}
	}
}

// wantUnchallenged checks that neither a challenge nor an answer to one came.
func wantUnchallenged(t *testing.T, s *SIPp) {
	t.Helper()
	traces, err := s.Messages()
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range traces {
		m, err := readMessage(tr)
		if err != nil {
			t.Fatal(err)
		}
		if m.Received && (m.status == 401 || m.status == 407 || len(m.credentials())+len(m.all("www-authenticate"))+len(m.all("proxy-authenticate")) > 0) {
			t.Errorf("the PBX was sent\n%s", m.Text)
		}
	}
}
