package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin"
	"github.com/sipmuster/muster/admin/admintest"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"muster": main})
}

// TestScripts runs testdata/script: the binary as a user meets it. Scripts named
// client_* have a fake node behind MUSTER_SERVER; those named node_* have a
// registrar at $REGISTRAR and free ports in $ADMIN and $SIP for a node of their
// own, node_xsp has xSPs in other processes than the node (setupXSPs), and
// node_sessions a far end of calls at $CALLEE.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			// Under -race every process sleeps a second at its end otherwise.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			name := filepath.Base(env.WorkDir)
			switch {
			case strings.HasPrefix(name, "script-client_"):
				return setupClient(env)
			case name == "script-node_xsp":
				return errors.Join(setupNode(env), setupXSPs(t, env))
			case name == "script-node_sessions":
				return errors.Join(setupNode(env), setupCallee(env))
			case strings.HasPrefix(name, "script-node_"):
				return setupNode(env)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":   cmdReady,
			"reload":  cmdReload,
			"exits":   cmdExits,
			"repeat":  cmdRepeat,
			"subst":   cmdSubst,
			"signal":  cmdSignal,
			"session": cmdSession,
			"idof":    cmdIDOf,
		},
	})
}

// setupClient serves a fake node without tokens, and one with.
func setupClient(env *testscript.Env) error {
	tokens := filepath.Join(env.WorkDir, "server.tokens")
	line := fmt.Sprintf("ops admin %x\n", sha256.Sum256([]byte("the-token")))
	if err := os.WriteFile(tokens, []byte(line), 0o600); err != nil {
		return err
	}
	node := admintest.New()
	node.OnCall, node.OnRequest = callee, farEnd
	node.Put(actors.Declaration{ID: "sip:alice@example.test", AOR: "sip:alice@example.test", Registrar: "acme", Username: "alice", RegistrationHandler: "digest", SessionHandler: "digest"})
	node.Put(actors.Declaration{ID: "bob", AOR: "sip:bob@example.test", Registrar: "acme", Disabled: true, Expires: time.Hour, RegistrationHandler: "digest", SessionHandler: "digest"})
	for variable, file := range map[string]string{"MUSTER_SERVER": "", "GUARDED": tokens} {
		server, err := admin.New(admin.Options{Node: node, Listen: "127.0.0.1:0", TokenFile: file})
		if err != nil {
			return err
		}
		if err := server.Start(); err != nil {
			return err
		}
		env.Defer(func() { _ = server.Stop(context.Background()) })
		env.Setenv(variable, server.URL())
	}
	return nil
}

// callee does what the user part of its URI says.
func callee(c *admintest.Call) {
	user, _, _ := strings.Cut(strings.TrimPrefix(c.Request.Target, "sip:"), "@")
	switch user {
	case "bob": // picks up and stays
		c.Challenge(c.Handler())
		c.Ring()
		c.Establish("v=0\r\ns=bob\r\n")
		if c.Request.HangupAfter > 0 {
			c.End(0, "hangup.after")
		}
	case "brief": // picks up and hangs up
		c.Establish("v=0\r\n")
		c.End(0, "hangup.remote")
	case "forgotten":
		c.End(0, "hangup.remote")
		c.Forget()
	case "busy":
		c.Ring()
		c.End(486, "peer.busy")
	case "lost":
		c.Establish("v=0\r\n")
		c.End(0, "session.expired")
	}
}

// farEnd takes what has a body and refuses the rest.
func farEnd(_ string, r actors.InDialog) actors.InDialogResult {
	switch {
	case r.Method == "OPTIONS":
		return actors.InDialogResult{Reason: "timeout"}
	case r.Method == "INVITE":
		return actors.InDialogResult{Status: 200, Phrase: "OK", ContentType: "application/sdp", Body: append([]byte("answer to\n"), r.Body...)}
	case len(r.Body) > 0 || len(r.Headers) > 0:
		return actors.InDialogResult{Status: 202, Phrase: "Accepted"}
	}
	return actors.InDialogResult{Status: 488, Phrase: "Not Acceptable Here", Reason: "declined"}
}

// setupNode starts a registrar that knows the users u0, u1, ... with the
// password "canary-" and their name; passwordOf says the same.
func setupNode(env *testscript.Env) error {
	registrar, err := siptest.NewRegistrar(siptest.Options{
		Authenticate: true,
		Password:     func(user string) (string, bool) { return passwordOf(user), strings.HasPrefix(user, "u") },
	})
	if err != nil {
		return err
	}
	env.Defer(func() { _ = registrar.Close() })
	env.Setenv("REGISTRAR", registrar.URI("udp"))
	for _, variable := range []string{"ADMIN", "SIP"} {
		probe, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		env.Setenv(variable, probe.Addr().String())
		if err := probe.Close(); err != nil {
			return err
		}
	}
	env.Setenv("MUSTER_SERVER", "http://"+env.Getenv("ADMIN"))
	return nil
}

