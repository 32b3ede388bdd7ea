package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sipmuster/muster/messages"
)

// namespace begins the name of every metric.
const namespace = "muster"

// challengeOutcomes is how asking an authenticator ends (actors.Outcomes).
var challengeOutcomes = []string{
	"answered", "refused", "timeout", "invalid", "error", "unavailable", "late",
}

// inputReasons are the reasons for an input that changes nothing.
var inputReasons = []string{
	string(messages.DropStale), string(messages.DropIdle),
	string(messages.DropEarly), string(messages.DropBusy),
	string(messages.DropUnwanted),
}

// dropReasons are why a received message is not used; they mirror
// sipadapter.DropReasons.
var dropReasons = []string{
	"malformed", "oversize", "unmatched", "repeated", "via", "source",
	"identity", "status", "rate", "unanswerable",
}

// Buckets, in seconds. Registration spans from a round trip on loopback to two
// transactions that end with Timer F (32 s, RFC 3261 §17.1.2.2). Append spans
// from a write to memory to a disk that stalls. Margin has 32 s, the least that
// RFC 5627 §4.2 leaves to a refresh, and zero, after which the binding was gone.
// Setup goes on to the three minutes for which a call may ring (Timer C).
var (
	registrationBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 32, 64}
	answerBuckets       = []float64{.0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	appendBuckets       = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	setupBuckets        = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180}
	marginBuckets       = []float64{-60, 0, 5, 10, 32, 60, 120, 300, 600, 1800, 3600}
)

// Limits of the HTTP handler. A scrape takes milliseconds; the limits keep a
// broken scraper from using up the node.
const (
	maxScrapes    = 4
	scrapeTimeout = 10 * time.Second
)

// Options configures New. The zero value works.
type Options struct {
	// Registrars are the names of the configured registrars, whose series exist
	// from the start. SetRegistrars changes them.
	Registrars []string
	// XSPs are the names of the configured xSPs. SetXSPs changes them.
	XSPs []string
	// Version is the version of the program that muster_build_info shows; empty
	// means "unknown".
	Version string
}

// Metrics counts what one node does. All methods are safe for concurrent use
// and none blocks on I/O. *Metrics satisfies actors.Observer.
type Metrics struct {
	registry *prometheus.Registry

	profiles      *prometheus.GaugeVec
	registrations *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	margin        *prometheus.HistogramVec
	sharedNonces  *prometheus.CounterVec
	calls         *prometheus.CounterVec
	setup         *prometheus.HistogramVec
	withheld      *prometheus.CounterVec
	waiting       *prometheus.GaugeVec
	inFlight      *prometheus.GaugeVec
	up            *prometheus.GaugeVec
	// registrars holds the resolved series by name. It is replaced as a whole,
	// under mu, and read without a lock.
	registrars atomic.Pointer[map[string]*registrar]

	failures   counters
	challenges *prometheus.CounterVec
	answers    *prometheus.HistogramVec
	xspWaiting *prometheus.GaugeVec
	xspOut     *prometheus.GaugeVec
	xspUp      *prometheus.GaugeVec
	// handlers holds the resolved series of the DigestActor and of each xSP by
	// name; it is replaced as a whole, under mu.
	handlers atomic.Pointer[map[string]*handler]
	events   counters
	inputs   counters
	packets  counters
	appends  observations
	sessions [len(sessionStates)]prometheus.Gauge
	restarts prometheus.Counter
	parked   prometheus.Counter

	requests        [len(methods)]prometheus.Counter
	retransmissions [len(methods)]prometheus.Counter
	responses       *responses

	reloadOK, reloadAt prometheus.Gauge
	journalSize        atomic.Pointer[func() int64]
	askGates           atomic.Pointer[func(tell func(name string, waiting, inFlight int, open bool))]

	// usual counts what every registration has, for usualSeries; see settle.go.
	usual       [usualCount]tally
	usualSeries [usualCount]prometheus.Counter
	settling    sync.Mutex

	mu           sync.Mutex // guards registrars for writing, and what follows
	overdue      prometheus.Gauge
	overdueOf    map[int]int
	overdueTotal int
}

// New makes the metrics of a node, on a registry of their own, with every
// series of a closed set at zero.
func New(o Options) *Metrics {
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		overdueOf: map[int]int{},
	}
	m.registerProcess(o.Version)
	m.registerRegistrars()
	m.registerSessions()
	m.registerEvents()
	m.registerSIP()
	m.registerNode()
	m.registrars.Store(&map[string]*registrar{})
	m.SetRegistrars(o.Registrars)
	m.handlers.Store(&map[string]*handler{})
	m.SetXSPs(o.XSPs)
	return m
}

// Handler serves the metrics page in the text and OpenMetrics formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry:            m.registry,
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		CoalesceGather:      true,
	})
}

// Gatherer gives the metrics to a program that serves them together with its
// own.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

