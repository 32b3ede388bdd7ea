//go:build interop

package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors"
)

// callProgram is the binary with a configuration file, whose calls go to SIPp.
type callProgram struct {
	*api
	dir, muster string
	node        *program
	starts      int
}

// newCallProgram configures a registrar for each far end, with ten profiles
// each.
func newCallProgram(t *testing.T, far map[string]*SIPp) *callProgram {
	t.Helper()
	p := &callProgram{api: &api{t: t}, dir: t.TempDir()}
	p.muster = build(t, p.dir, "muster", "cmd/node")
	admin, sip := fmt.Sprintf("127.0.0.1:%d", steadyPort(t)), fmt.Sprintf("127.0.0.1:%d", steadyPort(t))
	p.base = "http://" + admin
	config := fmt.Sprintf("node: {id: node, data_dir: data}\nadmin: {listen: %q}\nsip: {listen: [\"udp://%s\", \"tcp://%s\"]}\n"+
		"profiles: {files: [profiles.csv]}\nregistrars:\n", admin, sip, sip)
	profiles := "id,aor,registrar,password,register\n"
	for name, s := range far {
		config += fmt.Sprintf("  %s: {uri: \"sip:%s;transport=udp\", realms: [%s]}\n", name, s.Addr(), Realm)
		for i := range 10 {
			user := fmt.Sprintf("%s-%d", name, i)
			profiles += fmt.Sprintf("%s,sip:%s@%s,%s,%s,false\n", user, user, Realm, name, Password(user))
		}
	}
	for name, text := range map[string]string{"muster.yaml": config, "profiles.csv": profiles} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// start starts the binary and returns when it is ready.
func (p *callProgram) start() {
	p.t.Helper()
	p.starts++
	p.node = launch(p.t, filepath.Join(p.dir, fmt.Sprintf("node-%d.log", p.starts)), p.muster, "run", "--config", filepath.Join(p.dir, "muster.yaml"))
	p.node.ready(p.base)
}

// call places a call through the API.
func (p *callProgram) call(i int, name, target string) {
	p.t.Helper()
	body, err := json.Marshal(map[string]any{
		"profile": fmt.Sprintf("%s-%d", name, i%10), "target": target, "body_base64": offer(i),
		"headers": map[string]string{"Subject": fmt.Sprint("call ", i)},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.Post(p.base+"/api/v1/sessions", "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(response.Body)
		p.t.Fatalf("call %d: %s: %s", i, response.Status, text)
	}
}

// sessions are all that are not over, by id.
func (p *callProgram) sessions() map[string]actors.SessionView {
	p.t.Helper()
	views := map[string]actors.SessionView{}
	for after := ""; ; {
		var page actors.SessionPage
		p.get("/api/v1/sessions?limit=1000&after="+after, &page)
		for _, v := range page.Sessions {
			views[v.ID] = v
		}
		if after = page.Next; after == "" {
			return views
		}
	}
}

func (p *callProgram) waitSessions(limit time.Duration, want map[string]int) {
	p.t.Helper()
	eventually(p.t, limit, func() string {
		got := map[string]int{}
		for _, v := range p.sessions() {
			got[v.State]++
		}
		for state, n := range want {
			if got[state] != n {
				return fmt.Sprintf("sessions by state: %v, want %v", got, want)
			}
		}
		return ""
	})
}

// TestKilledWithCallsUp: a node is killed with 200 calls up and 20 that ring.
// The next one lists those that are up and ends them, each with a BYE whose CSeq
// no request before had; those that rang are cancelled by itself. The judge of
// the wire holds what both processes sent against one another. DLG-01 CAN-01
func TestKilledWithCallsUp(t *testing.T) {
	t.Parallel()
	const up, ringing = 200, 20
	limit := 2 * time.Minute
	far := map[string]*SIPp{
		"up":      sippFor(t, SIPpOptions{Scenario: "crash", Calls: up, Limit: limit, Patience: limit}),
		"ringing": sippFor(t, SIPpOptions{Scenario: "cancel_ringing", Calls: ringing, Limit: limit, Patience: limit}),
	}
	p := newCallProgram(t, far)
	p.start()
	for i := range up {
		p.call(i, "up", "sip:bob@"+far["up"].Addr())
	}
	for i := range ringing {
		p.call(i, "ringing", "sip:bob@"+far["ringing"].Addr())
	}
	p.waitSessions(30*time.Second, map[string]int{"established": up, "early": ringing})
	before := p.sessions()
	p.node.kill()

	p.start()
	p.waitSessions(30*time.Second, map[string]int{"established": up, "early": 0})
	for id, v := range p.sessions() {
		old, ok := before[id]
		switch {
		case !ok:
			t.Errorf("session %s was never there", id)
		case old.State != "established":
			// It rang, and is being cancelled.
		case v.State != "established" || v.Dialog.CallID != old.Dialog.CallID || v.Dialog.RemoteTag != old.Dialog.RemoteTag || v.Dialog.LocalCSeq < old.Dialog.LocalCSeq:
			t.Errorf("session %s is %s %+v after the crash, and was %+v", id, v.State, v.Dialog, old.Dialog)
		}
	}
	for id, v := range p.sessions() {
		if v.State == "established" {
			if err := p.do("DELETE", "/api/v1/sessions/"+id, nil); err != nil {
				t.Error(err)
			}
		}
	}
	wantDone(t, far["up"], up)
	wantDone(t, far["ringing"], ringing)
	calls := wantWire(t, far["up"], judgement{restarted: true})
	wantCalls(t, wantWire(t, far["ringing"], judgement{restarted: true}), ringing, "INVITE ACK INVITE CANCEL ACK")
	wantCalls(t, calls, up, onceChallenged+" BYE")
	for _, call := range calls {
		highest := 0
		for _, m := range call.requests {
			if m.method == "BYE" && m.cseq <= highest {
				t.Errorf("%s: the BYE has CSeq %d after %d", call.id, m.cseq, highest)
			}
			if m.method != "ACK" {
				highest = max(highest, m.cseq)
			}
		}
	}
	eventually(t, 40*time.Second, func() string {
		if left := p.sessions(); len(left) > 0 {
			return fmt.Sprintf("%d sessions are left: %v", len(left), left)
		}
		return ""
	})
}
