package sipadapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// questionTimeout bounds one question, all servers and repeats together.
	questionTimeout = 4 * time.Second
	// exchangeTimeout bounds one server's answer.
	exchangeTimeout = 2 * time.Second
	// addressTTL is taken for addresses: the system's resolver, which knows
	// the hosts file, does not tell how long they hold.
	addressTTL = 30 * time.Second
	// maxAliases bounds a chain of CNAME records (S-36).
	maxAliases = 8
	// ednsSize avoids fragments (RFC 9715 §3.1).
	ednsSize = 1232
)

// dnsResolver asks DNS servers for NAPTR and SRV records, and the system for
// addresses, so that the hosts file and search domains count.
type dnsResolver struct {
	servers []string // empty: those of /etc/resolv.conf, read each time
	system  *net.Resolver
}

func newDNS(servers []string) *dnsResolver {
	r := &dnsResolver{servers: servers, system: &net.Resolver{PreferGo: true}}
	if len(servers) > 0 {
		var d net.Dialer
		var dials atomic.Uint32
		r.system.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			next := int(dials.Add(1)-1) % len(servers)
			return d.DialContext(ctx, network, servers[next])
		}
	}
	return r
}

// NAPTR implements Resolver.
func (r *dnsResolver) NAPTR(ctx context.Context, domain string) ([]NAPTR, time.Duration, error) {
	answer, err := r.ask(ctx, domain, dns.TypeNAPTR)
	if err != nil {
		return nil, 0, err
	}
	var out []NAPTR
	ttl := collect(answer, domain, func(rr dns.RR) {
		if n, ok := rr.(*dns.NAPTR); ok && len(out) < maxNAPTR {
			out = append(out, NAPTR{n.Order, n.Preference, n.Flags, n.Service, n.Replacement})
		}
	})
	return out, ttl, nil
}

// SRV implements Resolver.
func (r *dnsResolver) SRV(ctx context.Context, name string) ([]SRV, time.Duration, error) {
	answer, err := r.ask(ctx, name, dns.TypeSRV)
	if err != nil {
		return nil, 0, err
	}
	var out []SRV
	ttl := collect(answer, name, func(rr dns.RR) {
		if s, ok := rr.(*dns.SRV); ok && len(out) < 4*maxSRV {
			out = append(out, SRV{s.Priority, s.Weight, s.Port, s.Target})
		}
	})
	return out, ttl, nil
}

// Addrs implements Resolver.
func (r *dnsResolver) Addrs(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	addrs, err := r.system.LookupNetIP(ctx, "ip", host)
	var fault *net.DNSError
	if errors.As(err, &fault) && fault.IsNotFound {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("look up %s: %w", host, err)
	}
	return addrs, addressTTL, nil
}

// ask puts one question to the servers in turn, twice.
func (r *dnsResolver) ask(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	servers := r.servers
	if len(servers) == 0 {
		system, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, fmt.Errorf("read DNS servers: %w", err)
		}
		for _, s := range system.Servers {
			servers = append(servers, net.JoinHostPort(s, system.Port))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), kind)
	question.SetEdns0(ednsSize, false)
	err := errors.New("no DNS server is configured")
	for range 2 {
		for _, server := range servers {
			var answer *dns.Msg
			if answer, err = askServer(ctx, question, server); err == nil {
				return answer, nil
			}
		}
	}
	return nil, fmt.Errorf("look up %s %s: %w", dns.TypeToString[kind], name, err)
}

func askServer(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	client := dns.Client{Timeout: exchangeTimeout, UDPSize: ednsSize}
	answer, _, err := client.ExchangeContext(ctx, question, server)
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, server)
	}
	if err != nil {
		return nil, err
	}
	switch answer.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		return answer, nil
	}
	return nil, fmt.Errorf("%s answered %s", server, dns.RcodeToString[answer.Rcode])
}

// collect calls take for the records that belong to the name or to what it is
// an alias of, and returns the shortest life among them.
func collect(answer *dns.Msg, name string, take func(dns.RR)) time.Duration {
	owner, ttl := dns.Fqdn(name), time.Duration(-1)
	shorten := func(h *dns.RR_Header) {
		if t := time.Duration(h.Ttl) * time.Second; ttl < 0 || t < ttl {
			ttl = t
		}
	}
	for range maxAliases {
		alias := ""
		for _, rr := range answer.Answer {
			if !strings.EqualFold(rr.Header().Name, owner) {
				continue
			}
			shorten(rr.Header())
			if c, ok := rr.(*dns.CNAME); ok {
				alias = c.Target
				continue
			}
			take(rr)
		}
		if alias == "" {
			break
		}
		owner = alias
	}
	return max(ttl, 0)
}
