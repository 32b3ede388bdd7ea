package muster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file holds the table of design §2: who may import what, and what the
// pure packages may not even mention. Every rule carries its reason, which is
// printed when the rule is broken. Only the code that ships is judged; tests
// may import what they need.

const module = "github.com/sipmuster/muster"

type importRule struct {
	module string
	users  []string
	reason string
}

// outside says which packages may import a foreign module. "x/..." stands for x
// and everything below. What is not listed may be imported nowhere.
var outside = []importRule{
	{"github.com/asynkron/protoactor-go", []string{"", "actors", "actors/xsp/remotexsp", "docs/examples/actor"}, "the actor library stays replaceable: only the hosts know it"},
	{"google.golang.org/grpc", []string{"actors/xsp/grpcxsp", "actors/xsp/remotexsp", "docs/examples/grpc"}, "gRPC is one way to reach an xSP"},
	{"github.com/emiago/sipgo", []string{"sipadapter/..."}, "the cores know no SIP library, only messages"},
	{"github.com/miekg/dns", []string{"sipadapter/..."}, "resolving a target is the adapter's work (RFC 3263)"},
	{"golang.org/x/net", []string{"sipadapter/..."}, "socket options are the adapter's work"},
	{"golang.org/x/sys", []string{"sipadapter/...", "store"}, "system calls stay where the sockets and files are"},
	{"golang.org/x/time/rate", []string{"sipadapter/...", "actors", "admin"}, "limits belong to those who face the outside"},
	{"go.etcd.io/bbolt", []string{"store"}, "the journal's format has one owner"},
	{"github.com/prometheus", []string{"", "metrics"}, "figures are a projection: who acts does not count"},
	{"github.com/danielgtaylor/huma", []string{"admin"}, "the HTTP API has one home"},
	{"github.com/spf13/cobra", []string{"cmd/node/..."}, "a library has no command line"},
	{"github.com/spf13/pflag", []string{"cmd/node/..."}, "a library has no command line"},
	{"github.com/schollz/progressbar", []string{"cmd/node/..."}, "a library draws nothing"},
	{"golang.org/x/term", []string{"cmd/node/..."}, "a library asks nobody"},
	{"go.yaml.in/yaml", []string{"cmd/node/..."}, "a library is configured by Options, not by files"},
	{"golang.org/x/text/unicode/norm", []string{"actors/digest"}, "user names are normalised where they are hashed (RFC 7616 §4)"},
	{"golang.org/x/oauth2", []string{"actors/bearer"}, "tokens have one home"},
	{"github.com/google/go-cmp", []string{"actors/machinetest", "store/storetest"}, "harnesses compare; what ships does not"},
	{"google.golang.org/protobuf", []string{"..."}, "messages are protobuf"},
	{"github.com/planetscale/vtprotobuf", []string{"messages"}, "the generated codec"},
}

