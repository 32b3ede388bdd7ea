package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/admin/admintest"
	"github.com/sipmuster/muster/admin/declare"
)

// harness is a server with a fake node behind it, without a socket.
type harness struct {
	t      *testing.T
	server *Server
	node   *admintest.Node
	log    *bytes.Buffer
}

func newHarness(t *testing.T, change func(*Options)) *harness {
	t.Helper()
	h := &harness{t: t, node: admintest.New(), log: &bytes.Buffer{}}
	o := Options{
		Node:    h.node,
		Version: "1.2.3",
		Logger:  slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "muster_up 1\n") }),
	}
	if change != nil {
		change(&o)
	}
	server, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.server = server
	return h
}

// request makes a request as a local client would.
func request(method, target, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (h *harness) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, r)
	return w
}

// do sends a request and checks the status; errors must be problems.
func (h *harness) do(want int, method, target, body string, header ...string) string {
	h.t.Helper()
	w := h.send(request(method, target, body, header...))
	if w.Code != want {
		h.t.Fatalf("%s %s = %d, want %d: %s", method, target, w.Code, want, w.Body)
	}
	if w.Code >= 400 {
		h.checkProblem(w)
	}
	return w.Body.String()
}

func (h *harness) checkProblem(w *httptest.ResponseRecorder) {
	h.t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		h.t.Errorf("status %d has content type %q", w.Code, got)
	}
	var p struct {
		Status        int
		Title, Detail string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Title == "" || p.Detail == "" {
		h.t.Errorf("status %d has the body %s", w.Code, w.Body)
	}
}

// get decodes an answer.
func get[T any](h *harness, want int, method, target, body string) T {
	h.t.Helper()
	var v T
	if err := json.Unmarshal([]byte(h.do(want, method, target, body)), &v); err != nil {
		h.t.Fatal(err)
	}
	return v
}

type profileJSON = map[string]any

const alice = `{"aor":"sip:alice@example.test","registrar":"acme","username":"alice","password":"canary","expires":"1h"}`

