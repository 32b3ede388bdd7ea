package session_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/session"
)

// updating tells whether to rewrite what the scripts expect: the flag -update,
// which package machinetest has for its own.
func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// rowID is how the rows of the standards and security checklists are named.
var rowID = regexp.MustCompile(`\b(GEN|INV|CAN|DLG|TMR|PRK|UPD|CHA|DIG|S|R)-\d\d\b`)

// scriptPolicy is what a script begins with.
func scriptPolicy() session.Policy { return session.Policy{Targets: []string{ownTarget}} }

// TestScenarios runs every script of testdata, each on a machine of its own. A
// script is commands, ----, and what they must give; see machine.do.
func TestScenarios(t *testing.T) {
	for _, path := range scripts(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			runScript(t, path, string(text))
		})
	}
}

func scripts(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	return paths
}

// block is a piece of a script: comments and blank lines, then commands, then
// what they must give.
type block struct {
	line     int
	lead     []string
	commands []string
	want     string
}

func runScript(t *testing.T, path, text string) {
	t.Helper()
	blocks, tail, err := parseScript(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(blocks) == 0 || !strings.HasPrefix(text, "# ") {
		t.Fatalf("%s: begins with no comment", path)
	}
	m := newMachine(scriptPolicy())
	var out strings.Builder
	for _, b := range blocks {
		got := ""
		for _, command := range b.commands {
			text, err := m.do(command)
			if err != nil {
				t.Errorf("%s:%d: %s\n%v", path, b.line, command, err)
			}
			got += text
		}
		got += "is        " + summary(m.state, m.now) + "\n"
		if !updating() && got != b.want {
			t.Errorf("%s:%d: %s\n(-want +got)\n%s", path, b.line, strings.Join(b.commands, "\n"), cmp.Diff(b.want, got))
		}
		for _, line := range append(b.lead, b.commands...) {
			fmt.Fprintln(&out, line)
		}
		fmt.Fprintf(&out, "----\n%s", got)
	}
	for _, line := range tail {
		fmt.Fprintln(&out, line)
	}
	if updating() && out.String() != text {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// parseScript cuts a script into blocks; tail is what follows the last.
func parseScript(text string) (blocks []block, tail []string, err error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var b block
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			if len(b.commands) > 0 {
				return nil, nil, fmt.Errorf("line %d: a command without ----", i+1)
			}
			b.lead = append(b.lead, line)
		case line == "----":
			if len(b.commands) == 0 {
				return nil, nil, fmt.Errorf("line %d: ---- without a command", i+1)
			}
			var want strings.Builder
			for i++; i < len(lines) && lines[i] != ""; i++ {
				fmt.Fprintln(&want, lines[i])
			}
			i-- // the blank line leads the next block
			b.want = want.String()
			blocks = append(blocks, b)
			b = block{}
		case line[0] == ' ':
			if len(b.commands) == 0 {
				return nil, nil, fmt.Errorf("line %d: continues nothing", i+1)
			}
			b.commands[len(b.commands)-1] += "\n" + line
		default:
			if len(b.commands) == 0 {
				b.line = i + 1
			}
			b.commands = append(b.commands, line)
		}
	}
	if len(b.commands) > 0 {
		return nil, nil, fmt.Errorf("line %d: commands without ----", b.line)
	}
	return blocks, b.lead, nil
}