// setupCallee starts a far end that challenges every first INVITE and takes the
// second.
func setupCallee(env *testscript.Env) error {
	callee, err := siptest.NewCallee(siptest.CalleeOptions{
		Body: "v=0\r\ns=callee\r\n", ContentType: "application/sdp", Ringing: 50 * time.Millisecond,
		Behaviour: func(q *siptest.Request) *siptest.Reply {
			if q.Method != "INVITE" || q.HadCredentials {
				return nil
			}
			return &siptest.Reply{Status: 407, Headers: []string{`Proxy-Authenticate: Digest realm="example.test", nonce="n1", qop="auth", algorithm=MD5`}}
		},
	})
	if err != nil {
		return err
	}
	env.Defer(func() { _ = callee.Close() })
	env.Setenv("CALLEE", callee.Addr())
	return nil
}

// cmdReady waits until the node at $ADMIN is ready and has registered a number
// of profiles: ready 3
func cmdReady(ts *testscript.TestScript, _ bool, args []string) {
	want := `muster_profiles{registrar="acme",state="registered"} ` + args[0] + "\n"
	last := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = fetch(ts.Getenv("MUSTER_SERVER") + "/-/ready"); last != "ready\n" {
			continue
		}
		if last = fetch(ts.Getenv("MUSTER_SERVER") + "/metrics"); strings.Contains(last, want) {
			return
		}
	}
	ts.Fatalf("not ready with %s profiles:\n%.2000s", args[0], last)
}

// cmdSession waits until a session of the node at $MUSTER_SERVER is in a state:
// session call-1 established; gone is one that it forgot.
func cmdSession(ts *testscript.TestScript, _ bool, args []string) {
	want := fmt.Sprintf(`"state":%q`, args[1])
	if args[1] == "gone" {
		want = "no such session"
	}
	last := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = fetch(ts.Getenv("MUSTER_SERVER") + "/api/v1/sessions/" + args[0]); strings.Contains(last, want) {
			return
		}
	}
	ts.Fatalf("session %s is not %s: %.2000s", args[0], args[1], last)
}

// cmdIDOf waits until an answer of the node at $MUSTER_SERVER holds an id, and
// keeps the first in a variable: idof /api/v1/sessions ID
func cmdIDOf(ts *testscript.TestScript, _ bool, args []string) {
	last := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		last = fetch(ts.Getenv("MUSTER_SERVER") + args[0])
		if _, rest, found := strings.Cut(last, `"id":"`); found {
			id, _, _ := strings.Cut(rest, `"`)
			ts.Setenv(args[1], id)
			return
		}
	}
	ts.Fatalf("no id at %s: %.2000s", args[0], last)
}

// cmdReload asks the node at $ADMIN to read its configuration again, and checks
// the status and a part of the answer: reload 200 reloaded
func cmdReload(ts *testscript.TestScript, _ bool, args []string) {
	answer, err := http.Post(ts.Getenv("MUSTER_SERVER")+"/-/reload", "", nil)
	ts.Check(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	ts.Check(err)
	if strconv.Itoa(answer.StatusCode) != args[0] || !strings.Contains(string(body), args[1]) {
		ts.Fatalf("reload: %s: %s", answer.Status, body)
	}
}

// fetch returns the body or the error, as text.
func fetch(url string) string {
	answer, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// cmdExits runs the binary in this process and checks the exit code: exits 2
// profiles list --limit 0. Its output goes to the script's stdout and stderr.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	script := "muster " + strings.Join(args[1:], " ")
	err = ts.Exec("muster", args[1:]...)
	got := 0
	var status interface{ ExitCode() int }
	if err != nil {
		if !asExit(err, &status) {
			ts.Fatalf("%s: %v", script, err)
		}
		got = status.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", script, got, want)
	}
}

func asExit(err error, status *interface{ ExitCode() int }) bool {
	exit, ok := err.(interface{ ExitCode() int })
	*status = exit
	return ok
}

// cmdRepeat writes a file with a header and numbered rows, % being the number:
// repeat FILE 100 HEADER ROW
func cmdRepeat(ts *testscript.TestScript, _ bool, args []string) {
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	var content strings.Builder
	content.WriteString(args[2] + "\n")
	for i := range count {
		content.WriteString(strings.ReplaceAll(args[3], "%", strconv.Itoa(i)) + "\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(content.String()), 0o600))
}

// cmdSubst replaces $VARIABLES in files.
func cmdSubst(ts *testscript.TestScript, _ bool, files []string) {
	for _, file := range files {
		content := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(content), 0o600))
	}
}

// cmdSignal sends a signal to the background command that was started last.
func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	running := ts.BackgroundCmds()
	ts.Check(running[len(running)-1].Process.Signal(signals[args[0]]))
}
