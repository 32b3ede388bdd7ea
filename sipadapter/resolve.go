package sipadapter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Resolver answers the DNS questions of RFC 3263. No records is an empty
// result and no error; an error means that nobody could be asked.
type Resolver interface {
	NAPTR(ctx context.Context, domain string) ([]NAPTR, time.Duration, error)
	SRV(ctx context.Context, name string) ([]SRV, time.Duration, error)
	// Addrs are the A and AAAA records in the order to try them.
	Addrs(ctx context.Context, host string) ([]netip.Addr, time.Duration, error)
}

// NAPTR is a naming authority pointer (RFC 3403).
type NAPTR struct {
	Order, Preference           uint16
	Flags, Service, Replacement string
}

// SRV locates a service (RFC 2782).
type SRV struct {
	Priority, Weight, Port uint16
	Target                 string
}

// Caps on what an answer may make us do (S-36).
const (
	maxNAPTR  = 16 // records looked at
	maxChosen = 3  // NAPTR records followed
	maxSRV    = 16 // records of one service
	maxAddrs  = 16 // addresses of one name
)

var (
	errNoAddress = errors.New("the name has no usable address")
	errInsecure  = errors.New("needs TLS or another transport that is not available")
)

// nextHop is what RFC 3263 §4 needs of a URI.
type nextHop struct {
	host      string    // lower case
	port      uint16    // 0 when absent
	transport transport // "" when absent
}

// parseNextHop reads the URI that a request is sent to. A sips URI is refused:
// it must never travel in the clear (RFC 3263 §4.1, S-15).
func parseNextHop(s string) (nextHop, error) {
	u, err := parseURI(s)
	if err != nil {
		return nextHop{}, fmt.Errorf("next hop: %w", err)
	}
	if u.scheme == "sips" {
		return nextHop{}, fmt.Errorf("next hop: a sips URI %w", errInsecure)
	}
	h := nextHop{host: strings.ToLower(u.host), port: uint16(max(u.port, 0))}
	if u.port == 0 {
		return nextHop{}, fmt.Errorf("next hop: port 0: %w", errURI)
	}
	if maddr, ok := u.param("maddr"); ok { // RFC 3263 §4
		if !isHost(maddr) {
			return nextHop{}, fmt.Errorf("next hop: maddr: %w", errURI)
		}
		h.host = strings.ToLower(maddr)
	}
	if t, ok := u.param("transport"); ok {
		h.transport = transport(strings.ToLower(t))
		if h.transport != transportUDP && h.transport != transportTCP {
			return nextHop{}, fmt.Errorf("next hop: its transport %w", errInsecure)
		}
	}
	return h, nil
}

// planner makes one plan.
type planner struct {
	ctx      context.Context
	resolver Resolver
	usable   func(target) bool
	ttl      time.Duration // the shortest of what was used; 0 when nothing was
	soft     error         // a question that nobody answered
}

// literal is the plan for a numeric host, which needs no DNS.
func (h nextHop) literal() (target, bool) {
	ip, ok := numericHost(h.host)
	if !ok {
		return target{}, false
	}
	t := target{transport: h.transport, addr: netip.AddrPortFrom(ip, h.port)}
	if t.transport == "" {
		t.transport = transportUDP
	}
	if h.port == 0 {
		t.addr = netip.AddrPortFrom(ip, defaultPort)
	}
	return t, true
}

// plan follows RFC 3263 §4.1 and §4.2.
func (p *planner) plan(h nextHop) (plan, error) {
	var out plan
	var found bool
	switch {
	case h.port != 0: // an explicit port means no SRV
	case h.transport != "":
		out, found = p.service(serviceName(h.transport, h.host), h.transport)
	default:
		if out, found = p.pointers(h.host); !found {
			out, found = p.services(h.host)
		}
	}
	if !found {
		t, port := h.transport, h.port
		if t == "" {
			t = transportUDP
		}
		if port == 0 {
			port = defaultPort
		}
		if targets := p.addresses(h.host, port, t); len(targets) > 0 {
			out.groups = []group{{{targets: targets}}}
		}
	}
	if len(out.groups) == 0 {
		return plan{}, errors.Join(errNoAddress, p.soft)
	}
	return out, nil
}

func serviceName(t transport, domain string) string { return "_sip._" + string(t) + "." + domain }

