package sipadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// Defaults, each with its source.
const (
	defaultT1 = 500 * time.Millisecond // RFC 3261 table 4
	defaultT2 = 4 * time.Second        // RFC 3261 table 4
	defaultT4 = 5 * time.Second        // RFC 3261 table 4

	defaultMaxPending     = 100_000 // about 150 MB of requests and timers
	defaultMaxConnections = 1_024
	defaultIdle           = 10 * time.Minute
	defaultInboundRate    = 20_000 // answers a second, about half a core
	defaultSocketBuffer   = 4 << 20
)

// Options configures an Adapter. The zero value of every field works.
type Options struct {
	// Listen are addresses such as "udp://127.0.0.1:5070" or
	// "tcp://[::1]:5070". Port 0 takes a free one. Empty means UDP and TCP on
	// a free port of 127.0.0.1.
	Listen []string
	// Advertise is the host, or host:port, written into Via and Contact.
	// Empty: the local address that reaches the target. Without a port: the
	// listener's port.
	Advertise string
	// UserAgent is the value of User-Agent and Server; empty writes neither.
	UserAgent string
	// Logger may be nil.
	Logger *slog.Logger
	// Counters may be nil.
	Counters Counters

	// T1, T2 and T4 are the timers of RFC 3261 table 4; zero takes the
	// standard's 500 ms, 4 s and 5 s.
	T1, T2, T4 time.Duration

	// MaxPending bounds the requests without an outcome, of which more fail at
	// once, and separately the server transactions, beyond which requests are
	// answered 503 (S-35). Zero: 100,000.
	MaxPending int
	// MaxConnections bounds the accepted and, separately, the dialled TCP
	// connections. Zero: 1,024.
	MaxConnections int
	// ConnectionIdle is how long a TCP connection may be silent before it is
	// closed. Zero: 10 minutes.
	ConnectionIdle time.Duration
	// InboundRate bounds the answers to requests from outside, per second, so
	// that nobody can use the node as a reflector at will. Zero: 20,000;
	// negative: none is answered.
	InboundRate int
	// SocketBuffer is asked of the system for each UDP socket, in bytes. Zero:
	// 4 MiB; negative: the system's default.
	SocketBuffer int
	// Collect keeps a usual REGISTER that goes by UDP until Flush is called, or 64
	// have come together, and sends them in one system call, on Linux. Only what Send
	// writes before it returns is kept, so who calls Send calls Flush when there is
	// nothing more to send for now. If nobody does, they leave with their first
	// retransmission.
	Collect bool

	// AllowSources are addresses from which responses are accepted, on any
	// port, although the request went elsewhere: the second address of a
	// redundant pair (S-04).
	AllowSources []netip.Addr

	// Nameservers are "address:port" of the DNS servers. Empty: those of
	// /etc/resolv.conf.
	Nameservers []string
	// Resolver answers DNS questions instead of Nameservers when not nil.
	Resolver Resolver

	// OnRequest takes the well-formed requests that sessions are made of: INVITE
	// and whatever has a To tag; a CANCEL only if its INVITE was taken and has no
	// final response, and an ACK only if no server transaction waits for it (see
	// SIPReply.Acked). When it returns true, a server transaction waits for
	// SIPInbound.Respond, and a repeat of the request is not shown again.
	// Otherwise OnInbound is asked; a CANCEL that is not taken ends its INVITE
	// with 487. It runs on a reader, in the order in which requests came, and
	// must not block; it may call Respond. Nil: nothing is taken.
	OnRequest func(*messages.SIPInbound) (taken bool)
	// OnInbound may answer any other well-formed request from outside: it returns
	// a final status code, or 0 for the default answer. It runs on a reader and
	// must not block. Nil: default answers.
	OnInbound func(InboundRequest) int
}

func (o Options) withDefaults() Options {
	if len(o.Listen) == 0 {
		o.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Counters == nil {
		o.Counters = noCounters{}
	}
	o.T1 = positive(o.T1, defaultT1)
	o.T2 = positive(o.T2, defaultT2)
	o.T4 = positive(o.T4, defaultT4)
	o.ConnectionIdle = positive(o.ConnectionIdle, defaultIdle)
	o.MaxPending = positive(o.MaxPending, defaultMaxPending)
	o.MaxConnections = positive(o.MaxConnections, defaultMaxConnections)
	if o.InboundRate == 0 {
		o.InboundRate = defaultInboundRate
	}
	if o.SocketBuffer == 0 {
		o.SocketBuffer = defaultSocketBuffer
	}
	return o
}

func positive[T time.Duration | int](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// settings is what the texts of Options mean.
type settings struct {
	listen    []listenAddr
	advertise hostPort
}

type listenAddr struct {
	transport transport
	addr      netip.AddrPort
	text      string
}

// hostPort is a host as written into a message, with the brackets of an IPv6
// reference, and a port that is 0 when not given.
type hostPort struct {
	host string
	port uint16
}

func (h hostPort) String() string {
	return h.host + ":" + strconv.Itoa(int(h.port))
}

// validate reports all faults at once. The receiver has its defaults.
func (o Options) validate() (settings, error) {
	var s settings
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, text := range o.Listen {
		l, err := parseListen(text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		s.listen = append(s.listen, l)
	}
	if o.Advertise != "" {
		adv, ok := parseHostPort(o.Advertise)
		if !ok {
			fault("advertise %q: want a host or host:port", o.Advertise)
		}
		s.advertise = adv
	}
	if !challenge.IsFieldValue(o.UserAgent) {
		fault("user agent: control characters are not allowed")
	}
	for name, d := range map[string]time.Duration{"T1": o.T1, "T2": o.T2, "T4": o.T4, "connection idle": o.ConnectionIdle} {
		if d < 0 {
			fault("%s %v: must not be negative", name, d)
		}
	}
	if o.T2 < o.T1 {
		fault("T2 %v: must not be below T1 %v (RFC 3261 §17.1.2.2)", o.T2, o.T1)
	}
	if o.MaxPending < 0 || o.MaxConnections < 0 {
		fault("limits must not be negative")
	}
	for _, ns := range o.Nameservers {
		if _, err := netip.ParseAddrPort(ns); err != nil {
			fault("name server %q: want address:port", ns)
		}
	}
	return s, errors.Join(faults...)
}

func parseListen(text string) (listenAddr, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	l := listenAddr{transport: transport(strings.ToLower(scheme)), text: text}
	if !ok || l.transport != transportUDP && l.transport != transportTCP {
		return l, fmt.Errorf("listen %q: want udp://address:port or tcp://address:port", text)
	}
	if strings.HasPrefix(rest, ":") {
		rest = "0.0.0.0" + rest
	}
	rest = strings.Replace(rest, "localhost:", "127.0.0.1:", 1)
	addr, err := netip.ParseAddrPort(rest)
	if err != nil {
		return l, fmt.Errorf("listen %q: want an IP address and a port, as in udp://127.0.0.1:5070", text)
	}
	l.addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return l, nil
}

// parseHostPort takes "host", "host:port", "[v6]", "[v6]:port" or a bare IPv6
// address.
func parseHostPort(s string) (hostPort, bool) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return hostPort{host: hostOf(ip)}, true
	}
	host, port, ok := cutPort(s)
	if !ok || !isHost(host) {
		return hostPort{}, false
	}
	n := 0
	if port != "" {
		var err error
		if n, err = strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return hostPort{}, false
		}
	}
	return hostPort{host: host, port: uint16(n)}, true
}

// hostOf writes an address as the host of a SIP URI or Via.
func hostOf(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}
