//go:build interop

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
)

// hookKey signs the questions to the webhook.
const hookKey = "canary-of-the-webhook-5c9e1f"

// xspFarm is the binary with a configuration file, a Kamailio, and the three
// examples as the programs that know the passwords: answer.py behind a webhook,
// one in Go behind gRPC, and one in Go as an actor on another node.
type xspFarm struct {
	*api
	kamailio *Kamailio
	dir      string
	muster   string // the binary
	node     *program
	far      *program
	farArgs  []string
	farAt    string // host:port
	starts   int    // of programs that may be started again
	each     int
}

// xspNames are the xSPs; profiles are named after who answers for them.
var xspNames = []string{"hook", "near", "far"}

func newXSPFarm(t *testing.T, o Options, each int) *xspFarm {
	t.Helper()
	kamailio, err := StartKamailio(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kamailio.Stop)
	f := &xspFarm{api: &api{t: t}, kamailio: kamailio, dir: t.TempDir(), each: each}
	f.muster = build(t, f.dir, "muster", "cmd/node")
	authority := xsptlstest.New(t)
	nodeCert, nodeKey, ca := authority.Files("node.example.test")
	cert, key, _ := authority.Files("xsp.example.test")
	f.writeTables()

	hook := launch(t, f.path("hook.log"), "python3", f.example("webhook", "answer.py"), "--listen", "127.0.0.1:0",
		"--secret-file", f.path("hook.key"), "--users", f.path("hook.csv"), "--tls-cert", cert, "--tls-key", key).says("listening on ")
	near := launch(t, f.path("near.log"), build(t, f.dir, "near", "docs/examples/grpc"), "--listen", "127.0.0.1:0",
		"--users", f.path("near.csv"), "--tls-cert", cert, "--tls-key", key, "--tls-ca", ca).says("listening on ")
	f.farArgs = []string{
		build(t, f.dir, "far", "docs/examples/actor"), "--nodes", "node.example.test", "--name", "answerer",
		"--users", f.path("far.csv"), "--tls-cert", cert, "--tls-key", key, "--tls-ca", ca,
	}
	f.farAt = fmt.Sprintf("127.0.0.1:%d", steadyPort(t))
	f.startFar()

	admin := fmt.Sprintf("127.0.0.1:%d", steadyPort(t))
	sip := fmt.Sprintf("127.0.0.1:%d", steadyPort(t))
	f.base = "http://" + admin
	tls := fmt.Sprintf("tls_ca: %q, tls_cert: %q, tls_key: %q", ca, nodeCert, nodeKey)
	f.write("muster.yaml", `node: {id: node, data_dir: data}
admin: {listen: %q}
sip: {listen: ["udp://%s", "tcp://%s"]}
remote: {listen: "127.0.0.1:0", %s}
registrars:
  kamailio: {uri: %q, realms: [%s], expires: 20m, pace: {rate: 1000, concurrency: unlimited}}
xsp:
  hook: {webhook: %q, secret_file: hook.key, tls_ca: %q, timeout: 10s}
  near: {grpc: %q, %s, timeout: 10s}
  far: {actor: "%s/answerer", peer: xsp.example.test}
profiles: {files: [profiles.csv]}
`, admin, sip, sip, tls, kamailio.URI("udp"), Realm, hook, ca, near, tls, f.farAt)
	return f
}

// writeTables writes who is registered, without a password, and for each xSP
// the passwords of its own users.
func (f *xspFarm) writeTables() {
	f.t.Helper()
	f.write("hook.key", "%s\n", hookKey)
	profiles := "id,aor,registrar,registration_handler\n"
	for _, name := range xspNames {
		users := ""
		if name == "hook" {
			users = "id,username,password\n"
		}
		for _, id := range f.ids(name) {
			profiles += fmt.Sprintf("%s,sip:%s@%s,kamailio,%s\n", id, id, Realm, name)
			if name == "hook" {
				users += ","
			}
			users += id + "," + Password(id) + "\n"
		}
		f.write(name+".csv", "%s", users)
	}
	f.write("profiles.csv", "%s", profiles)
}

func (f *xspFarm) write(name, format string, args ...any) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), fmt.Appendf(nil, format, args...), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *xspFarm) path(name string) string { return filepath.Join(f.dir, name) }

func (f *xspFarm) example(elements ...string) string {
	path, err := filepath.Abs(filepath.Join(append([]string{"..", "docs", "examples"}, elements...)...))
	if err != nil {
		f.t.Fatal(err)
	}
	return path
}

// ids are the profiles of an xSP.
func (f *xspFarm) ids(name string) []string { return ids(f.each, name+"-") }

func (f *xspFarm) all() (all []string) {
	for _, name := range xspNames {
		all = append(all, f.ids(name)...)
	}
	return all
}

func (f *xspFarm) total() int { return len(xspNames) * f.each }

// startFar starts the actor's program, always at the same address.
func (f *xspFarm) startFar() {
	f.t.Helper()
	f.starts++
	log := f.path(fmt.Sprintf("far-%d.log", f.starts))
	f.far = launch(f.t, log, f.farArgs[0], append(f.farArgs[1:], "--listen", f.farAt)...)
	f.far.says("listening on ")
}

// startNode starts the binary and returns when it is ready.
func (f *xspFarm) startNode() {
	f.t.Helper()
	f.node = launch(f.t, f.path("node.log"), f.muster, "run", "--config", f.path("muster.yaml"))
	f.node.ready(f.base)
}
