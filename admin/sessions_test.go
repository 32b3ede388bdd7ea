package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/admintest"
	"github.com/sipmuster/muster/messages"
)

const bobCalled = `{"profile":"sip:alice@example.test","target":"sip:bob@example.test"}`

// established waits until a call is up.
func established(t *testing.T, node *admintest.Node, id string) {
	t.Helper()
	for {
		v, err := node.Session(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if v.State == "established" {
			return
		}
		runtime.Gosched()
	}
}

func TestSessionFromStartToEnd(t *testing.T) {
	h := newHarness(t, nil)
	h.node.Put(mustDeclare(t, alice))
	w := h.send(request("POST", "/api/v1/sessions", `{"profile":"sip:alice@example.test","target":"sip:bob@example.test",
		"headers":{"X-Call":"canary","Subject":["one","canary"]},"body":"v=0\r\na=crypto:canary\r\n","hangup_after":"10s"}`))
	if w.Code != http.StatusCreated || w.Header().Get("Location") != "/api/v1/sessions/call-1" {
		t.Fatalf("start = %d, Location %q: %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	c := h.node.Call("call-1")
	want := []messages.Header{{Name: "X-Call", Value: "canary"}, {Name: "Subject", Value: "one"}, {Name: "Subject", Value: "canary"}}
	if diff := cmp.Diff(want, c.Request.Headers); diff != "" || string(c.Request.Body) != "v=0\r\na=crypto:canary\r\n" ||
		c.Request.ContentType != "application/sdp" || c.Request.HangupAfter.Seconds() != 10 {
		t.Errorf("the node got %+v", c.Request)
	}

	const path = "/api/v1/sessions/call-1"
	v := get[map[string]any](h, 200, "GET", path, "")
	for _, name := range []string{
		"id", "profile", "registrar", "direction", "aor", "peer", "state", "reason", "last_status", "started_at",
		"established_at", "ended_at", "hangup_at", "dialog", "timer", "attempts", "session_handler",
	} {
		if _, there := v[name]; !there {
			t.Errorf("a session has no %q", name)
		}
	}
	if v["state"] != "calling" {
		t.Errorf("started: %v", v)
	}
	h.do(409, "POST", path+"/reinvite", `{"body":"v=0"}`)
	c.Challenge("digest")
	c.Ring()
	c.Establish("v=0\r\n")
	if v := get[map[string]any](h, 200, "GET", path, ""); v["state"] != "established" || v["body"] != "v=0\r\n" || v["hangup_at"] != "2023-11-14T22:13:30.06Z" {
		t.Errorf("established: %v", v)
	}

	h.node.OnRequest = func(id string, r actors.InDialog) actors.InDialogResult {
		switch r.Method {
		case "INVITE":
			return actors.InDialogResult{Status: 200, Phrase: "OK", ContentType: r.ContentType, Body: r.Body}
		case "MESSAGE":
			return actors.InDialogResult{Status: 202, Phrase: "Accepted", ContentType: "application/octet-stream", Body: []byte{0xff, 0}}
		}
		return actors.InDialogResult{Reason: "timeout"}
	}
	for _, tt := range []struct{ route, body, want string }{
		{"/reinvite", `{"body":"v=0 <2>"}`, `{"status":200,"phrase":"OK","content_type":"application/sdp","body":"v=0 <2>"}`},
		{"/requests", `{"method":"MESSAGE","body_base64":"/wA=","content_type":"x/y"}`, `{"status":202,"phrase":"Accepted","content_type":"application/octet-stream","body_base64":"/wA="}`},
		{"/requests", `{"method":"INFO","headers":{"X-Secret":"canary"}}`, `{"status":0,"reason":"timeout"}`},
	} {
		if got := strings.TrimSpace(h.do(200, "POST", path+tt.route, tt.body)); got != tt.want {
			t.Errorf("%s %s = %s, want %s", tt.route, tt.body, got, tt.want)
		}
	}

	if got := h.do(200, "GET", "/api/v1/sessions?profile=sip:alice@example.test&state=established&registrar=acme", ""); !strings.Contains(got, `"id":"call-1"`) {
		t.Errorf("listed: %s", got)
	}
	for range 2 { // hanging up again is no fault
		if v := get[map[string]any](h, 200, "DELETE", path, ""); v["state"] != "ended" || v["reason"] != "hangup.local" {
			t.Errorf("ended: %v", v)
		}
	}
	if got := strings.TrimSpace(h.do(200, "GET", "/api/v1/sessions", "")); got != `{"sessions":[]}` {
		t.Errorf("listed after the end: %s", got)
	}
	page := get[struct {
		Events []actors.HistoryEntry
		Next   uint64
	}](h, 200, "GET", path+"/history?limit=2", "")
	if len(page.Events) != 2 || page.Events[0].Type != "SessionEnded" || page.Next != page.Events[1].Version {
		t.Errorf("history: %+v", page)
	}
	if got := h.do(200, "GET", path+"/history?before=2", ""); !strings.Contains(got, "SessionStarted") || strings.Contains(got, "next") {
		t.Errorf("the oldest page: %s", got)
	}

	if strings.Contains(h.log.String(), "canary") {
		t.Errorf("the log holds a header or a body:\n%s", h.log)
	}
	for _, line := range []string{
		`msg="session started" component=admin session=call-1 profile=sip:alice@example.test caller=local`,
		`msg="session commanded" component=admin command=end session=call-1 profile=sip:alice@example.test caller=local`,
		`msg="request made in session" component=admin session=call-1 method=INFO status=0 reason=timeout caller=local`,
	} {
		if !strings.Contains(h.log.String(), line) {
			t.Errorf("the log lacks %s:\n%s", line, h.log)
		}
	}
}

func TestSessionListing(t *testing.T) {
	h := newHarness(t, func(o *Options) {})
	h.node.Put(mustDeclare(t, alice))
	for range 5 {
		h.do(201, "POST", "/api/v1/sessions", bobCalled)
	}
	h.node.Call("call-2").Establish("v=0")
	h.node.Call("call-3").End(486, "peer.busy")
	type page struct {
		Sessions []map[string]any
		Next     string
	}
	ids := func(p page) (ids string) {
		for _, v := range p.Sessions {
			ids += v["id"].(string) + " "
			if v["body"] != nil {
				t.Errorf("a listing holds a body: %v", v)
			}
		}
		return ids
	}
	p := get[page](h, 200, "GET", "/api/v1/sessions?limit=2", "")
	if ids(p) != "call-1 call-2 " || p.Next != "call-2" {
		t.Errorf("first page: %s, next %q", ids(p), p.Next)
	}
	if p = get[page](h, 200, "GET", "/api/v1/sessions?after=call-2", ""); ids(p) != "call-4 call-5 " || p.Next != "" {
		t.Errorf("last page: %s, next %q", ids(p), p.Next)
	}
	if p = get[page](h, 200, "GET", "/api/v1/sessions?state=established", ""); ids(p) != "call-2 " {
		t.Errorf("filtered: %s", ids(p))
	}
	if p = get[page](h, 200, "GET", "/api/v1/sessions?profile=bob", ""); ids(p) != "" {
		t.Errorf("of nobody: %s", ids(p))
	}
}

func TestSessionErrorsAreProblems(t *testing.T) {
	h := newHarness(t, nil)
	h.node.Put(mustDeclare(t, alice))
	h.node.MaxSessions = 2
	h.do(201, "POST", "/api/v1/sessions", bobCalled)
	h.do(201, "POST", "/api/v1/sessions", bobCalled)
	h.node.Call("call-1").End(486, "peer.busy")
	const s, one = "/api/v1/sessions", "/api/v1/sessions/call-1"
	with := func(more string) string { return strings.TrimSuffix(bobCalled, "}") + "," + more + "}" }
	tests := []struct {
		status               int
		method, target, body string
		header               []string
	}{
		{status: 404, method: "GET", target: s + "/nobody"},
		{status: 404, method: "DELETE", target: s + "/nobody"},
		{status: 404, method: "GET", target: s + "/nobody/history"},
		{status: 404, method: "POST", target: s + "/nobody/reinvite", body: `{"body":"v=0"}`},
		{status: 404, method: "POST", target: s + "/nobody/requests", body: `{"method":"INFO"}`},
		{status: 404, method: "GET", target: one + "/requests/1"},
		{status: 405, method: "PUT", target: one, body: `{}`},
		{status: 405, method: "POST", target: "/api/v1/events", body: `{}`},
		{status: 409, method: "POST", target: one + "/reinvite", body: `{"body":"v=0"}`},
		{status: 409, method: "POST", target: one + "/requests", body: `{"method":"INFO"}`},
		{status: 400, method: "POST", target: s},
		{status: 400, method: "POST", target: s, body: `{"profile":`},
		{status: 400, method: "POST", target: s, body: `[]`},
		{status: 400, method: "POST", target: one + "/reinvite"},
		{status: 400, method: "POST", target: one + "/requests", body: `"canary"`},
		{status: 422, method: "POST", target: s, body: `{}`},
		{status: 422, method: "POST", target: s, body: `{"profile":"nobody","target":"sip:bob@example.test"}`},
		{status: 422, method: "POST", target: s, body: with(`"headers":{"Via":"canary"}`)},
		{status: 422, method: "POST", target: s, body: with(`"headers":{"X":"canary\n"}`)},
		{status: 422, method: "POST", target: s, body: with(`"body":"canary","body_base64":"Y2FuYXJ5"`)},
		{status: 422, method: "POST", target: s, body: with(`"method":"INVITE"`)},
		{status: 422, method: "POST", target: one + "/reinvite", body: `{}`},
		{status: 422, method: "POST", target: one + "/reinvite", body: `{"method":"INVITE"}`},
		{status: 422, method: "POST", target: one + "/requests", body: `{"method":"BYE"}`},
		{status: 422, method: "GET", target: s + "?limit=0"},
		{status: 422, method: "GET", target: s + "?state=ended"},
		{status: 422, method: "GET", target: s + "?colour=red"},
		{status: 422, method: "GET", target: one + "/history?limit=1001"},
		{status: 422, method: "GET", target: "/api/v1/events?kind=registrar"},
		{status: 413, method: "POST", target: s, body: with(`"body":"` + strings.Repeat("a", maxSessionBody) + `"`)},
		{status: 415, method: "POST", target: s, body: "canary", header: []string{"Content-Type", "application/sdp"}},
		{status: 403, method: "POST", target: s, body: bobCalled, header: []string{"Origin", "https://evil.test"}},
		{status: 403, method: "DELETE", target: one, header: []string{"Sec-Fetch-Site", "cross-site"}},
		{status: 403, method: "GET", target: "/api/v1/events", header: []string{"Sec-Fetch-Site", "cross-site"}},
	}
	for _, tt := range tests {
		if got := h.do(tt.status, tt.method, tt.target, tt.body, tt.header...); strings.Contains(got, "canary") {
			t.Errorf("%s %s shows a value: %s", tt.method, tt.target, got)
		}
	}
	h.do(201, "POST", s, bobCalled)
	h.do(429, "POST", s, bobCalled)
	h.node.StopSessions()
	h.do(503, "POST", s, bobCalled)
	h.do(503, "GET", "/api/v1/events", "", "Accept", "text/event-stream")
	if strings.Contains(h.log.String(), "canary") {
		t.Errorf("the log holds a value:\n%s", h.log)
	}
}

// TestSessionFaultsComeAllAtOnce: each with its place, as for profiles.
func TestSessionFaultsComeAllAtOnce(t *testing.T) {
	h := newHarness(t, nil)
	var p struct {
		Errors []struct{ Location, Message string }
	}
	got := h.do(422, "POST", "/api/v1/sessions", `{"target":"bob","headers":{"X-A":"canary\r\n"},"hangup_after":"soon","content_type":"application/sdp"}`)
	if err := json.Unmarshal([]byte(got), &p); err != nil {
		t.Fatal(err)
	}
	places := []string{}
	for _, e := range p.Errors {
		places = append(places, e.Location)
	}
	want := []string{"body.target", "body.headers.X-A", "body.hangup_after", "body.profile", "body.content_type"}
	if diff := cmp.Diff(want, places); diff != "" || strings.Contains(got, "canary") {
		t.Errorf("places (-want +got):\n%s\n%s", diff, got)
	}
	h.node.Put(mustDeclare(t, alice))
	for body, want := range map[string]string{
		strings.TrimSuffix(bobCalled, "}") + `,"headers":{"Via":"canary"}}`: "body.headers: Via is written by the stack",
		`{"profile":"nobody","target":"sip:bob@example.test"}`:              `body.profile: profile "nobody": no such profile`,
	} {
		got := h.do(422, "POST", "/api/v1/sessions", body)
		if err := json.Unmarshal([]byte(got), &p); err != nil {
			t.Fatal(err)
		}
		if len(p.Errors) != 1 || p.Errors[0].Location+": "+p.Errors[0].Message != want {
			t.Errorf("%s: %s", body, got)
		}
	}
}

// TestFaultsWithoutAFieldStayWhole: what the node says of a profile's state.
func TestFaultsWithoutAFieldStayWhole(t *testing.T) {
	for text, want := range map[string]string{
		"target: is too long":                   "target: is too long",
		`profile "a: b" is disabled; enable it`: "",
		"status 99: want 101 to 699":            "",
		"":                                      "",
	} {
		fault, ok := sessionFault(fmt.Errorf("%w: %s", actors.ErrInvalidSession, text))
		if got := fault.Error(); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %t", text, got, ok)
		}
	}
}

// TestEveryByteOfABodyFits: a body of the largest size passes in each of its
// spellings.
func TestEveryByteOfABodyFits(t *testing.T) {
	h := newHarness(t, nil)
	h.node.Put(mustDeclare(t, alice))
	const largest = 48 << 10
	for i, body := range []string{strings.Repeat(`\u0000`, largest), strings.Repeat("x", largest)} {
		h.do(201, "POST", "/api/v1/sessions", strings.TrimSuffix(bobCalled, "}")+`,"body":"`+body+`"}`)
		if got := len(h.node.Call(fmt.Sprintf("call-%d", i+1)).Request.Body); got != largest {
			t.Errorf("the node got %d bytes", got)
		}
	}
}
