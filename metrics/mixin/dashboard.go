package mixin

import (
	"encoding/json"
	"fmt"
)

// Layout of the dashboard: Grafana's grid is 24 columns wide.
const (
	columns     = 3
	panelWidth  = 24 / columns
	panelHeight = 8
)

// panel is one graph: what it shows, in which unit, and why one looks at it.
type panel struct {
	title, description, unit string
	stack                    bool
	queries                  []query
}

type query struct{ expr, legend string }

// Selectors. $registrar is "All" or some names; a rate covers Grafana's own
// interval, so that it works at any zoom.
const (
	node      = `instance=~"$instance"`
	registrar = node + `,registrar=~"$registrar"`
)

func rate(metric, selector string) string {
	return fmt.Sprintf("rate(%s{%s}[$__rate_interval])", metric, selector)
}

// quantile asks for the classic and the native form of a histogram.
func quantile(q float64, metric, selector, by string) string {
	return fmt.Sprintf("histogram_quantile(%g, sum by (%s, le) (%s)) or histogram_quantile(%g, sum by (%s) (%s))",
		q, by, rate(metric+"_bucket", selector), q, by, rate(metric, selector))
}

// panels are in reading order: is all well, what do the registrars say, who
// answers them, what does the wire say, how is the node itself.
var panels = []panel{
	{
		"Profiles by state", "The states sum to the number of profiles.", "short", true,
		[]query{{`sum by (state) (muster_profiles{` + registrar + `})`, "{{state}}"}},
	},
	{
		"Registered share", "Of the profiles that want to be registered.", "percentunit", false,
		[]query{{
			`sum by (registrar) (muster_profiles{` + registrar + `,state="registered"}) / (sum by (registrar) (muster_profiles{` + registrar + `,state!~"disabled|unregistered"}) > 0)`,
			"{{registrar}}",
		}},
	},
	{
		"Overdue, parked, restarted", "All three must be 0.", "short", false,
		[]query{
			{`muster_profiles_overdue{` + node + `}`, "overdue {{instance}}"},
			{`increase(muster_profiles_parked_total{` + node + `}[$__rate_interval])`, "parked {{instance}}"},
			{`increase(muster_actor_restarts_total{` + node + `}[$__rate_interval])`, "restarted {{instance}}"},
		},
	},
	{
		"Registrations by outcome", "granted and removed are good, the others are not.", "ops", true,
		[]query{{`sum by (outcome) (` + rate("muster_registrations_total", registrar) + `)`, "{{outcome}}"}},
	},
	{
		"Failures by reason", "Why registrations failed or were rejected.", "ops", true,
		[]query{{`sum by (reason) (` + rate("muster_registration_failures_total", node) + `) > 0`, "{{reason}}"}},
	},
	{
		"Registration duration", "From the first REGISTER to the binding, challenges included.", "s", false,
		[]query{
			{quantile(0.5, "muster_registration_duration_seconds", registrar, "registrar"), "p50 {{registrar}}"},
			{quantile(0.99, "muster_registration_duration_seconds", registrar, "registrar"), "p99 {{registrar}}"},
		},
	},
	{
		"Gate of the registrar", "Up is 0 while the breaker is open and only probes leave.", "short", false,
		[]query{
			{`sum by (registrar) (muster_registrar_waiting{` + registrar + `})`, "waiting {{registrar}}"},
			{`sum by (registrar) (muster_registrar_in_flight{` + registrar + `})`, "in flight {{registrar}}"},
			{`min by (registrar) (muster_registrar_up{` + registrar + `})`, "up {{registrar}}"},
		},
	},
	{
		"Refresh margin", "What the tightest hundredth of the bindings had left when they were refreshed.", "s", false,
		[]query{{quantile(0.01, "muster_refresh_margin_seconds", registrar, "registrar"), "{{registrar}}"}},
	},
	{
		"Challenges", "Who was asked and how it ended.", "ops", true,
		[]query{{`sum by (handler, outcome) (` + rate("muster_challenges_total", node) + `) > 0`, "{{handler}} {{outcome}}"}},
	},
	{
		"Who answers", "Challenges that were answered, by the DigestActor or the xSP that did.", "ops", true,
		[]query{{`sum by (handler) (` + rate("muster_challenges_total", node+`,outcome="answered"`) + `)`, "{{handler}}"}},
	},
	{
		"Time to answer", "From the question to the answer or refusal, the wait for a turn included.", "s", false,
		[]query{
			{quantile(0.5, "muster_challenge_answer_duration_seconds", node, "handler"), "p50 {{handler}}"},
			{quantile(0.99, "muster_challenge_answer_duration_seconds", node, "handler"), "p99 {{handler}}"},
		},
	},
	{
		"Gate of the xSPs", "Up is 0 while the breaker is open and one question at a time goes as a probe.", "short", false,
		[]query{
			{`sum by (handler) (muster_xsp_waiting{` + node + `})`, "waiting {{handler}}"},
			{`sum by (handler) (muster_xsp_in_flight{` + node + `})`, "in flight {{handler}}"},
			{`min by (handler) (muster_xsp_up{` + node + `})`, "up {{handler}}"},
		},
	},
	{
		"SIP requests", "One per transaction; retransmissions beside them show loss.", "reqps", false,
		[]query{
			{`sum by (method) (` + rate("muster_sip_requests_total", node) + `) > 0`, "{{method}}"},
			{`sum by (method) (` + rate("muster_sip_retransmissions_total", node) + `) > 0`, "{{method}} again"},
		},
	},
	{
		"SIP responses", "By code.", "reqps", true,
		[]query{{`sum by (method, code) (` + rate("muster_sip_responses_total", node) + `) > 0`, "{{method}} {{code}}"}},
	},
	{
		"Dropped", "Messages and inputs that changed nothing.", "ops", true,
		[]query{
			{`sum by (reason) (` + rate("muster_sip_dropped_total", node) + `) > 0`, "message {{reason}}"},
			{`sum by (reason) (` + rate("muster_inputs_dropped_total", node) + `) > 0`, "input {{reason}}"},
			{`sum by (registrar) (` + rate("muster_shared_nonces_total", node) + `) > 0`, "nonce shared, {{registrar}}"},
		},
	},
	{
		"Events", "What is written to the journal.", "ops", true,
		[]query{{`sum by (type) (` + rate("muster_journal_events_total", node) + `) > 0`, "{{type}}"}},
	},
	{
		"Append duration", "Every request waits for this.", "s", false,
		[]query{
			{quantile(0.5, "muster_journal_append_duration_seconds", node, "instance"), "p50 {{instance}}"},
			{quantile(0.99, "muster_journal_append_duration_seconds", node, "instance"), "p99 {{instance}}"},
		},
	},
	{
		"Sizes", "The journal's file and the memory of the process.", "bytes", false,
		[]query{
			{`muster_journal_size_bytes{` + node + `}`, "journal {{instance}}"},
			{`process_resident_memory_bytes{` + node + `} and on (instance) muster_build_info`, "memory {{instance}}"},
		},
	},
	{
		"Sessions by state", "The states sum to the number of sessions that are not over.", "short", true,
		[]query{{`sum by (state) (muster_sessions{` + node + `})`, "{{state}}"}},
	},
	{
		"Sessions by outcome", "How setting them up ended. Of declined, busy and no_answer the called side was asked; failed never came so far.", "ops", true,
		[]query{{`sum by (outcome) (` + rate("muster_session_outcomes_total", registrar) + `)`, "{{outcome}}"}},
	},
	{
		"Session setup", "Until the call was answered: pace, challenges and ringing included.", "s", false,
		[]query{
			{quantile(0.5, "muster_session_setup_seconds", registrar, "registrar"), "p50 {{registrar}}"},
			{quantile(0.99, "muster_session_setup_seconds", registrar, "registrar"), "p99 {{registrar}}"},
		},
	},
	{
		"Challenges withheld", "From where credentials must not go; should be none.", "short", true,
		[]query{{`sum by (registrar, reason) (increase(muster_challenges_withheld_total{` + registrar + `}[$__rate_interval])) > 0`, "{{registrar}} {{reason}}"}},
	},
	{
		"Configuration", "0 after a reload that was refused.", "short", false,
		[]query{{`muster_config_last_reload_successful{` + node + `}`, "{{instance}}"}},
	},
	{
		"Configuration age", "Since the last load that was accepted.", "s", false,
		[]query{{`time() - (muster_config_last_reload_success_timestamp_seconds{` + node + `} > 0)`, "{{instance}}"}},
	},
}