// pointers asks for NAPTR records and follows those of a transport we have.
func (p *planner) pointers(domain string) (plan, bool) {
	records, ttl, err := p.resolver.NAPTR(p.ctx, domain)
	p.note(len(records), ttl, err)
	records = slices.Clone(records[:min(len(records), maxNAPTR)])
	slices.SortStableFunc(records, func(x, y NAPTR) int {
		if x.Order != y.Order {
			return int(x.Order) - int(y.Order)
		}
		return int(x.Preference) - int(y.Preference)
	})
	var out plan
	found, followed := false, 0
	for _, r := range records {
		t := map[string]transport{"SIP+D2U": transportUDP, "SIP+D2T": transportTCP}[strings.ToUpper(r.Service)]
		name := strings.ToLower(strings.TrimSuffix(r.Replacement, "."))
		if t == "" || !strings.EqualFold(r.Flags, "s") || !isHost(name) || followed == maxChosen {
			continue
		}
		followed++
		if s, ok := p.service(name, t); ok {
			found = true
			out.groups = append(out.groups, s.groups...)
		}
	}
	return out, found
}

// services asks for the SRV records of each transport, UDP first.
func (p *planner) services(domain string) (plan, bool) {
	var out plan
	found := false
	for _, t := range []transport{transportUDP, transportTCP} {
		if s, ok := p.service(serviceName(t, domain), t); ok {
			found = true
			out.groups = append(out.groups, s.groups...)
		}
	}
	return out, found
}

// service asks for one SRV name. found is true when there are records, even if
// none is usable: then A and AAAA are not asked (RFC 3263 §4.2).
func (p *planner) service(name string, t transport) (out plan, found bool) {
	records, ttl, err := p.resolver.SRV(p.ctx, name)
	p.note(len(records), ttl, err)
	records = slices.Clone(records)
	slices.SortStableFunc(records, func(x, y SRV) int { return int(x.Priority) - int(y.Priority) })
	records = records[:min(len(records), maxSRV)]
	servers := p.servers(records, t)
	for i, r := range records {
		if len(servers[i].targets) == 0 {
			continue
		}
		if i == 0 || r.Priority != records[i-1].Priority || len(out.groups) == 0 {
			out.groups = append(out.groups, nil)
		}
		last := len(out.groups) - 1
		out.groups[last] = append(out.groups[last], servers[i])
	}
	return out, len(records) > 0
}

// servers looks up the targets of SRV records, all at once.
func (p *planner) servers(records []SRV, t transport) []server {
	servers := make([]server, len(records))
	parts := make([]planner, len(records))
	var wg sync.WaitGroup
	for i, r := range records {
		name := strings.ToLower(strings.TrimSuffix(r.Target, "."))
		servers[i].weight = r.Weight
		// A target of "." says that the service is not offered (RFC 2782).
		if !isHost(name) || r.Port == 0 {
			continue
		}
		parts[i] = planner{ctx: p.ctx, resolver: p.resolver, usable: p.usable}
		wg.Go(func() { servers[i].targets = parts[i].addresses(name, r.Port, t) })
	}
	wg.Wait()
	for _, part := range parts {
		p.shorten(part.ttl)
		p.soft = errors.Join(p.soft, part.soft)
	}
	return servers
}

// addresses asks for A and AAAA.
func (p *planner) addresses(host string, port uint16, t transport) []target {
	if ip, ok := numericHost(host); ok {
		return p.keepUsable([]netip.Addr{ip}, port, t)
	}
	addrs, ttl, err := p.resolver.Addrs(p.ctx, host)
	p.note(len(addrs), ttl, err)
	return p.keepUsable(addrs, port, t)
}

func (p *planner) keepUsable(addrs []netip.Addr, port uint16, t transport) []target {
	var targets []target
	for _, ip := range addrs[:min(len(addrs), maxAddrs)] {
		to := target{t, netip.AddrPortFrom(ip.Unmap(), port)}
		if p.usable(to) && !slices.Contains(targets, to) {
			targets = append(targets, to)
		}
	}
	return targets
}

// note keeps the shortest life of what was answered, and what was not.
func (p *planner) note(records int, ttl time.Duration, err error) {
	if err != nil {
		p.soft = errors.Join(p.soft, err)
		return
	}
	if records > 0 {
		p.shorten(max(ttl, minTTL))
	}
}

func (p *planner) shorten(ttl time.Duration) {
	if ttl > 0 && (p.ttl == 0 || ttl < p.ttl) {
		p.ttl = ttl
	}
}
