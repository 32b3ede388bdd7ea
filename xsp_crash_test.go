package muster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
	"github.com/sipmuster/muster/store"
)

// askedEnv makes the profiles of a child answered by the webhook at this URL.
const askedEnv = "MUSTER_TEST_ASKED"

const (
	askingProfiles = 200
	askingSecret   = "the secret of the webhook between parent and child"
)

// askingElsewhere is what a child keeps registered whose xSP is its parent.
// The passwords are right, so that a DigestActor that is asked by mistake
// succeeds and is noticed.
func askingElsewhere(target, at string) muster.Desired {
	d := desired(askingProfiles, target)
	d.Registrars[0].RegistrationHandler = "tokens"
	d.Registrars[0].RetryMax = 4 * time.Second // the back-off of fifty interruptions is not the point
	hook, err := webhook.New(webhook.Options{URL: at, Secret: messages.NewSecret(askingSecret)})
	if err != nil {
		panic(err)
	}
	d.XSPs = []actors.XSP{{Name: "tokens", Kind: "webhook", Authenticator: hook}}
	return d
}

// oracle is the xSP in the parent. It knows every answer that it gave.
type oracle struct {
	mu      sync.Mutex
	refs    map[string]bool
	answers map[string]*messages.AuthChallenge // by the response in them
	early   int
	// path is that of the child that is alive; what follows is of this child.
	path           string
	asked, written int
	// hold is the question from which on none is answered, 0 for none; last
	// is the answer behind which no other is given.
	hold, last int
	held       chan struct{} // has an element when there is a question to kill at
	released   chan struct{} // closed when the child is dead
	faults     []error
}

// round prepares for the next child.
func (o *oracle) round(path string, hold, last int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.path = path
	o.asked, o.written, o.hold, o.last = 0, 0, hold, last
	o.held, o.released = make(chan struct{}, 1), make(chan struct{})
}

func (o *oracle) release() { close(o.released) }

// Answer implements xsp.Authenticator.
func (o *oracle) Answer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	o.mu.Lock()
	o.asked++
	if o.refs[q.GetRef()] {
		o.faults = append(o.faults, fmt.Errorf("S-41: a reference is used again, for %s", q.GetProfileId()))
	}
	o.refs[q.GetRef()] = true
	if q.GetStatusCode() == 0 {
		o.early++
	}
	hold, released := o.hold > 0 && o.asked >= o.hold, o.released
	if hold && o.asked == o.hold {
		o.held <- struct{}{}
	}
	o.mu.Unlock()
	if hold {
		<-released
		return nil, errors.New("the node that asked is dead")
	}
	// As a client nonce the reference makes every answer another one.
	a := solve(q, q.GetRef())
	// Half of the profiles are asked before the request leaves.
	a.Preemptive = strings.HasSuffix(q.GetProfileId(), "1") || strings.HasSuffix(q.GetProfileId(), "3")
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range answerParameter.FindAllStringSubmatch(a.GetMutations()[0].GetValue(), -1) {
		if m[1] == "response" {
			o.answers[m[2]] = q
		}
	}
	return a, nil
}

// serve counts the answers that have left for the child. What a child has left
// behind when it died is nobody's question any more.
func (o *oracle) serve(next http.Handler) http.Handler {
	alive := func(r *http.Request) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return r.URL.Path == o.path
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !alive(r) {
			w.WriteHeader(http.StatusGone)
			return
		}
		next.ServeHTTP(w, r)
		if err := http.NewResponseController(w).Flush(); err != nil || !alive(r) {
			return // the child is dead
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.written++; o.written == o.last {
			o.held <- struct{}{}
		}
	})
}

// sentAnswers is what the registrar was sent as answers.
type sentAnswers struct {
	mu sync.Mutex
	// requests are the "Call-ID CSeq" that an answer appeared in, by response.
	requests map[string]map[string]bool
	profiles map[string]string // by response
	counts   map[string]string // nonce counts, by response
}

func (w *sentAnswers) note(req *siptest.Request) *siptest.Reply {
	h := req.Message.GetHeader("Authorization")
	if h == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range answerParameter.FindAllStringSubmatch(h.Value(), -1) {
		if m[1] != "response" {
			continue
		}
		if w.requests[m[2]] == nil {
			w.requests[m[2]] = map[string]bool{}
		}
		w.requests[m[2]][fmt.Sprintf("%s %d", req.CallID, req.CSeq)] = true
		w.profiles[m[2]] = userOf(req.AOR)
		_, count, _ := strings.Cut(h.Value(), "nc=")
		w.counts[m[2]], _, _ = strings.Cut(count, ",")
	}
	return nil
}

