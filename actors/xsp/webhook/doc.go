// Package webhook reaches an xSP by HTTPS: every question is a POST of signed
// JSON, and the reply is JSON as well. It is the way for programs in any
// language; docs/examples/webhook holds one in Python.
//
// Client is the node's side. It promises that
//
//   - a question is one POST with the members of design §8, all of them present
//     but bodyHashes, which stands there only when auth-int is offered;
//   - it is signed: Muster-Signature: t=<unix>,v1=<hex>, where v1 is the
//     HMAC-SHA256 of t, a dot and the body. The key is the content of the secret
//     file as bytes; line breaks at its end are not part of it, and hex digits
//     in it are not decoded;
//   - at most 16 KiB of a reply are kept, whatever the server sends (S-44), and
//     nothing outlasts the context of the question;
//   - errors hold no header, no text of the server and no URL, which may hold a
//     token (S-65). They may name the host.
//
// Only status 200 is a reply. 429 and 503 with Retry-After are a refusal for
// that time, at least a second and at most an hour. Every other status is no
// answer; 204 and redirects are among them, and redirects are not followed: a
// question goes to the address of the configuration and nowhere else.
//
// The client speaks HTTP/1.1 and keeps connections open, so that one question
// that hangs holds up no other. It uses no proxy, not even one that the
// environment names. It keeps no cookies and asks for no compression. TLS is 1.2
// or later; plain HTTP is for loopback addresses only. A question is sent once,
// except that one on a kept connection that ends without a response is sent once
// more on another, with the same ref.
//
// Handler is the server's side for Go programs, and Verify its check of the
// signature for those who bring their own server.
package webhook
