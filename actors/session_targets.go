package actors

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// targetSets knows where each registrar is: its URI and its proxy as configured,
// and the addresses from which requests that went there were answered. A
// profile's credentials go nowhere else (S-01, S-03). The addresses are of this
// process; a session has its own in the journal.
type targetSets struct{ all sync.Map }

type targetSet struct {
	changing sync.Mutex
	learned  atomic.Pointer[[]string] // the newest first
}

// maxTargets bounds the addresses that are remembered of one registrar: a
// cluster behind one name has that many.
const maxTargets = 32

// set is that of a registrar. It stays the same.
func (t *targetSets) set(registrar string) *targetSet {
	found, ok := t.all.Load(registrar)
	if !ok {
		found, _ = t.all.LoadOrStore(registrar, &targetSet{})
	}
	return found.(*targetSet)
}

// note remembers that a request to a registrar was answered from an address.
func (t *targetSets) note(registrar, source string) {
	if registrar != "" {
		t.set(registrar).note(source)
	}
}

// note does nothing without a registrar.
func (s *targetSet) note(source string) {
	if s == nil || source == "" {
		return
	}
	source = strings.ToLower(source)
	if slices.Contains(s.list(), source) {
		return
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if before := s.list(); !slices.Contains(before, source) {
		next := append([]string{source}, before[:min(len(before), maxTargets-1)]...)
		s.learned.Store(&next)
	}
}

func (s *targetSet) list() []string {
	if p := s.learned.Load(); p != nil {
		return *p
	}
	return nil
}

// forget drops what was learned of a registrar that is somewhere else now.
func (t *targetSets) forget(registrar string) { t.set(registrar).learned.Store(nil) }

// of lists a registrar's addresses.
func (t *targetSets) of(r Registrar) []string {
	var list []string
	for _, uri := range []string{r.URI, r.OutboundProxy} {
		if at := session.AddressOf(uri); at != "" {
			list = append(list, at)
		}
	}
	if found, ok := t.all.Load(r.Name); ok {
		list = append(list, found.(*targetSet).list()...)
	}
	return list
}

// sent tells whether a request comes from a registrar. It may come from another
// port than requests go to.
func (f *Farm) sent(registrar, source string) bool {
	r, ok := f.registrar(registrar)
	return ok && slices.ContainsFunc(f.targets.of(r.config), func(at string) bool { return hostOf(at) == hostOf(source) })
}

// leadsToRegistrar tells whether a request goes to the registrar of the session
// or its proxy, whose pace it then keeps.
func (a *sessionActor) leadsToRegistrar(q *messages.SIPRequest) bool {
	if a.spec.GetTrunkLeg() {
		return false
	}
	if q.ToTag == "" {
		return true
	}
	r, known := a.farm.registrar(a.spec.GetRegistrar())
	return known && slices.Contains(a.farm.targets.of(r.config), session.AddressOf(q.NextHop))
}

// hostOf is the host of "host:port", with the brackets of an IPv6 reference.
func hostOf(at string) string {
	if i := strings.LastIndexByte(at, ':'); i > strings.LastIndexByte(at, ']') {
		return at[:i]
	}
	return at
}
