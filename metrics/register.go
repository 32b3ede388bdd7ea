package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Native histograms: neighbouring buckets differ by at most a tenth, at most
// 100 buckets are kept, and the resolution may be reset once an hour. That
// bounds a series to about a kilobyte.
const (
	nativeFactor     = 1.1
	nativeMaxBuckets = 100
	nativeMinReset   = time.Hour
)

// counters are the resolved counters of one closed set.
type counters map[string]prometheus.Counter

// newCounters resolves vec, which has one label left, for each value and for
// "other".
func newCounters(vec *prometheus.CounterVec, values []string) counters {
	c := make(counters, len(values)+1)
	for _, value := range append([]string{other}, values...) {
		c[value] = vec.WithLabelValues(value)
	}
	return c
}

func (c counters) inc(value string) {
	counter, ok := c[value]
	if !ok {
		counter = c[other]
	}
	counter.Inc()
}

func (m *Metrics) register(c prometheus.Collector) { m.registry.MustRegister(settled{c, m}) }

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: name, Help: help,
	})
	m.register(c)
	return c
}

func (m *Metrics) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: name, Help: help,
	}, labels)
	m.register(v)
	return v
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: name, Help: help,
	})
	m.register(g)
	return g
}

func (m *Metrics) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: name, Help: help,
	}, labels)
	m.register(v)
	return v
}

func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     nativeFactor,
		NativeHistogramMaxBucketNumber:  nativeMaxBuckets,
		NativeHistogramMinResetDuration: nativeMinReset,
	}
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(histogramOpts(name, help, buckets))
	m.register(h)
	return h
}

func (m *Metrics) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(histogramOpts(name, help, buckets), labels)
	m.register(v)
	return v
}