// inside says which packages of this module a package may import. Dependencies
// point inward; the root package introduces the parts to each other.
var inside = []struct {
	pkg    string
	may    []string
	reason string
}{
	{"", []string{"actors/...", "admin/...", "messages", "metrics", "sipadapter/...", "store"}, "the root wires the parts and is not wired into tools"},
	{"messages", nil, "the vocabulary depends on nobody"},
	{"actors", []string{"actors/...", "messages"}, "actors declares the ports it needs (ports.go) and does not know who stands behind them"},
	{"actors/machinetest", []string{"actors/challenge", "actors/profile", "actors/session", "messages"}, "the harness drives pure cores"},
	{"actors/...", []string{"actors/aka", "actors/challenge", "actors/digest", "actors/mutation", "actors/wording", "actors/xsp", "actors/xsp/xsptls", "messages"}, "a core or an authenticator knows only messages and pure cores, not its host"},
	{"sipadapter", []string{"actors/challenge", "actors/mutation", "messages"}, "the adapter speaks messages, shares the grammar of challenges and the policy of headers, and knows no actor"},
	{"sipadapter/...", []string{"actors/digest", "messages", "sipadapter/..."}, "test peers use the adapter and compute digests, no more"},
	{"store", []string{"messages"}, "the journal knows envelopes and no actor"},
	{"store/...", []string{"messages", "store"}, "the journal knows envelopes and no actor"},
	{"metrics", []string{"messages"}, "metrics project events and know nothing else"},
	{"metrics/...", nil, "rules and dashboards are text"},
	{"admin/...", []string{"actors", "admin/...", "messages"}, "the API talks to the farm, not to the wire or the disk"},
	{"cmd/node/...", []string{"", "actors/...", "admin/...", "cmd/node/...", "messages", "metrics", "sipadapter/...", "store"}, "the binary uses everything and nothing uses the binary"},
	{"interop/...", []string{"..."}, "tests may use anything"},
	{"bench/...", []string{"..."}, "benchmarks may use anything"},
	{"docs/examples/...", []string{"", "actors", "actors/digest", "actors/xsp/...", "messages"}, "an example shows what its reader may use"},
}

// pure are the packages that decide. Everything impure reaches them as a value.
var pure = []string{
	"actors/profile", "actors/session", "actors/challenge", "actors/digest", "actors/aka", "actors/mutation", "actors/wording",
}

// impure are imports that pure packages must not have, by prefix.
var impure = map[string]string{
	"context":      "a core does not wait",
	"crypto/rand":  "randomness arrives as a value (Jitter, Cnonce)",
	"math/rand":    "randomness arrives as a value (Jitter, Cnonce)",
	"log":          "a core logs nothing; logs are derived from its events",
	"net":          "a core opens nothing",
	"os":           "a core opens nothing",
	"io/fs":        "a core opens nothing",
	"database/sql": "a core opens nothing",
	"path":         "a core opens nothing",
	"runtime":      "a core knows no scheduler",
	"sync":         "a core is called by one goroutine",
	"syscall":      "a core opens nothing",
	"unsafe":       "a core is a value",
	"testing":      "tests are elsewhere",
}

// impureTime are the names of package time that read the clock or wait.
var impureTime = []string{
	"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker", "Local",
}

// folders are the only ones at the top (design §2). Hidden ones and those that
// .gitignore names do not count.
var folders = []string{
	"actors", "admin", "bench", "cmd", "deploy", "docs", "interop", "messages",
	"metrics", "sipadapter", "store",
}

// listed is what go list tells about a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// name is the path inside the module, "" for the root.
func (l listed) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(l.ImportPath, module), "/")
}

// ours runs go list and returns the packages of this module and whether an
// import path belongs to the standard library.
func ours(t *testing.T) (packages []listed, standard map[string]bool) {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,Imports,Deps", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	standard = map[string]bool{"C": true, "unsafe": true}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l listed
		err := d.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if l.ImportPath == module || strings.HasPrefix(l.ImportPath, module+"/") {
			packages = append(packages, l)
		} else if l.Standard {
			standard[l.ImportPath] = true
		}
	}
	if len(packages) < 2 {
		t.Fatalf("go list found %d packages of %s", len(packages), module)
	}
	return packages, standard
}

