package sipadapter

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// planned resolves a URI and lists the targets in the order of one draw that
// always gives 0.
func planned(t *testing.T, r Resolver, uri string) (string, error) {
	t.Helper()
	h, err := parseNextHop(uri)
	if err != nil {
		return "", err
	}
	if to, ok := h.literal(); ok {
		return string(to.transport) + " " + to.addr.String(), nil
	}
	p := planner{ctx: context.Background(), resolver: r, usable: func(target) bool { return true }}
	found, err := p.plan(h)
	if err != nil {
		return "", err
	}
	var out []string
	for _, to := range found.roll(func(int) int { return 0 }) {
		out = append(out, string(to.transport)+" "+to.addr.String())
	}
	return strings.Join(out, ", "), nil
}

// ERR-12: which question is asked when, and what follows from the answers.
func TestERR12_Procedure(t *testing.T) {
	a := func(s ...string) []netip.Addr { return addrs(s...) }
	hosts := map[string][]netip.Addr{
		"example.test": a("192.0.2.1", "2001:db8::1"), "u1.example.test": a("192.0.2.11"),
		"u2.example.test": a("192.0.2.12"), "t1.example.test": a("192.0.2.21"),
	}
	udpSRV := map[string][]SRV{"_sip._udp.example.test": {{2, 0, 5062, "u2.example.test."}, {1, 0, 5061, "U1.example.test."}}}
	bothSRV := map[string][]SRV{
		"_sip._udp.example.test": udpSRV["_sip._udp.example.test"],
		"_sip._tcp.example.test": {{1, 0, 5063, "t1.example.test."}},
	}
	naptr := map[string][]NAPTR{"example.test": {
		{50, 50, "s", "SIPS+D2T", "_sips._tcp.example.test."},
		{90, 50, "s", "SIP+D2U", "_sip._udp.example.test."},
		{60, 20, "S", "sip+d2t", "_sip._tcp.example.test."},
		{10, 10, "u", "E2U+sip", ""},
	}}
	cases := []struct {
		name, uri, want, asked string
		r                      *fakeResolver
	}{
		{"numeric", "sip:192.0.2.9", "udp 192.0.2.9:5060", "", &fakeResolver{}},
		{"numeric, port and transport", "sip:192.0.2.9:5070;transport=TCP", "tcp 192.0.2.9:5070", "", &fakeResolver{}},
		{"IPv6", "sip:[2001:db8::9]", "udp [2001:db8::9]:5060", "", &fakeResolver{}},
		{"maddr", "sip:example.test;maddr=192.0.2.8", "udp 192.0.2.8:5060", "", &fakeResolver{}},
		{
			"explicit port: no SRV", "sip:example.test:5060", "udp 192.0.2.1:5060, udp [2001:db8::1]:5060", "A example.test",
			&fakeResolver{addrs: hosts, srv: bothSRV, naptr: naptr},
		},
		{
			"transport: SRV of it", "sip:example.test;transport=tcp", "tcp 192.0.2.21:5063", "SRV _sip._tcp.example.test, A t1.example.test",
			&fakeResolver{addrs: hosts, srv: bothSRV, naptr: naptr},
		},
		{
			"transport without SRV", "sip:example.test;transport=tcp", "tcp 192.0.2.1:5060, tcp [2001:db8::1]:5060",
			"SRV _sip._tcp.example.test, A example.test", &fakeResolver{addrs: hosts},
		},
		{
			"NAPTR orders the transports", "sip:example.test", "tcp 192.0.2.21:5063, udp 192.0.2.11:5061, udp 192.0.2.12:5062",
			"", &fakeResolver{addrs: hosts, srv: bothSRV, naptr: naptr},
		},
		{
			"no NAPTR: SRV of each", "sip:Example.TEST", "udp 192.0.2.11:5061, udp 192.0.2.12:5062, tcp 192.0.2.21:5063",
			"", &fakeResolver{addrs: hosts, srv: bothSRV},
		},
		{
			"nothing but addresses", "sip:example.test", "udp 192.0.2.1:5060, udp [2001:db8::1]:5060",
			"NAPTR example.test, SRV _sip._udp.example.test, SRV _sip._tcp.example.test, A example.test", &fakeResolver{addrs: hosts},
		},
		{
			"SRV to nowhere", "sip:example.test;transport=udp", "", "SRV _sip._udp.example.test",
			&fakeResolver{addrs: hosts, srv: map[string][]SRV{"_sip._udp.example.test": {{0, 0, 0, "."}}}},
		},
		{"no such name", "sip:other.test", "", "", &fakeResolver{}},
		{"nobody answers", "sip:example.test", "", "", &fakeResolver{err: errors.New("timeout")}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := planned(t, c.r, c.uri)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("targets %q, %v; want %q", got, err, c.want)
			}
			if asked := strings.Join(c.r.questions(), ", "); c.asked != "" && asked != c.asked {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
		})
	}
	for _, uri := range []string{"sips:example.test", "sip:example.test;transport=tls", "sip:example.test;transport=sctp"} {
		if _, err := parseNextHop(uri); !errors.Is(err, errInsecure) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// ERR-13: priority ascending, weighted choice inside a priority; chi-square
// over 10,000 draws, with a fixed seed.
func TestERR13_WeightedChoice(t *testing.T) {
	weights := []uint16{0, 10, 20, 30, 40}
	var g group
	for i, w := range weights {
		g = append(g, server{w, []target{{transportUDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 5060)}}})
	}
	backup := target{transportUDP, peerAddr}
	p := plan{groups: []group{g, {{weight: 1000, targets: []target{backup}}}}}
	rng := rand.New(rand.NewPCG(1, 2))
	const draws = 10_000
	first := make([]float64, len(weights))
	for range draws {
		order := p.roll(rng.IntN)
		if len(order) != len(weights)+1 || order[len(weights)] != backup {
			t.Fatalf("order %v: the lower priority comes last", order)
		}
		seen := map[target]bool{}
		for _, to := range order {
			seen[to] = true
		}
		if len(seen) != len(order) {
			t.Fatalf("order %v has a repeat", order)
		}
		first[order[0].addr.Addr().As4()[3]]++
	}
	// RFC 2782 draws from 0 to the sum inclusive: weight 0 gets one chance in
	// 101.
	expected := []float64{1. / 101, 10. / 101, 20. / 101, 30. / 101, 40. / 101}
	chi := 0.0
	for i, share := range expected {
		d := first[i] - share*draws
		chi += d * d / (share * draws)
	}
	if chi > 18.47 { // 4 degrees of freedom, p = 0.001
		t.Errorf("chi-square %.1f for %v", chi, first)
	}
}

