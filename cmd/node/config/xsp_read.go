package config

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/actors/xsp/remotexsp"
	"github.com/sipmuster/muster/admin"
	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/messages"
)

// What an xSP has when its entry does not say, and what it may have. An answer
// must come before Timer F of most peers has run out (RFC 3261 §17.1.2.2), and
// nobody answers a challenge in less than one round trip.
const (
	defaultTimeout     = 3 * time.Second
	leastTimeout       = 50 * time.Millisecond
	mostTimeout        = time.Minute
	defaultConcurrency = 100
	mostConcurrency    = 10_000
	waitingEach        = 100
	mostWaiting        = 1_000_000
)

// way is one kind of xSP: its keys, and how they are read.
type way struct {
	kind string
	// with are the keys that belong to this kind besides its own.
	with []string
	read func(*xspEntry, value)
}

// ways are in the order in which messages name them.
var ways = []way{
	{"webhook", []string{"secret_file", "tls_ca"}, (*xspEntry).readWebhook},
	{"grpc", []string{"tls_ca", "tls_cert", "tls_key"}, (*xspEntry).readGRPC},
	{"actor", []string{"peer"}, (*xspEntry).readActor},
	{"aka", nil, (*xspEntry).readAKA},
	{"bearer", nil, (*xspEntry).readBearer},
	{"hmac", nil, (*xspEntry).readHMAC},
}

// xspEntry is an entry of the section xsp while it is read.
type xspEntry struct {
	*loader
	XSP
	// key is where the entry begins, given are its values by name.
	key   value
	given map[string]value
}

func (l *loader) readXSPs(v value) {
	v.named(func(name string, key, entry value) {
		if name == messages.DigestHandler {
			key.problem("digest is the name of the built-in handler", "choose another name")
		}
		if name == "other" {
			key.problem("other stands in metrics for what is not configured", "choose another name")
		}
		x := &xspEntry{loader: l, key: key, given: map[string]value{}, XSP: XSP{
			Name: name, Timeout: defaultTimeout, Concurrency: defaultConcurrency,
		}}
		x.read(entry)
		if name != messages.DigestHandler {
			l.xsps = append(l.xsps, name)
		}
		l.config.XSPs = append(l.config.XSPs, x.XSP)
	})
	slices.Sort(l.xsps)
	slices.SortFunc(l.config.XSPs, func(a, b XSP) int { return cmp.Compare(a.Name, b.Name) })
}

// read takes the values of the entry first, because what they mean depends on
// which of them are there.
func (x *xspEntry) read(entry value) {
	keep := func(name string) func(value) { return func(v value) { x.given[name] = v } }
	table := keys{"timeout": x.readTimeout, "headers": x.readHeaders}
	for _, name := range []string{"concurrency", "waiting"} {
		table[name] = keep(name)
	}
	for _, w := range ways {
		for _, name := range append(w.with, w.kind) {
			table[name] = keep(name)
		}
	}
	entry.mapping(table)
	if !entry.null() && entry.target().Kind != yaml.MappingNode {
		return
	}
	x.readLimits()
	x.readWays()
}

// readWays reads each kind that is given, although only one may be.
func (x *xspEntry) readWays() {
	const mend = "give exactly one of webhook, grpc, actor, aka, bearer and hmac"
	var kinds []string
	belong := map[string]bool{"concurrency": true, "waiting": true}
	for _, w := range ways {
		v, given := x.given[w.kind]
		if !given {
			continue
		}
		kinds = append(kinds, w.kind)
		for _, name := range append(w.with, w.kind) {
			belong[name] = true
		}
		w.read(x, v)
	}
	switch len(kinds) {
	case 0:
		x.key.problem("does not say how to reach it", mend)
	case 1:
		for _, name := range slices.Sorted(maps.Keys(x.given)) {
			if !belong[name] {
				x.given[name].problem("does not go with "+kinds[0], "remove it")
			}
		}
	default:
		x.key.problem("has "+strings.Join(kinds, " and "), mend)
	}
}

func (x *xspEntry) readTimeout(v value) {
	var d time.Duration
	if v.duration(&d); d == 0 {
		return
	}
	if d < leastTimeout || d > mostTimeout {
		v.problem("is not between 50ms and 60s", "write a duration such as 3s")
		return
	}
	x.Timeout = d
}

func (x *xspEntry) readLimits() {
	if v, given := x.given["concurrency"]; given {
		v.count(&x.Concurrency, mostConcurrency)
	}
	x.Waiting = waitingEach * x.Concurrency
	if v, given := x.given["waiting"]; given {
		v.count(&x.Waiting, mostWaiting)
	}
}

// readHeaders reads the headers that answers may change. mutation knows which
// of them nobody may.
func (x *xspEntry) readHeaders(v value) {
	readHeaderNames(v, mutation.Listable, &x.Headers)
}

