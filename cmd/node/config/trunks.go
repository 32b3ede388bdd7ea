package config

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin"
	"github.com/sipmuster/muster/admin/declare"
)

// trunkEntry is one trunk and where its values stand: what concerns other
// sections is checked when all of them are read.
type trunkEntry struct {
	actors.Trunk
	uri, registrar  value
	peers, profiles []value // as Trunk.Peers and Trunk.Profiles
}

func (l *loader) readTrunks(v value) {
	v.named(func(name string, key, entry value) {
		t := &trunkEntry{Trunk: actors.Trunk{Name: name, Profile: actors.ProfileFrom}}
		l.trunks = append(l.trunks, t)
		var registrar, profiles bool
		entry.mapping(keys{
			"peers": t.readPeers,
			"uri": func(v value) {
				t.uri = v
				readTarget(v, &t.URI, false)
			},
			"profile": t.readProfile,
			"registrar": func(v value) {
				registrar = true
				t.registrar = v
				t.Registrar, _ = v.filled()
			},
			"profiles": func(v value) {
				profiles = true
				t.readProfiles(v)
			},
			"headers": func(v value) {
				readHeaderNames(v, actors.CheckTrunkHeader, &t.Headers)
			},
		})
		entry.require(key, "peers", `write the addresses of the peer: peers: ["192.0.2.7"]`)
		entry.require(key, "uri", `write where calls to the profiles go: uri: "sip:192.0.2.7:5060"`)
		const mend = "registrar: NAME gives it all profiles there, profiles: [ID, ID] some"
		switch {
		case registrar && profiles:
			key.problem("has both registrar and profiles", mend)
		case !registrar && !profiles && (entry.null() || entry.target().Kind == yaml.MappingNode):
			key.problem("has no profiles", mend)
		}
	})
	slices.SortFunc(l.trunks, func(a, b *trunkEntry) int { return cmp.Compare(a.Name, b.Name) })
}

func (t *trunkEntry) readPeers(v value) {
	v.list(func(v value) {
		text, ok := v.filled()
		if !ok {
			return
		}
		peer, what, mend := parsePeer(text)
		if what != "" {
			v.problem(declare.Show(text)+" "+what, mend)
			return
		}
		if i := slices.IndexFunc(t.Peers, peer.Overlaps); i >= 0 {
			v.problem(declare.Show(text)+" overlaps "+peerText(t.Peers[i])+" of this trunk", "remove one")
			return
		}
		t.Peers = append(t.Peers, peer)
		t.peers = append(t.peers, v)
	})
	if v.target().Kind == yaml.SequenceNode && len(v.target().Content) == 0 {
		v.problem("names no address, so that no call would be taken", `write the addresses of the peer, such as ["192.0.2.7"]`)
	}
}

// parsePeer reads an address or a range of them.
func parsePeer(text string) (peer netip.Prefix, what, mend string) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		if addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
			return peer, "is not the address of a machine", ""
		}
		return netip.PrefixFrom(addr, addr.BitLen()), "", ""
	}
	if _, _, err := net.SplitHostPort(text); err == nil {
		return peer, "has a port", "leave it out: calls are taken from any port of an address"
	}
	peer, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return peer, "is neither an IP address nor a range of them", `write "192.0.2.7" or "192.0.2.0/24"`
	case peer.Bits() == 0:
		return peer, "trusts every address there is", "name the addresses of the peer"
	case peer.Addr().Is4In6():
		return peer, "is an IPv4 range in the spelling of IPv6", "write it as IPv4, such as 192.0.2.0/24"
	case peer != peer.Masked():
		return peer, "says more than its /" + strconv.Itoa(peer.Bits()), "write " + peer.Masked().String() + ", or the address alone"
	}
	return peer, "", ""
}

// readProfile reads how the profile of a call is found: from, or {header: NAME}.
func (t *trunkEntry) readProfile(v value) {
	const mend = "write from, or {header: X-Muster-Profile}"
	if v.target().Kind != yaml.MappingNode {
		if text, ok := v.filled(); ok && text != actors.ProfileFrom {
			v.problem(declare.Show(text)+" is no way to find a profile", mend)
		}
		return
	}
	v.mapping(keys{"header": func(v value) {
		name, ok := v.filled()
		if !ok {
			return
		}
		if err := actors.CheckTrunkHeader(name); err != nil {
			v.problem(err.Error(), "take a header of your own, such as X-Muster-Profile")
			return
		}
		t.Profile = actors.ProfileHeader + name
	}})
	v.require(v, "header", mend)
}

func (t *trunkEntry) readProfiles(v value) {
	v.list(func(v value) {
		id, ok := v.filled()
		if !ok {
			return
		}
		if slices.Contains(t.Profiles, id) {
			v.problem(declare.Show(id)+" stands there twice", "remove one")
			return
		}
		if err := declare.CheckID(id); err != nil {
			v.problem(declare.Show(id)+" "+err.Error(), "")
			return
		}
		t.Profiles = append(t.Profiles, id)
		t.profiles = append(t.profiles, v)
	})
	if v.target().Kind == yaml.SequenceNode && len(v.target().Content) == 0 {
		v.problem("names no profile", "")
	}
}

