//go:build interop

package interop

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// farm is a node against a Kamailio of its own.
type farm struct {
	t        *testing.T
	kamailio *Kamailio
	options  muster.Options
	node     *muster.Node
}

func newFarm(t *testing.T, k Options, profiles []actors.Declaration, registrars ...actors.Registrar) *farm {
	t.Helper()
	kamailio, err := StartKamailio(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kamailio.Stop)
	for i := range registrars {
		registrars[i].URI = kamailio.URI(registrars[i].Name)
		registrars[i].Realms = []string{Realm}
	}
	f := &farm{t: t, kamailio: kamailio, options: muster.Options{
		DataDir: filepath.Join(t.TempDir(), "data"),
		SIP:     muster.SIP{Listen: fixedPorts(t)},
		Desired: muster.Desired{Registrars: registrars, Profiles: profiles},
		Logger:  slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}}
	f.start()
	t.Cleanup(func() { _ = f.node.Stop(context.Background()) })
	return f
}

// fixedPorts keeps the contacts the same across restarts of the node.
func fixedPorts(t *testing.T) []string {
	t.Helper()
	port := steadyPort(t)
	return []string{fmt.Sprintf("udp://127.0.0.1:%d", port), fmt.Sprintf("tcp://127.0.0.1:%d", port)}
}

func (f *farm) start() {
	f.t.Helper()
	node, err := muster.New(f.options)
	if err != nil {
		f.t.Fatal(err)
	}
	f.node = node
	if err := node.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *farm) stop() {
	f.t.Helper()
	if err := f.node.Stop(context.Background()); err != nil {
		f.t.Fatal(err)
	}
}

// declare makes n profiles for a registrar, with right passwords.
func declare(n int, prefix, registrar string) []actors.Declaration {
	ds := make([]actors.Declaration, n)
	for i := range ds {
		user := fmt.Sprintf("%s%d", prefix, i)
		ds[i] = actors.Declaration{
			ID: user, AOR: "sip:" + user + "@" + Realm, Registrar: registrar,
			Password: messages.NewSecret(Password(user)),
		}
	}
	return ds
}