func TestProfileFromAddToRemove(t *testing.T) {
	h := newHarness(t, nil)
	w := h.send(request("POST", "/api/v1/profiles", alice))
	if w.Code != http.StatusCreated || w.Header().Get("Location") != "/api/v1/profiles/sip:alice@example.test" {
		t.Fatalf("add = %d, Location %q: %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	if got := h.node.Password("sip:alice@example.test"); got != "canary" {
		t.Errorf("the node got the password %q", got)
	}
	h.do(409, "POST", "/api/v1/profiles", alice)

	v := get[profileJSON](h, 200, "GET", "/api/v1/profiles/sip%3Aalice%40example.test", "")
	for _, name := range []string{"id", "aor", "registrar", "state", "enabled", "registration_handler", "session_handler", "expires_at", "next_attempt_at", "attempt", "last_status", "reason"} {
		if _, there := v[name]; !there {
			t.Errorf("a profile has no %q", name)
		}
	}
	path := "/api/v1/profiles/sip:alice@example.test"
	if v := get[profileJSON](h, 200, "PATCH", path, `{"username":"al"}`); v["username"] != "al" {
		t.Errorf("patched: %v", v)
	}
	if v := get[profileJSON](h, 200, "POST", path+"/disable", ""); v["state"] != "disabled" || v["enabled"] != false {
		t.Errorf("disabled: %v", v)
	}
	if v := get[profileJSON](h, 200, "POST", path+"/enable", ""); v["enabled"] != true {
		t.Errorf("enabled: %v", v)
	}
	if v := get[profileJSON](h, 200, "POST", path+"/refresh", ""); v["attempt"] != 1.0 {
		t.Errorf("refreshed: %v", v)
	}
	if got, want := h.do(200, "GET", path+"/bindings", ""), `{"bindings":[{"uri":"sip:alice@127.0.0.1:5070","expires":3000}]}`; strings.TrimSpace(got) != want {
		t.Errorf("bindings = %s, want %s", got, want)
	}
	if got, want := h.do(200, "PUT", path+"/security", `{"session_handler":"token-service"}`), `{"registration_handler":"digest","session_handler":"token-service"}`; strings.TrimSpace(got) != want {
		t.Errorf("security = %s, want %s", got, want)
	}
	if got, want := h.do(200, "GET", path+"/security", ""), `{"registration_handler":"digest","session_handler":"token-service"}`; strings.TrimSpace(got) != want {
		t.Errorf("security = %s, want %s", got, want)
	}
	if got, want := h.do(200, "PUT", path+"/security", `{"registration_handler":"token-service>digest","session_handler":""}`), `{"registration_handler":"token-service>digest","session_handler":"digest"}`; strings.TrimSpace(got) != want {
		t.Errorf("security = %s, want %s", got, want)
	}
	h.do(422, "PUT", path+"/security", `{"enabled":true}`)
	h.do(422, "PUT", path+"/security", `{"session_handler":"digest>digest"}`)
	h.do(422, "PUT", path+"/security", `{}`)
	if got := h.do(422, "PUT", path+"/security", `{"session_handler":"token-servcie"}`); !strings.Contains(got, `session_handler: unknown handler \"token-servcie\" (known are digest, sim, token-service)`) {
		t.Errorf("an unknown handler = %s", got)
	}
	if w := h.send(request("DELETE", path, "")); w.Code != http.StatusNoContent || w.Body.Len() != 0 {
		t.Errorf("remove = %d %s", w.Code, w.Body)
	}
	h.do(404, "DELETE", path, "")

	if strings.Contains(h.log.String(), "canary") {
		t.Error("the log holds a password")
	}
	if !strings.Contains(h.log.String(), `msg="profile added" component=admin profile=sip:alice@example.test caller=local`) {
		t.Errorf("the change is not in the log:\n%s", h.log)
	}
}

// TestWhoAnswersIsShown: what registrars and xSPs report reaches the caller.
func TestWhoAnswersIsShown(t *testing.T) {
	h := newHarness(t, nil)
	want := `{"registrars":[{"name":"acme","uri":"sip:127.0.0.1","profiles":{"registered":1},"waiting":0,"in_flight":0,"rate":0,"concurrency":0,"state":"up",` +
		`"registration_handler":"token-service>digest","session_handler":"digest",` +
		`"answers":{"digest":{"answered":7,"refused":0,"failed":0,"mean_ms":0.04},"token-service":{"answered":2,"refused":7,"failed":1,"mean_ms":12.5}}}]}`
	if got := strings.TrimSpace(h.do(200, "GET", "/api/v1/registrars", "")); got != want {
		t.Errorf("registrars = %s, want %s", got, want)
	}
	want = `{"xsp":[{"name":"sim","kind":"aka","state":"up","waiting":0,"in_flight":0,"concurrency":100,"answered":0,"refused":0,"failed":0,"mean_ms":0},` +
		`{"name":"token-service","kind":"webhook","state":"down","waiting":3,"in_flight":1,"concurrency":100,"answered":2,"refused":7,"failed":1,"mean_ms":12.5,` +
		`"last_answer":"2023-11-14T22:13:20Z","last_error":"no answer within 3s"}]}`
	if got := strings.TrimSpace(h.do(200, "GET", "/api/v1/xsp", "")); got != want {
		t.Errorf("xsp = %s, want %s", got, want)
	}
	h.node.NoXSPs = true
	if got := strings.TrimSpace(h.do(200, "GET", "/api/v1/xsp", "")); got != `{"xsp":[]}` {
		t.Errorf("no xsp = %s", got)
	}
}

func TestIDsOfEveryKindAreFound(t *testing.T) {
	h := newHarness(t, nil)
	for id, path := range map[string]string{
		"sip:alice@example.test":               "sip:alice@example.test",
		"sip:bob@example.test;transport=tcp":   "sip%3Abob%40example.test%3Btransport%3Dtcp",
		"a/b c?d#e%f":                          "a%2Fb%20c%3Fd%23e%25f",
		"...":                                  "...",
		"Zoë":                                  "Zo%C3%AB",
		"enable":                               "enable",
		"sip:+4930123@example.test;user=phone": "sip:+4930123@example.test;user=phone",
	} {
		body, err := json.Marshal(map[string]string{"id": id, "aor": "sip:x@example.test", "registrar": "acme"})
		if err != nil {
			t.Fatal(err)
		}
		w := h.send(request("POST", "/api/v1/profiles", string(body)))
		if w.Code != 201 {
			t.Fatalf("add %q = %d %s", id, w.Code, w.Body)
		}
		if v := get[profileJSON](h, 200, "GET", "/api/v1/profiles/"+path, ""); v["id"] != id {
			t.Errorf("%s gave %v, want %q", path, v["id"], id)
		}
		if location := w.Header().Get("Location"); get[profileJSON](h, 200, "GET", location, "")["id"] != id {
			t.Errorf("the Location %q of %q leads elsewhere", location, id)
		}
		get[profileJSON](h, 200, "POST", "/api/v1/profiles/"+path+"/disable", "")
	}
}

func TestListing(t *testing.T) {
	h := newHarness(t, nil)
	for i := range 5 {
		h.do(201, "POST", "/api/v1/profiles", fmt.Sprintf(`{"id":"p%d","aor":"sip:p%d@example.test","registrar":"acme"}`, i, i))
	}
	h.do(200, "POST", "/api/v1/profiles/p3/disable", "")
	type page struct {
		Profiles []profileJSON
		Next     string
	}
	ids := func(p page) (ids string) {
		for _, v := range p.Profiles {
			ids += v["id"].(string) + " "
		}
		return ids
	}
	p := get[page](h, 200, "GET", "/api/v1/profiles?limit=2", "")
	if ids(p) != "p0 p1 " || p.Next != "p1" {
		t.Errorf("first page: %s, next %q", ids(p), p.Next)
	}
	if p = get[page](h, 200, "GET", "/api/v1/profiles?limit=3&after=p1", ""); ids(p) != "p2 p3 p4 " || p.Next != "" {
		t.Errorf("last page: %s, next %q", ids(p), p.Next)
	}
	if p = get[page](h, 200, "GET", "/api/v1/profiles?state=disabled&registrar=acme&q=p3", ""); ids(p) != "p3 " {
		t.Errorf("filtered: %s", ids(p))
	}
	if got := h.do(200, "GET", "/api/v1/profiles?q=nobody", ""); strings.TrimSpace(got) != `{"profiles":[]}` {
		t.Errorf("empty listing = %s", got)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "state=fine", "color=red"} {
		h.do(422, "GET", "/api/v1/profiles?"+query, "")
	}
}

func TestHistoryPages(t *testing.T) {
	h := newHarness(t, nil)
	h.do(201, "POST", "/api/v1/profiles", alice)
	const path = "/api/v1/profiles/sip:alice@example.test/history"
	got := h.do(200, "GET", path+"?limit=2", "")
	want := `{"events":[{"version":5,"at":"1970-01-01T00:00:05Z","type":"AttemptStarted","text":"attempt 5"},{"version":4,"at":"1970-01-01T00:00:04Z","type":"AttemptStarted","text":"attempt 4"}],"next":4}`
	if strings.TrimSpace(got) != want {
		t.Errorf("history = %s, want %s", got, want)
	}
	if got := h.do(200, "GET", path+"?before=2&limit=1", ""); strings.Contains(got, "next") {
		t.Errorf("the last page has a next: %s", got)
	}
	h.do(404, "GET", "/api/v1/profiles/nobody/history", "")
}

func TestImport(t *testing.T) {
	h := newHarness(t, nil)
	body := `[{"id":"a","aor":"sip:a@example.test","registrar":"acme","password":"canary"},
		{"id":"b","aor":"example.test","registrar":"acme"},
		{"id":"a","aor":"sip:a2@example.test","registrar":"acme"},
		{"id":"c","aor":"sip:c@example.test","registrar":"acme"}]`
	want := `{"dry_run":true,"added":2,"changed":0,"unchanged":0,"invalid":2,"results":[` +
		`{"id":"a","result":"added"},` +
		`{"id":"b","result":"invalid","error":"aor: is not a URI with the scheme sip or sips (write sip:user@host)"},` +
		`{"id":"a","result":"invalid","error":"id: stands twice in this request"},` +
		`{"id":"c","result":"added"}]}`
	if got := strings.TrimSpace(h.do(200, "POST", "/api/v1/profiles/import?dry_run=true", body)); got != want {
		t.Errorf("dry run:\n%s\nwant\n%s", got, want)
	}
	if got := h.do(200, "GET", "/api/v1/profiles", ""); strings.Contains(got, "example.test") {
		t.Errorf("a dry run added profiles: %s", got)
	}
	h.do(200, "POST", "/api/v1/profiles/import", body)
	want = `{"id":"a","aor":"sip:a@example.test","registrar":"acme","registration_handler":"digest","session_handler":"digest","register":true,"enabled":true}
{"id":"c","aor":"sip:c@example.test","registrar":"acme","registration_handler":"digest","session_handler":"digest","register":true,"enabled":true}
`
	if diff := cmp.Diff(want, h.do(200, "GET", "/api/v1/profiles/export", "")); diff != "" {
		t.Errorf("export (-want +got):\n%s", diff)
	}
	h.do(400, "POST", "/api/v1/profiles/import", `{"aor":"sip:a@b"}`)
	if got := h.do(400, "POST", "/api/v1/profiles/import", "[{},\n {\"a\" \"canary\"}]"); strings.Contains(got, "canary") || !strings.Contains(got, "line 2") {
		t.Errorf("broken array: %s", got)
	}
	h.do(413, "POST", "/api/v1/profiles/import", "["+strings.Repeat("{},", maxImport)+"{}]")
	h.do(200, "POST", "/api/v1/profiles/import", "[]")
}

func TestExportPages(t *testing.T) {
	h := newHarness(t, nil)
	for i := range 2*exportPage + 5 {
		d, faults := declare.JSON(fmt.Appendf(nil, `{"id":"p%05d","aor":"sip:p@example.test","registrar":"acme"}`, i))
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		h.node.Put(d)
	}
	if got := strings.Count(h.do(200, "GET", "/api/v1/profiles/export", ""), "\n"); got != 2*exportPage+5 {
		t.Errorf("exported %d lines", got)
	}
	if got := strings.Count(h.do(200, "GET", "/api/v1/profiles/export?q=p00001", ""), "\n"); got != 1 {
		t.Errorf("exported %d lines of 1", got)
	}
}

func TestErrorsAreProblems(t *testing.T) {
	h := newHarness(t, nil)
	h.do(201, "POST", "/api/v1/profiles", alice)
	tests := []struct {
		status               int
		method, target, body string
		header               []string
	}{
		{status: 404, method: "GET", target: "/"},
		{status: 404, method: "GET", target: "/api/v1/nothing"},
		{status: 404, method: "GET", target: "/api/v1/profiles/nobody"},
		{status: 404, method: "POST", target: "/api/v1/profiles/nobody/refresh"},
		{status: 404, method: "PATCH", target: "/api/v1/profiles/nobody", body: `{"enabled":true}`},
		{status: 405, method: "PUT", target: "/api/v1/profiles"},
		{status: 405, method: "GET", target: "/-/reload"},
		{status: 400, method: "POST", target: "/api/v1/profiles"},
		{status: 400, method: "POST", target: "/api/v1/profiles", body: `{"aor":`},
		{status: 400, method: "POST", target: "/api/v1/profiles", body: `[]`},
		{status: 422, method: "POST", target: "/api/v1/profiles", body: `{"aor":"x","registrar":"acme"}`},
		{status: 422, method: "POST", target: "/api/v1/profiles", body: `{"aor":"sip:b@c","registrar":"nobody"}`},
		{status: 422, method: "POST", target: "/api/v1/profiles", body: `{"aor":"sip:b@c","registrar":"acme","state":"registered"}`},
		{status: 422, method: "PATCH", target: "/api/v1/profiles/sip:alice@example.test", body: `{"id":"b"}`},
		{status: 413, method: "POST", target: "/api/v1/profiles", body: `{"aor":"` + strings.Repeat("a", maxBody) + `"}`},
		{status: 413, method: "POST", target: "/api/v1/profiles/import", body: `["` + strings.Repeat("a", maxImportBody) + `"]`},
		{status: 415, method: "POST", target: "/api/v1/profiles", body: `a=b`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{status: 403, method: "POST", target: "/api/v1/profiles", body: alice, header: []string{"Origin", "https://evil.test"}},
		{status: 403, method: "POST", target: "/-/reload", header: []string{"Sec-Fetch-Site", "cross-site"}},
		{status: 403, method: "GET", target: "/api/v1/profiles/sip:alice@example.test/bindings", header: []string{"Sec-Fetch-Site", "cross-site"}},
	}
	for _, tt := range tests {
		h.do(tt.status, tt.method, tt.target, tt.body, tt.header...)
	}
	w := h.send(request("PUT", "/api/v1/profiles", ""))
	if got := w.Header().Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("Allow = %q", got)
	}
	if got := h.do(422, "POST", "/api/v1/profiles", `{"aor":"x","registrar":"acme","color":1}`); !strings.Contains(got, `"location":"body.aor"`) || !strings.Contains(got, `unknown name \"color\"`) {
		t.Errorf("not all faults are named: %s", got)
	}
	r := request("GET", "/api/v1/profiles", "")
	r.Host = "rebound.evil.test"
	if w := h.send(r); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("a foreign Host got %d", w.Code)
	} else {
		h.checkProblem(w)
	}
	for _, host := range []string{"localhost:8080", "[::1]:8080", "127.0.0.2", ""} {
		r.Host = host
		if w := h.send(r); w.Code != 200 {
			t.Errorf("Host %q got %d", host, w.Code)
		}
	}
}

