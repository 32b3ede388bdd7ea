package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/messages"
)

const exampleFolder = "../../../docs/examples/webhook"

// python finds the interpreter. Without one the example is not tested.
func python(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("PYTHON3 IS MISSING: docs/examples/webhook/answer.py IS NOT TESTED")
	}
	return path
}

// startExample runs answer.py for users (id, name, password) and returns a
// client for it.
func startExample(t testing.TB, users [][]string, args ...string) *webhook.Client {
	t.Helper()
	dir := t.TempDir()
	var table bytes.Buffer
	w := csv.NewWriter(&table)
	if err := w.WriteAll(append([][]string{{"id", "username", "password"}}, users...)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "users.csv"), table.Bytes())
	write(t, filepath.Join(dir, "hook.key"), []byte(secret.Reveal()+"\n"))
	cmd := exec.Command(python(t), append([]string{
		filepath.Join(exampleFolder, "answer.py"), "--listen", "127.0.0.1:0",
		"--secret-file", filepath.Join(dir, "hook.key"), "--users", filepath.Join(dir, "users.csv"),
	}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUTF8=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if strings.Contains(stderr.String(), "Traceback") {
			t.Errorf("the example failed:\n%s", stderr.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the example does not listen: %q, %v\n%s", line, err, stderr.String())
	}
	o := webhook.Options{URL: address, Secret: secret}
	for i, arg := range args {
		if arg == "--tls-cert" {
			certificate, err := os.ReadFile(args[i+1])
			if err != nil {
				t.Fatal(err)
			}
			o.RootCAs = x509.NewCertPool()
			o.RootCAs.AppendCertsFromPEM(certificate)
		}
	}
	c, err := webhook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	exampleURL = address
	return c
}

// exampleURL is where the latest example listens.
var exampleURL string

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestExampleVectors computes the vectors of the RFCs with the example's own
// functions and the client nonces of the vectors.
func TestExampleVectors(t *testing.T) {
	const program = `
import json, sys
sys.path.insert(0, sys.argv[1])
import answer
class Fixed:
    def __init__(self, text): self.hexdigest = lambda: text
for v in json.load(open(sys.argv[2], encoding="utf-8"))["digest"]:
    answer.secrets.token_urlsafe = lambda n: v["cnonce"]
    answer.hmac.new = lambda *a: Fixed(v["cnonce"])
    params = {"nonce": v["nonce"], "algorithm": v["algorithm"] + ("-sess" if v["sess"] else "")}
    if v["qop"]:
        params["qop"] = v["qop"]
    c = {"space": "ORIGIN", "scheme": "Digest", "realm": v["realm"], "nonceCount": int(v["nc"] or "1", 16), "params": params}
    q = {"method": v["method"], "requestUri": v["uri"]}
    if v["body"]:
        h = answer.hashlib.new(answer.HASHES[v["algorithm"]], v["body"].encode()).hexdigest()
        q["bodyHashes"] = {v["algorithm"]: h}
    value = answer.credentials(q, c, answer.understood(c), v["username"], v["password_hex_or_text"], b"k")
    print(json.dumps({"name": v["name"], "value": value}))
`
	cmd := exec.Command(python(t), "-c", program, exampleFolder, "testdata/vectors.json")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Digest []struct{ Name, Response, Cnonce, NC, QOP string }
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Digest) != 16 {
		t.Fatalf("%d vectors, want 16", len(file.Digest))
	}
	d := json.NewDecoder(bytes.NewReader(out))
	for _, v := range file.Digest {
		var got struct{ Name, Value string }
		if err := d.Decode(&got); err != nil || got.Name != v.Name {
			t.Fatalf("%s: got %s, %v", v.Name, got.Name, err)
		}
		p := parse(t, got.Value)
		for name, want := range map[string]string{"response": v.Response, "cnonce": v.Cnonce, "nc": v.NC, "qop": v.QOP} {
			if have, _ := p.Get(name); have != want {
				t.Errorf("%s: %s = %q, want %q", v.Name, name, have, want)
			}
		}
	}
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func parse(t fataler, value string) challenge.Parsed {
	t.Helper()
	p, err := challenge.Parse(value)
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	return p
}

// TestExampleAgrees compares with actors/digest for random questions: which
// challenges are answered, in which order, and every byte of the headers.
func TestExampleAgrees(t *testing.T) {
	users := [][]string{
		{"", "alice", "s3cr3t"},
		{"id-1", "bob", "zan\"zi\\bar"},
		{"sip:carol@example.test", "c, \"carol\"", " pass:word "},
		{"jäsøn", "Jäsøn Doe", "päss☃"},
		{"same", "alice", "another"},
	}
	c := startExample(t, users)
	text := rapid.StringMatching(`[ !#-\[\]-~äöüß"\\]{1,30}`)
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.SampledFrom(users).Draw(t, "user")
		q := question(rapid.StringMatching(`[a-z0-9]{8}`).Draw(t, "ref"))
		q.ProfileId, q.Aor = u[0], "sip:nobody@example.test"
		if q.ProfileId == "" {
			q.ProfileId, q.Aor = "some id", "sip:"+u[1]+"@example.test"
		}
		q.Method, q.RequestUri = rapid.SampledFrom([]string{"REGISTER", "INVITE"}).Draw(t, "method"), "sip:"+text.Draw(t, "uri")
		q.Challenges = nil
		realms := rapid.SliceOfN(text, 1, 3).Draw(t, "realms")
		for i := range rapid.IntRange(1, 6).Draw(t, "challenges") {
			params := map[string]string{"nonce": text.Draw(t, "nonce")}
			for name, values := range map[string][]string{
				"algorithm": {"", "MD5", "md5", "MD5-sess", "SHA-256", "SHA-256-SESS", "SHA-512-256", "SHA-512-256-sess", "SHA-1", "AKAv1-MD5"},
				"qop":       {"", " ,", "auth", "auth-int", "auth-int, AUTH", "auth-int,token", "token"},
				"opaque":    {"", "5ccc069c403ebaf9f0171e9517f40e41", `o"\`, "\x01"},
			} {
				if rapid.Bool().Draw(t, "has "+name) {
					params[name] = rapid.SampledFrom(values).Draw(t, name)
				}
			}
			q.Challenges = append(q.Challenges, &messages.Challenge{
				Index: uint32(i), Space: messages.Space(rapid.Int32Range(1, 2).Draw(t, "space")),
				Scheme: rapid.SampledFrom([]string{"Digest", "digest", "Basic"}).Draw(t, "scheme"),
				Realm:  rapid.SampledFrom(realms).Draw(t, "realm"), Params: params,
				NonceCount: rapid.Uint32Range(0, 1<<32-1).Draw(t, "count"), Raw: "Digest",
			})
		}
		body := text.Draw(t, "body")
		q.BodyHashes = map[string]string{}
		for _, name := range []string{"MD5", "SHA-256", "SHA-512-256"} {
			if rapid.IntRange(0, 3).Draw(t, "hashed") > 0 {
				q.BodyHashes[name] = digest.BodyHash(name, body)
			}
		}
		agree(t, c, q, digest.Credential{Username: u[1], Password: messages.NewSecret(u[2])})
	})
}

func agree(t *rapid.T, c *webhook.Client, q *messages.AuthChallenge, u digest.Credential) {
	got, err := c.Answer(context.Background(), q)
	cnonces := map[int]string{}
	for i, index := range got.GetAnswered() {
		cnonces[int(index)], _ = parse(t, got.GetMutations()[i].GetValue()).Get("cnonce")
	}
	want, refusal := digest.Answer(q, u, func(i int, _ bool, _, _ string) string {
		if cnonces[i] == "" {
			return "none"
		}
		return cnonces[i]
	})
	if refusal != nil {
		var theirs *xsp.Refusal
		if !errors.As(err, &theirs) || theirs.RetryAfter != 0 {
			t.Fatalf("got %v, %v; want a refusal", got, err)
		}
		return
	}
	want.Preemptive, want.Proofs = true, nil
	if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
}

func TestExampleRefuses(t *testing.T) {
	c := startExample(t, [][]string{{"", "alice", "s3cr3t"}})
	q := question("r1")
	q.ProfileId, q.Aor = "mallory", "sip:mallory@example.test"
	var refusal *xsp.Refusal
	if _, err := c.Answer(t.Context(), q); !errors.As(err, &refusal) || *refusal != (xsp.Refusal{Reason: "unknown subscriber"}) {
		t.Errorf("got %v", err)
	}
	body := marshal(t, question("r2"))
	for _, tt := range []struct {
		name      string
		body      []byte
		signature string
		status    int
	}{
		{"other key", body, webhook.Sign(messages.NewSecret("k"), time.Now(), body), http.StatusUnauthorized},
		{"other body", body, webhook.Sign(secret, time.Now(), body[1:]), http.StatusUnauthorized},
		{"too old", body, webhook.Sign(secret, time.Now().Add(-10*time.Minute), body), http.StatusUnauthorized},
		{"too early", body, webhook.Sign(secret, time.Now().Add(10*time.Minute), body), http.StatusUnauthorized},
		{"none", body, "", http.StatusUnauthorized},
		{"garbage", body, "t=²,v1=ü", http.StatusUnauthorized},
		{"signed garbage", []byte("{"), webhook.Sign(secret, time.Now(), []byte("{")), http.StatusBadRequest},
		{"signed nonsense", []byte("[1]"), webhook.Sign(secret, time.Now(), []byte("[1]")), http.StatusBadRequest},
		{"too long", bytes.Repeat([]byte(" "), 70_000), "", http.StatusRequestEntityTooLarge},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, exampleURL, bytes.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.status == http.StatusRequestEntityTooLarge {
			// The example does not wait for it.
			body, rest := io.Pipe()
			defer rest.Close()
			r.Body, r.GetBody = body, nil
		}
		r.Header.Set("Muster-Signature", tt.signature)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestExampleWithTLS also sees that a connection without a handshake keeps
// nobody waiting.
func TestExampleWithTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	c := startExample(t, [][]string{{"", "alice", "s3cr3t"}}, "--tls-cert", certFile, "--tls-key", keyFile)
	silent, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(exampleURL, "https://"), "/answer"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for i := range 3 {
		if a, err := c.Answer(t.Context(), question(fmt.Sprint("r", i))); err != nil || !a.GetPreemptive() {
			t.Errorf("got %v, %v", a, err)
		}
	}
}

// TestExampleMayBeLate: --delay-ms is for showing what a deadline does.
func TestExampleMayBeLate(t *testing.T) {
	c := startExample(t, [][]string{{"", "alice", "s3cr3t"}}, "--delay-ms", "600000")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Answer(ctx, question("r")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
