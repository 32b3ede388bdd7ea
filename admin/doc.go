// Package admin is the HTTP side of a node: the API under /api/v1 with its
// OpenAPI document, server-sent events, health and readiness, reload, backup,
// and the way to /metrics.
//
// It owns no state of profiles or sessions. Everything is asked of a Node, an
// interface that the root package satisfies, and nothing is acknowledged before
// the Node has returned: what the Node does is durable by then (design §4).
//
// # Who may call
//
// Without tokens the server binds to loopback addresses only and trusts every
// local user; it then refuses requests with a foreign Host, which is how a web
// page reaches a loopback port (DNS rebinding). With tokens, a caller presents
// "Authorization: Bearer ..." and has a role: read, operate or admin. An
// address beyond loopback needs TLS and tokens, or New refuses (S-70). A route
// that nobody gave a role to needs the highest.
//
// There is no CORS and no cookie, so a browser holds nothing that a foreign
// page could use; http.CrossOriginProtection refuses what it sends all the
// same (S-75).
//
// # What callers may rely on
//
//   - Every error is application/problem+json (RFC 9457), also for an unknown
//     route, a wrong method, a body that is too large or is not JSON.
//   - Secrets are write-only (S-71): no answer holds one. No error and no log
//     line holds the value of a header or a body of a call.
//   - Requests are bounded in size, time and number (S-74).
//   - Every change is logged with the name of the caller.
//
// # Where to read
//
// server.go: the Node, the options, start and stop. guard.go: what every
// request passes. api.go: the table of routes. profiles.go, bulk.go,
// sessions.go, events.go and system.go: what they do. Package declare reads the
// bodies.
package admin