func TestNodeFailuresAreTold(t *testing.T) {
	h := newHarness(t, nil)
	h.do(200, "GET", "/-/healthy", "")
	h.do(200, "GET", "/-/ready", "")
	h.node.NotReady = errors.New("12 of 900 profiles are loaded")
	h.node.Unhealthy = errors.New("the store failed")
	if got := h.do(503, "GET", "/-/ready", ""); !strings.Contains(got, "not ready: 12 of 900 profiles are loaded") {
		t.Errorf("ready = %s", got)
	}
	h.do(503, "GET", "/-/healthy", "")
	h.do(200, "POST", "/-/reload", "")
	h.node.BrokenReload = errors.New("muster.yaml:3: node.id: is empty")
	if got := h.do(422, "POST", "/-/reload", ""); !strings.Contains(got, "muster.yaml:3") {
		t.Errorf("reload = %s", got)
	}
	if got := h.do(200, "GET", "/metrics", ""); got != "muster_up 1\n" {
		t.Errorf("metrics = %q", got)
	}
	if got := h.do(200, "GET", "/-/backup", ""); got != "journal" {
		t.Errorf("backup = %q", got)
	}
	h.node.WriteBackup = func(io.Writer) error { return errors.New("the disk is gone") }
	h.do(500, "GET", "/-/backup", "")
	h.node.WriteBackup = func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, errors.New("the disk is gone"))
	}
	func() {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
				t.Error("half a backup looks like a whole one")
			}
		}()
		h.send(request("GET", "/-/backup", ""))
	}()
}