// matches tells whether a package is meant by a pattern of the tables.
func matches(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

func anyMatches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// within tells whether an import path is the module or below it. A major
// version is part of the module's path in Go: huma/v2 is within huma.
func within(path, module string) bool {
	return path == module || strings.HasPrefix(path, module+"/")
}

func show(pkg string) string {
	if pkg == "" {
		return "the root package"
	}
	return pkg
}

// TestImportsFromOutside checks the direct imports of every package: protoactor
// itself imports Prometheus, so what is reached through others says nothing.
func TestImportsFromOutside(t *testing.T) {
	packages, standard := ours(t)
	for _, p := range packages {
		for _, path := range p.Imports {
			if standard[path] || within(path, module) {
				continue
			}
			i := slices.IndexFunc(outside, func(r importRule) bool { return within(path, r.module) })
			switch {
			case i < 0:
				t.Errorf("%s imports %s, which is not in the table of arch_test.go: say there who may use it and why", show(p.name()), path)
			case !anyMatches(outside[i].users, p.name()):
				t.Errorf("%s must not import %s: %s", show(p.name()), path, outside[i].reason)
			}
		}
	}
}

// TestImportsInside checks that dependencies between our packages point inward.
func TestImportsInside(t *testing.T) {
	packages, _ := ours(t)
	for _, p := range packages {
		rule := -1
		for i, r := range inside {
			// An exact entry comes before the entry of its tree.
			if matches(r.pkg, p.name()) {
				rule = i
				break
			}
		}
		if rule < 0 {
			t.Errorf("%s has no row in the table of arch_test.go: say there what it may import and why", show(p.name()))
			continue
		}
		for _, path := range p.Imports {
			if !within(path, module) {
				continue
			}
			target := listed{ImportPath: path}.name()
			if !anyMatches(inside[rule].may, target) {
				t.Errorf("%s must not import %s: %s", show(p.name()), show(target), inside[rule].reason)
			}
		}
	}
}

// TestPureImports checks what the pure packages import, also through others of
// ours: nothing foreign but the codec of messages and Unicode tables.
func TestPureImports(t *testing.T) {
	packages, standard := ours(t)
	foreign := []string{"google.golang.org/protobuf", "github.com/planetscale/vtprotobuf", "golang.org/x/text"}
	for _, p := range packages {
		if !slices.Contains(pure, p.name()) {
			continue
		}
		for _, path := range p.Imports {
			for prefix, reason := range impure {
				if within(path, prefix) {
					t.Errorf("%s must not import %s: %s", p.name(), path, reason)
				}
			}
		}
		for _, path := range p.Deps {
			if standard[path] || within(path, module) {
				continue
			}
			if !slices.ContainsFunc(foreign, func(m string) bool { return within(path, m) }) {
				t.Errorf("%s depends on %s: a core knows no library but the codec of messages", p.name(), path)
			}
		}
	}
}

// TestPureWords reads the source of the pure packages: no clock, no goroutine,
// no channel.
func TestPureWords(t *testing.T) {
	packages, _ := ours(t)
	found := 0
	for _, p := range packages {
		if !slices.Contains(pure, p.name()) {
			continue
		}
		found++
		for _, file := range p.GoFiles {
			findings, err := impureWords(filepath.Join(p.Dir, file))
			if err != nil {
				t.Error(err)
			}
			for _, f := range findings {
				t.Error(f)
			}
		}
	}
	if found == 0 {
		t.Errorf("none of %v exists: did they move?", pure)
	}
}

// impureWords finds what a pure package must not mention in one of its files.
func impureWords(path string) (findings []string, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	clock := importedAs(file, "time")
	forbid := func(n ast.Node, what, reason string) {
		findings = append(findings, fmt.Sprintf("%s: %s: %s", set.Position(n.Pos()), what, reason))
	}
	const function = "a decision is a function"
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && x.Name == clock && slices.Contains(impureTime, n.Sel.Name) {
				forbid(n, "time."+n.Sel.Name, "time arrives as a value (Input.Now); deadlines live in the state")
			}
		case *ast.GoStmt:
			forbid(n, "go statement", function)
		case *ast.ChanType:
			forbid(n, "channel", function)
		case *ast.SendStmt:
			forbid(n, "send", function)
		case *ast.SelectStmt:
			forbid(n, "select", function)
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				forbid(n, "receive", function)
			}
		case *ast.ImportSpec:
			if n.Name != nil && n.Name.Name == "." {
				forbid(n, "dot import", "it hides where a name comes from")
			}
		}
		return true
	})
	return findings, nil
}

