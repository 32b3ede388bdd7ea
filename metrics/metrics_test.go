package metrics_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/metrics"
	"github.com/sipmuster/muster/sipadapter"
)

var _ actors.Observer = (*metrics.Metrics)(nil)

// samples reads the page as "name{labels}" to value.
func samples(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	s := map[string]float64{}
	for line := range strings.Lines(exposition(t, m)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if ok {
			name += "}"
		} else {
			name, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		s[name] = v
	}
	return s
}

// differences are the samples that do changed, with their new value.
func differences(t *testing.T, m *metrics.Metrics, do func()) map[string]float64 {
	t.Helper()
	before := samples(t, m)
	do()
	d := map[string]float64{}
	for name, v := range samples(t, m) {
		if old, ok := before[name]; !ok || old != v {
			d[name] = v
		}
	}
	return d
}

func TestShellFigures(t *testing.T) {
	tests := []struct {
		name string
		do   func(m *metrics.Metrics)
		want map[string]float64
	}{
		{"a request by method", func(m *metrics.Metrics) {
			m.RequestSent("REGISTER")
			m.RequestSent("REGISTER")
			m.RequestSent("PUBLISH")
		}, map[string]float64{
			`muster_sip_requests_total{method="REGISTER"}`: 2,
			`muster_sip_requests_total{method="PUBLISH"}`:  1,
		}},
		{"a method from the network never becomes a label", func(m *metrics.Metrics) {
			m.RequestSent("EVIL\"} 1\n")
			m.Retransmitted("register")
		}, map[string]float64{
			`muster_sip_requests_total{method="other"}`:        1,
			`muster_sip_retransmissions_total{method="other"}`: 1,
		}},
		{"codes are known or become their class", func(m *metrics.Metrics) {
			for _, code := range []int{200, 401, 499, 699, 299, 99, 700, -1, 0} {
				m.ResponseReceived("REGISTER", code)
			}
		}, map[string]float64{
			`muster_sip_responses_total{code="200",method="REGISTER"}`:   1,
			`muster_sip_responses_total{code="401",method="REGISTER"}`:   1,
			`muster_sip_responses_total{code="4xx",method="REGISTER"}`:   1,
			`muster_sip_responses_total{code="6xx",method="REGISTER"}`:   1,
			`muster_sip_responses_total{code="2xx",method="REGISTER"}`:   1,
			`muster_sip_responses_total{code="other",method="REGISTER"}`: 4,
		}},
		{"a dropped packet", func(m *metrics.Metrics) {
			m.PacketDropped("unmatched")
			m.PacketDropped("something else")
		}, map[string]float64{
			`muster_sip_dropped_total{reason="unmatched"}`: 1,
			`muster_sip_dropped_total{reason="other"}`:     1,
		}},
		{"a challenge", func(m *metrics.Metrics) {
			m.ChallengeAnswered("digest", "timeout", time.Millisecond)
			m.ChallengeAnswered("digest", "exploded", 0)
			m.ChallengeAnswered("token-service", "invalid", 0)
		}, map[string]float64{
			`muster_challenges_total{handler="digest",outcome="timeout"}`: 1,
			`muster_challenges_total{handler="digest",outcome="other"}`:   1,
			`muster_challenges_total{handler="other",outcome="invalid"}`:  1,
		}},
		{"a dropped input", func(m *metrics.Metrics) {
			m.Dropped(messages.DropStale)
			m.Dropped("nonsense")
		}, map[string]float64{
			`muster_inputs_dropped_total{reason="stale"}`: 1,
			`muster_inputs_dropped_total{reason="other"}`: 1,
		}},
		{"restarts and parking", func(m *metrics.Metrics) {
			m.ActorRestarted(false)
			m.ActorRestarted(false)
			m.ActorRestarted(true)
		}, map[string]float64{
			`muster_actor_restarts_total`:  2,
			`muster_profiles_parked_total`: 1,
		}},
		{"overdue is the sum over the shards", func(m *metrics.Metrics) {
			m.Overdue(0, 5)
			m.Overdue(1023, 2)
			m.Overdue(0, 1)
		}, map[string]float64{`muster_profiles_overdue`: 3}},
		{"overdue returns to zero", func(m *metrics.Metrics) {
			m.Overdue(7, 5)
			m.Overdue(7, 0)
		}, map[string]float64{}},
		{"an append", func(m *metrics.Metrics) {
			m.Appended(3 * time.Second)
		}, map[string]float64{
			`muster_journal_append_duration_seconds_bucket{le="+Inf"}`: 1,
			`muster_journal_append_duration_seconds_sum`:               3,
			`muster_journal_append_duration_seconds_count`:             1,
		}},
		{"a late refresh counts below zero", func(m *metrics.Metrics) {
			m.RefreshMargin("acme", 4000*time.Second)
			m.RefreshMargin("acme", -90*time.Second)
		}, map[string]float64{
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="-60"}`:  1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="0"}`:    1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="5"}`:    1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="10"}`:   1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="32"}`:   1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="60"}`:   1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="120"}`:  1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="300"}`:  1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="600"}`:  1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="1800"}`: 1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="3600"}`: 1,
			`muster_refresh_margin_seconds_bucket{registrar="acme",le="+Inf"}`: 2,
			`muster_refresh_margin_seconds_sum{registrar="acme"}`:              3910,
			`muster_refresh_margin_seconds_count{registrar="acme"}`:            2,
		}},
		{"the gate of a registrar", func(m *metrics.Metrics) {
			m.Registrar("acme", 12, 3, false)
			m.Registrar("nobody", 1, 1, true)
		}, map[string]float64{
			`muster_registrar_waiting{registrar="acme"}`:   12,
			`muster_registrar_in_flight{registrar="acme"}`: 3,
			`muster_registrar_up{registrar="acme"}`:        0,
		}},
		{"restored sessions", func(m *metrics.Metrics) {
			m.SessionRestored("established")
			m.SessionRestored("established")
			m.SessionRestored("early")
			m.SessionRestored("ended")
		}, map[string]float64{
			`muster_sessions{state="established"}`: 2,
			`muster_sessions{state="early"}`:       1,
		}},
		{"a withheld challenge", func(m *metrics.Metrics) {
			m.ChallengeWithheld("acme", messages.ReasonUntrusted)
			m.ChallengeWithheld("acme", "EVIL\"} 1\n")
			m.ChallengeWithheld("acme", messages.ReasonRealm)
		}, map[string]float64{
			`muster_challenges_withheld_total{reason="untrusted_target",registrar="acme"}`: 1,
			`muster_challenges_withheld_total{reason="other",registrar="acme"}`:            2,
		}},
		{"a refused reload", func(m *metrics.Metrics) {
			m.Reloaded(true, time.UnixMilli(1234500))
			m.Reloaded(false, time.UnixMilli(9999000))
		}, map[string]float64{
			`muster_config_last_reload_successful`:                0,
			`muster_config_last_reload_success_timestamp_seconds`: 1234.5,
		}},
		{"the journal", func(m *metrics.Metrics) {
			m.WatchJournal(func() int64 { return 4096 })
		}, map[string]float64{`muster_journal_size_bytes`: 4096}},
		{"restored profiles", func(m *metrics.Metrics) {
			m.ProfileRestored("acme", "registered")
			m.ProfileRestored("acme", "registered")
			m.ProfileRestored("acme", "rejected")
		}, map[string]float64{
			`muster_profiles{registrar="acme",state="registered"}`: 2,
			`muster_profiles{registrar="acme",state="rejected"}`:   1,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
			got := differences(t, m, func() { test.do(m) })
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("changed samples (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStatesSumToTheTotal moves many profiles at once and checks the promise of
// muster_profiles.
func TestStatesSumToTheTotal(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	const profiles = 200
	var wg sync.WaitGroup
	for p := range profiles {
		wg.Go(func() {
			at := ""
			for i := range 50 {
				next := actors.States()[(p+i)%len(actors.States())]
				m.ProfileEvents("acme", at, next, time.Time{}, nil)
				at = next
			}
		})
	}
	wg.Wait()
	sum := 0.0
	for name, v := range samples(t, m) {
		if strings.HasPrefix(name, "muster_profiles{") {
			if v < 0 {
				t.Errorf("%s is %v", name, v)
			}
			sum += v
		}
	}
	if sum != profiles {
		t.Errorf("the states sum to %v, want %d", sum, profiles)
	}
}

// TestEveryStateIsCounted fails when the API gets a state that the metrics do
// not know.
func TestEveryStateIsCounted(t *testing.T) {
	for _, state := range actors.States() {
		m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
		m.ProfileRestored("acme", state)
		name := fmt.Sprintf("muster_profiles{registrar=%q,state=%q}", "acme", state)
		if got := samples(t, m)[name]; got != 1 {
			t.Errorf("%s is %v, want 1", name, got)
		}
	}
}

// TestEveryDropReasonHasASeries reads the constants of messages, so that a new
// one is not forgotten here.
func TestEveryDropReasonHasASeries(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../messages/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := samples(t, metrics.New(metrics.Options{}))
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Drop") || len(spec.Values) == 0 {
			return true
		}
		found++
		name := "muster_inputs_dropped_total{reason=" + spec.Values[0].(*ast.BasicLit).Value + "}"
		if _, ok := page[name]; !ok {
			t.Errorf("%s: %s does not exist at zero", spec.Names[0].Name, name)
		}
		return true
	})
	if found == 0 {
		t.Error("found no Drop constant: did they move?")
	}
}

func TestEveryReasonToDropAPacketHasASeries(t *testing.T) {
	page := samples(t, metrics.New(metrics.Options{}))
	for _, reason := range sipadapter.DropReasons() {
		name := fmt.Sprintf("muster_sip_dropped_total{reason=%q}", reason)
		if _, ok := page[name]; !ok {
			t.Errorf("%s does not exist at zero", name)
		}
	}
}

// TestEveryOutcomeOfAQuestionHasASeries: the lists here and in actors are one,
// for every authenticator.
func TestEveryOutcomeOfAQuestionHasASeries(t *testing.T) {
	page := samples(t, metrics.New(metrics.Options{XSPs: []string{"tokens"}}))
	series := 0
	for name := range page {
		if strings.HasPrefix(name, "muster_challenges_total{") {
			series++
		}
	}
	for _, handler := range []string{"digest", "tokens", "other"} {
		for _, outcome := range append(actors.Outcomes(), "other") {
			name := fmt.Sprintf("muster_challenges_total{handler=%q,outcome=%q}", handler, outcome)
			if _, ok := page[name]; !ok {
				t.Errorf("%s does not exist at zero", name)
			}
			series--
		}
	}
	if series != 0 {
		t.Errorf("there are %d series more than outcomes of actors.Outcomes", series)
	}
}

func TestRegistrarsComeAndGo(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	m.ProfileRestored("acme", "registered")
	m.Registrar("acme", 1, 1, false)

	m.SetRegistrars([]string{"second"})
	page := samples(t, m)
	for _, gone := range []string{"waiting", "in_flight", "up"} {
		name := `muster_registrar_` + gone + `{registrar="acme"}`
		if _, ok := page[name]; ok {
			t.Errorf("%s is still there: an alert on it would fire for ever", name)
		}
	}
	if got := page[`muster_registrar_up{registrar="second"}`]; got != 1 {
		t.Errorf("a new registrar's gate is %v, want open", got)
	}
	// Its profile is still counted, and leaves from where it was counted.
	if got := page[`muster_profiles{registrar="acme",state="registered"}`]; got != 1 {
		t.Errorf("the profile of the registrar that left counts %v, want 1", got)
	}
	m.Registrar("acme", 5, 5, true)
	m.ProfileEvents("acme", "registered", "backoff", time.Time{}, nil)

	m.SetRegistrars([]string{"acme", "second"})
	page = samples(t, m)
	want := map[string]float64{
		`muster_profiles{registrar="acme",state="registered"}`: 0,
		`muster_profiles{registrar="acme",state="backoff"}`:    1,
		`muster_registrar_waiting{registrar="acme"}`:           0,
		`muster_registrar_up{registrar="acme"}`:                1,
	}
	for name, v := range want {
		if page[name] != v {
			t.Errorf("%s is %v, want %v", name, page[name], v)
		}
	}
}

// TestUnknownRegistrarsAreBounded: whatever names come, the page stays small.
func TestUnknownRegistrarsAreBounded(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	for i := range 500 {
		m.ProfileRestored(fmt.Sprint("r", i), "backoff")
	}
	page := samples(t, m)
	series, sum := 0, 0.0
	for name, v := range page {
		if strings.HasPrefix(name, "muster_profiles{") && strings.Contains(name, `"backoff"`) {
			series++
			sum += v
		}
	}
	if sum != 500 {
		t.Errorf("%v profiles are counted, want 500", sum)
	}
	if series > 66 {
		t.Errorf("%d registrars have series, want at most 64, other and acme", series)
	}
}

// TestSeriesAreFew holds R-24: the page does not grow with the profiles.
func TestSeriesAreFew(t *testing.T) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprint("registrar-", i))
	}
	m := metrics.New(metrics.Options{Registrars: names})
	for i := range 10_000 {
		m.ProfileRestored(names[i%len(names)], "registered")
	}
	for code := range 1000 {
		m.ResponseReceived("REGISTER", code)
		m.ResponseReceived("INVITE", code)
	}
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, f := range families {
		for _, s := range f.Metric {
			series += max(1, len(s.GetHistogram().GetBucket()))
		}
	}
	if series >= 2000 {
		t.Errorf("%d series with 20 registrars, want fewer than 2,000", series)
	}
}

func TestTwoNodesInOneProcess(t *testing.T) {
	a := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	b := metrics.New(metrics.Options{Registrars: []string{"acme"}})
	a.RequestSent("REGISTER")
	if got := samples(t, b)[`muster_sip_requests_total{method="REGISTER"}`]; got != 0 {
		t.Errorf("the other node counts %v", got)
	}
}

func TestLint(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}, XSPs: []string{"tokens"}})
	problems, err := testutil.GatherAndLint(m.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestPromtoolAcceptsThePage(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIPPED, not checked: promtool is missing (Debian package prometheus)")
	}
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}, XSPs: []string{"tokens"}, Version: "v1.2.3"})
	page := get(t, m.Handler(), "")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func get(t *testing.T, h http.Handler, accept string) string {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestHandler(t *testing.T) {
	m := metrics.New(metrics.Options{Version: "v1.2.3"})
	page := get(t, m.Handler(), "")
	for _, want := range []string{
		`muster_build_info{goversion="go`, `version="v1.2.3"} 1`,
		"go_goroutines ", "process_start_time_seconds ", "go_build_info{",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// A second handler of the same node is allowed.
	page = get(t, m.Handler(), "application/openmetrics-text; version=1.0.0")
	if !strings.HasSuffix(page, "# EOF\n") {
		t.Error("OpenMetrics was asked for and not given")
	}
	if strings.Contains(page, "_created") {
		t.Error("created samples double the number of series")
	}
}

