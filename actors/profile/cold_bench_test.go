package profile_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/actors/words"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
)

// host is one of many profiles that register side by side, with the memory that
// an actor has for it.
type host struct {
	id, packed string
	version    uint64
	state      profile.State
	decider    profile.Decider
	decision   *profile.Decision
	received   profile.ResponseReceived
	offered    profile.CredentialsOffered
	challenge  *messages.SIPResponse
	written    []byte
	answer     *messages.AuthAnswer
}

// side is what the hosts share.
type side struct {
	policy  profile.Policy
	words   *profile.Words
	metrics *metrics.Metrics
	secret  digest.Credential
	granted *messages.SIPResponse
	tb      testing.TB
}

func newSide(tb testing.TB, n int) (*side, []*host) {
	c := &side{
		words:   &profile.Words{Texts: new(words.Table)},
		metrics: metrics.New(metrics.Options{Registrars: []string{"acme"}}),
		secret:  digest.Credential{Username: "alice", Password: messages.NewSecret("wonderland")},
		granted: &messages.SIPResponse{Status: 200, RetryAfter: -1, Contact: messages.ContactOurs, ContactExpires: 3600},
		tb:      tb,
	}
	hosts := make([]*host, n)
	for i := range hosts {
		h := &host{id: fmt.Sprintf("sip:u%07d@example.test", i), written: make([]byte, 1024)}
		h.decided(c, &h.state, profile.Declare{Spec: profile.Spec{
			AOR: h.id, Registrar: "acme", RegistrationHandler: "digest", SessionHandler: "digest", Register: true,
		}, Source: "file", Row: fmt.Sprintf("%016x", i)})
		h.keep()
		h.packed = c.words.Pack(h.id, 1, &h.state)
		h.challenge = &messages.SIPResponse{Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{{
			Space: messages.Space_ORIGIN,
			Raw:   fmt.Sprintf(`Digest realm="example.test", nonce="%032x", algorithm=MD5, qop="auth"`, i+1),
		}}}
		hosts[i] = h
	}
	return c, hosts
}

func (h *host) decided(c *side, s *profile.State, cmd profile.Command) {
	in := profile.Input{Now: machinetest.Start, Jitter: 0.5, Command: cmd}
	if s.CallID == "" {
		in.Token = "0123456789abcdef0123456789abcdef"
	}
	h.decision = h.decider.Decide(&c.policy, s, &in)
	if h.decision.Dropped != "" {
		c.tb.Fatalf("%T was dropped: %s", cmd, h.decision.Dropped)
	}
}

func (h *host) keep() {
	h.state = h.decision.State
	h.version += uint64(len(h.decision.Events))
}

// chainSteps are what happens in a challenged registration, in pieces after each of
// which a host turns to something else.
var chainSteps = []struct {
	name string
	run  func(c *side, h *host)
}{
	{"unpack", func(c *side, h *host) { h.version = c.words.UnpackInto(h.id, h.packed, &h.state) }},
	{"slot", func(c *side, h *host) { h.decided(c, &h.state, profile.SlotGranted{}) }},
	{"write", (*side).write},
	{"count", (*side).count},
	{"challenge", func(c *side, h *host) {
		h.received = profile.ResponseReceived{Attempt: h.state.Attempt.Number, Response: h.challenge}
		h.decided(c, &h.state, &h.received)
	}},
	{"write", (*side).write},
	{"count", (*side).count},
	{"digest", func(c *side, h *host) {
		s := &h.state
		q := &messages.AuthChallenge{
			Ref: "r", Purpose: messages.Purpose_REGISTRATION, ProfileId: h.id, Aor: s.Spec.AOR,
			Method: "REGISTER", RequestUri: "sip:example.test", StatusCode: 401, Round: s.Attempt.Round,
			Challenges: s.Challenge.Unparsed(s.Attempt.Answers),
		}
		a, refusal := digest.Answer(q, c.secret, func(int, bool, string, string) string { return "0123456789abcdef0123456789abcdef" })
		if refusal != nil {
			c.tb.Fatal(refusal.GetReason())
		}
		h.answer = a
		c.metrics.ChallengeAnswered(messages.DigestHandler, "answered", 20*time.Microsecond)
	}},
	{"offered", func(c *side, h *host) {
		h.offered = profile.CredentialsOffered{Attempt: h.state.Attempt.Number, Handler: messages.DigestHandler}
		h.decided(c, &h.state, &h.offered)
	}},
	{"grant", func(c *side, h *host) {
		h.received = profile.ResponseReceived{Attempt: h.state.Attempt.Number, Response: c.granted}
		h.decided(c, &h.state, &h.received)
	}},
	{"write", (*side).write},
	{"count", (*side).count},
	{"pack", func(c *side, h *host) {
		if packed := c.words.Pack(h.id, h.version, &h.state); packed == "" || !h.state.Bound() {
			c.tb.Fatal("not registered")
		}
	}},
}