// REG-18, RFC 3263 §4.4: one Call-ID always goes the same way, and different
// ones spread over all servers and all addresses of a name.
func TestREG18_SameServer(t *testing.T) {
	var g group
	for i := range 2 {
		s := server{weight: 1}
		for j := range 3 {
			s.targets = append(s.targets, target{transportUDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10*i + j)}), 5060)})
		}
		g = append(g, s)
	}
	p := plan{groups: []group{g}}
	shuffled := plan{groups: []group{{g[0], {weight: 1, targets: []target{g[1].targets[2], g[1].targets[0], g[1].targets[1]}}}}}
	first := map[target]int{}
	for i := range 3000 {
		callID := strconv.Itoa(i)
		order := p.order(callID)
		if !slices.Equal(order, shuffled.order(callID)) {
			t.Fatalf("Call-ID %s: the order of the addresses matters", callID)
		}
		first[order[0]]++
	}
	for to, n := range first {
		if n < 400 || n > 600 { // a sixth is 500
			t.Errorf("%v comes first %d times", to, n)
		}
	}
	if len(first) != 6 {
		t.Errorf("first choices %v", first)
	}
}

// Servers without weights share the load.
func TestZeroWeights(t *testing.T) {
	p := plan{groups: []group{{
		{targets: []target{{transportUDP, netip.MustParseAddrPort("192.0.2.1:1")}}},
		{targets: []target{{transportUDP, netip.MustParseAddrPort("192.0.2.2:1")}}},
	}}}
	first := map[uint8]int{}
	for i := range 1000 {
		first[p.order(strconv.Itoa(i))[0].addr.Addr().As4()[3]]++
	}
	if first[1] < 400 || first[2] < 400 {
		t.Errorf("first choices %v", first)
	}
}