// TestS41_KilledBetweenQuestionAndAnswer kills a node with SIGKILL again and
// again while its xSP has a question or has just answered one. No answer is
// used for anything but its question, and nobody else answers.
func TestS41_KilledBetweenQuestionAndAnswer(t *testing.T) {
	t.Parallel()
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	seen := &sentAnswers{requests: map[string]map[string]bool{}, profiles: map[string]string{}, counts: map[string]string{}}
	registrar := newRegistrar(t, siptest.Options{
		Authenticate: true, CheckNC: true, Behaviour: seen.note,
		GrantExpires: 20, LogSize: 500_000, NonceLifetime: time.Hour,
	})
	o := &oracle{refs: map[string]bool{}, answers: map[string]*messages.AuthChallenge{}}
	server := httptest.NewServer(o.serve(webhook.Handler(messages.NewSecret(askingSecret), o, webhook.HandlerOptions{})))
	defer server.Close()
	data := filepath.Join(t.TempDir(), "data")
	start := func(round, hold, last int) *child {
		path := fmt.Sprintf("/child/%d", round)
		o.round(path, hold, last)
		return startChild(t, data, registrar.Addr(), askedEnv+"="+server.URL+path)
	}
	for round := range rounds {
		at := 1 + rand.IntN(40)
		hold, last := at, 0 // die with a question out
		if round%2 == 1 {
			hold, last = 0, at // die with an answer on its way
		}
		c := start(round, hold, last)
		c.refreshAll(t, round)
		select {
		case <-o.held:
		case <-time.After(time.Minute):
			t.Fatalf("round %d: the xSP is not asked %d times", round, at)
		}
		c.kill()
		o.release()
		registrar.ClientRestarted()
	}
	c := start(rounds, 0, 0)
	eventually(t, "every profile is registered", func() bool { return c.registered(t) == askingProfiles })
	c.wantAnsweredBy(t, "tokens")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("shutdown after %d kills: %v", rounds, err)
	}
	wantInvariants(t, registrar)
	path := filepath.Join(data, "journal.db")
	checkJournal(t, path, registrar.Requests(), nil)
	checkAnswers(t, o, seen)
	checkSupplied(t, path, registrar.Requests())
}

// refreshAll asks for attempts of some profiles, so that there are questions
// also when all of them are registered. What the child answers does not
// matter: it may be killed meanwhile.
func (c *child) refreshAll(t *testing.T, round int) {
	for i := range askingProfiles / 4 {
		id := (round*7 + i*4) % askingProfiles
		go func() {
			request, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("%s/profiles/p%d/refresh", c.api, id), http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			if response, err := http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
			}
		}()
	}
}

// wantAnsweredBy checks the metrics of a child: nobody but the xSP was asked.
func (c *child) wantAnsweredBy(t *testing.T, handler string) {
	t.Helper()
	response, err := http.Get(strings.TrimSuffix(c.api, "/api/v1") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	answered := false
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "muster_challenges_total{") || strings.HasSuffix(strings.TrimSpace(line), " 0") {
			continue
		}
		if !strings.Contains(line, `handler="`+handler+`"`) {
			t.Errorf("somebody else was asked: %s", line)
		}
		answered = answered || strings.Contains(line, `outcome="answered"`)
	}
	if !answered {
		t.Errorf("the metrics count no answer of %s", handler)
	}
}

// checkAnswers holds what was on the wire against what the xSP said.
func checkAnswers(t *testing.T, o *oracle, seen *sentAnswers) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, err := range o.faults {
		t.Error(err)
	}
	for response, requests := range seen.requests {
		q := o.answers[response]
		switch {
		case q == nil:
			t.Errorf("S-41: %s sent an answer that the xSP did not give", seen.profiles[response])
		case q.GetProfileId() != seen.profiles[response]:
			t.Errorf("S-41: %s sent an answer for %s", seen.profiles[response], q.GetProfileId())
		case fmt.Sprintf("%08x", q.GetChallenges()[0].GetNonceCount()) != seen.counts[response]:
			t.Errorf("%s sent nonce count %s, asked for %d", q.GetProfileId(), seen.counts[response], q.GetChallenges()[0].GetNonceCount())
		}
		if len(requests) != 1 {
			t.Errorf("S-41: one answer is used in %d requests of %s", len(requests), seen.profiles[response])
		}
	}
	t.Logf("%d questions, %d of them before the request; %d answers given, %d used", len(o.refs), o.early, len(o.answers), len(seen.requests))
	if len(seen.requests) < askingProfiles || o.early == 0 {
		t.Error("too little happened for a test")
	}
}

// checkSupplied holds the journal against the wire: every request with
// credentials was preceded by the record that the xSP supplied them.
func checkSupplied(t *testing.T, path string, requests []siptest.Seen) {
	t.Helper()
	type identity struct {
		call string
		cseq uint32
	}
	supplied := map[identity]bool{}
	calls, cseqs := map[string]string{}, map[string]map[uint64]uint32{}
	var dump bytes.Buffer
	err := store.Dump(path, &dump, func(_ uint64, e *messages.Envelope) bool {
		stream := e.GetStream()
		switch p := e.GetProfile().GetEvent().(type) {
		case *messages.ProfileEvent_CallIdChosen:
			calls[stream], cseqs[stream] = p.CallIdChosen.GetCallId(), map[uint64]uint32{}
		case *messages.ProfileEvent_AttemptStarted:
			a := p.AttemptStarted
			cseqs[stream][a.GetAttempt()] = a.GetCseq()
			if len(a.GetAnswers()) > 0 && a.GetHandler() != "tokens" {
				t.Errorf("%s: attempt %d asks %q", stream, a.GetAttempt(), a.GetHandler())
			}
		case *messages.ProfileEvent_CredentialsSupplied:
			s := p.CredentialsSupplied
			at := identity{calls[stream], cseqs[stream][s.GetAttempt()]}
			if s.GetHandler() != "tokens" || supplied[at] {
				t.Errorf("%s: attempt %d was supplied by %q, a second time: %t", stream, s.GetAttempt(), s.GetHandler(), supplied[at])
			}
			supplied[at] = true
		}
		return false
	})
	if err != nil {
		t.Errorf("dump: %v", err)
	}
	for _, s := range requests {
		if s.HadCredentials && !supplied[identity{s.CallID, s.CSeq}] {
			t.Errorf("CSeq %d of %s has credentials of which the journal does not know", s.CSeq, s.AOR)
		}
	}
}

var _ xsp.Authenticator = (*oracle)(nil)
