package profile_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/machinetest"
)

// rows are the rows of the standards, security and reliability checklists that
// this package and the challenge package answer for. The others belong to the
// adapter, the digest, the host or the sessions.
var rows = strings.Fields(`
	GEN-05 GEN-16 GEN-17
	REG-04 REG-05 REG-06 REG-07 REG-10 REG-12 REG-13 REG-14 REG-15 REG-16 REG-17 REG-20 REG-22 REG-23 REG-24 REG-25
	CHA-01 CHA-02 CHA-03 CHA-06 CHA-08 CHA-09 CHA-10 CHA-11 CHA-12 CHA-13 CHA-14 CHA-15 CHA-17 CHA-18 CHA-19
	CHA-20 CHA-21 CHA-22 CHA-23 CHA-24 CHA-25 CHA-28 CHA-29
	AIN-01 AIN-02 AIN-04 AIN-05 AIN-06
	ERR-01 ERR-02 ERR-03 ERR-04 ERR-05 ERR-06 ERR-07 ERR-08 ERR-20 ERR-21
	DIG-05 DIG-06 OUT-10
	S-01 S-02 S-06 S-10 S-11 S-15 S-22 S-31 S-33 S-41 R-12 R-14
	AKA-03 BEA-04
`)

// TestEveryRowHasAScript: each row is named by the first comment of a script,
// which proves it by what follows.
func TestEveryRowHasAScript(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string][]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(text), "\n\n")
		for _, id := range machinetest.RowID.FindAllString(head, -1) {
			named[id] = append(named[id], filepath.Base(path))
		}
	}
	for _, id := range rows {
		if len(named[id]) == 0 {
			t.Errorf("%s has no script", id)
		}
	}
	for id, files := range named {
		if !slices.Contains(rows, id) {
			t.Errorf("%s of %v is not a row of ours", id, files)
		}
	}
}
