//go:build interop

package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// users is a user file for count calls: who is called by whom.
func users(count int, line func(i int) string) string {
	var b strings.Builder
	b.WriteString("SEQUENTIAL\n")
	for i := range count {
		b.WriteString(line(i) + "\n")
	}
	return b.String()
}

// TestKamailioPassesCalls: the calling side of Kamailio's configuration, with
// SIPp at both ends, for strangers who need no credentials.
func TestKamailioPassesCalls(t *testing.T) {
	t.Parallel()
	const calls = 20
	together(t, itself, []string{"call", "call_hold", "call_cancel", "call_refused"}, func(t *testing.T, call string) {
		take := "take" + strings.TrimPrefix(call, "call")
		callee := sippFor(t, SIPpOptions{Scenario: take, Calls: calls, Limit: 30 * time.Second})
		kamailio, err := StartKamailio(Options{Calls: true, Workers: 1, Callee: callee.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(kamailio.Stop)
		caller := sippFor(t, SIPpOptions{
			Scenario: call, Calls: calls, Rate: 100, Target: fmt.Sprintf("127.0.0.1:%d", kamailio.Port()), Limit: 30 * time.Second,
			Users: users(calls, func(i int) string { return fmt.Sprintf("1%d;someone@elsewhere.test", i) }),
		})
		wantDone(t, caller, calls)
		wantDone(t, callee, calls)
		if c, err := kamailio.CallCounters(); err != nil || c != (CallCounters{Relayed: calls}) {
			t.Errorf("Kamailio counts %+v, %v", c, err)
		}
	})
}
