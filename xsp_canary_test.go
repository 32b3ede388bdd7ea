package muster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// The markers of xSPs, one for each place in which one holds a value.
const (
	markerValue   = "canary-in-an-authorization-77e0"
	markerHeader  = "canary-in-a-listed-header-1b9c"
	markerRefused = "canary-in-a-refused-answer-c2d8"
	markerName    = "canary-behind-a-header-name-5a31"
	markerPanic   = "canary-in-a-panic-ee04"
	markerKept    = "canary-in-a-vault-d16f"
	markerBody    = "canary-in-a-malformed-reply-03ab"
	markerQuery   = "canary-in-a-url-6c92"
	markerSigning = "canary-that-signs-questions-fa55"
	markerProof   = "canary-in-a-proof-0e47"
)

// What people write for people is shown.
const (
	shownRefusal = "the subscriber is locked"
	shownError   = "the token store is closed"
)

func xspNeedles() needles {
	return needles{
		"the password of a file": markerFile, "a value of Authorization": markerValue, "the value of a listed header": markerHeader,
		"a value of a refused answer": markerRefused, "a value behind a header name": markerName, "the text of a panic": markerPanic,
		"what an xSP keeps": markerKept, "a malformed reply": markerBody, "the query of a URL": markerQuery,
		"the key of a webhook": markerSigning, "an expected proof": markerProof,
	}
}

// canaryAnswer is a good answer that holds markers.
func canaryAnswer(q *messages.AuthChallenge) *messages.AuthAnswer {
	a := solve(q, "cnonce-of-"+q.GetRef())
	a.Mutations[0].Value += `, token="` + markerValue + `"`
	a.Mutations = append(a.Mutations, &messages.HeaderMutation{Op: messages.Op_SET, Name: "X-Token", Value: markerHeader})
	a.Proofs = append(a.Proofs, &messages.ExpectedProof{Space: messages.Space_PROXY, Rspauth: markerProof})
	a.Preemptive = true
	return a
}

// canaryFuncs are xSPs of this process by the profile that they answer for.
func canaryFuncs() map[string]xsp.Func {
	refused := func(change func(a *messages.AuthAnswer)) xsp.Func {
		return func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			a := canaryAnswer(q)
			change(a)
			return a, nil
		}
	}
	add := func(name, value string) xsp.Func {
		return refused(func(a *messages.AuthAnswer) {
			a.Mutations = append(a.Mutations, &messages.HeaderMutation{Op: messages.Op_SET, Name: name, Value: value})
		})
	}
	return map[string]xsp.Func{
		"good":      refused(func(*messages.AuthAnswer) {}),
		"unlisted":  add("X-Other", markerRefused),
		"forbidden": add("Contact", "<sip:"+markerRefused+"@evil.test>"),
		"lines":     add("X-Token", markerRefused+"\r\nContact: <sip:"+markerRefused+"@evil.test>"),
		"named":     add("X-Token: "+markerName, "x"),
		"large":     add("X-Token", strings.Repeat(markerRefused, 1000)),
		"scheme":    refused(func(a *messages.AuthAnswer) { a.Mutations[0].Value = "Bearer " + markerRefused }),
		"realm": refused(func(a *messages.AuthAnswer) {
			a.Mutations[0].Value = `Digest username="x", realm="` + markerRefused + `", nonce="n", uri="u", response="r"`
		}),
		"grammar": refused(func(a *messages.AuthAnswer) { a.Mutations[0].Value = `Digest realm="` + markerRefused }),
		"ref":     refused(func(a *messages.AuthAnswer) { a.Ref = markerRefused }),
		"panic": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			panic("cannot use " + markerPanic)
		},
		"panicerror": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			panic(errors.New(markerPanic))
		},
		"panicvalue": func(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			panic(canaryAnswer(q))
		},
		"refuses": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			return nil, xsp.Refuse(shownRefusal, 0)
		},
		"fails": func(context.Context, *messages.AuthChallenge) (*messages.AuthAnswer, error) {
			return nil, errors.New(shownError)
		},
	}
}

