package muster_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// The markers are secrets that are easy to recognise, one for each way in.
const (
	markerFile   = "canary-in-a-file-6f1d"
	markerWrong  = "canary-that-is-refused-90aa"
	markerRealm  = "canary-for-another-realm-3c77"
	markerAdded  = "canary-from-the-api-b24e"
	markerPatch  = "canary-from-a-patch-e8d5"
	markerImport = "canary-from-an-import-41f0"
	markerHA1    = "cafe0ca7a21e5ca11ab1ebadc0ffee42"
)

// needles are what must not be found anywhere, by what they are.
type needles map[string]string

// spellings are the ways in which a needle could hide.
func spellings(value string) [][]byte {
	return [][]byte{
		[]byte(value),
		[]byte(hex.EncodeToString([]byte(value))),
		[]byte(base64.StdEncoding.EncodeToString([]byte(value))),
		[]byte(strings.Trim(fmt.Sprint([]byte(value)), "[]")), // a []byte, printed
	}
}

// foundIn lists the needles that a text holds.
func (n needles) foundIn(text []byte) []string {
	lower := bytes.ToLower(text)
	var found []string
	for what, value := range n {
		for _, spelling := range spellings(value) {
			if bytes.Contains(text, spelling) || bytes.Contains(lower, bytes.ToLower(spelling)) {
				found = append(found, what)
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

// sources are the texts that are searched, by where they come from.
type sources struct {
	mu  sync.Mutex
	all map[string][]byte
}

func (s *sources) add(name string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string][]byte{}
	}
	s.all[name] = append(s.all[name], text...)
}

// search fails the test for every needle in any source. So that it cannot pass
// by looking at nothing, each source must hold a word that is expected there,
// and a needle that is planted into a copy must be found.
func (s *sources) search(t *testing.T, n needles, expected map[string]string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, text := range s.all {
		for _, what := range n.foundIn(text) {
			t.Errorf("%s holds %s", name, what)
		}
		planted := slices.Concat(text[:len(text)/2], []byte(n["the password of a file"]), text[len(text)/2:])
		if !slices.Contains(n.foundIn(planted), "the password of a file") {
			t.Errorf("the search of %s is blind", name)
		}
	}
	for name, word := range expected {
		if !bytes.Contains(s.all[name], []byte(word)) {
			t.Errorf("%s (%d bytes) does not hold %q: is it what it should be?", name, len(s.all[name]), word)
		}
	}
}

// logbook is a log of everything, as text and as JSON.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text.Bytes())
}

func (l *logbook) logger() *slog.Logger {
	all := &slog.HandlerOptions{Level: slog.LevelDebug - 100, AddSource: true}
	return slog.New(slog.NewMultiHandler(slog.NewTextHandler(l, all), slog.NewJSONHandler(l, all)))
}

// tap collects the answers to challenges as they were sent.
type tap struct {
	mu      sync.Mutex
	answers needles
}

var answerParameter = regexp.MustCompile(`(response|cnonce)="([^"]+)"`)

// note keeps what a request says about its credentials.
func (w *tap) note(req *siptest.Request) {
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		for _, h := range req.Message.GetHeaders(name) {
			w.mu.Lock()
			for _, m := range answerParameter.FindAllStringSubmatch(h.Value(), -1) {
				w.answers[fmt.Sprintf("the %s of %s, CSeq %d", m[1], userOf(req.AOR), req.CSeq)] = m[2]
			}
			w.mu.Unlock()
		}
	}
}

// and joins what was on the wire, of which there must be something, with
// others.
func (w *tap) and(n needles) needles {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.answers) < 4 {
		n["nothing: no answer was on the wire"] = ""
	}
	maps.Copy(n, w.answers)
	return n
}

// canaryRegistrar knows the markers as passwords. The user "ha1" is accepted
// with any answer: nobody knows the password of a made-up hash.
func canaryRegistrar(t *testing.T, w *tap) *siptest.Registrar {
	t.Helper()
	passwords := map[string]string{
		"file": markerFile, "wrong": "something else", "realm": markerRealm,
		"added": markerAdded, "patched": markerPatch, "imported": markerImport, "ha1": "unknown",
	}
	return newRegistrar(t, siptest.Options{
		Authenticate: true, ProxyRealm: "proxy.test", AuthInfo: true, Realm: "example.test",
		Password: func(user string) (string, bool) { return passwords[user], passwords[user] != "" },
		Behaviour: func(req *siptest.Request) *siptest.Reply {
			w.note(req)
			if userOf(req.AOR) == "ha1" && req.HadCredentials {
				return &siptest.Reply{Status: 200, Headers: []string{"Contact: " + contactOf(req) + ";expires=3600"}}
			}
			return nil
		},
	})
}

// canaryProfiles are the rows of the file.
func canaryProfiles() []actors.Declaration {
	ds := rows("file", "wrong", "realm", "patched", "ha1")
	ds[0].Password = messages.NewSecret(markerFile)
	ds[1].Password = messages.NewSecret(markerWrong)
	ds[2].Password, ds[2].Registrar = messages.NewSecret(markerRealm), "strict"
	ds[3].Password = messages.NewSecret("replaced soon")
	ds[4].Password, ds[4].HA1 = messages.Secret{}, messages.NewSecret(markerHA1)
	return ds
}