func (f *farm) states() map[string]int {
	f.t.Helper()
	rs, err := f.node.Registrars(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	sum := map[string]int{}
	for _, r := range rs {
		for state, n := range r.Profiles {
			sum[state] += n
		}
	}
	return sum
}

func (f *farm) waitStates(limit time.Duration, want map[string]int) {
	f.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		got := f.states()
		reached := true
		for state, n := range want {
			reached = reached && got[state] == n
		}
		switch {
		case reached:
			return
		case time.Now().After(deadline):
			f.t.Fatalf("states after %v: %v, want %v", limit, got, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (f *farm) wantContacts(want int) {
	f.t.Helper()
	if n, err := f.kamailio.Count(); err != nil || n != want {
		f.t.Errorf("Kamailio holds %d contacts (%v), want %d", n, err, want)
	}
}

func (f *farm) counters() Counters {
	f.t.Helper()
	c, err := f.kamailio.Counters()
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *farm) view(id string) actors.ProfileView {
	f.t.Helper()
	v, err := f.node.Profile(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func (f *farm) refresh(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		if _, err := f.node.RefreshProfile(f.t.Context(), id); err != nil {
			f.t.Fatal(err)
		}
	}
}

// agree checks that Kamailio's location table says what the node believes.
func (f *farm) agree(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		v := f.view(id)
		contacts, err := f.kamailio.Lookup(id)
		if err != nil || len(contacts) != 1 {
			f.t.Errorf("Kamailio holds %v for %s (%v), want one contact", contacts, id, err)
			continue
		}
		if c := contacts[0]; c.CallID != v.CallID || c.CSeq != v.CSeq {
			f.t.Errorf("%s: Kamailio holds %s CSeq %d, the node %s CSeq %d", id, c.CallID, c.CSeq, v.CallID, v.CSeq)
		}
	}
}

func ids(n int, prefix string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

// gathered sums a counter over its labels.
func (f *farm) gathered(name string) float64 {
	f.t.Helper()
	families, err := f.node.Metrics().Gatherer().(*prometheus.Registry).Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestFarmOfTwoThousandKeepsItsBindingsAcrossARestart(t *testing.T) {
	t.Parallel()
	profiles := append(declare(2000, "u", "udp"), declare(200, "t", "tcp")...)
	f := newFarm(t, Options{Algorithm: "SHA-256", NonceCount: true}, profiles,
		actors.Registrar{Name: "udp", Rate: 1000}, actors.Registrar{Name: "tcp", Rate: 1000})
	f.waitStates(time.Minute, map[string]int{actors.StateRegistered: 2200})
	f.wantContacts(2200)
	sample := append(ids(20, "u"), ids(20, "t")...)
	f.agree(sample...)

	before := f.counters()
	f.refresh(sample...)
	f.waitStates(10*time.Second, map[string]int{actors.StateRegistered: 2200})
	f.waitRegisters(before.Received + len(sample))
	if c := f.counters(); c.Unauthorized != before.Unauthorized || c.Accepted != before.Accepted+len(sample) {
		t.Errorf("%d refreshes cost %d requests and %d challenges, want one request each with the cached nonce",
			len(sample), c.Received-before.Received, c.Unauthorized-before.Unauthorized)
	}
	f.agree(sample...)

	identity := f.view("u7")
	f.stop()
	before = f.counters()
	f.start()
	time.Sleep(time.Minute)
	if c := f.counters(); c.Received != before.Received {
		t.Errorf("%d REGISTERs in the first minute after a restart, want 0", c.Received-before.Received)
	}
	f.waitStates(time.Second, map[string]int{actors.StateRegistered: 2200})
	f.refresh("u7")
	f.waitRegisters(before.Received + 1)
	if v := f.view("u7"); v.CallID != identity.CallID || v.CSeq <= identity.CSeq {
		t.Errorf("after the restart %s CSeq %d, before %s CSeq %d", v.CallID, v.CSeq, identity.CallID, identity.CSeq)
	}
	f.agree(sample...)

	f.options.Deregister = true
	f.stop()
	f.start()
	f.stop()
	f.wantContacts(0)
}

// waitRegisters waits until Kamailio has seen that many REGISTERs.
func (f *farm) waitRegisters(want int) {
	f.t.Helper()
	for range 100 {
		if f.counters().Received >= want {
			time.Sleep(200 * time.Millisecond)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	f.t.Fatalf("Kamailio saw %d REGISTERs, want %d", f.counters().Received, want)
}

func TestMD5AndNoNonceCount(t *testing.T) {
	t.Parallel()
	f := newFarm(t, Options{}, declare(200, "m", "udp"), actors.Registrar{Name: "udp", Rate: 1000})
	f.waitStates(20*time.Second, map[string]int{actors.StateRegistered: 200})
	f.wantContacts(200)
	f.agree(ids(20, "m")...)
}

func TestOneTimeNoncesCostOneMoreRequest(t *testing.T) {
	t.Parallel()
	f := newFarm(t, Options{OneTimeNonce: true}, declare(50, "o", "tcp"), actors.Registrar{Name: "tcp", Rate: 1000})
	f.waitStates(20*time.Second, map[string]int{actors.StateRegistered: 50})
	before := f.counters()
	f.refresh(ids(50, "o")...)
	f.waitRegisters(before.Received + 100)
	f.waitStates(10*time.Second, map[string]int{actors.StateRegistered: 50})
	f.agree(ids(10, "o")...)
}

func TestExpiredNonceRecovers(t *testing.T) {
	t.Parallel()
	f := newFarm(t, Options{NonceCount: true, NonceExpire: 2 * time.Second}, declare(100, "e", "udp"),
		actors.Registrar{Name: "udp", Rate: 1000})
	f.waitStates(20*time.Second, map[string]int{actors.StateRegistered: 100})
	for range 3 {
		time.Sleep(4 * time.Second)
		before := f.counters()
		f.refresh(ids(100, "e")...)
		f.waitRegisters(before.Received + 200)
		f.waitStates(10*time.Second, map[string]int{actors.StateRegistered: 100})
		if c := f.counters(); c.Received > before.Received+200 {
			t.Errorf("%d requests for 100 refreshes with an expired nonce, want two each", c.Received-before.Received)
		}
	}
	f.agree(ids(20, "e")...)
}

func TestIntervalTooBriefRecovers(t *testing.T) {
	t.Parallel()
	f := newFarm(t, Options{MinExpires: 2 * time.Minute}, declare(50, "i", "udp"),
		actors.Registrar{Name: "udp", Rate: 1000, Expires: 30 * time.Second})
	f.waitStates(20*time.Second, map[string]int{actors.StateRegistered: 50})
	contacts, err := f.kamailio.Lookup("i0")
	if err != nil || len(contacts) != 1 || contacts[0].Expires < 100*time.Second {
		t.Errorf("REG-23: %v %v, want a binding of two minutes", contacts, err)
	}
}

func TestWrongPasswordsAreRejectedWithoutALoop(t *testing.T) {
	t.Parallel()
	profiles := declare(50, "w", "udp")
	for i := range profiles {
		profiles[i].Password = messages.NewSecret("wrong")
	}
	f := newFarm(t, Options{NonceCount: true}, append(profiles, declare(50, "g", "udp")...), actors.Registrar{Name: "udp", Rate: 1000})
	want := map[string]int{actors.StateRejected: 50, actors.StateRegistered: 50}
	f.waitStates(20*time.Second, want)
	time.Sleep(5 * time.Second)
	if c := f.counters(); c.Wrong != 50 || c.Received != 200 {
		t.Errorf("Kamailio saw %d wrong answers and %d requests, want 50 and 200", c.Wrong, c.Received)
	}
	f.stop()
	f.start()
	time.Sleep(5 * time.Second)
	f.waitStates(time.Second, want)
	if c := f.counters(); c.Wrong != 50 {
		t.Errorf("%d wrong answers after a restart, want still 50", c.Wrong)
	}
}

func TestDisableAndRemoveEmptyTheTable(t *testing.T) {
	t.Parallel()
	f := newFarm(t, Options{}, declare(20, "d", "tcp"), actors.Registrar{Name: "tcp", Rate: 1000})
	f.waitStates(20*time.Second, map[string]int{actors.StateRegistered: 20})
	for i, id := range ids(20, "d") {
		var err error
		if i%2 == 0 {
			_, err = f.node.DisableProfile(t.Context(), id)
		} else {
			err = f.node.RemoveProfile(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f.waitStates(10*time.Second, map[string]int{actors.StateDisabled: 10, actors.StateRegistered: 0})
	for range 50 {
		if n, err := f.kamailio.Count(); err == nil && n == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.wantContacts(0)
	if contacts, err := f.node.FetchBindings(t.Context(), "d0"); err != nil || len(contacts) != 0 {
		t.Errorf("REG-10: fetch after disable: %v %v, want none", contacts, err)
	}
}

func TestFaultsAreClassified(t *testing.T) {
	t.Parallel()
	var profiles []actors.Declaration
	for _, prefix := range []string{"f403-", "f404-", "f500-", "f503-", "fmulti-", "fshort-"} {
		profiles = append(profiles, declare(1, prefix, prefix)...)
	}
	var registrars []actors.Registrar
	for i := range profiles {
		// A registrar each: the Retry-After of one must not hold the others.
		registrars = append(registrars, actors.Registrar{Name: profiles[i].Registrar})
	}
	kamailio, err := StartKamailio(Options{FaultUsers: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kamailio.Stop)
	for i := range registrars {
		registrars[i].URI = kamailio.URI("udp")
	}
	f := &farm{t: t, kamailio: kamailio, options: muster.Options{
		DataDir: filepath.Join(t.TempDir(), "data"), Desired: muster.Desired{Registrars: registrars, Profiles: profiles},
	}}
	f.start()
	t.Cleanup(func() { _ = f.node.Stop(context.Background()) })
	f.waitStates(20*time.Second, map[string]int{actors.StateRejected: 2, actors.StateBackoff: 2, actors.StateRegistered: 2})
	for id, reason := range map[string]messages.Reason{
		"f403-0": messages.ReasonForbidden, "f404-0": messages.ReasonConfiguration,
		"f500-0": messages.ReasonServer, "f503-0": messages.ReasonUnavailable, "fmulti-0": "", "fshort-0": "",
	} {
		if v := f.view(id); v.Reason != string(reason) {
			t.Errorf("%s: reason %q, want %q", id, v.Reason, reason)
		}
	}
}

func TestOutageOfAMinute(t *testing.T) {
	t.Parallel()
	const profiles, pace = 2000, 200
	f := newFarm(t, Options{NonceCount: true, NonceExpire: 20 * time.Second}, declare(profiles, "x", "udp"),
		actors.Registrar{Name: "udp", Rate: pace, Expires: time.Minute})
	f.waitStates(time.Minute, map[string]int{actors.StateRegistered: profiles})
	done := make(chan struct{})
	worst := make(chan float64)
	go func() {
		most, last := 0.0, f.sent()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				sent := f.sent()
				most, last = max(most, sent-last), sent
			case <-done:
				worst <- most
				return
			}
		}
	}()
	if err := f.kamailio.Pause(); err != nil {
		t.Fatal(err)
	}
	before := f.sent()
	time.Sleep(time.Minute)
	into := f.sent() - before
	if err := f.kamailio.Resume(); err != nil {
		t.Fatal(err)
	}
	f.waitStates(3*time.Minute, map[string]int{actors.StateRegistered: profiles})
	close(done)
	most := <-worst
	t.Logf("%.0f datagrams into an outage of a minute; at most %.0f in a second, the pace is %d", into, most, pace)
	// A tick of this machine can be late by a few per cent; the exact bound is
	// held in virtual time by TestFarmOutageNeverExceedsThePace.
	if most > 1.1*pace {
		t.Errorf("%.0f datagrams in a second, the pace is %d", most, pace)
	}
	if into > profiles {
		t.Errorf("%.0f datagrams into the outage, want fewer than profiles", into)
	}
	f.wantContacts(profiles)
	if f.gathered("muster_profiles_overdue") != 0 {
		t.Error("the watchdog counts profiles that are stuck")
	}
}

func (f *farm) sent() float64 {
	return f.gathered("muster_sip_requests_total") + f.gathered("muster_sip_retransmissions_total")
}
