package actors

import (
	"net/url"
	"slices"
	"strings"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// maxCrossings is how many bridges of this node one call may cross. Two is a
// call from one profile of a trunk to another; more is a forward, or a loop.
const maxCrossings = 4

// fromTrunk takes an INVITE whose source is the peer of a trunk; ours is false
// for any other. Without a taker it is refused with the status.
func (f *Farm) fromTrunk(in *messages.SIPInbound) (id string, take taker, status int, ours bool) {
	t, ours := f.trunks().from(in.Source)
	if !ours {
		return "", nil, 0, false
	}
	refused := func(status int, why string) (string, taker, int, bool) {
		f.log.Warn("a call of a trunk is refused", "trunk", t.Name, "status", status, "cause", why,
			"from", in.From, "source", in.Source, "call_id", in.CallID)
		return "", nil, status, true
	}
	who, named := t.claim(in)
	if !named {
		return refused(403, "it does not name a profile: "+t.Profile)
	}
	found := f.claimed(t, who)
	switch {
	case len(found) == 0:
		return refused(403, "no profile of the trunk is called "+shorten(who))
	case len(found) > 1:
		return refused(403, "several profiles of the trunk are called "+shorten(who))
	case f.crossed(in) >= maxCrossings:
		return refused(482, "it has crossed this node too often")
	}
	c := found[0]
	target, status := f.targetOf(in.RequestURI, c.state().Spec.AOR)
	if status != 0 {
		return refused(status, "its Request-URI cannot be called")
	}
	return c.id, f.crossingFor(t, taken, target), 0, true
}

// toTrunk takes an INVITE to a profile that belongs to a trunk; take is nil for
// any other.
func (f *Farm) toTrunk(c *entry, in *messages.SIPInbound) (take taker, status int) {
	t, ok := f.trunks().of(c.id, c.state().Spec.Registrar)
	if !ok {
		return nil, 0
	}
	if f.crossed(in) >= maxCrossings {
		f.log.Warn("a call to a trunk is refused", "trunk", t.Name, "status", 482, "cause", "it has crossed this node too often",
			"profile", c.id, "source", in.Source, "call_id", in.CallID)
		return nil, 482
	}
	scheme, host, _ := strings.Cut(t.URI, ":")
	return f.crossingFor(t, placed, scheme+":"+userOf(in.RequestURI)+"@"+host), 0
}

// crossingFor makes the bridge of a call when its profile's shard takes it.
// trunk is the leg towards the trunk's peer.
func (f *Farm) crossingFor(t Trunk, trunk side, target string) taker {
	return func(call IncomingCall, spec *messages.SessionSpec) Owner {
		c := &crossing{farm: f, rules: newBridge(trunk, t.Headers)}
		c.ids = [2]string{call.Session, f.newSessionID(call.Profile)}
		c.call = SessionRequest{Profile: call.Profile, Target: target}
		c.complete = func(s *messages.SessionSpec) {
			s.Trunk, s.TrunkLeg, s.Bridge = t.Name, trunk == placed, c.ids[taken]
			if s.TrunkLeg {
				s.Aor = call.Request.From // who calls, not who is called
			}
		}
		spec.Trunk, spec.TrunkLeg, spec.Bridge = t.Name, trunk == taken, c.ids[placed]
		return crossingLeg{c, taken}
	}
}

// claimed finds the profiles of a trunk that are meant by what a call says: the
// one whose AOR it is; else, also of a bare name, whose id it is; else whose
// Contact has that user. A disabled profile is found, so that the caller learns
// that it is unavailable and not that it does not exist.
func (f *Farm) claimed(t Trunk, who string) []*entry {
	user, isURI := who, strings.Contains(who, ":")
	if isURI {
		user = messages.UserPart(who)
	}
	users := []string{user}
	if plain, err := url.PathUnescape(user); err == nil && plain != user {
		users = append(users, plain)
	}
	for _, meant := range []func(id string, spec profile.Spec) bool{
		func(id string, spec profile.Spec) bool { return isURI && sameAddress(spec.AOR, who) || id == who },
		func(id string, _ profile.Spec) bool { return slices.Contains(users, id) },
		func(_ string, spec profile.Spec) bool { return slices.Contains(users, ContactUser(spec)) },
	} {
		var found []*entry
		for _, user := range users {
			for _, c := range f.contacts.known(user) {
				spec := c.state().Spec
				mine, ok := f.trunks().of(c.id, spec.Registrar)
				if ok && mine.Name == t.Name && meant(c.id, spec) && !slices.ContainsFunc(found, func(o *entry) bool { return o.id == c.id }) {
					found = append(found, c)
				}
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// known lists the profiles that are known by a user, also disabled ones.
func (x *contactIndex) known(user string) []*entry {
	s := x.shard(user)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*entry
	for _, c := range s.users[user] {
		if state := c.state(); state.Exists() {
			found = append(found, c)
		}
	}
	return found
}

// targetOf is what to call for a Request-URI of the trunk's peer: its user at
// the domain of the profile where it names this node, else the URI itself. A
// status says that it cannot be called.
func (f *Farm) targetOf(uri, aor string) (target string, status int) {
	_, domain, _ := strings.Cut(aor, "@")
	scheme, rest, _ := strings.Cut(uri, ":")
	switch {
	case strings.EqualFold(scheme, "tel"): // RFC 3261 §19.1.6
		number, _, _ := strings.Cut(rest, ";")
		target = "sip:" + number + "@" + domain + ";user=phone"
	case !f.isHere(hostOf(session.AddressOf(uri))):
		target = uri
	case userOf(uri) == "":
		return "", 484
	default:
		target = "sip:" + userOf(uri) + "@" + domain
		if strings.HasSuffix(uri, ";user=phone") || strings.Contains(uri, ";user=phone;") {
			target += ";user=phone"
		}
	}
	switch err := checkTarget(target); {
	case err == nil:
		return target, 0
	case !strings.EqualFold(scheme, "sip") && !strings.EqualFold(scheme, "tel"):
		return "", 416
	}
	return "", 404
}

// userOf is the user part of a URI without a password.
func userOf(uri string) string {
	user, _, _ := strings.Cut(messages.UserPart(uri), ":")
	return user
}

// isHere tells whether a host is this node.
func (f *Farm) isHere(host string) bool {
	return f.bridging.here != nil && f.bridging.here(strings.Trim(host, "[]"))
}

// crossed counts the bridges of this node that a call has crossed, as far as
// those between kept our From tags, which are the ids of our sessions.
func (f *Farm) crossed(in *messages.SIPInbound) (n int) {
	for tag := in.Dialog.RemoteTag; n < maxCrossings; n++ {
		placed, ok := f.session(tag)
		if !ok || placed.spec.GetBridge() == "" {
			return n
		}
		taken, ok := f.session(placed.spec.GetBridge())
		if !ok {
			return n
		}
		tag = taken.cell.Load().state.Dialog.GetRemoteTag()
	}
	return n
}

// shorten cuts what the network said to what a log line holds.
func shorten(text string) string {
	const most = 80
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