// TestHotPathsDoNotAllocate guards what runs once per request or event.
func TestHotPathsDoNotAllocate(t *testing.T) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}, XSPs: []string{"tokens"}})
	events := []*messages.ProfileEvent{
		messages.NewProfileEvent(&messages.BindingGranted{}),
		messages.NewProfileEvent(&messages.AttemptFailed{Reason: "timeout"}),
	}
	call := []*messages.SessionEvent{
		messages.NewSessionEvent(&messages.SessionEstablished{}),
		messages.NewSessionEvent(&messages.SessionEnded{Reason: string(messages.ReasonHangup)}),
	}
	started := time.Now().Add(-time.Second)
	run := func() {
		m.ProfileEvents("acme", "registering", "registered", started, events)
		m.SessionEvents("acme", "early", "established", started, started, call)
		m.ChallengeWithheld("acme", messages.ReasonUntrusted)
		m.RequestSent("REGISTER")
		m.ResponseReceived("REGISTER", 200)
		m.Appended(time.Millisecond)
		m.Dropped(messages.DropStale)
		m.ChallengeAnswered("digest", "answered", time.Millisecond)
		m.XSP("tokens", 1, 2, true)
		m.RefreshMargin("acme", time.Minute)
		m.Registrar("acme", 1, 2, true)
		m.Overdue(3, 0)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations per run, want none", n)
	}
}

func BenchmarkProfileEvents(b *testing.B) {
	m := metrics.New(metrics.Options{Registrars: []string{"acme"}, XSPs: []string{"tokens"}})
	events := []*messages.ProfileEvent{messages.NewProfileEvent(&messages.BindingGranted{})}
	started := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		m.ProfileEvents("acme", "registering", "registered", started, events)
	}
}

func BenchmarkResponseReceived(b *testing.B) {
	m := metrics.New(metrics.Options{})
	b.ReportAllocs()
	for b.Loop() {
		m.ResponseReceived("REGISTER", 200)
	}
}

func BenchmarkScrape(b *testing.B) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprint("registrar-", i))
	}
	m := metrics.New(metrics.Options{Registrars: names})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Gatherer().Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