func TestBusyNodeRefusesAndStaysProbeable(t *testing.T) {
	h := newHarness(t, func(o *Options) { o.MaxRequests = 1 })
	h.do(201, "POST", "/api/v1/profiles", alice)
	h.node.Block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan int)
	go func() {
		w := httptest.NewRecorder()
		h.server.ServeHTTP(w, request("GET", "/api/v1/profiles/sip:alice@example.test", "").WithContext(ctx))
		first <- w.Code
	}()
	h.node.Block <- struct{}{} // the first request is inside now, and goes on
	if code := <-first; code != 200 {
		t.Fatalf("first request = %d", code)
	}
	go func() {
		w := httptest.NewRecorder()
		h.server.ServeHTTP(w, request("GET", "/api/v1/profiles/sip:alice@example.test", "").WithContext(ctx))
		first <- w.Code
	}()
	for len(h.server.slots) == 0 { // wait until the second one is inside
		select {
		case code := <-first:
			t.Fatalf("second request = %d", code)
		default:
		}
	}
	w := h.send(request("GET", "/api/v1/registrars", ""))
	if w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("a busy node answers %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	h.do(200, "GET", "/-/ready", "")
	cancel()
	if code := <-first; code != http.StatusGatewayTimeout {
		t.Errorf("a request without end = %d", code)
	}
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	h := newHarness(t, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken collector") })
	})
	h.do(500, "GET", "/metrics", "")
	h.do(200, "GET", "/-/healthy", "")
	if !strings.Contains(h.log.String(), "broken collector") {
		t.Error("the panic is not in the log")
	}
}

