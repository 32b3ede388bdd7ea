package muster_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// script plays one misbehaviour of a registrar. The registrar is given for
// challenges that it will accept.
type script func(r *siptest.Registrar, req *siptest.Request) *siptest.Reply

// fault is a misbehaviour and what a user must see of it.
type fault struct {
	script script
	// most is how many requests may be sent.
	most int
	// state and reason are those of the API, anyReason where it does not
	// matter; told is part of the history.
	state, reason, told string
	// settle is how long something may still come.
	settle time.Duration
	// check looks at the rest of what the API shows.
	check func(t *testing.T, v actors.ProfileView)
}

const anyReason = "*"

// scripted is a registrar that plays a script for each user that has one, and
// works for all others.
func scripted(t *testing.T, o siptest.Options, scripts map[string]script) *siptest.Registrar {
	t.Helper()
	var self atomic.Pointer[siptest.Registrar]
	o.Authenticate, o.Realm = true, "example.test"
	o.Behaviour = func(req *siptest.Request) *siptest.Reply {
		if play := scripts[userOf(req.AOR)]; play != nil {
			return play(self.Load(), req)
		}
		return nil
	}
	r := newRegistrar(t, o)
	self.Store(r)
	return r
}

// wantFaults runs a node against the faults, one profile each, between
// profiles that must not notice anything.
func wantFaults(t *testing.T, config actors.Registrar, o siptest.Options, faults map[string]fault) {
	t.Helper()
	scripts := map[string]script{}
	bystanders := []string{"alice", "bob", "carol"}
	ids := append([]string{}, bystanders...)
	for id, f := range faults {
		scripts[id] = f.script
		ids = append(ids, id)
	}
	registrar := scripted(t, o, scripts)
	config.Name, config.URI, config.Rate = "r", "sip:"+registrar.Addr()+config.URI, -1
	node := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{config}, Profiles: rows(ids...),
	}})
	waitState(t, node, actors.StateRegistered, bystanders...)
	for id, f := range faults {
		waitState(t, node, f.state, id)
	}
	settle := 500 * time.Millisecond
	for _, f := range faults {
		settle = max(settle, f.settle)
	}
	time.Sleep(settle)
	for id, f := range faults {
		v := view(t, node, id)
		if v.State != f.state || f.reason != anyReason && v.Reason != f.reason {
			t.Errorf("%s: %s because of %q, want %s because of %q", id, v.State, v.Reason, f.state, f.reason)
		}
		text := story(t, node, id)
		if !strings.Contains(text, f.told) {
			t.Errorf("%s: the history does not say %q:\n%s", id, f.told, text)
		}
		if n := len(seenOf(registrar, id)); n > f.most {
			t.Errorf("%s: %d requests, at most %d expected:\n%s", id, n, f.most, text)
		}
		if f.check != nil {
			f.check(t, v)
		}
	}
	for _, id := range bystanders {
		if n := len(seenOf(registrar, id)); n != 2 {
			t.Errorf("%s: %d requests to register beside the faults, want 2", id, n)
		}
		if v := view(t, node, id); v.State != actors.StateRegistered || v.Reason != "" {
			t.Errorf("%s: %s because of %q beside the faults", id, v.State, v.Reason)
		}
	}
	wantInvariants(t, registrar)
}

// always gives the same answer to every request.
func always(reply siptest.Reply) script {
	return func(*siptest.Registrar, *siptest.Request) *siptest.Reply { return &reply }
}

// accepts answers 200 with the given lines, in which CONTACT stands for ours.
func accepts(lines ...string) script {
	return func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
		reply := &siptest.Reply{Status: 200}
		for _, line := range lines {
			reply.Headers = append(reply.Headers, strings.ReplaceAll(line, "CONTACT", contactOf(req)))
		}
		return reply
	}
}

// challenges answers every request with a 401 of these challenges.
func challenges(values func(r *siptest.Registrar, n int) []string) script {
	var asked atomic.Int64
	return func(r *siptest.Registrar, _ *siptest.Request) *siptest.Reply {
		var lines []string
		for _, value := range values(r, int(asked.Add(1))) {
			lines = append(lines, "WWW-Authenticate: "+value)
		}
		return &siptest.Reply{Status: 401, Headers: lines}
	}
}

func manyRealms(prefix string, n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`Digest realm="%s%d", nonce="%s-nonce-%d", qop="auth", algorithm=MD5`, prefix, i, prefix, i))
	}
	return list
}

