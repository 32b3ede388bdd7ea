package actors

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

// ProfileFrom is the Trunk.Profile that looks at the From URI, as an empty one
// does; ProfileHeader begins one that looks at a header.
const (
	ProfileFrom   = "from"
	ProfileHeader = "header:"
)

// trusts tells whether a request came from the trunk's peer. source is
// "address:port"; the port does not count.
func (t Trunk) trusts(source netip.Addr) bool {
	return slices.ContainsFunc(t.Peers, func(p netip.Prefix) bool { return p.Contains(source.Unmap()) })
}

// PeerNames are the peers as people write them: an address, or a range.
func (t Trunk) PeerNames() []string {
	names := make([]string, len(t.Peers))
	for i, p := range t.Peers {
		names[i] = p.String()
		if p.IsSingleIP() {
			names[i] = p.Addr().String()
		}
	}
	return names
}

// claim is how a call of the peer names its profile: the From URI, or what the
// named header says. ok is false when the header is missing or stands there
// twice: a caller must not be able to add one.
func (t Trunk) claim(call *messages.SIPInbound) (who string, ok bool) {
	name, isHeader := strings.CutPrefix(t.Profile, ProfileHeader)
	if !isHeader {
		return call.From, call.From != ""
	}
	count := 0
	for _, h := range call.Dialog.Headers {
		if mutation.Canonical(h.Name) == mutation.Canonical(name) {
			who, count = h.Value, count+1
		}
	}
	// A URI may stand in angle brackets, as in From.
	if inner, found := strings.CutPrefix(who, "<"); found {
		who, _, _ = strings.Cut(inner, ">")
	}
	return who, count == 1 && who != ""
}

// notPassed are the headers that a bridge never passes on, with the reason.
// Those that the adapter reads into fields of their own are among them.
var notPassed = []struct {
	why   string
	names []string
}{
	{"is written anew on each side", []string{
		"via", "route", "record-route", "path", "service-route", "max-forwards", "max-breadth",
		"from", "to", "call-id", "cseq", "contact", "rseq", "rack", "timestamp",
		"server", "user-agent", "content-length",
		"security-client", "security-server", "security-verify",
	}},
	{"names another dialog, which exists on one side only", []string{"replaces", "join", "target-dialog"}},
	{"holds or asks for credentials, which stay on their side", []string{
		"authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate",
		"authentication-info", "proxy-authentication-info",
	}},
	{"is agreed on each side by itself", []string{
		"allow", "supported", "require", "proxy-require", "unsupported", "session-expires", "min-se",
		"expires", "min-expires", "retry-after", "flow-timer",
	}},
	{"belongs to requests that are not passed", []string{
		"refer-to", "refer-sub", "event", "allow-events", "subscription-state", "sip-etag", "sip-if-match",
	}},
	{"passes by itself", []string{"reason", "info-package", "recv-info", "mime-version"}},
}

// CheckTrunkHeader tells whether a trunk may list a header, and the error tells
// the operator why not.
func CheckTrunkHeader(name string) error {
	if !challenge.IsToken(name) {
		return fmt.Errorf("%.40q is not the name of a header (RFC 3261 §25.1)", name)
	}
	if strings.Contains(name, "*") {
		return fmt.Errorf("%.40q: headers are listed one by one, * stands for nothing", name)
	}
	canonical := mutation.Canonical(name)
	if strings.HasPrefix(canonical, "content-") {
		return fmt.Errorf("%s passes by itself, with the body", name)
	}
	for _, n := range notPassed {
		if slices.Contains(n.names, canonical) {
			return fmt.Errorf("%s %s", name, n.why)
		}
	}
	if !strings.EqualFold(canonical, name) {
		return fmt.Errorf("%q is a compact form: write %s", name, canonical)
	}
	return nil
}

// CheckTrunks reports everything that is wrong with trunks at once.
func CheckTrunks(trunks []Trunk, registrars []Registrar) error {
	var errs []error
	for i, t := range trunks {
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("trunk %q: "+format, append([]any{t.Name}, args...)...))
		}
		if t.Name == "" {
			fault("has no name")
		}
		if len(t.Peers) == 0 {
			fault("names no peer")
		}
		if t.URI == "" || messages.UserPart(t.URI) != "" {
			fault("want a SIP URI without user part")
		}
		if name, isHeader := strings.CutPrefix(t.Profile, ProfileHeader); t.Profile != "" && t.Profile != ProfileFrom && (!isHeader || !challenge.IsToken(name)) {
			fault("profile: want %q or %qNAME", ProfileFrom, ProfileHeader)
		}
		if (t.Registrar == "") == (len(t.Profiles) == 0) {
			fault("want either a registrar or profiles")
		}
		if t.Registrar != "" && !slices.ContainsFunc(registrars, func(r Registrar) bool { return r.Name == t.Registrar }) {
			fault("registrar %q is not configured", t.Registrar)
		}
		for _, name := range t.Headers {
			if err := CheckTrunkHeader(name); err != nil {
				fault("headers: %w", err)
			}
		}
		for _, other := range trunks[:i] {
			if what := t.clash(other); what != "" {
				fault("%s belongs to trunk %q too", what, other.Name)
			}
		}
	}
	return errors.Join(errs...)
}

// clash names what two trunks cannot both have, or "".
func (t Trunk) clash(other Trunk) string {
	if t.Name == other.Name {
		return "the name"
	}
	for _, p := range t.Peers {
		if slices.ContainsFunc(other.Peers, p.Overlaps) {
			return "the address " + p.String()
		}
	}
	if t.Registrar != "" && t.Registrar == other.Registrar {
		return fmt.Sprintf("registrar %q", t.Registrar)
	}
	for _, id := range t.Profiles {
		if slices.Contains(other.Profiles, id) {
			return fmt.Sprintf("profile %q", id)
		}
	}
	return ""
}

// trunkTable are the trunks of a farm. It does not change.
type trunkTable struct {
	list        []Trunk
	byProfile   map[string]Trunk
	byRegistrar map[string]Trunk
}

func newTrunkTable(trunks []Trunk) *trunkTable {
	table := &trunkTable{list: trunks, byProfile: map[string]Trunk{}, byRegistrar: map[string]Trunk{}}
	for _, t := range trunks {
		for _, id := range t.Profiles {
			table.byProfile[id] = t
		}
		if t.Registrar != "" {
			table.byRegistrar[t.Registrar] = t
		}
	}
	return table
}

// from finds the trunk whose peer sent a request.
func (table *trunkTable) from(source string) (Trunk, bool) {
	if len(table.list) == 0 {
		return Trunk{}, false
	}
	address, err := netip.ParseAddrPort(source)
	if err != nil {
		return Trunk{}, false
	}
	i := slices.IndexFunc(table.list, func(t Trunk) bool { return t.trusts(address.Addr()) })
	if i < 0 {
		return Trunk{}, false
	}
	return table.list[i], true
}

// of finds the trunk that a profile belongs to.
func (table *trunkTable) of(id, registrar string) (Trunk, bool) {
	if t, ok := table.byProfile[id]; ok {
		return t, true
	}
	t, ok := table.byRegistrar[registrar]
	return t, ok
}

// named is the trunk of a name, the zero Trunk when it is gone.
func (table *trunkTable) named(name string) Trunk {
	i := slices.IndexFunc(table.list, func(t Trunk) bool { return t.Name == name })
	if i < 0 {
		return Trunk{}
	}
	return table.list[i]
}
