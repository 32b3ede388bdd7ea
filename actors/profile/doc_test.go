package profile_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
)

// diagramLine is "from, from -> to, to: Command, Command".
var diagramLine = regexp.MustCompile(`(?m)^//\t([a-z, ]+) -> ([a-z, ]+): ([A-Za-z, ]+)$`)

// arrow is one way from a phase to another by a command.
type arrow struct{ from, to, command string }

// TestDiagram holds the state diagram in the package comment against what the
// machine does: every arrow in it is gone along by some script or walk, and
// every change of phase is in it.
func TestDiagram(t *testing.T) {
	if raceEnabled {
		t.Skip("the walks take long here, and one goroutine makes them all")
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(doc), "\n//") + 1; n < 20 || n > 60 {
		t.Errorf("the package comment has %d lines, want 20 to 60", n)
	}
	seen := travelled(t)
	allowed := map[arrow]bool{}
	for _, line := range diagramLine.FindAllStringSubmatch(string(doc), -1) {
		commands := map[string]bool{}
		for from := range strings.SplitSeq(line[1], ", ") {
			for to := range strings.SplitSeq(line[2], ", ") {
				gone := false
				for command := range strings.SplitSeq(line[3], ", ") {
					a := arrow{from, to, command}
					allowed[a] = true
					gone = gone || seen[a]
					commands[command] = commands[command] || seen[a]
				}
				if !gone {
					t.Errorf("%s: nothing goes from %s to %s", line[0], from, to)
				}
			}
		}
		for command, used := range commands {
			if !used {
				t.Errorf("%s: %s does nothing of this", line[0], command)
			}
		}
	}
	for a := range seen {
		if !allowed[a] {
			t.Errorf("%s -> %s by %s is missing", a.from, a.to, a.command)
		}
	}
}

// travelled runs all scripts and some walks and returns the arrows they took.
func travelled(t *testing.T) map[arrow]bool {
	t.Helper()
	arrows := machinetest.Scripts(t, "testdata")
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		policies := machinetest.Policies()
		m := machinetest.New(policies[rng.IntN(len(policies))])
		m.Arrows = arrows
		for range 500 {
			if err := m.Walk(rng.IntN); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := map[arrow]bool{}
	for a := range arrows {
		fromAttempt, fromBinding, _ := strings.Cut(a.From, "/")
		toAttempt, toBinding, _ := strings.Cut(a.To, "/")
		if fromAttempt != toAttempt {
			seen[arrow{fromAttempt, toAttempt, a.Command}] = true
		}
		if fromBinding != toBinding {
			seen[arrow{fromBinding, toBinding, a.Command}] = true
		}
	}
	return seen
}

// TestEveryEventHasAScript keeps the scripts complete: each event type and each
// effect is in one of them.
func TestEveryEventHasAScript(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, name := range eventNames() {
		if !strings.Contains(all.String(), name+"{") {
			t.Errorf("no script records %s", name)
		}
	}
	for _, e := range []profile.Effect{profile.SendRequest{}, profile.AskCredentials{}, profile.Deliver{}} {
		if name := machinetest.Effect(e, profile.State{}); !strings.Contains(all.String(), name[:strings.IndexByte(name, '{')+1]) {
			t.Errorf("no script does %s", name)
		}
	}
}