// TestChallengeStorms: a registrar that asks for ever, in every way that we
// know of, gets a handful of requests and is then left alone (R-14, S-25).
func TestChallengeStorms(t *testing.T) {
	t.Parallel()
	const refused, gaveUp = "refuses the user name or the secret", "more often than is answered"
	unsupported := fault{most: 1, state: actors.StateRejected, reason: "challenge.unsupported", told: "no challenge that can be answered here"}
	with := func(f fault, s script) fault {
		f.script = s
		return f
	}
	wantFaults(t, actors.Registrar{}, siptest.Options{}, map[string]fault{
		"newnonce": {
			script: challenges(func(r *siptest.Registrar, _ int) []string { return []string{r.Challenge("MD5", false)} }),
			most:   2, state: actors.StateRejected, reason: "credentials.refused", told: refused,
		},
		"samenonce": {
			script: challenges(func(*siptest.Registrar, int) []string { return manyRealms("same", 1) }),
			most:   2, state: actors.StateRejected, reason: "credentials.refused", told: refused,
		},
		"stale": {
			script: challenges(func(r *siptest.Registrar, _ int) []string { return []string{r.Challenge("MD5", true)} }),
			most:   4, state: actors.StateBackoff, reason: "challenge.allowance", told: gaveUp,
		},
		"samestale": {
			script: challenges(func(*siptest.Registrar, int) []string { return []string{manyRealms("old", 1)[0] + ", stale=TRUE"} }),
			most:   4, state: actors.StateBackoff, reason: "challenge.allowance", told: gaveUp,
		},
		"realms": {
			script: challenges(func(*siptest.Registrar, int) []string { return manyRealms("realm", 50) }),
			most:   2, state: actors.StateRejected, reason: "credentials.refused", told: refused,
		},
		"newrealms": {
			script: challenges(func(_ *siptest.Registrar, n int) []string { return manyRealms(fmt.Sprintf("r%d-", n), 50) }),
			most:   6, state: actors.StateBackoff, reason: anyReason, told: "was challenged with 401",
		},
		"spaces": {
			script: func(r *siptest.Registrar, req *siptest.Request) *siptest.Reply {
				if req.CSeq%2 == 0 {
					return &siptest.Reply{Status: 407, Headers: []string{"Proxy-Authenticate: " + r.Challenge("MD5", false)}}
				}
				return &siptest.Reply{Status: 401, Headers: []string{"WWW-Authenticate: " + r.Challenge("MD5", false)}}
			},
			most: 3, state: actors.StateRejected, reason: "credentials.refused", told: refused,
		},
		"none": {
			script: always(siptest.Reply{Status: 401}),
			most:   1, state: actors.StateRejected, reason: "challenge.missing", told: "without naming a challenge",
		},
		"noneproxy": {
			script: always(siptest.Reply{Status: 407, Headers: []string{"WWW-Authenticate:"}}),
			most:   1, state: actors.StateRejected, reason: "challenge.missing", told: "without naming a challenge",
		},
		"basic":  with(unsupported, always(siptest.Reply{Status: 401, Headers: []string{`WWW-Authenticate: Basic realm="example.test"`}})),
		"bearer": with(unsupported, always(siptest.Reply{Status: 401, Headers: []string{`WWW-Authenticate: Bearer realm="example.test", authz_server="https://x.test"`}})),
		"broken": with(unsupported, always(siptest.Reply{Status: 401, Headers: []string{`WWW-Authenticate: Digest realm="example.test`, `WWW-Authenticate: ,,,`, `WWW-Authenticate: Digest`}})),
		"unknown": with(unsupported, always(siptest.Reply{Status: 401, Headers: []string{
			`WWW-Authenticate: Digest realm="example.test", nonce="n", algorithm=CHACHA123`,
			`WWW-Authenticate: Digest realm="example.test", nonce="n", algorithm=sha256-512`,
			`WWW-Authenticate: Digest realm="example.test", nonce="n", algorithm=MD5, qop="auth-conf"`,
		}})),
		"basicfirst": {
			script: offersFirst(`Basic realm="example.test"`),
			most:   2, state: actors.StateRegistered, told: "registered (200)",
		},
		"eight": {
			script: offersFirst(unknownAlgorithms(7)...),
			most:   2, state: actors.StateRegistered, told: "registered (200)",
		},
		"nine": with(unsupported, offersFirst(unknownAlgorithms(8)...)),
	})
}

