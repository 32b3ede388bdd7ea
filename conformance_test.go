package muster_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var updateConformance = flag.Bool("update", false, "fill the tests of docs/rfc.yaml and render docs/rfc-conformance.md")

const (
	registryFile    = "docs/rfc.yaml"
	conformanceFile = "docs/rfc-conformance.md"
)

// The statuses of a requirement.
const (
	implemented = "implemented"
	partial     = "partial"
	notDone     = "not"
)

type registry struct {
	Rows        []requirement
	Divergences []divergence
}

type requirement struct {
	ID, Level, Source, Statement, Status, Reason string
	Tests                                        []string
}

type divergence struct{ Source, What, Why string }

// groups are the sections of the page, by the letters of the ids.
var groups = []struct{ prefix, title string }{
	{"GEN", "Every request"},
	{"TRX", "Client transactions"},
	{"REG", "Registration"},
	{"CHA", "Challenges"},
	{"DIG", "Digest computation"},
	{"AIN", "Authentication-Info"},
	{"AKA", "IMS AKA"},
	{"BEA", "Bearer tokens"},
	{"SEC", "Security agreement"},
	{"ERR", "Failures, redirects, failover"},
	{"OUT", "Outbound, keep-alive, Path, Service-Route, GRUU, TLS identity"},
	{"INV", "Sessions: INVITE"},
	{"CAN", "Sessions: CANCEL"},
	{"DLG", "Sessions: inside a dialog"},
	{"TMR", "Sessions: timers"},
	{"PRK", "Sessions: reliable provisional responses"},
	{"UPD", "Sessions: UPDATE"},
}

var requirementID = regexp.MustCompile(`\b(?:GEN|TRX|REG|CHA|DIG|AIN|AKA|BEA|SEC|ERR|OUT|INV|CAN|DLG|TMR|PRK|UPD)[-_]?\d\d`)

func readRegistry(t *testing.T) registry {
	t.Helper()
	text, err := os.ReadFile(registryFile)
	if err != nil {
		t.Fatal(err)
	}
	var r registry
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%s: %v", registryFile, err)
	}
	return r
}

// mentions maps a requirement to the tests that name it: "dir.TestName" for a
// test function whose name, comment or body does, else the file (a scenario, or
// a table outside of any function).
type mentions map[string]map[string]bool

func (m mentions) add(id, test string) {
	// A function's name cannot hold a hyphen: TestREG_07, TestREG07.
	id = id[:3] + "-" + id[len(id)-2:]
	if m[id] == nil {
		m[id] = map[string]bool{}
	}
	m[id][test] = true
}

func (m mentions) of(id string) []string {
	tests := []string{}
	for test := range m[id] {
		tests = append(tests, test)
	}
	slices.Sort(tests)
	return tests
}

