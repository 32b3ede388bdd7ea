package actors

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/sipmuster/muster/actors/profile"
)

// registrar is one target with what is derived from its configuration.
type registrar struct {
	config    Registrar
	policy    profile.Policy // with the limits of the xSPs
	turnstile *turnstile
	// population is its share of the farm's, targets where it is. The DigestActor's
	// tally is there once it was asked.
	population []atomic.Int64
	targets    *targetSet
	digests    atomic.Pointer[tally]
	// requestURI is that of its REGISTERs, route their Route.
	requestURI string
	route      []string
	// retransmitted tells the gate of one more request that nobody planned.
	retransmitted func()
}

// SetRegistrars replaces the targets. A registrar that is gone keeps its
// profiles, which then say so.
func (f *Farm) SetRegistrars(rs []Registrar) { f.setRegistrars(rs) }

func (f *Farm) setRegistrars(rs []Registrar) {
	f.changing.Lock()
	defer f.changing.Unlock()
	old := *f.registrars.Load()
	next := make(map[string]*registrar, len(rs))
	limits := f.xsps.Load().limits
	for _, config := range rs {
		r := &registrar{
			config: config, policy: policyOf(config), requestURI: requestURI(config.URI),
			population: f.population.of(config.Name), targets: f.targets.set(config.Name),
		}
		r.policy.AnswerLimits = limits
		if config.OutboundProxy != "" {
			r.route = []string{config.OutboundProxy}
		}
		if known, ok := old[config.Name]; ok {
			r.turnstile = known.turnstile
			r.turnstile.configure(config)
		} else {
			r.turnstile = newTurnstile(f, config)
		}
		r.retransmitted = r.turnstile.retransmitted
		next[config.Name] = r
	}
	f.registrars.Store(&next)
	for name, r := range old {
		now, kept := next[name]
		if !kept {
			r.turnstile.stop()
			f.targets.forget(name)
			continue
		}
		if now.config.URI != r.config.URI || now.config.OutboundProxy != r.config.OutboundProxy {
			f.targets.forget(name)
		}
	}
}

// setLimits tells the registrars how long each xSP may take. It needs
// Farm.changing.
func (f *Farm) setLimits(limits map[string]time.Duration) {
	next := maps.Clone(*f.registrars.Load())
	for name, r := range next {
		next[name] = r.limited(limits)
	}
	f.registrars.Store(&next)
}

func (r *registrar) limited(limits map[string]time.Duration) *registrar {
	n := &registrar{
		config: r.config, policy: r.policy, turnstile: r.turnstile, population: r.population, targets: r.targets,
		requestURI: r.requestURI, route: r.route, retransmitted: r.retransmitted,
	}
	n.policy.AnswerLimits = limits
	return n
}

// Configured returns the targets.
func (f *Farm) Configured() []Registrar {
	var rs []Registrar
	f.eachGate(func(_ string, r *registrar) { rs = append(rs, r.config) })
	return rs
}

func policyOf(r Registrar) profile.Policy {
	p := profile.Policy{
		Expires: r.Expires, Tolerate: r.Tolerate, RequireProof: r.RequireProof,
		RetryBase: r.RetryBase, RetryMax: r.RetryMax,
	}
	p.RegistrationHandler, p.SessionHandler = r.RegistrationHandler, r.SessionHandler
	p.Challenge.Realms, p.Challenge.Algorithms = r.Realms, r.Algorithms
	p.Challenge.AllowDowngrade, p.Challenge.RequireQOP = r.AllowDowngrade, r.RequireQOP
	for _, uri := range []string{r.URI, r.OutboundProxy} {
		if host := profile.HostOf(uri); host != "" {
			p.Targets = append(p.Targets, host)
		}
	}
	return p
}

// registrar is the target of that name; without one it is empty.
func (f *Farm) registrar(name string) (*registrar, bool) {
	if r, ok := (*f.registrars.Load())[name]; ok {
		return r, true
	}
	return &unknownRegistrar, false
}

var unknownRegistrar registrar

// turnstile is that of a registrar, nil when there is no such registrar.
func (f *Farm) turnstile(name string) *turnstile {
	r, _ := f.registrar(name)
	return r.turnstile
}

func (f *Farm) eachGate(do func(name string, r *registrar)) {
	for name, r := range *f.registrars.Load() {
		do(name, r)
	}
}