func TestOpenAPIDocument(t *testing.T) {
	h := newHarness(t, nil)
	document := get[map[string]any](h, 200, "GET", "/openapi.json", "")
	var found []string
	for path, item := range document["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			found = append(found, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(found)
	want := []string{
		"DELETE /api/v1/profiles/{id}", "DELETE /api/v1/sessions/{id}", "GET /api/v1/events", "GET /api/v1/profiles", "GET /api/v1/profiles/export", "GET /api/v1/profiles/{id}",
		"GET /api/v1/profiles/{id}/bindings", "GET /api/v1/profiles/{id}/history", "GET /api/v1/profiles/{id}/security",
		"GET /api/v1/registrars", "GET /api/v1/sessions", "GET /api/v1/sessions/{id}", "GET /api/v1/sessions/{id}/history",
		"GET /api/v1/xsp", "PATCH /api/v1/profiles/{id}", "POST /api/v1/profiles", "POST /api/v1/profiles/import",
		"POST /api/v1/profiles/{id}/disable", "POST /api/v1/profiles/{id}/enable", "POST /api/v1/profiles/{id}/refresh",
		"POST /api/v1/sessions", "POST /api/v1/sessions/{id}/reinvite", "POST /api/v1/sessions/{id}/requests",
		"PUT /api/v1/profiles/{id}/security",
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	columns := declare.Columns()
	slices.Sort(columns)
	if diff := cmp.Diff(columns, properties(t, document, "components", "schemas", "Declaration")); diff != "" {
		t.Errorf("fields of a declaration (-want +got):\n%s", diff)
	}
	// What is documented is what is read: an unknown name brings up all of them.
	for path, read := range map[string]func([]byte) error{
		"/api/v1/sessions":               func(b []byte) error { _, faults := declare.SessionJSON(b); return faults },
		"/api/v1/sessions/{id}/reinvite": func(b []byte) error { _, faults := declare.ReinviteJSON(b); return faults },
		"/api/v1/sessions/{id}/requests": func(b []byte) error { _, faults := declare.InDialogJSON(b); return faults },
	} {
		_, known, _ := strings.Cut(read([]byte(`{"????????":1}`)).Error(), "(known are ")
		known, _, _ = strings.Cut(known, ")")
		names := strings.Split(known, ", ")
		slices.Sort(names)
		if diff := cmp.Diff(names, properties(t, document, "paths", path, "post", "requestBody", "content", "application/json", "schema")); diff != "" {
			t.Errorf("fields of %s (-want +got):\n%s", path, diff)
		}
	}
	want = []string{"at", "id", "kind", "profile", "state", "text", "type", "version"}
	if diff := cmp.Diff(want, properties(t, document, "paths", "/api/v1/events", "get", "responses", "200", "content", "text/event-stream", "schema")); diff != "" {
		t.Errorf("fields of a change (-want +got):\n%s", diff)
	}
	if got := h.do(200, "GET", "/openapi.yaml", ""); !strings.Contains(got, "openapi: 3.1.0") {
		t.Errorf("the YAML document begins %.60q", got)
	}
}

// properties are the sorted names of the schema that a path into the document
// leads to.
func properties(t *testing.T, document map[string]any, path ...string) []string {
	t.Helper()
	at := document
	for _, name := range append(path, "properties") {
		next, ok := at[name].(map[string]any)
		if !ok {
			t.Fatalf("the document has no %s", strings.Join(path, " "))
		}
		at = next
	}
	return slices.Sorted(maps.Keys(at))
}

// FuzzImport: no body makes the server fail.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`[{"id":"a","aor":"sip:a@b","registrar":"acme","password":"canary-7f"}]`))
	f.Add([]byte(`[{"aor":"sip:a:canary-7f@b"},[],{"password":"canary-7f","ha1":"canary-7f"}]`))
	f.Add([]byte(`{`))
	f.Add([]byte("[\"\\ud800\",1e9999,{\"\":{}}]"))
	server, err := New(Options{Node: admintest.New()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, target := range []string{"/api/v1/profiles", "/api/v1/profiles/import"} {
			w := httptest.NewRecorder()
			server.ServeHTTP(w, request("POST", target, string(body)))
			if w.Code >= 500 {
				t.Fatalf("%s = %d: %s", target, w.Code, w.Body)
			}
		}
	})
}
