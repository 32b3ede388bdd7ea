package session_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// rows are the rows of the checklists that this package answers for, as far as a
// core can. The others belong to the adapter, the host, or the authenticators.
var rows = strings.Fields(`
	GEN-02
	INV-01 INV-02 INV-03 INV-04 INV-05 CAN-02 CAN-03
	DLG-01 DLG-02 DLG-03 DLG-10 DLG-11 DLG-12 DLG-13 DLG-14 DLG-15
	TMR-02 TMR-03 TMR-04 TMR-05 PRK-01 PRK-02 UPD-01
	CHA-01 CHA-02 CHA-06 CHA-08 CHA-10 CHA-11 CHA-12 CHA-13 CHA-14 CHA-18 CHA-19 CHA-21 CHA-23 CHA-29
	S-01 S-02 S-03 S-06 S-41
`)

// texts are the scripts.
func texts(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range scripts(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(text)
	}
	return all
}

// TestEveryRowHasAScript: each row is named by a comment of a script, which
// proves it by what follows.
func TestEveryRowHasAScript(t *testing.T) {
	named := map[string]bool{}
	for path, text := range texts(t) {
		for _, id := range rowID.FindAllString(text, -1) {
			named[id] = true
			if !strings.Contains(" "+strings.Join(rows, " ")+" ", " "+id+" ") {
				t.Errorf("%s names %s, which is not a row of ours", path, id)
			}
		}
	}
	for _, id := range rows {
		if !named[id] {
			t.Errorf("%s has no script", id)
		}
	}
}

// TestEverythingHasAScript keeps the scripts complete: each event type, effect,
// notice and status is in one of them.
func TestEverythingHasAScript(t *testing.T) {
	var all strings.Builder
	for _, text := range texts(t) {
		all.WriteString(text)
	}
	want := append(session.Statuses(), "ended")
	for i, status := range want {
		want[i] = "is        " + status
	}
	for n := session.NoticeProgress; n <= session.NoticeEnded; n++ {
		want = append(want, "Tell{"+n.String())
	}
	for _, name := range eventNames() {
		want = append(want, name+"{")
	}
	effects := []session.Effect{
		session.Admit{},
		session.SendRequest{},
		session.ResumeInvite{},
		session.Cancel{},
		session.Acknowledge{},
		session.AskCredentials{},
		session.Respond{},
		session.Tell{},
	}
	for _, e := range effects {
		text := renderEffect(e, session.State{})
		want = append(want, text[:strings.IndexByte(text, '{')+1])
	}
	for _, text := range want {
		if !strings.Contains(all.String(), text) {
			t.Errorf("no script has %s", text)
		}
	}
}

// eventNames are read from the definition, so that none is forgotten here.
func eventNames() []string {
	fields := (&messages.SessionEvent{}).ProtoReflect().Descriptor().Fields()
	names := make([]string, 0, fields.Len())
	for i := range fields.Len() {
		names = append(names, string(fields.Get(i).Message().Name()))
	}
	return names
}

// TestDoc: the package comment is short, and names the files that there are.
func TestDoc(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(doc), "\n//") + 1; n < 20 || n > 60 {
		t.Errorf("the package comment has %d lines, want 20 to 60", n)
	}
	for _, file := range regexp.MustCompile(`[a-z_]+\.go`).FindAllString(string(doc), -1) {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}