// offersFirst puts other challenges before the registrar's own.
func offersFirst(others ...string) script {
	return func(r *siptest.Registrar, req *siptest.Request) *siptest.Reply {
		if req.HadCredentials {
			return nil
		}
		reply := &siptest.Reply{Status: 401}
		for _, value := range append(others, r.Challenge("MD5", false)) {
			reply.Headers = append(reply.Headers, "WWW-Authenticate: "+value)
		}
		return reply
	}
}

func unknownAlgorithms(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`Digest realm="example.test", nonce="n", qop="auth", algorithm=X%d`, i))
	}
	return list
}

// TestAbsurdAnswers: what a registrar grants, demands and asks for is checked
// before it is believed (S-33).
func TestAbsurdAnswers(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * time.Hour
	missing := fault{most: 1, state: actors.StateBackoff, reason: "binding.missing", told: "our contact is not registered"}
	interval := fault{most: 1, state: actors.StateRejected, reason: "interval.too_brief", told: "demands another expiry"}
	registered := fault{most: 1, state: actors.StateRegistered, told: "registered (200)"}
	with := func(f fault, s script) fault {
		f.script = s
		return f
	}
	until := func(f fault, least, most time.Duration) fault {
		f.check = func(t *testing.T, v actors.ProfileView) {
			if left := time.Until(*v.ExpiresAt); left < least-time.Minute || left > most {
				t.Errorf("%s: bound for %v, want between %v and %v", v.ID, left, least, most)
			}
		}
		return f
	}
	later := func(f fault, least, most time.Duration) fault {
		f.check = func(t *testing.T, v actors.ProfileView) {
			if wait := time.Until(*v.NextAttemptAt); wait < least-time.Minute || wait > most {
				t.Errorf("%s: the next attempt is in %v, want between %v and %v", v.ID, wait, least, most)
			}
		}
		return f
	}
	busy := fault{most: 1, state: actors.StateBackoff, reason: "registrar.busy", told: "not now"}
	tooBrief := func(lines ...string) script { return always(siptest.Reply{Status: 423, Headers: lines}) }
	wait := func(value string) script {
		return always(siptest.Reply{Status: 480, Headers: []string{"Retry-After: " + value}})
	}
	wantFaults(t, actors.Registrar{}, siptest.Options{}, map[string]fault{
		"nocontact":    with(missing, accepts()),
		"notours":      with(missing, accepts("Contact: <sip:someone@192.0.2.1>;expires=3600")),
		"star":         with(missing, accepts("Contact: *")),
		"unreadable":   with(missing, accepts("Contact: <<<;expires=3600")),
		"zero":         with(missing, accepts("Contact: CONTACT;expires=0")),
		"zeroheader":   with(missing, accepts("Contact: CONTACT", "Expires: 0")),
		"hundred":      until(with(registered, accepts("Contact: <sip:x@192.0.2.1>;expires=5, CONTACT;expires=600, <sip:y@192.0.2.2>")), 600*time.Second, 600*time.Second),
		"forever":      until(with(registered, accepts("Contact: CONTACT;expires=4294967295")), week, week),
		"overflow":     until(with(registered, accepts("Contact: CONTACT;expires=99999999999999999999")), week, week),
		"negative":     until(with(registered, accepts("Contact: CONTACT;expires=-1")), time.Hour, time.Hour),
		"words":        until(with(registered, accepts("Contact: CONTACT", "Expires: Thu, 01 Dec 1994 16:00:00 GMT")), time.Hour, time.Hour),
		"twice":        until(with(registered, accepts("Contact: CONTACT", "Expires: 60", "Expires: 9")), time.Hour, time.Hour),
		"brief":        with(interval, tooBrief("Min-Expires: 60")),
		"briefnothing": with(interval, tooBrief()),
		"briefmonth":   with(interval, tooBrief("Min-Expires: 2592000")),
		"brief32bit":   with(interval, tooBrief("Min-Expires: 4294967296")),
		"briefwords":   with(interval, tooBrief("Min-Expires: soon")),
		"brieftwice":   with(interval, tooBrief("Min-Expires: 4000", "Min-Expires: 5000")),
		"briefrising": {
			script: risingMinimum(),
			most:   4, state: actors.StateRejected, reason: "interval.too_brief", told: "at least 3701 seconds",
		},
		"later":      later(with(busy, wait("1800 (lunch);duration=5")), 30*time.Minute, 33*time.Minute),
		"muchlater":  later(with(busy, wait("4294967295")), time.Hour, 66*time.Minute),
		"laterthan":  later(with(busy, wait("4294967296")), 30*time.Second, time.Minute),
		"laterwords": later(with(busy, wait("tomorrow")), 30*time.Second, time.Minute),
		"laterminus": later(with(busy, wait("-5")), 30*time.Second, time.Minute),
		"fraction":   later(with(busy, wait("1.5")), 30*time.Second, time.Minute),
		"elsewhere": {
			script: always(siptest.Reply{Status: 302, Headers: []string{"Contact: <sip:192.0.2.9>"}}),
			most:   1, state: actors.StateBackoff, reason: "redirect.refused", told: "where it must not go",
		},
		"circle": {
			script: func(r *siptest.Registrar, _ *siptest.Request) *siptest.Reply {
				return &siptest.Reply{Status: 302, Headers: []string{"Contact: <sip:" + r.Addr() + ">"}}
			},
			most: 2, state: actors.StateBackoff, reason: "redirect.refused", told: "where it must not go",
		},
		"forbidden": {
			script: always(siptest.Reply{Status: 403}),
			most:   1, state: actors.StateRejected, reason: "registrar.forbidden", told: "forbids it",
		},
		"unknown499": {
			script: always(siptest.Reply{Status: 499}),
			most:   1, state: actors.StateBackoff, reason: "registrar.bad_request", told: "does not accept the request",
		},
		"gone": {
			script: always(siptest.Reply{Status: 404}),
			most:   1, state: actors.StateRejected, reason: "registrar.configuration", told: "look at the configuration",
		},
	})
}