// discover searches every test and every scenario of the tree.
func discover(t *testing.T) mentions {
	t.Helper()
	found := mentions{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		switch {
		case entry.IsDir():
			if hidden := strings.HasPrefix(entry.Name(), ".") && file != "."; hidden || skipped(file) {
				return fs.SkipDir
			}
			return nil
		case file == "conformance_test.go":
			return nil
		case strings.HasSuffix(file, "_test.go"):
			return discoverGo(found, file)
		case strings.Contains(file, "/testdata/"):
			return discoverScenario(found, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("no test names any requirement: was the search moved?")
	}
	return found
}

// skipped folders hold no tests of a node: build products, the journals of a
// developer, what a fuzzer found, and the tests of the fake registrar, which
// show what it would notice and not what a node does.
func skipped(dir string) bool {
	return dir == "bin" || dir == "data" || dir == "docs" || dir == "sipadapter/siptest" ||
		strings.HasSuffix(dir, "testdata/fuzz")
}

func discoverScenario(found mentions, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, id := range requirementID.FindAllString(string(text), -1) {
		found.add(id, file)
	}
	return nil
}

func discoverGo(found mentions, file string) error {
	set := token.NewFileSet()
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(set, file, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(file)
	if dir == "." {
		dir = "muster"
	}
	type span struct {
		from, to int
		test     string
	}
	var spans []span
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || !isTest(f) {
			continue
		}
		from := f.Pos()
		if f.Doc != nil {
			from = f.Doc.Pos()
		}
		spans = append(spans, span{
			set.Position(from).Offset, set.Position(f.End()).Offset,
			dir + "." + f.Name.Name,
		})
	}
	for _, at := range requirementID.FindAllIndex(text, -1) {
		test := file
		for _, s := range spans {
			if s.from <= at[0] && at[0] < s.to {
				test = s.test
			}
		}
		found.add(string(text[at[0]:at[1]]), test)
	}
	return nil
}

func isTest(f *ast.FuncDecl) bool {
	n := f.Name.Name
	return f.Recv == nil && (strings.HasPrefix(n, "Test") || strings.HasPrefix(n, "Fuzz") || strings.HasPrefix(n, "Example"))
}

// TestConformanceRegistry checks what is written by hand, and that every test
// that a row names exists and names the row.
func TestConformanceRegistry(t *testing.T) {
	registry, found := readRegistry(t), discover(t)
	if *updateConformance {
		fillTests(t, found)
		registry = readRegistry(t)
	}
	seen := map[string]bool{}
	for _, r := range registry.Rows {
		if seen[r.ID] {
			t.Errorf("%s stands twice", r.ID)
		}
		seen[r.ID] = true
		if r.Level == "" || r.Source == "" || r.Statement == "" {
			t.Errorf("%s lacks its level, source or statement", r.ID)
		}
		if !slices.ContainsFunc(groups, func(g struct{ prefix, title string }) bool { return strings.HasPrefix(r.ID, g.prefix+"-") }) {
			t.Errorf("%s belongs to no section of the page", r.ID)
		}
		for _, test := range r.Tests {
			if !found[r.ID][test] {
				t.Errorf("%s: there is no test %s that names it, run go test -run Conformance -update .", r.ID, test)
			}
		}
		checkStatus(t, r)
	}
	for id := range found {
		if !seen[id] {
			t.Errorf("%v name %s, which the registry does not have", found.of(id), id)
		}
	}
}

func checkStatus(t *testing.T, r requirement) {
	t.Helper()
	switch r.Status {
	case implemented:
		if len(r.Tests) == 0 {
			t.Errorf("%s is implemented and no test names it", r.ID)
		}
		if r.Reason != "" {
			t.Errorf("%s is implemented and has a reason why not: %s", r.ID, r.Reason)
		}
	case partial:
		if len(r.Tests) == 0 || r.Reason == "" {
			t.Errorf("%s is partial: it needs a test for the part and a reason for the rest", r.ID)
		}
	case notDone:
		if r.Reason == "" {
			t.Errorf("%s is not implemented and does not say why", r.ID)
		}
	default:
		t.Errorf("%s: unknown status %q", r.ID, r.Status)
	}
}

// fillTests writes the tests that were found into the registry, and leaves all
// else of it as it is, comments too.
func fillTests(t *testing.T, found mentions) {
	t.Helper()
	text, err := os.ReadFile(registryFile)
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for _, row := range field(document.Content[0], "rows").Content {
		tests := field(row, "tests")
		tests.Content, tests.Style = nil, yaml.FlowStyle
		for _, test := range found.of(field(row, "id").Value) {
			tests.Content = append(tests.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: test})
			tests.Style = 0
		}
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(&document), e.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(registryFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// field finds the value of a key in a mapping; the registry was decoded before,
// so a key that is missing is a mistake of this file.
func field(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	panic(fmt.Sprintf("%s: no %q at line %d", registryFile, key, mapping.Line))
}

// TestConformancePage checks that docs/rfc-conformance.md is rendered from the
// registry.
func TestConformancePage(t *testing.T) {
	want := render(readRegistry(t))
	if *updateConformance {
		if err := os.WriteFile(conformanceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(conformanceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is out of date, run go test -run Conformance -update . (-want +got):\n%s", conformanceFile, diff)
	}
}

func render(r registry) string {
	var b strings.Builder
	b.WriteString(`<!-- Rendered from rfc.yaml by go test -run Conformance -update . -->

# RFC conformance

What the standards ask of the registering and calling side, what of it Muster does, and which tests hold it. A row is *implemented*
when tests hold it, *partial* when they hold a part of it, and *not* otherwise; a test fails when a row names no test, or one that does
not exist.

Levels: M must, MN must not, S should, SN should not, m may, P policy that the RFC leaves open, D derived from an advisory or from
trusted implementations.

| Section | Implemented | Partial | Not |
| --- | --- | --- | --- |
`)
	for _, g := range groups {
		count := map[string]int{}
		for _, row := range r.Rows {
			if strings.HasPrefix(row.ID, g.prefix+"-") {
				count[row.Status]++
			}
		}
		fmt.Fprintf(&b, "| %s (%s) | %d | %d | %d |\n", g.title, g.prefix, count[implemented], count[partial], count[notDone])
	}
	for _, g := range groups {
		fmt.Fprintf(&b, "\n## %s\n\n| Id | Level | Source | Requirement | Status | Held by, or reason |\n| --- | --- | --- | --- | --- | --- |\n", g.title)
		for _, row := range r.Rows {
			if strings.HasPrefix(row.ID, g.prefix+"-") {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", row.ID, row.Level, row.Source, cell(row.Statement), row.Status, evidence(row))
			}
		}
	}
	b.WriteString("\n## Divergences\n\nWhere we do not follow a text, and why.\n\n| Source | What we do | Why |\n| --- | --- | --- |\n")
	for _, d := range r.Divergences {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", d.Source, cell(d.What), cell(d.Why))
	}
	return b.String()
}

// evidence is the last column: the reason first, then the tests.
func evidence(r requirement) string {
	var parts []string
	if r.Reason != "" {
		parts = append(parts, cell(r.Reason))
	}
	for _, test := range r.Tests {
		parts = append(parts, "`"+test+"`")
	}
	return strings.Join(parts, "<br>")
}

// cell keeps a text from ending its column.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
