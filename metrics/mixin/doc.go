// Package mixin holds what a Prometheus and a Grafana need to watch a node:
//
//   - rules.yaml: recording rules,
//   - alerts.yaml: alerts, each with a section in docs/metrics.md,
//   - tests.yaml: their unit tests, run by promtool,
//   - dashboards/muster.json: one dashboard, written by Dashboard.
//
// The files are used as they are: load rules.yaml and alerts.yaml as rule_files
// and import the dashboard, which asks for its data source.
//
// Its tests hold that every metric named in a rule or a panel is one that a
// node really exposes, that every expression parses, that every alert has a
// test that fires it and a section that says what to do, and that the dashboard
// in the folder is the one that Dashboard writes.
package mixin