// importedAs is the name under which a file imports a path; "" when it does
// not.
func importedAs(file *ast.File, path string) string {
	for _, spec := range file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != path {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path
	}
	return ""
}

// TestFolders: a new folder is a decision about the shape of the house.
func TestFolders(t *testing.T) {
	ignored, err := os.ReadFile(".gitignore")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || strings.HasPrefix(name, ".") || slices.Contains(folders, name) ||
			slices.Contains(strings.Fields(string(ignored)), "/"+name+"/") {
			continue
		}
		t.Errorf("folder %s is not in design §2: the top level stays readable in one look", name)
	}
}

// TestPins: these versions were measured. The newest tag of protoactor is from
// 2024, so any automatic update is a downgrade.
func TestPins(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	pin := "github.com/asynkron/protoactor-go v0.0.0-20260118094027-288962e52f3f"
	if !slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.TrimSpace(strings.TrimPrefix(line, "require ")) == pin
	}) {
		t.Errorf("go.mod does not require exactly %s: @latest is older and silently downgrades", pin)
	}
	if strings.Contains(string(text), "\nreplace ") {
		t.Error("go.mod has a replace directive: it is ignored when somebody embeds a node, who then builds something else than we tested")
	}
}

// TestNoInit: two nodes run in one process, so nothing registers itself.
func TestNoInit(t *testing.T) {
	packages, _ := ours(t)
	for _, p := range packages {
		for _, name := range p.GoFiles {
			if strings.HasSuffix(name, ".pb.go") {
				continue
			}
			path := filepath.Join(p.Dir, name)
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s has an init function: two nodes run in one process, and a reader finds what is called from New", path)
				}
			}
		}
	}
}

// TestRulesBite plants what the rules forbid and expects them to see it: a check
// that has only ever passed proves nothing.
func TestRulesBite(t *testing.T) {
	planted := `package planted

import (
	. "fmt"
	clock "time"
)

var c chan int

func f() clock.Time {
	go f()
	c <- 1
	<-c
	select {}
	Println(clock.Second)
	return clock.Now()
}
`
	path := filepath.Join(t.TempDir(), "planted.go")
	if err := os.WriteFile(path, []byte(planted), 0o600); err != nil {
		t.Fatal(err)
	}
	findings, err := impureWords(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"dot import", "channel", "go statement", "send", "receive", "select", "time.Now"} {
		if !slices.ContainsFunc(findings, func(f string) bool { return strings.Contains(f, want+":") }) {
			t.Errorf("%s is not seen", want)
		}
	}
	if len(findings) != 7 {
		t.Errorf("found %q, want seven findings", findings)
	}
	if matches("actors", "actors/profile") || !matches("actors/...", "actors/profile") || !matches("cmd/node/...", "cmd/node") {
		t.Error("patterns match wrongly")
	}
	if anyMatches([]string{"", "actors"}, "store") || !anyMatches([]string{"", "actors"}, "") {
		t.Error("the users of a module match wrongly")
	}
	if within("math/random", "math/rand") || !within("math/rand/v2", "math/rand") {
		t.Error("a prefix is not a path")
	}
}

// TestDirectoriesOfRules: a row for a folder that was renamed protects nothing.
// Folders of later releases are named here until they exist.
func TestDirectoriesOfRules(t *testing.T) {
	later := []string{"actors/session", "actors/aka", "actors/bearer", "bench", "interop", "store", "admin", "cmd/node", "sipadapter"}
	check := func(pattern string) {
		name := strings.TrimSuffix(strings.TrimSuffix(pattern, "..."), "/")
		if name == "" || slices.Contains(later, name) {
			return
		}
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			t.Error(fmt.Errorf("a rule names %s: %w", name, err))
		}
	}
	for _, r := range outside {
		for _, u := range r.users {
			check(u)
		}
	}
	for _, r := range inside {
		check(r.pkg)
	}
	for _, p := range pure {
		check(p)
	}
}
