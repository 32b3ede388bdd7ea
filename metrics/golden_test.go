package metrics_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
)

var update = flag.Bool("update", false, "rewrite the golden files and the table of docs/metrics.md")

// append_ is one line of a recorded stream: what the host tells the observer
// after one append to a profile, or with Session to a session. Ago is how long
// before the append its attempt, or the session, started. Setup is how long it
// took from there until the session was established.
type append_ struct {
	Session       bool
	Registrar     string
	Before, After string
	Ago, Setup    string
	Events        []json.RawMessage
}

// exposition is the text format of our own metrics, without the one that
// depends on the version of Go.
func exposition(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	text, err := testutil.GatherAndFormat(m.Gatherer(), expfmt.TypeTextPlain, ownNames(t, m)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ownNames lists the families with our prefix.
func ownNames(t *testing.T, m *metrics.Metrics) []string {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		if n := f.GetName(); strings.HasPrefix(n, "muster_") && n != "muster_build_info" {
			names = append(names, n)
		}
	}
	return names
}

// changed keeps the lines of after that are not in before.
func changed(before, after string) string {
	known := map[string]bool{}
	for line := range strings.Lines(before) {
		known[line] = true
	}
	var b strings.Builder
	for line := range strings.Lines(after) {
		if !known[line] {
			b.WriteString(line)
		}
	}
	return b.String()
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what is exposed now (-want +got):\n%s\nif that is meant: go test ./metrics -update", path, diff)
	}
}

// TestStartIsComplete holds the whole page of a fresh node: every series of a
// closed set exists at zero.
func TestStartIsComplete(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}, XSPs: []string{"token-service"}})
	golden(t, "testdata/start.prom", exposition(t, m))
}

// TestRecordedStreams feeds recorded streams and compares what changed on the
// page.
func TestRecordedStreams(t *testing.T) {
	streams, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(streams) == 0 {
		t.Fatalf("no streams in testdata: %v", err)
	}
	for _, path := range streams {
		name := strings.TrimSuffix(filepath.Base(path), ".jsonl")
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := metrics.New(metrics.Options{Registrars: []string{"acme", "other-carrier"}})
				start := exposition(t, m)
				feed(t, m, path)
				golden(t, "testdata/"+name+".prom", changed(start, exposition(t, m)))
			})
		})
	}
}

func feed(t *testing.T, m *metrics.Metrics, path string) {
	t.Helper()
	stream, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(stream))
	for n := 1; lines.Scan(); n++ {
		var a append_
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatalf("%s:%d: %v", path, n, err)
		}
		started, established := time.Time{}, time.Time{}
		if a.Ago != "" {
			started = time.Now().Add(-duration(t, a.Ago))
		}
		if a.Setup != "" {
			established = started.Add(duration(t, a.Setup))
		}
		if a.Session {
			m.SessionEvents(a.Registrar, a.Before, a.After, started, established, decoded[messages.SessionEvent](t, a.Events))
			continue
		}
		m.ProfileEvents(a.Registrar, a.Before, a.After, started, decoded[messages.ProfileEvent](t, a.Events))
	}
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// decoded reads protojson.
func decoded[E any, P interface {
	*E
	proto.Message
}](t *testing.T, raws []json.RawMessage,
) []P {
	t.Helper()
	var events []P
	for _, raw := range raws {
		e := P(new(E))
		if err := protojson.Unmarshal(raw, e); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		events = append(events, e)
	}
	return events
}