// readHeaderNames reads names of headers, each once, that check allows.
func readHeaderNames(v value, check func(string) error, into *[]string) {
	v.list(func(v value) {
		text, ok := v.filled()
		if !ok {
			return
		}
		if slices.ContainsFunc(*into, func(h string) bool { return strings.EqualFold(h, text) }) {
			v.problem(declare.Show(text)+" stands there twice", "remove one")
			return
		}
		if err := check(text); err != nil {
			v.problem(err.Error(), "")
			return
		}
		*into = append(*into, text)
	})
}

// checkTrunks finds what is wrong between trunks and the rest. Profiles are not
// read yet, see checkTrunkProfiles.
func (l *loader) checkTrunks() {
	for i, t := range l.trunks {
		if t.Registrar != "" && !l.registrars[t.Registrar] {
			t.registrar.problem("unknown registrar "+declare.Show(t.Registrar), suggestion(t.Registrar, registrarNames(l.config.Registrars)))
		}
		l.checkTrunkURI(t)
		for n, peer := range t.Peers {
			l.checkPeer(peer, t.peers[n])
		}
		for _, other := range l.trunks[:i] {
			t.checkAgainst(other)
		}
		l.config.Trunks = append(l.config.Trunks, t.Trunk)
	}
}

// checkAgainst finds what two trunks both want.
func (t *trunkEntry) checkAgainst(other *trunkEntry) {
	for i, peer := range t.Peers {
		if j := slices.IndexFunc(other.Peers, peer.Overlaps); j >= 0 {
			t.peers[i].problem(peerText(peer)+" overlaps "+peerText(other.Peers[j])+" of trunk "+declare.Show(other.Name),
				"an address belongs to one trunk")
		}
	}
	if t.Registrar != "" && t.Registrar == other.Registrar {
		t.registrar.problem(declare.Show(t.Registrar)+" has trunk "+declare.Show(other.Name)+" already", "list the profiles of each trunk with profiles")
	}
	for i, id := range t.Profiles {
		if slices.Contains(other.Profiles, id) {
			t.profiles[i].problem(declare.Show(id)+" belongs to trunk "+declare.Show(other.Name)+" already", "remove one")
		}
	}
}

// peerText is a range, or an address without its length.
func peerText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// checkPeer refuses a range with a registrar in it, whose calls would pass for
// those of the trunk, and warns about one that everybody on this machine has.
func (l *loader) checkPeer(peer netip.Prefix, at value) {
	for _, r := range l.config.Registrars {
		for _, uri := range []string{r.URI, r.OutboundProxy} {
			u, err := declare.ParseURI(uri)
			if err != nil {
				continue
			}
			if addr, err := hostAddr(u.Host); err == nil && peer.Contains(addr) {
				at.problem(peerText(peer)+" holds "+addr.String()+" of registrar "+declare.Show(r.Name)+", whose calls would pass for those of the trunk",
					"give the two different addresses")
				return
			}
		}
	}
	if peer.Addr().IsLoopback() {
		l.warn("%s:%d: %s: %s is a loopback address, so every program on this machine can place calls as the trunk's profiles",
			l.file, at.target().Line, at.path, peerText(peer))
	}
}

// checkTrunkURI refuses a trunk that leads back here, and warns about one that
// cannot be reached.
func (l *loader) checkTrunkURI(t *trunkEntry) {
	u, err := declare.ParseURI(t.URI)
	if t.URI == "" || err != nil {
		return
	}
	target := net.JoinHostPort(strings.Trim(u.Host, "[]"), strconv.Itoa(cmp.Or(u.Port, 5060)))
	beyond := !admin.IsLoopback(u.Host)
	for _, listener := range l.config.SIP.Listen {
		_, address, _ := strings.Cut(listener, "://")
		if address == target {
			t.uri.problem(declare.Show(t.URI)+" is where this node listens itself", "write the address of the peer")
			return
		}
		beyond = beyond && admin.IsLoopback(address)
	}
	if beyond {
		l.warn("%s:%d: %s: %s is on another machine, and sip.listen has loopback addresses only, from where it cannot be reached",
			l.file, t.uri.target().Line, t.uri.path, declare.Show(t.URI))
	}
}

// checkTrunkProfiles warns about profiles that no file has: the API may add
// them.
func (l *loader) checkTrunkProfiles(ids *declare.Table) {
	for _, t := range l.trunks {
		for i, id := range t.Profiles {
			if _, known := ids.Get(id); !known {
				at := t.profiles[i]
				l.warn("%s:%d: %s: no profile file has a profile %s; its calls are refused until the API adds it",
					l.file, at.target().Line, at.path, declare.Show(id))
			}
		}
	}
}

func hostAddr(host string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return addr, errors.New("is not an address")
	}
	return addr.Unmap(), nil
}
