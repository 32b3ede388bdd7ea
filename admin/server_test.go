package admin

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/admin/admintest"
	"github.com/sipmuster/muster/admin/declare"
)

// tokenFile writes a token file; the token of each name is the name itself.
func tokenFile(t *testing.T, callers ...string) string {
	t.Helper()
	content := "# callers\n\n"
	for _, c := range callers {
		name, role, _ := strings.Cut(c, " ")
		content += fmt.Sprintf("%s %s %x\n", name, role, sha256.Sum256([]byte(name)))
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoles(t *testing.T) {
	path := tokenFile(t, "viewer read", "operator operate", "boss admin")
	h := newHarness(t, func(o *Options) { o.TokenFile = path })
	h.node.Put(mustDeclare(t, alice))
	h.node.OnCall = func(c *admintest.Call) { c.Establish("v=0") }
	h.node.OnRequest = func(string, actors.InDialog) actors.InDialogResult { return actors.InDialogResult{Status: 200} }
	h.do(201, "POST", "/api/v1/sessions", bobCalled, "Authorization", "Bearer boss")
	established(t, h.node, "call-1")
	const profile = "/api/v1/profiles/sip:alice@example.test"
	const session = "/api/v1/sessions/call-1"
	tests := []struct{ method, target, body, needs string }{
		{"GET", "/api/v1/profiles", "", "read"},
		{"GET", profile, "", "read"},
		{"GET", profile + "/history", "", "read"},
		{"GET", profile + "/security", "", "read"},
		{"GET", "/api/v1/profiles/export", "", "read"},
		{"GET", "/api/v1/registrars", "", "read"},
		{"GET", "/api/v1/sessions", "", "read"},
		{"GET", session, "", "read"},
		{"GET", session + "/history", "", "read"},
		{"POST", "/api/v1/sessions", bobCalled, "operate"},
		{"POST", session + "/reinvite", `{"body":"v=0"}`, "operate"},
		{"POST", session + "/requests", `{"method":"INFO"}`, "operate"},
		{"DELETE", session, "", "operate"},
		{"GET", "/metrics", "", "read"},
		{"GET", "/openapi.json", "", "read"},
		{"POST", profile + "/enable", "", "operate"},
		{"POST", profile + "/disable", "", "operate"},
		{"POST", profile + "/refresh", "", "operate"},
		{"GET", profile + "/bindings", "", "operate"},
		{"POST", "/api/v1/profiles", strings.ReplaceAll(alice, "alice", "bob"), "admin"},
		{"POST", "/api/v1/profiles/import", "[]", "admin"},
		{"PATCH", profile, `{"enabled":true}`, "admin"},
		{"PUT", profile + "/security", `{"session_handler":"digest"}`, "admin"},
		{"GET", "/-/backup", "", "admin"},
		{"DELETE", profile, "", "admin"},
	}
	order := map[string]int{"": 0, "read": 1, "operate": 2, "admin": 3}
	for _, tt := range tests {
		for _, caller := range []struct{ token, role string }{{"", ""}, {"wrong", ""}, {"viewer", "read"}, {"operator", "operate"}, {"boss", "admin"}} {
			w := h.send(request(tt.method, tt.target, tt.body, "Authorization", "Bearer "+caller.token))
			switch allowed := order[caller.role] >= order[tt.needs]; {
			case caller.role == "" && w.Code != 401:
				t.Errorf("%s %s without a token = %d", tt.method, tt.target, w.Code)
			case caller.role != "" && !allowed && w.Code != 403:
				t.Errorf("%s %s with role %s = %d", tt.method, tt.target, caller.role, w.Code)
			case allowed && w.Code >= 300:
				t.Errorf("%s %s with role %s = %d: %s", tt.method, tt.target, caller.role, w.Code, w.Body)
			}
			if w.Code >= 400 {
				h.checkProblem(w)
			}
		}
	}
	h.do(200, "GET", "/-/healthy", "")
	h.do(401, "GET", "/nothing", "")
	h.do(401, "GET", "/api/v1/profiles", "", "Authorization", "Basic Ym9zczpib3Nz")
	h.do(404, "GET", "/nothing", "", "Authorization", "bearer viewer")
	if !strings.Contains(h.log.String(), "caller=boss") {
		t.Error("the log does not name the caller")
	}
}

func TestReloadReadsTokensAgain(t *testing.T) {
	path := tokenFile(t, "boss admin")
	h := newHarness(t, func(o *Options) { o.TokenFile = path })
	line := fmt.Sprintf("newcomer operate %x\n", sha256.Sum256([]byte("newcomer")))
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	h.do(200, "POST", "/-/reload", "", "Authorization", "Bearer boss")
	h.do(401, "GET", "/metrics", "", "Authorization", "Bearer boss")
	h.do(200, "GET", "/metrics", "", "Authorization", "Bearer newcomer")
	if err := os.WriteFile(path, []byte("newcomer operate plain-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.server.Reload(); err == nil || strings.Contains(err.Error(), "plain-token") {
		t.Errorf("reload of a broken file: %v", err)
	}
	h.do(200, "GET", "/metrics", "", "Authorization", "Bearer newcomer")
}

func TestTokenFileFaults(t *testing.T) {
	sum := hex.EncodeToString(make([]byte, sha256.Size))
	tests := []struct{ name, content, want string }{
		{"all at once", "a\nb owner " + sum + "\nc read canary\n-d read " + sum + "\ne read " + sum + "\ne admin " + sum + "\n", `F:1: has 1 words (write: name role sha256-of-the-token-in-hex)
F:2: the second word is not a role (read, operate or admin)
F:3: the third word is not the 64 hex digits of a SHA-256 (never write the token itself here)
F:4: the first word is not a name of letters, digits, '.', '_' and '-'
F:6: the name "e" stands there twice`},
		{"nobody", "# nobody\n", "token file F names nobody (write a line: name role sha256-of-the-token-in-hex)"},
	}
	for _, tt := range tests {
		_, err := parseTokens("F", []byte(tt.content))
		if err == nil {
			t.Fatalf("%s: no error", tt.name)
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	path := tokenFile(t, "boss admin")
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTokens(path); err == nil || !strings.Contains(err.Error(), "can be written by other users") {
		t.Errorf("a writable token file: %v", err)
	}
}

func TestNewRefusesWhatIsUnsafe(t *testing.T) {
	node := admintest.New()
	for name, o := range map[string]Options{
		"Node is missing":             {},
		"needs TLS and tokens":        {Node: node, Listen: "0.0.0.0:8080"},
		"can be reached":              {Node: node, Listen: ":8080", TokenFile: "x"},
		"is not host:port":            {Node: node, Listen: "localhost"},
		"go together":                 {Node: node, TLSCert: "x"},
		"no such file":                {Node: node, TokenFile: "missing"},
		"read TLS certificate":        {Node: node, TLSCert: "missing", TLSKey: "missing"},
		"MaxRequests is negative":     {Node: node, MaxRequests: -1},
		"MaxWatchers is negative":     {Node: node, MaxWatchers: -1},
		"example.test:1 can be reach": {Node: node, Listen: "example.test:1"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
}

func TestStartAndStop(t *testing.T) {
	start := func(change func(*Options)) (*Server, error) {
		o := Options{Node: admintest.New(), Listen: "127.0.0.1:0"}
		if change != nil {
			change(&o)
		}
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		return s, s.Start()
	}
	s, err := start(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, http.DefaultClient, s.URL()+"/-/ready"); got != "ready\n" {
		t.Errorf("ready = %q", got)
	}
	_, err = start(func(o *Options) { o.Listen = s.Addr() })
	if err == nil || !strings.Contains(err.Error(), "address already in use (another node or program uses it: stop that, or change admin.listen)") {
		t.Errorf("a taken port: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for range 2 {
		if err := s.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if s.Start() == nil {
		t.Error("a stopped server starts again")
	}
	if err := new(Server).Stop(ctx); err != nil {
		t.Errorf("stop without start: %v", err)
	}
}

func TestServesTLS(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	dir := t.TempDir()
	certFile, keyFile := writePair(t, dir, pair.TLS.Certificates[0])
	s, err := New(Options{Node: admintest.New(), Listen: "0.0.0.0:0", TLSCert: certFile, TLSKey: keyFile, TokenFile: tokenFile(t, "boss admin")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	pool := x509.NewCertPool()
	pool.AddCert(pair.Certificate())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}}}
	defer client.CloseIdleConnections()
	_, port, _ := strings.Cut(s.Addr(), "]:")
	if got := fetch(t, client, "https://127.0.0.1:"+port+"/-/healthy"); got != "healthy\n" {
		t.Errorf("healthy = %q", got)
	}
}

func fetch(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// writePair writes a certificate and its key as PEM.
func writePair(t *testing.T, dir string, pair tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		keyFile:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func mustDeclare(t *testing.T, document string) actors.Declaration {
	t.Helper()
	d, faults := declare.JSON([]byte(document))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return d
}
