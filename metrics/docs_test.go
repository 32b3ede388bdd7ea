package metrics_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/metrics"
)

const (
	docsFile   = "../docs/metrics.md"
	tableBegin = "<!-- begin table -->\n"
	tableEnd   = "<!-- end table -->\n"
)

// table renders every metric of a node as docs/metrics.md lists it.
func table(t *testing.T) string {
	t.Helper()
	families, err := metrics.New(metrics.Options{Registrars: []string{"acme"}, XSPs: []string{"token-service"}}).Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n| Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "muster_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		slices.Sort(labels)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(),
			strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	b.WriteString("\n")
	return b.String()
}

// TestDocsListEveryMetric fails when a metric is missing from docs/metrics.md
// or explained differently there.
func TestDocsListEveryMetric(t *testing.T) {
	page, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), tableBegin)
	got, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks around its table", docsFile)
	}
	want := table(t)
	if *update {
		text := head + tableBegin + want + tableEnd + tail
		if err := os.WriteFile(docsFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is out of date, run go test ./metrics -update (-want +got):\n%s", docsFile, diff)
	}
}