// secretNeedles are the markers, and the hashes that are as good as them.
func secretNeedles() needles {
	n := needles{
		"the password of a file": markerFile, "a refused password": markerWrong, "an HA1": markerHA1,
		"the password for another realm": markerRealm, "a password from the API": markerAdded,
		"a patched password": markerPatch, "an imported password": markerImport,
	}
	for user, password := range map[string]string{
		"file": markerFile, "wrong": markerWrong, "added": markerAdded, "patched": markerPatch, "imported": markerImport,
	} {
		for _, realm := range []string{"example.test", "proxy.test"} {
			n["the HA1 of "+user+" at "+realm] = digest.HA1("MD5", user, realm, password)
		}
	}
	return n
}

// TestNoSecretIsShown gives a node secrets in every way there is, lets it
// register, be refused and be asked nonsense, and then searches everything that
// it has written or said (S-60, S-62 to S-65).
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	var found sources
	var log logbook
	w := &tap{answers: needles{}}
	registrar := canaryRegistrar(t, w)
	strict := target(registrar)
	strict.Name, strict.Realms = "strict", []string{"elsewhere.test"}
	tokens := filepath.Join(t.TempDir(), "tokens")
	options := muster.Options{
		DataDir: t.TempDir() + "/data", Admin: muster.Admin{Listen: "127.0.0.1:0"}, Logger: log.logger(), Version: "test",
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar), strict}, Profiles: canaryProfiles()},
		Load: func(context.Context) (muster.Desired, error) {
			return muster.Desired{}, fmt.Errorf("tokens %s: not read", tokens)
		},
	}
	node := startNode(t, options)
	api := "http://" + node.AdminAddr()
	for _, request := range []struct{ method, path, body string }{
		{"POST", "/api/v1/profiles", `{"id":"added","aor":"sip:added@example.test","registrar":"r","password":"` + markerAdded + `"}`},
		{"PATCH", "/api/v1/profiles/patched", `{"password":"` + markerPatch + `"}`},
		{"POST", "/api/v1/profiles/import?dry_run=true", `[{"id":"imported","aor":"sip:imported@example.test","registrar":"r","password":"` + markerImport + `"}]`},
		{"POST", "/api/v1/profiles/import", `[{"id":"imported","aor":"sip:imported@example.test","registrar":"r","password":"` + markerImport + `"}]`},
	} {
		status, body := call(t, request.method, api+request.path, "application/json", request.body)
		if status >= 300 {
			t.Fatalf("%s %s: %d %s", request.method, request.path, status, body)
		}
		found.add("answers to changes", body)
	}
	waitState(t, node, actors.StateRegistered, "file", "added", "patched", "imported", "ha1")
	waitState(t, node, actors.StateRejected, "wrong", "realm")
	if err := node.Reload(t.Context()); err == nil {
		t.Error("the reload did not fail")
	}
	for _, id := range []string{"file", "added"} { // with a known nonce
		if _, err := node.RefreshProfile(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		eventually(t, id+" is refreshed", func() bool { return strings.Count(story(t, node, id), "registered (200)") == 2 })
	}
	askNonsense(t, api, &found)
	askEverything(t, api, &found)
	var backup bytes.Buffer
	if err := node.Backup(&backup); err != nil {
		t.Fatal(err)
	}
	found.add("backup", backup.Bytes())
	stopNode(t, node)
	collectErrors(t, options, &found)
	for _, name := range []string{"journal.db", "journal.owner"} {
		content, err := os.ReadFile(filepath.Join(options.DataDir, name))
		if err != nil {
			t.Fatal(err)
		}
		found.add(name, content)
	}
	found.add("log", log.bytes())

	found.search(t, w.and(secretNeedles()), map[string]string{
		"journal.db": "example.test", "backup": "example.test", "log": "profile rejected", "errors": "give either a password or an HA1",
		"GET /metrics": "muster_profiles", "GET /api/v1/profiles": `"id":"added"`, "GET /api/v1/profiles/export": `"id":"imported"`,
		"GET /api/v1/profiles/added/history": "registered (200)", "GET /api/v1/registrars": "strict", "GET /openapi.json": "password",
		"answers to nonsense": "application/problem+json", "GET /-/backup": "example.test",
	})
	wantInvariants(t, registrar)
}