func (x *xspEntry) readWebhook(v value) {
	w := &Webhook{}
	x.Webhook = w
	secure := false
	if text, ok := v.filled(); ok {
		// The URL may hold a token: it is never shown.
		if what := urlFault(text); what != "" {
			v.problem(what, "write https://host/path")
		}
		secure = strings.HasPrefix(strings.ToLower(text), "https:")
		w.URL = text
	}
	if v, given := x.given["secret_file"]; given {
		w.Secret = v.secret()
	} else {
		x.key.lacks("secret_file", "it holds the key that signs the questions")
	}
	if v, given := x.given["tls_ca"]; given {
		if !secure && w.URL != "" {
			v.problem("does not go with http", "write https://, or remove tls_ca")
		}
		w.RootCAs = v.authorities()
	}
}

// urlFault tells what is wrong with a URL that gets secrets, or "".
func urlFault(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "is not a URL with a host"
	case u.Scheme == "http" && !admin.IsLoopback(u.Host):
		return "sends challenges in the clear"
	case u.Scheme != "https" && u.Scheme != "http":
		return "is not an https URL"
	case u.User != nil:
		return "holds a user name or password, which belong into a file"
	case u.Fragment != "":
		return "has a fragment"
	case u.Port() != "" && (checkPort(u.Port()) != nil || u.Port() == "0"):
		return "has a port that is not a number from 1 to 65535"
	}
	return ""
}

func (x *xspEntry) readGRPC(v value) {
	g := &GRPC{}
	x.GRPC = g
	loopback := false
	if text, ok := v.filled(); ok {
		if what := addressFault(text); what != "" {
			v.problem(declare.Show(text)+" "+what, "write host:port")
		}
		loopback = admin.IsLoopback(text)
		g.Target = text
	}
	g.TLS = x.readTLS(x.key, x.given, loopback || g.Target == "", "a target on another machine needs tls_cert, tls_key and tls_ca")
}

func (x *xspEntry) readActor(v value) {
	p := &remotexsp.Peer{}
	x.Actor = p
	if text, ok := v.filled(); ok {
		address, name, found := strings.Cut(text, "/")
		var what string
		switch {
		case !found:
			what = "names no actor"
		case declare.CheckName(name) != nil:
			what = "has an actor that is not a name"
		default:
			what = addressFault(address)
		}
		if what != "" {
			v.problem(declare.Show(text)+" "+what, "write host:port/name")
		}
		p.Address, p.Actor = address, name
	}
	if v, given := x.given["peer"]; given {
		v.dnsName(&p.Identity)
	} else {
		x.key.lacks("peer", "it is the DNS name in the certificate of the other node")
	}
	x.remoteUses = append(x.remoteUses, remoteUse{v, p})
}

// addressFault tells what is wrong with host:port of another program, or "".
func addressFault(text string) string {
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil:
		return "is not an address and a port"
	case checkPort(port) != nil || port == "0":
		return "has a port that is not a number from 1 to 65535"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if u, err := declare.ParseURI("sip:" + host); err != nil || u.Host != host {
		return "has no host"
	}
	return ""
}

func (l *loader) readRemote(v value) {
	r := &l.config.Remote
	given := map[string]value{}
	table := keys{
		"listen": func(v value) {
			if text, ok := v.filled(); ok {
				if err := checkListen(text); err != nil {
					v.problem(declare.Show(text)+" "+err.Error(), "write address:port, such as 127.0.0.1:7070")
				}
				r.Listen = text
			}
		},
		"advertise": func(v value) {
			if text, ok := v.text(); ok && text != "" {
				if what := addressFault(text); what != "" {
					v.problem(declare.Show(text)+" "+what, "write the host:port that peers connect to")
				}
				r.Advertise = text
			}
		},
	}
	for _, name := range []string{"tls_cert", "tls_key", "tls_ca"} {
		table[name] = func(v value) { given[name] = v }
	}
	v.mapping(table)
	if host, _, err := net.SplitHostPort(r.Listen); err == nil && r.Advertise == "" {
		if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
			v.lacks("advertise", "peers cannot answer to "+r.Listen+": write the host:port that they connect to")
		}
	}
	v.require(v, "listen", "write the address:port of this node's endpoint")
	r.TLS = l.readTLS(v, given, false, "actors on other nodes are reached by mutual TLS only: give tls_cert, tls_key and tls_ca")
	l.hasRemote = true
}

// remoteUse is an xSP that needs the section remote.
type remoteUse struct {
	value
	peer *remotexsp.Peer
}

// checkRemote wants the section remote for xSPs that are actors, and one
// identity for each address: there is one connection to it.
func (l *loader) checkRemote() {
	first := map[string]remoteUse{}
	for _, use := range l.remoteUses {
		if !l.hasRemote {
			use.problem("needs the section remote", "add remote: {listen: \"127.0.0.1:7070\", tls_cert: node.pem, tls_key: node.key, tls_ca: ca.pem}")
		}
		before, known := first[use.peer.Address]
		switch {
		case !known:
			first[use.peer.Address] = use
		case before.peer.Identity != "" && use.peer.Identity != "" && !strings.EqualFold(before.peer.Identity, use.peer.Identity):
			use.problem("has another peer than "+before.path+" at the same address, in line "+strconv.Itoa(before.node.Line), "one address has one certificate")
		}
	}
}
