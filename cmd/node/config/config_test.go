package config

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// secrets lets cmp compare what holds some.
var secrets = cmp.Comparer(func(a, b messages.Secret) bool { return a.Reveal() == b.Reveal() })

// addresses lets cmp compare what is comparable.
var addresses = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// write puts files into a new folder and makes it the working directory, so
// that messages hold no random path.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestErrors loads the files of each archive in testdata and compares what Load
// says with the archive's last file, "want".
func TestErrors(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal("no archives", err)
	}
	for _, path := range archives {
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range archive.Files {
				files[f.Name] = string(f.Data)
			}
			write(t, files)
			got := "no error\n"
			c, err := Load("muster.yaml")
			if err != nil {
				got = err.Error() + "\n"
			} else {
				for _, w := range c.Warnings {
					got += "warning: " + w + "\n"
				}
			}
			if strings.Contains(got, "canary") {
				t.Errorf("a message shows a secret:\n%s", got)
			}
			if *update {
				last := &archive.Files[len(archive.Files)-1]
				if last.Name != "want" {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					last = &archive.Files[len(archive.Files)-1]
				}
				last.Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(files["want"], got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	write(t, map[string]string{
		"etc/muster.yaml": `
node:
  id: north.1
  data_dir: /var/lib/muster
  key_file: keys/muster.key
  retention: {events: 5000, age: 30d, bytes: 20GiB}
admin: {listen: "localhost:0"}
sip:
  listen: ["UDP://localhost:5070", "tcp://:0", "udp://[::1]:5070"]
  advertise: "sip.example.test:5080"
  user_agent: "Muster test"
  accept_responses_from: [192.0.2.7, "::ffff:192.0.2.8"]
registrars:
  zulu: {uri: "sip:z.example.test"}
  acme:
    uri: "sip:127.0.0.1:5060;transport=tcp"
    outbound_proxy: "sip:proxy.example.test"
    realms: [a, b]
    expires: 120
    pace: {rate: 0.5, concurrency: unlimited, count: registrations}
    algorithms: [sha-256, MD5]
    tolerate_missing_contact: true
    require_mutual_auth: true
    allow_downgrade: true
    retry: {base: 10s, max: 5m}
    sessions: {total: 500, per_profile: unlimited, expires: unlimited, ring: 90s}
    registration_handler: tokens>digest
    session_handler: tokens
xsp:
  tokens: {webhook: "http://127.0.0.1:9000/answer", secret_file: hook.key, timeout: 500ms}
trunks:
  yard: {peers: [192.0.2.9, "2001:db8:1::/48"], uri: "sip:[2001:db8:1::5]", profile: from, profiles: [alice]}
  pbx:
    peers: ["::ffff:192.0.2.7", 198.51.100.0/24]
    uri: "sip:pbx.example.test;transport=tcp"
    profile: {header: X-Muster-Profile}
    registrar: acme
    headers: [Subject, X-Account]
profiles: {files: [one.csv, /tmp/../tmp/nowhere]}
log: {level: debug, format: json}
shutdown: {deregister: true}
`,
		"etc/one.csv":  "registrar,aor,id\nzulu,sip:alice@example.test,alice\n",
		"etc/hook.key": "sixteen-bytes-ok\n",
	})
	content, err := os.ReadFile("etc/muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("etc/muster.yaml", []byte(strings.Replace(string(content), ", /tmp/../tmp/nowhere", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load("etc/muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		File: "etc/muster.yaml",
		Node: Node{
			ID: "north.1", DataDir: "/var/lib/muster", KeyFile: "etc/keys/muster.key",
			Retention: Retention{Events: 5000, Age: 720 * time.Hour, Bytes: 20 << 30},
		},
		Admin: Admin{Listen: "localhost:0"},
		SIP: SIP{
			Listen:    []string{"udp://127.0.0.1:5070", "tcp://0.0.0.0:0", "udp://[::1]:5070"},
			Advertise: "sip.example.test:5080", UserAgent: "Muster test",
			AcceptFrom: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")},
		},
		Registrars: []actors.Registrar{
			{
				Name: "acme", URI: "sip:127.0.0.1:5060;transport=tcp", OutboundProxy: "sip:proxy.example.test",
				Realms: []string{"a", "b"}, Expires: 2 * time.Minute, Rate: 0.5, Concurrency: -1, CountRegistrations: true, Algorithms: []string{"SHA-256", "MD5"},
				Tolerate: true, RequireProof: true, AllowDowngrade: true, RetryBase: 10 * time.Second, RetryMax: 5 * time.Minute,
				RegistrationHandler: "tokens>digest", SessionHandler: "tokens",
				Sessions: actors.SessionLimits{Total: 500, PerProfile: -1, Expires: -1, Ring: 90 * time.Second},
			},
			{Name: "zulu", URI: "sip:z.example.test"},
		},
		XSPs: []XSP{{
			Name: "tokens", Timeout: 500 * time.Millisecond, Concurrency: 100, Waiting: 10_000,
			Webhook: &Webhook{URL: "http://127.0.0.1:9000/answer", Secret: messages.NewSecret("sixteen-bytes-ok")},
		}},
		Trunks: []actors.Trunk{
			{
				Name: "pbx", Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("198.51.100.0/24")},
				URI: "sip:pbx.example.test;transport=tcp", Profile: "header:X-Muster-Profile", Registrar: "acme",
				Headers: []string{"Subject", "X-Account"},
			},
			{
				Name: "yard", Peers: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32"), netip.MustParsePrefix("2001:db8:1::/48")},
				URI: "sip:[2001:db8:1::5]", Profile: "from", Profiles: []string{"alice"},
			},
		},
		Profiles: Profiles{Files: []string{"etc/one.csv"}, count: 1},
		Log:      Log{Level: slog.LevelDebug, JSON: true},
		Shutdown: Shutdown{Deregister: true},
	}
	profiles := []actors.Declaration{{ID: "alice", AOR: "sip:alice@example.test", Registrar: "zulu"}}
	if diff := cmp.Diff(profiles, slices.Collect(got.Profiles.All()), secrets); diff != "" {
		t.Errorf("declarations (-want +got):\n%s", diff)
	}
	got.Profiles.texts = nil
	if diff := cmp.Diff(want, got, secrets, addresses, cmp.AllowUnexported(Profiles{})); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	write(t, map[string]string{"muster.yaml": "registrars: {acme: {uri: 'sip:registrar.example.test'}}\n"})
	got, err := Load("muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		File:       "muster.yaml",
		Node:       Node{ID: "node-1", DataDir: "data", KeyFile: "muster.key"},
		Admin:      Admin{Listen: "127.0.0.1:8080"},
		SIP:        SIP{Listen: []string{"udp://127.0.0.1:5070", "tcp://127.0.0.1:5070"}},
		Registrars: []actors.Registrar{{Name: "acme", URI: "sip:registrar.example.test"}},
		Warnings:   []string{"muster.yaml: sip.listen is absent, so SIP uses 127.0.0.1, from where registrars on other machines cannot be reached (set it to an address of this machine)"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Profiles{})); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// TestExample loads the example as it is, and with every comment that holds a
// key turned into the key.
func TestExample(t *testing.T) {
	const profiles = "aor,registrar\nsip:a@example.test,acme\n"
	files := xspFiles(t)
	files["muster.yaml"], files["profiles.csv"] = Example, profiles
	write(t, files)
	if c, err := Load("muster.yaml"); err != nil || len(c.Warnings) > 0 {
		t.Errorf("the example: %v, %v", err, c)
	}
	var full strings.Builder
	for line := range strings.SplitSeq(Example, "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		rest := strings.TrimPrefix(line[len(indent):], "#")
		rest = strings.TrimPrefix(rest, " ")
		key, _, isKey := strings.Cut(strings.TrimLeft(rest, " "), ":")
		if isKey && !strings.ContainsAny(key, " ,=(") && !strings.Contains(rest, "./admin.") && key != "token_file" {
			line = indent + rest
		}
		full.WriteString(line + "\n")
	}
	if err := os.WriteFile("muster.yaml", []byte(full.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load("muster.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, full.String())
	}
	if len(c.XSPs) != len(ways) || c.Remote.Listen == "" || c.Registrars[0].SessionHandler != "digest" || c.Registrars[0].Sessions.Ring != 3*time.Minute || len(c.Trunks) != 1 || len(c.Trunks[0].Headers) != 3 || c.Profiles.Len() != 1 || c.Registrars[0].RetryMax != 30*time.Minute || c.SIP.UserAgent != "Muster" {
		t.Errorf("the full example gave %+v", c)
	}
}

func TestProfilesOfAllFiles(t *testing.T) {
	write(t, map[string]string{
		"muster.yaml": "registrars: {acme: {uri: 'sip:127.0.0.1'}}\nprofiles: {files: [a.csv, b.jsonl]}\n",
		"a.csv":       "\ufeffregistrar,password,aor,enabled,expires\r\nacme,p1,sip:a@b,no,90\r\n",
		"b.jsonl":     `{"id":"b","aor":"sip:c@d","registrar":"acme","expires":"1h","register":false}` + "\n",
	})
	if err := os.Chmod("b.jsonl", 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load("muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []actors.Declaration{
		{ID: "sip:a@b", AOR: "sip:a@b", Registrar: "acme", Password: messages.NewSecret("p1"), Expires: 90 * time.Second, Disabled: true},
		{ID: "b", AOR: "sip:c@d", Registrar: "acme", Expires: time.Hour, NoRegister: true},
	}
	if diff := cmp.Diff(want, slices.Collect(c.Profiles.All()), secrets); diff != "" {
		t.Errorf("declarations (-want +got):\n%s", diff)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "b.jsonl: can be read by other users") {
		t.Errorf("warnings = %q", c.Warnings)
	}
}

func TestManyErrorsAreCounted(t *testing.T) {
	write(t, map[string]string{
		"muster.yaml":  "registrars: {acme: {uri: 'sip:127.0.0.1'}}\nprofiles: {files: [profiles.csv]}\n",
		"profiles.csv": "aor,registrar\n" + strings.Repeat("nobody,acme\n", 250),
	})
	_, err := Load("muster.yaml")
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != MaxProblems+1 || lines[MaxProblems] != "and 150 more" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

func TestManyProfilesAreReadFast(t *testing.T) {
	const count = 50_000
	var rows strings.Builder
	rows.WriteString("id,aor,registrar,password\n")
	for i := range count {
		fmt.Fprintf(&rows, "user%d,sip:user%d@example.test,acme,secret%d\n", i, i, i)
	}
	write(t, map[string]string{
		"muster.yaml":  "registrars: {acme: {uri: 'sip:127.0.0.1'}}\nprofiles: {files: [profiles.csv]}\n",
		"profiles.csv": rows.String(),
	})
	started := time.Now()
	c, err := Load("muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Profiles.Len() != count || len(slices.Collect(c.Profiles.All())) != count {
		t.Errorf("read %d declarations", c.Profiles.Len())
	}
	// 50 ms without -race on the slowest machine so far.
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// FuzzLoad: no configuration makes Load panic, and every message has a place.
func FuzzLoad(f *testing.F) {
	f.Add(Example)
	f.Add(xspSection)
	f.Add("registrars: {a: {uri: *x}}")
	f.Add("registrars: {r: {uri: 'sip:10.0.0.1'}}\ntrunks: {a: {peers: [10.0.0.0/8, '::/1'], uri: 'sip:a', profile: {header: X}, profiles: [b]}}\n")
	f.Add("a: &a [*a]\n---\n")
	f.Add("<<: {node: 1}\n? [x]\n: y\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content string) {
		path := filepath.Join(dir, "muster.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err != nil && !strings.HasPrefix(err.Error(), dir) {
			t.Fatalf("an error without a place: %v", err)
		}
	})
}

func TestDataDir(t *testing.T) {
	for content, want := range map[string]string{
		"node: {data_dir: store}\nnonsense: 1\n": "etc/store",
		"node: {data_dir: /var/lib/x}\n":         "/var/lib/x",
		"registrars: {}\n":                       "etc/data",
		"":                                       "etc/data",
		"node: 5\n":                              "etc/muster.yaml: node.data_dir cannot be read",
		"node: [\n":                              "etc/muster.yaml:1: is not valid YAML: did not find expected node content",
	} {
		write(t, map[string]string{"etc/muster.yaml": content})
		got, err := DataDir("etc/muster.yaml")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}
