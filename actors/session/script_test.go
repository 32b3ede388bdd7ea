package session_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/session"
)

// rowID is how the rows of the standards and security checklists are named.
var rowID = regexp.MustCompile(`\b(GEN|INV|CAN|DLG|TMR|PRK|UPD|CHA|DIG|S|R)-\d\d\b`)

// scriptPolicy is what a script begins with.
func scriptPolicy() session.Policy { return session.Policy{Targets: []string{ownTarget}} }

// TestScenarios runs every script of testdata, each on a machine of its own. A
// script is commands, ----, and what they must give; see machine.Do.
func TestScenarios(t *testing.T) {
	for _, path := range scripts(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			machinetest.RunScript(t, newMachine(scriptPolicy()), path, string(text), nil)
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
