package session

import (
	"slices"
	"strings"

	"github.com/sipmuster/muster/messages"
)

// Whoever can make us send a request can challenge it, the far end of a call as
// well: the digest leak. Credentials of a profile go only where its
// registrations go (S-01, S-03):
//
//   - the first INVITE goes to the registrar or its proxy by configuration, and
//     the adapter accepts responses from there only (S-04);
//   - inside a dialog the next hop must be that same place. Then its 407 may be
//     answered, and its 401 only if the remote target is there too: otherwise a
//     401 is the far end's own, passed on.
//
// The leg towards a trunk's peer carries no credentials at all.

// maxWithheld bounds the challenges that are recorded though they are not
// judged, as package challenge bounds those that are (S-31).
const maxWithheld = 8

// trusts tells whether credentials for a space may go with a request.
func (st *step) trusts(r *messages.RequestStarted, space messages.Space) bool {
	s := st.state
	if s.Spec.GetTrunkLeg() {
		return false
	}
	d := r.GetDialog()
	if d == nil {
		if !s.Established() && !s.Inbound() {
			return true
		}
		d = s.Dialog
	}
	return st.leadsHome(d) && (space == messages.Space_PROXY || st.ours(d.GetTarget()))
}

// leadsHome tells whether requests in a dialog go to the profile's registrar or
// proxy first.
func (st *step) leadsHome(d *messages.Dialog) bool {
	if routes := d.GetRouteSet(); len(routes) > 0 {
		return st.ours(routes[0])
	}
	return st.ours(d.GetTarget())
}

// ours tells whether a URI leads to the profile's registrar or proxy: as
// configured, or to where the INVITE that went there was answered from.
func (st *step) ours(uri string) bool {
	at := AddressOf(uri)
	if at == "" {
		return false
	}
	return slices.Contains(st.policy.Targets, at) || !st.state.Inbound() && at == st.state.Source
}

// trusted leaves out the credentials that must not go with a request.
func (st *step) trusted(r *messages.RequestStarted, answers []*messages.NonceCount) []*messages.NonceCount {
	var out []*messages.NonceCount
	for _, a := range answers {
		if st.trusts(r, a.GetSpace()) {
			out = append(out, a)
		}
	}
	return out
}

// admissible parts the challenges that may be judged from those that are
// withheld because of where they came from.
func (st *step) admissible(r Request, response *messages.SIPResponse) (received, withheld []*messages.RecordedChallenge) {
	for _, c := range response.Challenges {
		if st.trusts(r.RequestStarted, c.GetSpace()) {
			received = append(received, c)
			continue
		}
		if len(withheld) == maxWithheld {
			continue
		}
		withheld = append(withheld, &messages.RecordedChallenge{
			Space: c.GetSpace(), Raw: c.GetRaw(), Ignored: string(messages.ReasonUntrusted),
		})
	}
	return received, withheld
}

// AddressOf is "host:port" of a SIP URI, or of one in a Route, in lower case
// and with the default port 5060. It is "" when there is none, or when the
// request may go somewhere else than it reads: a URI that a peer chose must not
// look like one of ours.
func AddressOf(uri string) string {
	if name, rest, ok := strings.Cut(uri, "<"); ok {
		if strings.Contains(name, `"`) { // "<sip:ours>" <sip:theirs>
			return ""
		}
		uri, _, _ = strings.Cut(rest, ">")
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || !strings.EqualFold(scheme, "sip") && !strings.EqualFold(scheme, "sips") {
		return ""
	}
	// The user part may hold ";" and "?" (RFC 3261 §25.1), so it is cut off
	// first; a raw "@" may stand nowhere else.
	if user, host, ok := strings.Cut(rest, "@"); ok {
		if user == "" || strings.Contains(host, "@") {
			return ""
		}
		rest = host
	}
	rest, _, _ = strings.Cut(rest, "?")
	rest, params, _ := strings.Cut(rest, ";")
	for p := range strings.SplitSeq(params, ";") {
		// RFC 3263 §4: maddr is where it goes. An escaped name may be one.
		if name, _, _ := strings.Cut(p, "="); strings.EqualFold(name, "maddr") || strings.Contains(name, "%") {
			return ""
		}
	}
	rest = strings.ToLower(strings.TrimSpace(rest))
	if rest == "" {
		return ""
	}
	if end := strings.LastIndexByte(rest, ']'); strings.LastIndexByte(rest, ':') > end {
		return rest
	}
	return rest + ":5060"
}

// hostOf is the host of a SIP URI in lower case.
func hostOf(uri string) string {
	at := AddressOf(uri)
	if i := strings.LastIndexByte(at, ':'); i >= 0 {
		return at[:i]
	}
	return ""
}