// object is a JSON object; encoding/json writes its keys in order.
type object map[string]any

// Dashboard writes the dashboard as Grafana imports it.
func Dashboard() ([]byte, error) {
	source := object{"type": "prometheus", "uid": "${datasource}"}
	rendered := make([]object, len(panels))
	for i, p := range panels {
		rendered[i] = p.render(i, source)
	}
	text, err := json.MarshalIndent(object{
		"uid": "muster-farm", "title": "Muster", "tags": []string{"muster", "sip"},
		"schemaVersion": 39, "version": 1, "editable": true, "refresh": "30s",
		"time":     object{"from": "now-6h", "to": "now"},
		"timezone": "browser",
		"templating": object{"list": []object{
			{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
			variable("instance", "Node", "label_values(muster_build_info, instance)", source),
			variable("registrar", "Registrar", `label_values(muster_profiles{instance=~"$instance"}, registrar)`, source),
		}},
		"panels": rendered,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("render dashboard: %w", err)
	}
	return append(text, '\n'), nil
}

// variable is a choice among the values of a label, all of them by default.
func variable(name, label, values string, source object) object {
	return object{
		"name": name, "label": label, "type": "query", "query": values, "datasource": source,
		"includeAll": true, "multi": true, "allValue": ".*", "refresh": 2, "sort": 1,
		"current": object{"text": "All", "value": "$__all"},
	}
}

func (p panel) render(i int, source object) object {
	custom := object{"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
	if p.stack {
		custom["stacking"] = object{"mode": "normal"}
	}
	targets := make([]object, len(p.queries))
	for q, query := range p.queries {
		targets[q] = object{
			"refId": string(rune('A' + q)), "datasource": source,
			"expr": query.expr, "legendFormat": query.legend,
		}
	}
	return object{
		"id": i + 1, "type": "timeseries", "title": p.title, "description": p.description,
		"datasource": source, "targets": targets,
		"gridPos": object{
			"x": i % columns * panelWidth, "y": i / columns * panelHeight,
			"w": panelWidth, "h": panelHeight,
		},
		"fieldConfig": object{
			"defaults":  object{"unit": p.unit, "min": minimum(p), "custom": custom},
			"overrides": []object{},
		},
		"options": object{
			"legend":  object{"displayMode": "list", "placement": "bottom"},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
}

// minimum starts the axis at zero, except where values may be negative.
func minimum(p panel) any {
	if p.title == "Refresh margin" {
		return nil
	}
	return 0
}
