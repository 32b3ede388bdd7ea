package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors"
)

// importServer takes imports, refuses the requests that refuse names, and
// remembers the ids of each good batch.
func importServer(t *testing.T, refuse func(request int) (status int)) (url string, batches *[]string) {
	t.Helper()
	batches = new([]string)
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var documents []struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&documents); err != nil {
			t.Error(err)
		}
		if status := refuse(int(requests.Add(1))); status != 0 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"detail":"the disk is full"}`)
			return
		}
		var ids []string
		var answer struct {
			Results []actors.ImportResult `json:"results"`
		}
		for _, d := range documents {
			ids = append(ids, d.ID)
			answer.Results = append(answer.Results, actors.ImportResult{ID: d.ID, Result: actors.ResultAdded})
		}
		*batches = append(*batches, strings.Join(ids, " "))
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, batches
}

// importFile writes seven rows, one of them wrong, into the working directory.
func importFile(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	content := "id,aor,registrar,password\n"
	for i := range 7 {
		aor := fmt.Sprintf("sip:p%d@example.test", i)
		if i == 2 {
			aor = "nonsense"
		}
		content += fmt.Sprintf("p%d,%s,acme,canary%d\n", i, aor, i)
	}
	if err := os.WriteFile("p.csv", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestImportResumesBehindTheLastAcknowledgedBatch(t *testing.T) {
	importFile(t)
	url, batches := importServer(t, func(request int) int {
		if request == 2 {
			return http.StatusInternalServerError
		}
		return 0
	})
	code, _, stderr := command(t, "profiles", "import", "p.csv", "--server", url, "--batch", "2", "--skip-invalid")
	if code != exitFailed || !strings.Contains(stderr, "the disk is full; go on with: muster profiles import p.csv --resume") {
		t.Errorf("interrupted: exit code %d, %s", code, stderr)
	}
	state, err := os.ReadFile("p.csv.progress")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(state), `","line":3}`+"\n") || len(state) != len(`{"file":"","line":3}`)+64+1 {
		t.Errorf("progress file = %s", state)
	}
	code, stdout, stderr := command(t, "profiles", "import", "p.csv", "--server", url, "--batch", "2", "--skip-invalid", "--resume")
	if code != exitFailed || !strings.Contains(stdout, "7 rows: 4 added, 0 changed, 0 unchanged, 1 failed\nresumed after line 3;") {
		t.Errorf("resumed: exit code %d, %s%s", code, stdout, stderr)
	}
	if diff := cmp.Diff([]string{"p0 p1", "p3 p4", "p5 p6"}, *batches); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
	if _, err := os.Stat("p.csv.progress"); err == nil {
		t.Error("the progress file stays")
	}
}

func TestImportWaitsForABusyNode(t *testing.T) {
	importFile(t)
	url, batches := importServer(t, func(request int) int {
		if request == 1 {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	code, stdout, stderr := command(t, "profiles", "import", "p.csv", "--server", url, "--skip-invalid", "-o", "json")
	var s summary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	want := summary{Rows: 7, Added: 6, Failed: 1, Failures: []failedRow{{Line: 4, Error: "aor: is not a URI with the scheme sip or sips (write sip:user@host)"}}}
	if diff := cmp.Diff(want, s); diff != "" || code != exitFailed {
		t.Errorf("exit code %d, summary (-want +got):\n%s", code, diff)
	}
	if len(*batches) != 1 {
		t.Errorf("batches = %q", *batches)
	}
}
