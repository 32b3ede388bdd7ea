package config

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sipmuster/muster/actors/bearer"
	"github.com/sipmuster/muster/actors/signature"
	"github.com/sipmuster/muster/actors/xsp/remotexsp"
	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
	"github.com/sipmuster/muster/messages"
)

// xspFiles are what the entries of xspSection name.
func xspFiles(t *testing.T) map[string]string {
	t.Helper()
	read := func(path string) string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	cert, key, ca := xsptlstest.New(t).Files("node.example.test")
	return map[string]string{
		"node.pem": read(cert), "node.key": read(key), "ca.pem": read(ca),
		"hook.key": "canary-of-the-hook\r\n", "client.secret": "canary-of-the-client\n", "sign.key": "canary-of-the-signature",
		"sims.csv":   "profile,impi,k,op,opc,versions\nalice,,465b5ce8b199b49faa5f0a2ee238a6bc,,cd63cb71954a9f4e48a5994e37a02baf,2\n",
		"tokens.csv": "profile,refresh_token\nalice,canary-token\n",
	}
}

// xspSection holds the lines that the design promises.
const xspSection = `
remote:
  listen: 127.0.0.1:7070
  advertise: ""
  tls_cert: node.pem
  tls_key: node.key
  tls_ca: ca.pem
xsp:
  token-service: {webhook: "https://auth.example.test/answer", secret_file: ./hook.key, timeout: 3s}
  private: {webhook: "https://auth.example.test/answer", secret_file: hook.key, tls_ca: ./ca.pem}
  auth:  {grpc: "auth.example.test:443", tls_ca: ca.pem, tls_cert: node.pem, tls_key: node.key, headers: [X-Tenant], concurrency: 7}
  near:  {grpc: "127.0.0.1:7443", timeout: 50ms, waiting: 5}
  far:   {actor: "10.0.0.7:7070/radius", peer: "radius.example.test"}
  sim:   {aka: {subscribers: sims.csv}}
  oauth: {bearer: {grant: refresh_token, token_url: "https://as.example.test/token", trusted_servers: ["https://as.example.test"], client_id: muster, client_secret_file: ./client.secret, refresh_tokens: tokens.csv, scopes: [sip], tls_ca: ca.pem, allow_cleartext: true}}
  sign:  {hmac: {key_file: sign.key, key_id: node-1, scheme: HMAC-SHA256, header: X-Muster-Signature}}
`

func TestEveryKindOfXSPIsRead(t *testing.T) {
	files := xspFiles(t)
	files["muster.yaml"] = "registrars: {acme: {uri: 'sip:127.0.0.1', registration_handler: 'sim>oauth>sign>digest'}}\n" + xspSection
	write(t, files)
	got, err := Load("muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tls := TLS{Cert: "node.pem", Key: "node.key", CA: "ca.pem"}
	common := func(name string) XSP {
		return XSP{Name: name, Timeout: 3 * time.Second, Concurrency: 100, Waiting: 10_000}
	}
	auth, far, near, oauth, private, sign, sim, service := common("auth"), common("far"), common("near"), common("oauth"),
		common("private"), common("sign"), common("sim"), common("token-service")
	auth.GRPC = &GRPC{Target: "auth.example.test:443", TLS: tls}
	auth.Headers, auth.Concurrency, auth.Waiting = []string{"X-Tenant"}, 7, 700
	far.Actor = &remotexsp.Peer{Address: "10.0.0.7:7070", Actor: "radius", Identity: "radius.example.test"}
	near.GRPC = &GRPC{Target: "127.0.0.1:7443"}
	near.Timeout, near.Waiting = 50*time.Millisecond, 5
	oauth.Bearer = &bearer.Options{
		Grant: bearer.RefreshToken, TokenURL: "https://as.example.test/token", TrustedServers: []string{"https://as.example.test"},
		ClientID: "muster", ClientSecret: messages.NewSecret("canary-of-the-client"), Scopes: []string{"sip"}, AllowCleartext: true,
		RefreshTokens: map[string]messages.Secret{"alice": messages.NewSecret("canary-token")},
	}
	private.Webhook = &Webhook{URL: "https://auth.example.test/answer", Secret: messages.NewSecret("canary-of-the-hook")}
	sign.HMAC = &signature.Options{Key: messages.NewSecret("canary-of-the-signature"), KeyID: "node-1", Scheme: "HMAC-SHA256", Header: "X-Muster-Signature"}
	sign.Headers = []string{"X-Muster-Signature"}
	sim.AKA = &AKA{File: "sims.csv"}
	service.Webhook = &Webhook{URL: "https://auth.example.test/answer", Secret: messages.NewSecret("canary-of-the-hook")}
	want := []XSP{auth, far, near, oauth, private, sign, sim, service}
	pools := cmpopts.IgnoreTypes(&x509.CertPool{})
	if diff := cmp.Diff(want, got.XSPs, secrets, pools, cmpopts.IgnoreFields(AKA{}, "Subscribers")); diff != "" {
		t.Errorf("xsp (-want +got):\n%s", diff)
	}
	if got.XSPs[4].Webhook.RootCAs == nil || got.XSPs[3].Bearer.RootCAs == nil || got.XSPs[7].Webhook.RootCAs != nil {
		t.Error("tls_ca is not the authority of the entry that names it")
	}
	if s := got.XSPs[6].AKA.Subscribers; len(s) != 1 || s[0].Profile != "alice" || !s[0].V2Only {
		t.Errorf("subscribers = %d", len(s))
	}
	if diff := cmp.Diff(Remote{Listen: "127.0.0.1:7070", TLS: tls}, got.Remote); diff != "" {
		t.Errorf("remote (-want +got):\n%s", diff)
	}
	if len(got.Warnings) > 0 {
		t.Errorf("warnings = %q", got.Warnings)
	}
}

func TestSecretsThatOthersCanReadAreWarnedOf(t *testing.T) {
	files := xspFiles(t)
	files["muster.yaml"] = "registrars: {acme: {uri: 'sip:127.0.0.1'}}\n" + xspSection
	write(t, files)
	for name := range files {
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load("muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"hook.key", "client.secret", "sign.key", "sims.csv", "tokens.csv", "node.key"} {
		found := 0
		for _, w := range c.Warnings {
			if strings.HasPrefix(w, file+": can be read by other users") {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s: %d warnings", file, found)
		}
	}
	if len(c.Warnings) != 6 {
		t.Errorf("warnings = %q", c.Warnings)
	}
}

func TestTargetsShowNoToken(t *testing.T) {
	files := xspFiles(t)
	files["muster.yaml"] = "registrars: {acme: {uri: 'sip:127.0.0.1'}}\n" + strings.ReplaceAll(xspSection, "test/answer", "test/canary?token=canary")
	write(t, files)
	c, err := Load("muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, x := range c.XSPs {
		got.WriteString(x.Name + " " + x.Kind() + " " + x.Target() + "\n")
	}
	const want = `auth grpc auth.example.test:443
far actor radius at 10.0.0.7:7070
near grpc 127.0.0.1:7443 without TLS
oauth bearer https://as.example.test
private webhook https://auth.example.test
sign hmac key node-1
sim aka subscribers of sims.csv
token-service webhook https://auth.example.test
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}
