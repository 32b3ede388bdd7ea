// Package bearer is the built-in xSP that answers Bearer challenges with access
// tokens of an OAuth 2.0 authorization server (RFC 8898, RFC 6749, RFC 6750).
//
// A challenge names its authorization server in authz_server and what the token
// must be good for in scope. The Provider gets a token from that server, by the
// client's own credentials or by a refresh token per profile, and answers with
// "Authorization: Bearer <token>", or Proxy-Authorization for a proxy.
//
// What it promises:
//
//   - Only servers that are configured are contacted. A challenge that names
//     another one causes no lookup and no connection (RFC 8898 §2.1.1).
//   - One token request at a time for what is the same token, however many
//     questions wait for it; a token is renewed before it expires.
//   - A refused token is replaced once. When its successor is refused as well,
//     the question is refused without another request.
//   - A refresh token that the server has replaced (RFC 6749 §6) is durable
//     before the answer is given.
//   - No token, no secret and nothing that a server wrote stands in an error, a
//     refusal or a log line.
//
// What it refuses: to run without Options.AllowCleartext as long as Muster has
// no SIP over TLS, because whoever reads the request has the token; redirects of
// token requests; tokens that a header cannot hold. Other schemes are not its
// business: a Digest challenge beside a Bearer challenge is left alone.
//
// The way of a question: answer.go reads the challenges, cache.go finds or
// requests the token, request.go talks to the token endpoint that metadata.go
// has found, refresh.go remembers refresh tokens.
package bearer
