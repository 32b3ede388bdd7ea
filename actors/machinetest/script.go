package machinetest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/profile"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

// RowID is how the rows of the standards checklist are named.
var RowID = regexp.MustCompile(`\b(GEN|REG|CHA|AIN|ERR|DIG|OUT|AKA|BEA|S|R)-\d\d\b`)

// block is a piece of a script: comments and blank lines, then commands, then
// what they must give.
type block struct {
	line     int
	lead     []string
	commands []string
	want     string
}

// Scripts runs every script of a folder as a subtest, each on a machine of its
// own, and returns the arrows they went along.
func Scripts(t *testing.T, dir string) map[Arrow]int {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	arrows := map[Arrow]int{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			m := New(profile.Policy{})
			m.Arrows = arrows
			RunScript(t, m, path, string(text), RowID)
		})
	}
	return arrows
}

// Conversation is a machine that a script talks to.
type Conversation interface {
	// Do carries out a command and returns what it gave, in lines.
	Do(command string) (string, error)
	// Summary is the state in one line.
	Summary() string
}

// RunScript talks to a machine as a script says: commands, ----, and what they
// must give. With the flag -update it rewrites the latter. The script must begin
// with a comment, and with row, which may be nil, the comment must match it.
func RunScript(t *testing.T, m Conversation, path, text string, row *regexp.Regexp) {
	t.Helper()
	blocks, tail, err := parseScript(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(blocks) == 0 || len(blocks[0].lead) == 0 || !strings.HasPrefix(text, "# ") {
		t.Fatalf("%s: begins with no comment", path)
	}
	if row != nil && !row.MatchString(strings.Join(blocks[0].lead, " ")) {
		t.Errorf("%s: begins with no comment that names a row", path)
	}
	var out strings.Builder
	for _, b := range blocks {
		got := ""
		for _, command := range b.commands {
			text, err := m.Do(command)
			if err != nil {
				t.Errorf("%s:%d: %s\n%v", path, b.line, command, err)
			}
			got += text
		}
		got += "is        " + m.Summary() + "\n"
		if !*update && got != b.want {
			t.Errorf("%s:%d: %s\n(-want +got)\n%s", path, b.line, strings.Join(b.commands, "\n"), cmp.Diff(b.want, got))
		}
		writeBlock(&out, b, got)
	}
	for _, line := range tail {
		fmt.Fprintln(&out, line)
	}
	if *update && out.String() != text {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func writeBlock(out *strings.Builder, b block, got string) {
	for _, line := range b.lead {
		fmt.Fprintln(out, line)
	}
	for _, c := range b.commands {
		fmt.Fprintln(out, c)
	}
	fmt.Fprintf(out, "----\n%s", got)
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
