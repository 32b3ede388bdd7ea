package mixin_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sipmuster/muster/metrics"
	"github.com/sipmuster/muster/metrics/mixin"
)

var update = flag.Bool("update", false, "rewrite dashboards/muster.json")

const dashboardFile = "dashboards/muster.json"

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Record, Alert, Expr, For string
			Labels, Annotations      map[string]string
		}
	}
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// expressions collects every PromQL expression, by where it stands.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range []string{"rules.yaml", "alerts.yaml"} {
		var f ruleFile
		readYAML(t, path, &f)
		for _, g := range f.Groups {
			for _, r := range g.Rules {
				all[path+" "+r.Record+r.Alert] = r.Expr
			}
		}
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all[p.Title+" "+target.RefID] = target.Expr
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d expressions found", len(all))
	}
	return all
}

func TestDashboardIsCurrent(t *testing.T) {
	want, err := mixin.Dashboard()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(dashboardFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is out of date, run go test ./metrics/mixin -update:\n%s", dashboardFile, diff)
	}
}

// exposed are the sample names that a node offers.
func exposed(t *testing.T) map[string]bool {
	t.Helper()
	families, err := metrics.New(metrics.Options{Registrars: []string{"acme"}, XSPs: []string{"token-service"}}).Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
		if f.Metric[0].Histogram != nil {
			names[f.GetName()+"_bucket"] = true
		}
	}
	return names
}

func TestEveryNamedMetricExists(t *testing.T) {
	known := exposed(t)
	metric := regexp.MustCompile(`\b(muster|process|go)_[a-z0-9_]+`)
	used := map[string]bool{}
	for where, expr := range expressions(t) {
		for _, name := range metric.FindAllString(expr, -1) {
			used[strings.TrimSuffix(name, "_bucket")] = true
			if !known[name] {
				t.Errorf("%s: %s is not a metric of a node", where, name)
			}
		}
	}
	for name := range known {
		if strings.HasPrefix(name, "muster_") && !strings.HasSuffix(name, "_bucket") && !used[name] && name != "muster_build_info" {
			t.Errorf("%s is on no panel and in no rule", name)
		}
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIPPED, not checked: promtool is missing (Debian package prometheus)")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRules(t *testing.T) { promtool(t, "test", "rules", "tests.yaml") }

// TestExpressionsParse gives every expression, those of the dashboard too, to
// promtool as recording rules.
func TestExpressionsParse(t *testing.T) {
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$registrar", ".*", "$instance", ".*")
	var rules []rule
	for _, expr := range expressions(t) {
		rules = append(rules, rule{fmt.Sprintf("check:r%d", len(rules)), variables.Replace(expr)})
	}
	text, err := yaml.Marshal(map[string]any{
		"groups": []any{map[string]any{"name": "check", "rules": rules}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "expressions.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}

// TestEveryAlertIsTestedAndExplained: an alert nobody can make fire, or that
// leaves its reader alone, is worse than none.
func TestEveryAlertIsTestedAndExplained(t *testing.T) {
	var alerts ruleFile
	readYAML(t, "alerts.yaml", &alerts)
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name string           `yaml:"alertname"`
				Exp  []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, "tests.yaml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.Alerts {
			if len(a.Exp) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range alerts.Groups[0].Rules {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: tests.yaml must show it firing and silent", r.Alert)
		}
		if !strings.Contains(string(page), "\n### "+r.Alert+"\n") {
			t.Errorf("%s has no section in docs/metrics.md", r.Alert)
		}
		if want := "docs/metrics.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: runbook is %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
	}
}
