// Package metrics shows a node to Prometheus.
//
// Most of what it counts is a projection of events: the host tells the
// Observer what was recorded, after it is durable, and events.go turns that
// into counters and gauges. What no event can say (how long an append took, how
// many packets were dropped, whether a registrar answers) is told by the shell
// through small methods of its own.
//
// What it promises:
//
//   - Every node has a registry of its own. Nothing here touches the default
//     registry, so two nodes run in one process.
//   - The states of muster_profiles sum to the number of profiles. A profile
//     that enters is counted from the empty state, one that leaves is counted
//     to it, and nothing else changes the sum. Those of muster_sessions sum to
//     the number of sessions that are not over in the same way, and each
//     session has one outcome.
//   - A label value comes from a closed set or from the configuration: states,
//     outcomes, reasons, event types, SIP methods, known SIP codes and the
//     names of registrars and xSPs. What is not in its set is counted as
//     "other", a code as its class ("4xx"). No label holds a profile, a session,
//     a realm, a Call-ID or any other text from the network, so the number of
//     series does not grow with the number of profiles or calls (S-64).
//   - Series exist at zero from the start where their set is closed and small,
//     so that rate() sees the first increase. The exception is
//     muster_sip_responses_total, whose methods and codes multiply to over a
//     thousand: only the answers to REGISTER that operators watch are touched.
//   - Methods that run once per request or event do not allocate and look
//     nothing up by label: their counters are resolved when the registrar, the
//     xSP or the node appears.
//   - What every registration counts is kept side by side and goes to its series
//     when they are read (settle.go). A reader sees everything that was counted
//     before it came.
//
// What it refuses: figures per profile (the API and the journal have them),
// thresholds and opinions (mixin/alerts.yaml has those), and figures of
// protoactor or sipgo under their own names.
//
// Metrics satisfies actors.Observer by its method set; it imports messages and
// nothing else of this module.
//
// Histograms are exposed in the classic and in the native form. A server that
// scrapes native histograms may drop the classic buckets, so panels and rules
// ask for both, as mixin does.
//
// Read metrics.go for the list, events.go and sessions.go for the projection,
// docs/metrics.md for what to do about each figure, and mixin for rules, alerts
// and the dashboard.
package metrics