func (m *Metrics) registerProcess(version string) {
	if version == "" {
		version = "unknown"
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	m.gaugeVec("build_info",
		"Always 1; the labels tell the version of the node and of Go.",
		"version", "goversion").WithLabelValues(version, runtime.Version()).Set(1)
}

func (m *Metrics) registerRegistrars() {
	m.profiles = m.gaugeVec("profiles",
		"Profiles by registrar and state. The states sum to the number of profiles.",
		"registrar", "state")
	m.registrations = m.counterVec("registrations_total",
		"Registrations by how they ended. A rise of rejected or lapsed wants a look at muster_registration_failures_total.",
		"registrar", "outcome")
	m.duration = m.histogramVec("registration_duration_seconds",
		"Time from the first REGISTER of an attempt until its binding was granted, challenges included.",
		registrationBuckets, "registrar")
	m.margin = m.histogramVec("refresh_margin_seconds",
		"Time that a binding had left when it was refreshed, negative when it had ended. Little margin means that the pace is too low for the number of profiles.",
		marginBuckets, "registrar")
	m.sharedNonces = m.counterVec("shared_nonces_total",
		"Nonces that a registrar gave to two profiles in a row. Some registrars make nonces from the time; one nonce for all, for long, is how passwords are attacked in bulk (RFC 7616 section 5.11).",
		"registrar")
	m.waiting = m.gaugeVec("registrar_waiting",
		"Profiles that are due and wait for the registrar's pace, concurrency or breaker.",
		"registrar")
	m.inFlight = m.gaugeVec("registrar_in_flight",
		"Open attempts at the registrar.",
		"registrar")
	m.up = m.gaugeVec("registrar_up",
		"1 while the registrar is believed to answer, 0 while its breaker is open and only probes leave.",
		"registrar")
}

func (m *Metrics) registerEvents() {
	reasons := make([]string, 0, len(messages.RegistrationReasons()))
	for _, r := range messages.RegistrationReasons() {
		reasons = append(reasons, string(r))
	}
	m.failures = newCounters(m.counterVec("registration_failures_total",
		"Registrations that failed, were rejected or were interrupted, by reason.",
		"reason"), reasons)
	m.events = newCounters(m.counterVec("journal_events_total",
		"Events written to the journal, by type.",
		"type"), messages.EventTypes())
	m.usualSeries[usualStarted] = m.events["AttemptStarted"]
	m.usualSeries[usualChallenged] = m.events["ChallengeReceived"]
	m.usualSeries[usualGranted] = m.events["BindingGranted"]
	m.inputs = newCounters(m.counterVec("inputs_dropped_total",
		"Inputs that changed nothing because they came too late, too early or uncalled for. A steady rate is harmless; a jump means that something answers twice.",
		"reason"), inputReasons)
	m.appends.to = m.histogram("journal_append_duration_seconds",
		"Time from asking for an append until its events were durable. A high value means that the disk is slow: every request waits for it.",
		appendBuckets)
	m.registerHandlers()
}

func (m *Metrics) registerSIP() {
	requests := m.counterVec("sip_requests_total",
		"SIP requests that left, one per transaction.",
		"method")
	retransmissions := m.counterVec("sip_retransmissions_total",
		"SIP requests that were sent again because no response came. Compare with muster_sip_requests_total to see packet loss.",
		"method")
	for i, method := range methods {
		m.requests[i] = requests.WithLabelValues(method)
		m.retransmissions[i] = retransmissions.WithLabelValues(method)
	}
	m.responses = newResponses(m.counterVec("sip_responses_total",
		"SIP responses to our requests, by method and code; a code that no RFC defines is counted by its class.",
		"method", "code"))
	register := methodIndex("REGISTER")
	m.usualSeries[usualRegister] = m.requests[register]
	m.usualSeries[usual200] = m.responses.counter(register, codeIndex(200))
	m.usualSeries[usual401] = m.responses.counter(register, codeIndex(401))
	m.packets = newCounters(m.counterVec("sip_dropped_total",
		"Received SIP messages that were not processed, by reason.",
		"reason"), dropReasons)
}

func (m *Metrics) registerNode() {
	m.restarts = m.counter("actor_restarts_total",
		"Profile actors that failed and were restarted from the journal. Must not rise; the log has the panic.")
	m.parked = m.counter("profiles_parked_total",
		"Profiles that failed so often that they are left alone until an operator acts. Must be 0; the log names them.")
	m.overdue = m.gauge("profiles_overdue",
		"Profiles whose deadline passed without anything being done about it. It must be 0: anything else is a fault of the node, please report it.")
	m.reloadOK = m.gauge("config_last_reload_successful",
		"1 when the last load of the configuration was accepted, 0 when it was refused and the one before is still in use.")
	m.reloadAt = m.gauge("config_last_reload_success_timestamp_seconds",
		"When the configuration was last loaded, as Unix time; 0 when it never was.")
	m.reloadOK.Set(1)
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace,
		Name:      "journal_size_bytes",
		Help:      "Size of the journal file. It does not shrink; growth without end means that checkpoints or retention do not run.",
	}, func() float64 {
		size := m.journalSize.Load()
		if size == nil {
			return 0
		}
		return float64((*size)())
	}))
}
