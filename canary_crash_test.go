package muster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
	"github.com/sipmuster/muster/store"
)

// poisoned is the world of a farm: a journal and a sender of which one panics
// in the middle of an answered challenge, each profile in its own way.
type poisoned struct {
	*store.Memory
	mu      sync.Mutex
	answers needles
	serial  atomic.Int64
}

// leak is a value that would show the answer if it were printed.
type leak struct{ answer string }

func (l leak) String() string { return l.answer }

// AppendThen implements actors.Journal. It panics with an error when "append" is
// registered.
func (p *poisoned) AppendThen(stream string, after uint64, at time.Time, events []*messages.ProfileEvent, done func(error)) {
	if stream == "p/append" && len(events) > 0 && events[0].GetBindingGranted() != nil {
		panic(errors.New("the journal has a fault"))
	}
	p.Memory.AppendThen(stream, after, at, events, done)
}

// Replay implements actors.Journal.
func (p *poisoned) Replay(ctx context.Context, r actors.Replayer) error {
	return p.Memory.Replay(ctx, r)
}

// Flush implements actors.Sender.
func (p *poisoned) Flush() {}

// Send implements actors.Sender: it challenges, and takes the answer.
func (p *poisoned) Send(req *messages.SIPRequest, done func(messages.SIPOutcome)) {
	if len(req.Mutations) == 0 {
		challenge := fmt.Sprintf(`Digest realm="example.test", nonce="nonce-%d", qop="auth", algorithm=MD5`, p.serial.Add(1))
		go done(messages.SIPOutcome{Response: &messages.SIPResponse{Status: 401, RetryAfter: -1, Challenges: []*messages.RecordedChallenge{
			{Space: messages.Space_ORIGIN, Raw: challenge},
		}}})
		return
	}
	answer := req.Mutations[0].GetValue()
	p.mu.Lock()
	for _, m := range answerParameter.FindAllStringSubmatch(answer, -1) {
		p.answers[fmt.Sprintf("the %s of %s", m[1], userOf(req.From))] = m[2]
	}
	p.mu.Unlock()
	switch userOf(req.From) {
	case "request":
		panic(req)
	case "text":
		panic("cannot send " + answer)
	case "stringer":
		panic(leak{answer})
	case "nil":
		var none *messages.SIPResponse
		panic(none.Status)
	}
	go done(messages.SIPOutcome{Response: &messages.SIPResponse{Status: 200, RetryAfter: -1, Contact: messages.ContactOurs, ContactExpires: 3600}})
}

// Credential implements actors.Credentials.
func (p *poisoned) Credential(string) (actors.Credential, bool) {
	return actors.Credential{Password: messages.NewSecret(markerFile)}, true
}

// Invite and Ack implement actors.Sender; nobody calls here.
func (*poisoned) Invite(*messages.SIPRequest, func(messages.InviteReport)) messages.Invitation {
	return nil
}

func (*poisoned) Ack(*messages.SIPRequest) {}

// TestPanicShowsNoSecret: a profile that panics while it holds an answer is
// restarted, the others go on, and neither the log nor the API shows the
// answer (S-62, R-18).
func TestPanicShowsNoSecret(t *testing.T) {
	t.Parallel()
	var log logbook
	p := &poisoned{Memory: store.NewMemory(store.Options{}), answers: needles{}}
	seen := metrics.New(metrics.Options{Registrars: []string{"r"}})
	farm := actors.NewFarm(actors.FarmOptions{
		Journal: p, Sender: p, Credentials: p, Observer: seen, Logger: log.logger(),
		Token:      func() string { return fmt.Sprintf("%032x", 0xbadc0ffee0000+p.serial.Add(1)) },
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:registrar.test", Rate: -1}},
	})
	if err := farm.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		farm.Stop(ctx, false)
	})
	ways := []string{"request", "text", "stringer", "nil", "append"}
	var declared []actors.Declared
	for _, id := range append(ways, "well") {
		declared = append(declared, actors.Declared{ID: id, Command: profile.Declare{Source: "api", Spec: profile.Spec{
			AOR: aorOf(id), Registrar: "r", RegistrationHandler: "digest", SessionHandler: "digest", Register: true,
		}}})
	}
	farm.Declare(t.Context(), declared, false)
	var found sources
	for _, id := range ways {
		line := "profile=" + id + " failures="
		eventually(t, id+" fails", func() bool { return bytes.Contains(log.bytes(), []byte(line)) })
		v, err := farm.Do(t.Context(), id, profile.Refresh{})
		found.add("commands", fmt.Appendf(nil, "%+v %v\n", v, err))
		history, err := farm.History(t.Context(), id, 0, 100)
		found.add("history", fmt.Appendf(nil, "%+v %v\n", history, err))
	}
	eventually(t, "well is registered", func() bool {
		v, err := farm.Profile(t.Context(), "well")
		return err == nil && v.State == actors.StateRegistered
	})
	families, err := seen.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found.add("metrics", fmt.Append(nil, families))
	found.add("log", log.bytes())
	all := secretNeedles()
	p.mu.Lock()
	maps.Copy(all, p.answers)
	p.mu.Unlock()
	if len(all) < len(ways) {
		t.Error("no answer was sent")
	}
	found.search(t, all, map[string]string{
		"log": "panic of type *messages.SIPRequest", "history": "was challenged with 401", "metrics": "muster_actor",
	})
	for _, want := range []string{"panic of type string", "panic of type muster_test.leak", "nil pointer dereference", "the journal has a fault"} {
		if !strings.Contains(string(log.bytes()), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// crashEnv makes TestCrashChild a node that dies.
const crashEnv = "MUSTER_TEST_CRASH"

// TestCrashChild is the node of TestCrashShowsNoSecret.
func TestCrashChild(t *testing.T) {
	at := os.Getenv(crashEnv)
	if at == "" {
		t.Skip("not a child")
	}
	registrar := actors.Registrar{Name: "r", URI: "sip:" + at, Rate: -1}
	strict := registrar
	strict.Name = "strict"
	node, err := muster.New(muster.Options{
		DataDir: os.Getenv("MUSTER_TEST_DATA"), Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Desired: muster.Desired{Registrars: []actors.Registrar{registrar, strict}, Profiles: canaryProfiles()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitState(t, node, actors.StateRegistered, "file", "ha1")
	go func() { panic("planted") }()
	select {}
}

// crashed runs a test as a child that must crash, and returns all that it
// printed.
func crashed(t *testing.T, child, registrar string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+child+"$", "-test.v")
	cmd.Env = append(os.Environ(), crashEnv+"="+registrar, "MUSTER_TEST_DATA="+t.TempDir()+"/data", "GOTRACEBACK=all")
	output, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("the child did not crash: %s", output)
	}
	return output
}

// TestCrashShowsNoSecret: what a dying process prints, with all goroutines and
// their arguments, holds no secret.
func TestCrashShowsNoSecret(t *testing.T) {
	t.Parallel()
	w := &tap{answers: needles{}}
	registrar := canaryRegistrar(t, w)
	output := crashed(t, "TestCrashChild", registrar.Addr())
	var found sources
	found.add("crash", output)
	found.search(t, w.and(secretNeedles()), map[string]string{"crash": "panic: planted"})
	if n := bytes.Count(output, []byte("\ngoroutine ")); n < 5 {
		t.Errorf("%d goroutines in the output, want all of them:\n%s", n, output)
	}
}