// S-36: more records than the caps change nothing but the number.
func TestS36_Caps(t *testing.T) {
	r := &fakeResolver{srv: map[string][]SRV{}, addrs: map[string][]netip.Addr{}}
	for i := range 100 {
		r.srv["_sip._udp.example.test"] = append(r.srv["_sip._udp.example.test"], SRV{Priority: uint16(100 - i), Port: 5060, Target: "h.example.test"})
		r.addrs["h.example.test"] = append(r.addrs["h.example.test"], netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	got, err := planned(t, r, "sip:example.test;transport=udp")
	if n := len(strings.Split(got, ", ")); err != nil || n != maxSRV*maxAddrs {
		t.Errorf("%d targets, %v", n, err)
	}
	if n := len(r.questions()); n != 1+maxSRV {
		t.Errorf("%d questions", n)
	}
	bad := &fakeResolver{srv: map[string][]SRV{"_sip._udp.example.test": {{0, 0, 5060, "a b\r\nc"}, {0, 0, 5060, strings.Repeat("a", 300)}}}}
	if got, err := planned(t, bad, "sip:example.test;transport=udp"); err == nil {
		t.Errorf("hostile names give %q", got)
	}
}

// The cache: one set of questions at a time, bounds on the TTL, failures for
// 10 s, and the last plan while nobody answers.
func TestCache(t *testing.T) {
	ok := func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: d.addr}} }
	t.Run("singleflight and Send does not block", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dns := farm("192.0.2.21")
			dns.gate = make(chan struct{})
			a, conn := memAdapter(t, Options{Resolver: dns}, seams{})
			defer shut(t, a)
			conn.peer = ok
			var all []<-chan messages.SIPOutcome
			for range 50 {
				all = append(all, send(a, toName(transportUDP)))
			}
			synctest.Wait()
			if len(conn.packets()) != 0 {
				t.Error("sent before there is an address")
			}
			close(dns.gate)
			for _, outcomes := range all {
				if o := await(t, outcomes); o.Response == nil {
					t.Fatalf("outcome %+v", o)
				}
			}
			if q := dns.questions(); len(q) != 2 {
				t.Errorf("asked %v", q)
			}
		})
	})
	for _, c := range []struct {
		name         string
		ttl, holds   time.Duration
		err          error
		wantFailures bool
	}{
		{"floor", 0, 5 * time.Second, nil, false},
		{"as answered", time.Minute, time.Minute, nil, false},
		{"ceiling", 48 * time.Hour, time.Hour, nil, false},
		{"failure", time.Minute, 10 * time.Second, errors.New("timeout"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dns := farm("192.0.2.21")
				dns.ttl, dns.err = c.ttl, c.err
				if c.err != nil {
					dns.addrs, dns.srv = nil, nil
				}
				a, conn := memAdapter(t, Options{Resolver: dns}, seams{})
				defer shut(t, a)
				conn.peer = ok
				asked := func() int {
					o := await(t, send(a, toName(transportUDP)))
					if (o.Failure == messages.ReasonResolve) != c.wantFailures {
						t.Errorf("outcome %+v", o)
					}
					return len(dns.questions())
				}
				got := []int{asked(), asked()}
				time.Sleep(c.holds - time.Nanosecond)
				got = append(got, asked())
				time.Sleep(time.Nanosecond)
				got = append(got, asked())
				if diff := cmp.Diff([]int{2, 2, 2, 4}, got); diff != "" {
					t.Errorf("questions (-want +got):\n%s", diff)
				}
			})
		})
	}
	t.Run("stale while nobody answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dns := farm("192.0.2.21")
			dns.ttl = time.Minute
			a, conn := memAdapter(t, Options{Resolver: dns}, seams{})
			defer shut(t, a)
			conn.peer = ok
			await(t, send(a, toName(transportUDP)))
			dns.mu.Lock()
			dns.err = errors.New("timeout")
			dns.mu.Unlock()
			for range 10 {
				time.Sleep(5 * time.Minute)
				if o := await(t, send(a, toName(transportUDP))); o.Response == nil {
					t.Fatalf("outcome %+v", o)
				}
			}
			time.Sleep(time.Hour)
			dns.mu.Lock()
			dns.addrs, dns.srv = nil, nil
			dns.mu.Unlock()
			if o := await(t, send(a, toName(transportUDP))); o.Failure != messages.ReasonResolve {
				t.Errorf("after an hour: %+v", o)
			}
		})
	})
	t.Run("closing ends the wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, _ := memAdapter(t, Options{Resolver: stuckResolver{}}, seams{})
			outcomes := send(a, toName(transportUDP))
			synctest.Wait()
			shut(t, a)
			if o := await(t, outcomes); o.Response != nil {
				t.Errorf("outcome %+v", o)
			}
			none(t, outcomes)
		})
	})
}

// stuckResolver never answers.
type stuckResolver struct{}

func (stuckResolver) NAPTR(ctx context.Context, _ string) ([]NAPTR, time.Duration, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

func (stuckResolver) SRV(ctx context.Context, _ string) ([]SRV, time.Duration, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

func (stuckResolver) Addrs(ctx context.Context, _ string) ([]netip.Addr, time.Duration, error) {
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

// The cache does not grow without bound.
func TestCacheIsBounded(t *testing.T) {
	a, _ := memAdapter(t, Options{Resolver: &fakeResolver{}}, seams{})
	defer shut(t, a)
	for i := range maxPlans + 100 {
		h := nextHop{host: "h" + strings.Repeat("x", i%60), port: uint16(i + 1)}
		answered := make(chan struct{})
		a.resolver.find(h, func(plan, error) { close(answered) })
		<-answered
	}
	a.resolver.mu.Lock()
	defer a.resolver.mu.Unlock()
	if n := len(a.resolver.plans); n > maxPlans {
		t.Errorf("%d plans are kept", n)
	}
}
