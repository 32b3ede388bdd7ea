package muster_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
	"github.com/sipmuster/muster/store"
)

// The test binary is also the node that is killed: with childEnv set it runs a
// node until a signal ends it.
const childEnv = "MUSTER_TEST_CHILD"

func TestMain(m *testing.M) {
	if target := os.Getenv(childEnv); target != "" {
		runChild(target)
		return
	}
	os.Exit(m.Run())
}

const crashProfiles = 1000

func runChild(target string) {
	d := desired(crashProfiles, target)
	if at := os.Getenv(askedEnv); at != "" {
		d = askingElsewhere(target, at)
	}
	d.Registrars[0].RetryBase = time.Second
	node, err := muster.New(muster.Options{
		DataDir: os.Getenv("MUSTER_TEST_DATA"), Desired: d,
		SIP:    muster.SIP{Listen: []string{"udp://127.0.0.1:0"}},
		Admin:  muster.Admin{Listen: "127.0.0.1:0"},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err == nil {
		err = node.Start(context.Background())
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("api:", node.AdminAddr())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	if err := node.Stop(context.Background()); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// child is a node in a process of its own.
type child struct {
	cmd *exec.Cmd
	api string
}

func startChild(t *testing.T, data, target string, env ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+target, "MUSTER_TEST_DATA="+data)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	api, ok := strings.CutPrefix(strings.TrimSpace(line), "api: ")
	if err != nil || !ok {
		t.Fatalf("the node did not start: %q %v", line, err)
	}
	return &child{cmd: cmd, api: "http://" + api + "/api/v1"}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// add posts a profile and tells whether the node acknowledged it.
func (c *child) add(id string) bool {
	body := fmt.Sprintf(`{"id":%q,"aor":"sip:%s@example.test","registrar":"r","password":"pw-%s"}`, id, id, id)
	client := http.Client{Timeout: time.Second}
	r, err := client.Post(c.api+"/profiles", "application/json", strings.NewReader(body))
	if err != nil {
		return false
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, r.Body)
	return r.StatusCode == http.StatusCreated
}

func (c *child) registered(t *testing.T) int {
	t.Helper()
	r, err := http.Get(c.api + "/registrars")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct{ Registrars []actors.RegistrarView }
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return answer.Registrars[0].Profiles[actors.StateRegistered]
}

// TestKilledUnderLoad kills a node with SIGKILL again and again while it
// registers and refreshes, and then holds the journal against what the
// registrar saw: invariants I-1 to I-7 of the reliability goals.
func TestKilledUnderLoad(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	registrar, err := siptest.NewRegistrar(siptest.Options{
		Authenticate: true, CheckNC: true, Realm: "example.test", Password: passwordOf,
		// Short bindings: refreshes are always on their way.
		GrantExpires: 20, LogSize: 2_000_000, NonceLifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer registrar.Close()
	data := filepath.Join(t.TempDir(), "data")
	acknowledged := []string{}
	for round := range rounds {
		c := startChild(t, data, registrar.Addr())
		deadline := time.Now().Add(time.Duration(rand.Int64N(int64(400 * time.Millisecond))))
		for n := 0; time.Now().Before(deadline); n++ {
			if id := fmt.Sprintf("pa%d-%d", round, n); n < 3 && c.add(id) {
				acknowledged = append(acknowledged, id)
			}
			time.Sleep(20 * time.Millisecond)
		}
		c.kill()
		registrar.ClientRestarted()
	}
	c := startChild(t, data, registrar.Addr())
	want := crashProfiles + len(acknowledged)
	waitFor(t, func() bool { return c.registered(t) >= want })
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("shutdown after %d kills: %v", rounds, err)
	}
	for _, err := range registrar.CheckInvariants() {
		t.Error(err)
	}
	t.Logf("%d kills, %d requests seen, %d profiles acknowledged over the API", rounds, len(registrar.Requests()), len(acknowledged))
	checkJournal(t, filepath.Join(data, "journal.db"), registrar.Requests(), acknowledged)
}

// checkJournal holds a journal against itself and against what was on the
// wire.
func checkJournal(t *testing.T, path string, seen []siptest.Seen, acknowledged []string) {
	t.Helper()
	report, err := store.Verify(path)
	if err != nil || !report.OK() {
		t.Errorf("I-2: verify: %v %v", err, report.Findings)
	}
	type identity struct {
		call string
		cseq uint32
	}
	started := map[identity]bool{}
	profiles := map[string]string{} // Call-ID by stream
	rounds, cseqs := map[string]uint32{}, map[string]uint32{}
	added := map[string]bool{}
	var dump bytes.Buffer
	err = store.Dump(path, &dump, func(_ uint64, e *messages.Envelope) bool {
		switch p := e.GetProfile().GetEvent().(type) {
		case *messages.ProfileEvent_Added:
			added[strings.TrimPrefix(e.GetStream(), "p/")] = true
		case *messages.ProfileEvent_CallIdChosen:
			profiles[e.GetStream()] = p.CallIdChosen.GetCallId()
			cseqs[e.GetStream()] = 0
		case *messages.ProfileEvent_AttemptStarted:
			a := p.AttemptStarted
			if a.GetCseq() <= cseqs[e.GetStream()] {
				t.Errorf("I-4: %s records CSeq %d after %d", e.GetStream(), a.GetCseq(), cseqs[e.GetStream()])
			}
			cseqs[e.GetStream()] = a.GetCseq()
			started[identity{profiles[e.GetStream()], a.GetCseq()}] = true
			rounds[e.GetStream()] = max(rounds[e.GetStream()], a.GetRound())
		}
		return false
	})
	if err != nil {
		t.Errorf("dump: %v", err)
	}
	for _, s := range seen {
		if !started[identity{s.CallID, s.CSeq}] {
			t.Errorf("I-1: the registrar saw CSeq %d of %s, which the journal does not know", s.CSeq, s.CallID)
		}
	}
	for _, id := range acknowledged {
		if !added[id] {
			t.Errorf("I-1: profile %s was acknowledged and is not in the journal", id)
		}
	}
	const allowance = 5
	for stream, n := range rounds {
		if n > allowance {
			t.Errorf("I-7: %s answered %d challenges in one chain", stream, n)
		}
	}
}