// askNonsense posts bodies that hold a secret and are wrong in every way that a
// person or a script gets them wrong.
func askNonsense(t *testing.T, api string, found *sources) {
	t.Helper()
	const secret = `"password":"` + markerAdded + `"`
	const whole = `"id":"x","aor":"sip:x@example.test","registrar":"r",`
	bodies := []string{
		`{` + whole + secret, `{` + whole + secret + `}}`, `{` + secret + `,,}`, secret, `"` + markerAdded + `"`, markerAdded,
		`{` + whole + secret + `,"ha1":"` + markerHA1 + `"}`,
		`{` + whole + `"ha1":"` + markerHA1 + `00"}`, `{` + whole + `"ha1":"` + markerAdded + `"}`,
		`{` + whole + `"passwort":"` + markerAdded + `"}`, `{` + whole + `"PASSWORD":"` + markerAdded + `"}`,
		`{` + whole + `"password":{"value":"` + markerAdded + `"}}`, `{` + whole + `"password":["` + markerAdded + `"]}`,
		`{` + whole + secret + `,` + secret + `}`, `{` + secret + `}`, `[{` + whole + secret + `}]`,
		`{` + whole + `"password":"` + markerAdded + `\n"}`, `{` + whole + `"password":"` + markerAdded + "\x00\"}", `{` + whole + `"password":"` + markerAdded + "\xff\"}",
		`{"id":"x","registrar":"nobody","aor":"sip:x@example.test",` + secret + `}`,
		`{"id":"x","registrar":"r","aor":"sip:x:` + markerAdded + `@example.test"}`,
		`{"registrar":"r","aor":"sip:x:` + markerAdded + `@example.test"}`,
		`{"registrar":"r","aor":"x:` + markerAdded + `@example.test"}`,
		`{"id":"file","registrar":"r","aor":"sip:file@example.test",` + secret + `}`,
		`{` + whole + secret + `,"expires":"` + strings.Repeat("9", 40) + `"}`,
		`{` + whole + secret + `,"more":"` + strings.Repeat("x", 70<<10) + `"}`,
	}
	for _, body := range bodies {
		for _, contentType := range []string{"application/json", "text/plain"} {
			for _, at := range []struct{ method, path string }{
				{"POST", "/api/v1/profiles"},
				{"PATCH", "/api/v1/profiles/wrong"},
				{"PATCH", "/api/v1/profiles/nobody"},
				{"PUT", "/api/v1/profiles/wrong/security"},
				{"POST", "/api/v1/profiles/import?dry_run=true"},
				{"POST", "/nowhere"},
			} {
				status, answer := call(t, at.method, api+at.path, contentType, body)
				if status == http.StatusInternalServerError {
					t.Errorf("%s %s %.80s: %s", at.method, at.path, body, answer)
				}
				found.add("answers to nonsense", answer)
			}
		}
	}
}

// askEverything reads whatever can be read.
func askEverything(t *testing.T, api string, found *sources) {
	t.Helper()
	paths := []string{
		"/api/v1/profiles", "/api/v1/profiles/export", "/api/v1/registrars", "/openapi.json", "/openapi.yaml",
		"/metrics", "/-/ready", "/-/healthy", "/-/backup", "/", "/nothing",
	}
	for _, id := range []string{"file", "wrong", "realm", "patched", "ha1", "added", "imported"} {
		at := "/api/v1/profiles/" + id
		paths = append(paths, at, at+"/history", at+"/security", at+"/bindings")
	}
	for _, path := range paths {
		_, answer := call(t, "GET", api+path, "", "")
		found.add("GET "+path, answer)
	}
}

// call returns the status and everything that was answered, headers too.
func call(t *testing.T, method, url, contentType, body string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	var text bytes.Buffer
	defer response.Body.Close()
	if err := response.Write(&text); err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return response.StatusCode, text.Bytes()
}

// collectErrors starts nodes on what is wrong, with secrets in it.
func collectErrors(t *testing.T, good muster.Options, found *sources) {
	t.Helper()
	wrong := func(change func(o *muster.Options, d *actors.Declaration)) {
		t.Helper()
		o := good
		o.Profiles = canaryProfiles()
		change(&o, &o.Profiles[0])
		node, err := muster.New(o)
		if err == nil {
			if err = node.Start(t.Context()); err == nil {
				t.Error("a node starts on wrong options")
				stopNode(t, node)
				return
			}
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%q"} {
			found.add("errors", fmt.Appendf(nil, format+"\n", err))
		}
	}
	// Options are printed by people who look for a mistake.
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		found.add("printed options", fmt.Appendf(nil, format+"\n", canaryProfiles()))
	}
	wrong(func(_ *muster.Options, d *actors.Declaration) { d.HA1 = messages.NewSecret(markerHA1) })
	wrong(func(_ *muster.Options, d *actors.Declaration) { d.AOR = "sip:file:" + markerFile + "@example.test" })
	wrong(func(_ *muster.Options, d *actors.Declaration) {
		d.ID, d.AOR = "", "sip:file:"+markerFile+"@example.test"
	})
	wrong(func(_ *muster.Options, d *actors.Declaration) { d.Registrar = "nobody" })
	wrong(func(o *muster.Options, _ *actors.Declaration) { o.Profiles = append(o.Profiles, o.Profiles...) })
	wrong(func(o *muster.Options, _ *actors.Declaration) { o.SIP.Listen = []string{"udp://nowhere"} })
	wrong(func(o *muster.Options, _ *actors.Declaration) { o.KeyFile = t.TempDir() + "/another.key" })
	wrong(func(o *muster.Options, _ *actors.Declaration) { o.Admin.TokenFile = "/does/not/exist" })
}