// write encodes the events of a decision as a journal does.
func (c *side) write(h *host) {
	for _, e := range h.decision.Events {
		n := e.SizeVT()
		if _, err := e.MarshalToSizedBufferVT(h.written[:n]); err != nil {
			c.tb.Fatal(err)
		}
	}
}

// count tells the observer, and takes over the state.
func (c *side) count(h *host) {
	c.metrics.Appended(300 * time.Microsecond)
	c.metrics.ProfileEvents("acme", h.state.Status(), h.decision.State.Status(), machinetest.Start, h.decision.Events)
	h.keep()
}

// BenchmarkManyRegistrations takes 2,000 profiles through a challenged
// registration, all of them one step at a time: the data of each are cold, as in
// a node.
func BenchmarkManyRegistrations(b *testing.B) {
	c, hosts := newSide(b, 2000)
	b.ReportAllocs()
	for b.Loop() {
		for _, step := range chainSteps {
			for _, h := range hosts {
				step.run(c, h)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(hosts)), "ns/registration")
}

// BenchmarkColdRegistrations lets other code run before every step, so that the
// code is cold as well. It tells the median of each step and their sum.
func BenchmarkColdRegistrations(b *testing.B) {
	c, hosts := newSide(b, 2000)
	spent := make([][]time.Duration, len(chainSteps))
	rounds := 0
	for b.Loop() {
		h := hosts[rounds%len(hosts)]
		rounds++
		for i, step := range chainSteps {
			otherWork()
			start := time.Now()
			step.run(c, h)
			spent[i] = append(spent[i], time.Since(start))
		}
	}
	byName, total := map[string]time.Duration{}, time.Duration(0)
	for i, step := range chainSteps {
		slices.Sort(spent[i])
		median := spent[i][len(spent[i])/2]
		byName[step.name] += median
		total += median
	}
	for name, d := range byName {
		b.ReportMetric(float64(d), name)
	}
	b.ReportMetric(float64(total), "ns/registration")
}

var (
	otherData   = make([]int64, 4<<20/8)
	otherRegexp = regexp.MustCompile(`(a|b)*c+([0-9]{1,5}[x-z])?d`)
)

// otherWork fills the caches of the processor with something else.
func otherWork() {
	for i := 0; i < len(otherData); i += 8 {
		otherData[i]++
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(`{"a":[1,2.5,"x",null,true],"b":{"c":"d"}}`), &v); err != nil {
		panic(err)
	}
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic(err)
	}
	_ = otherRegexp.ReplaceAllString(fmt.Sprintf("%s %+v %08.3f", text, v, 3.5), "$1")
	if _, err := regexp.Compile(`^[a-z]+(\d|[[:upper:]])*$`); err != nil {
		panic(err)
	}
	_ = time.Unix(1, 0).Format(time.RFC1123Z)
}