// canaryKeeper keeps a marker, and answers well.
type canaryKeeper struct {
	xsp.Func
	vault xsp.Vault
}

// Keep implements xsp.Keeper.
func (k *canaryKeeper) Keep(v xsp.Vault) error {
	k.vault = v
	return v.Put(context.Background(), "token", []byte(markerKept))
}

// canaryXSPs are all xSPs, and a profile for each.
func canaryXSPs(t *testing.T, target actors.Registrar) muster.Desired {
	t.Helper()
	d := muster.Desired{Registrars: []actors.Registrar{target}, Profiles: rows("file")}
	d.Profiles[0].Password = messages.NewSecret(markerFile)
	use := func(x actors.XSP) {
		x.Headers = []string{"X-Token"}
		d.XSPs = append(d.XSPs, x)
		p := rows(x.Name)[0]
		p.RegistrationHandler, p.Password = x.Name, messages.Secret{}
		d.Profiles = append(d.Profiles, p)
	}
	for name, f := range canaryFuncs() {
		use(actors.XSP{Name: name, Authenticator: f})
	}
	use(actors.XSP{Name: "keeper", Authenticator: &canaryKeeper{Func: canaryFuncs()["good"]}})
	for name, act := range map[string]func(ctx actor.Context, q *messages.AuthChallenge){
		"actor":        func(ctx actor.Context, q *messages.AuthChallenge) { ctx.Respond(canaryAnswer(q)) },
		"actorpanic":   func(_ actor.Context, q *messages.AuthChallenge) { panic(canaryAnswer(q)) },
		"actortext":    func(actor.Context, *messages.AuthChallenge) { panic(markerPanic) },
		"actorstrange": func(ctx actor.Context, _ *messages.AuthChallenge) { ctx.Respond(markerRefused) },
	} {
		use(actors.XSP{Name: name, Actor: actor.PropsFromFunc(func(ctx actor.Context) {
			if q, ok := ctx.Message().(*messages.AuthChallenge); ok {
				act(ctx, q)
			}
		})})
	}
	secret := messages.NewSecret(markerSigning)
	for name, serve := range map[string]http.Handler{
		"hook": webhook.Handler(secret, canaryFuncs()["good"], webhook.HandlerOptions{}),
		"hookbody": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"ref":"`+markerBody+`","mutations":[{"op":"`+markerBody+`"`)
		}),
		"hookfield": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"`+markerBody+`":1,"mutations":[{"op":"`+markerBody+`"}]}`)
		}),
		"hookstatus": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, markerBody, http.StatusInternalServerError)
		}),
		"hookmoved": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere?token="+markerBody, http.StatusTemporaryRedirect)
		}),
		"hookgone": nil,
	} {
		server := httptest.NewServer(serve)
		t.Cleanup(server.Close)
		if serve == nil {
			server.Close()
		}
		hook, err := webhook.New(webhook.Options{URL: server.URL + "/answer?token=" + markerQuery, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		use(actors.XSP{Name: name, Kind: "webhook", Authenticator: hook})
	}
	return d
}

// canaryRegistrarOf notes the answers, and knows the password of the file.
func canaryRegistrarOf(t *testing.T, w *tap) *siptest.Registrar {
	return newRegistrar(t, siptest.Options{
		Authenticate: true,
		Password: func(user string) (string, bool) {
			if user == "file" {
				return markerFile, true
			}
			return "pw-" + user, true
		},
		Behaviour: func(req *siptest.Request) *siptest.Reply {
			w.note(req)
			return nil
		},
	})
}

// canaryOutcomes are the states that the profiles come to.
func canaryOutcomes(d muster.Desired) map[string][]string {
	by := map[string][]string{}
	for _, p := range d.Profiles {
		switch p.ID {
		case "file", "good", "keeper", "actor", "hook":
			by[actors.StateRegistered] = append(by[actors.StateRegistered], p.ID)
		case "refuses":
			by[actors.StateRejected] = append(by[actors.StateRejected], p.ID)
		default:
			by[actors.StateBackoff] = append(by[actors.StateBackoff], p.ID)
		}
	}
	return by
}

// TestXSPValuesAreNotShown lets xSPs answer, lie, panic and remember with
// values that are easy to recognise, and then searches everything that the node
// has written or said (S-62).
func TestXSPValuesAreNotShown(t *testing.T) {
	t.Parallel()
	var found sources
	var log logbook
	w := &tap{answers: needles{}}
	registrar := canaryRegistrarOf(t, w)
	d := canaryXSPs(t, target(registrar))
	options := muster.Options{
		DataDir: t.TempDir() + "/data", Admin: muster.Admin{Listen: "127.0.0.1:0"}, Logger: log.logger(), Version: "test", Desired: d,
	}
	node := startNode(t, options)
	for state, ids := range canaryOutcomes(d) {
		waitState(t, node, state, ids...)
	}
	for _, id := range []string{"good", "actor", "hook"} { // before anybody asks
		refreshOnce(t, node, id)
	}
	api := "http://" + node.AdminAddr()
	paths := []string{"/api/v1/profiles", "/api/v1/profiles/export", "/api/v1/registrars", "/api/v1/xsp", "/metrics", "/-/backup"}
	for _, p := range d.Profiles {
		at := "/api/v1/profiles/" + p.ID
		paths = append(paths, at, at+"/history", at+"/security")
	}
	for _, path := range paths {
		status, answer := call(t, "GET", api+path, "", "")
		if status != http.StatusOK {
			t.Errorf("GET %s: %d", path, status)
		}
		found.add("GET "+path, answer)
	}
	views, err := node.XSPs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found.add("views", fmt.Appendf(nil, "%+v", views))
	stopNode(t, node)
	for _, name := range []string{"journal.db", "journal.owner"} {
		content, err := os.ReadFile(options.DataDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		found.add(name, content)
	}
	found.add("log", log.bytes())
	all := xspNeedles()
	maps.Copy(all, w.and(needles{}))
	found.search(t, all, map[string]string{
		"journal.db": "X-Token", "GET /-/backup": "X-Token", "log": shownError, "views": shownError, "GET /metrics": "muster_challenges_total",
		"GET /api/v1/xsp": shownError, "GET /api/v1/profiles/refuses/history": shownRefusal, "GET /api/v1/profiles/good/history": "X-Token",
		"GET /api/v1/profiles/unlisted/history": "X-Other", "GET /api/v1/profiles/panic/history": "panicked",
	})
	if text := log.bytes(); !bytes.Contains(text, []byte("it panicked")) || !bytes.Contains(text, []byte("level=WARN")) {
		t.Error("the log does not tell of panics")
	}
	wantInvariants(t, registrar)
}

// TestXSPCrashChild is the node of TestXSPCrashShowsNoValue.
func TestXSPCrashChild(t *testing.T) {
	at := os.Getenv(crashEnv)
	if at == "" {
		t.Skip("not a child")
	}
	d := canaryXSPs(t, actors.Registrar{Name: "r", URI: "sip:" + at, Rate: -1})
	node, err := muster.New(muster.Options{
		DataDir: os.Getenv("MUSTER_TEST_DATA"), Desired: d,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for state, ids := range canaryOutcomes(d) {
		waitState(t, node, state, ids...)
	}
	go func() { panic("planted") }()
	select {}
}

// TestXSPCrashShowsNoValue: neither does what a dying process prints, nor what
// any library has printed by then (S-62).
func TestXSPCrashShowsNoValue(t *testing.T) {
	t.Parallel()
	w := &tap{answers: needles{}}
	registrar := canaryRegistrarOf(t, w)
	output := crashed(t, "TestXSPCrashChild", registrar.Addr())
	var found sources
	found.add("crash", output)
	all := xspNeedles()
	maps.Copy(all, w.and(needles{}))
	found.search(t, all, map[string]string{"crash": "panic: planted"})
	if t.Failed() {
		for line := range strings.Lines(string(output)) {
			if strings.Contains(line, "canary-") {
				t.Logf("%.500s", line)
			}
		}
	}
	if !slices.Contains(strings.Fields(string(output)), "level=WARN") {
		t.Error("the output does not hold the log")
	}
}