// risingMinimum demands a second more each time.
func risingMinimum() script {
	var asked atomic.Int64
	return func(*siptest.Registrar, *siptest.Request) *siptest.Reply {
		return &siptest.Reply{Status: 423, Headers: []string{fmt.Sprintf("Min-Expires: %d", 3700+asked.Add(1))}}
	}
}

// TestHintsDoNotRaiseTheRate: a registrar that grants a second, or says that
// everybody may come back at once, does not make the node faster than its
// floor (S-33).
func TestHintsDoNotRaiseTheRate(t *testing.T) {
	t.Parallel()
	registrar := scripted(t, siptest.Options{}, map[string]script{
		"second": accepts("Contact: CONTACT;expires=1"),
		"atonce": always(siptest.Reply{Status: 480, Headers: []string{"Retry-After: 0"}}),
		"once":   always(siptest.Reply{Status: 500, Headers: []string{"Retry-After: 0"}}),
	})
	node := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{target(registrar)}, Profiles: rows("second", "atonce", "once"),
	}})
	for _, id := range []string{"second", "atonce", "once"} {
		eventually(t, id+" is tried", func() bool { return len(seenOf(registrar, id)) > 0 })
	}
	time.Sleep(6 * time.Second)
	for _, id := range []string{"second", "atonce", "once"} {
		if n := len(seenOf(registrar, id)); n > 3 {
			t.Errorf("%s: %d requests in six seconds, want at most 3\n%.600s", id, n, story(t, node, id))
		}
	}
	wantInvariants(t, registrar)
}

// TestSecretIsNeverGivenToAnotherRealm: with realms configured, no credentials
// leave for any other one (S-01, S-02).
func TestSecretIsNeverGivenToAnotherRealm(t *testing.T) {
	t.Parallel()
	offer := func(realm string) script {
		return always(siptest.Reply{Status: 401, Headers: []string{`WWW-Authenticate: Digest realm=` + realm + `, nonce="n", qop="auth"`}})
	}
	strange := func(realm string) fault {
		return fault{script: offer(realm), most: 1, state: actors.StateRejected, reason: "realm.unexpected", told: "the realm is not the one"}
	}
	wantFaults(t, actors.Registrar{Realms: []string{"example.test"}}, siptest.Options{}, map[string]fault{
		"other": strange(`"evil.test"`),
		"upper": strange(`"EXAMPLE.TEST"`),
		"blank": strange(`"example.test "`),
		"empty": strange(`""`),
		"inner": strange(`"example.test\" x=\""`),
	})
}
