package bearer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/sipmuster/muster/actors/xsp"
)

const (
	// requestTimeout bounds the way to a token, metadata included. It is longer
	// than a question may take: what comes late serves the next one.
	requestTimeout = 10 * time.Second
	// maxAnswerBytes bounds an answer of an authorization server.
	maxAnswerBytes = 64 << 10
	// maxRetryAfter bounds what a server may ask for.
	maxRetryAfter = time.Hour
)

// request gets a new token. Its errors are fit for logs: they hold nothing that
// was sent and nothing that a server wrote.
func (p *Provider) request(k key) (*token, error) {
	ctx, cancel := context.WithTimeout(p.life, requestTimeout)
	defer cancel()
	if wait := k.server.busyFor(p.now()); wait > 0 {
		return nil, xsp.Refuse("the authorization server is busy", wait)
	}
	e, err := p.endpointOf(ctx, k.server)
	if err != nil {
		return nil, err
	}
	if p.refresh != nil {
		return p.refreshed(ctx, k, e)
	}
	t, _, err := p.exchange(ctx, k, e, url.Values{"grant_type": {ClientCredentials}})
	return t, err
}

// exchange asks the token endpoint, and returns the refresh token as well.
func (p *Provider) exchange(ctx context.Context, k key, e endpoint, grant url.Values) (*token, string, error) {
	// clientcredentials.Config takes another grant_type, and unlike
	// oauth2.Config sends the scope with it.
	config := clientcredentials.Config{
		ClientID: p.options.ClientID, ClientSecret: p.options.ClientSecret.Reveal(),
		TokenURL: e.url, Scopes: strings.Fields(k.scope), EndpointParams: grant, AuthStyle: e.style,
	}
	if p.options.ClientSecret.Empty() {
		config.AuthStyle = oauth2.AuthStyleInParams // RFC 6749 §3.2.1
	}
	since := p.now() // before the request: rather renewed early than late
	got, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, p.client))
	if err != nil {
		return nil, "", p.failure(k.server, err)
	}
	t := newToken(got.AccessToken, since, lifeOf(got))
	switch {
	case got.Type() != "Bearer":
		// RFC 6749 §7.1: a type that is not understood is not used.
		err = xsp.Refuse("the token is not a bearer token", 0)
	case !validToken(got.AccessToken):
		err = xsp.Refuse("the access token has characters that a header cannot hold, or is too long", 0)
	}
	return t, got.RefreshToken, err
}

// lifeOf reads expires_in, which the library adds to its own clock. It is a
// number in JSON, a string with some servers; 0 when there is none.
func lifeOf(t *oauth2.Token) time.Duration {
	var seconds float64
	switch v := t.Extra("expires_in").(type) {
	case float64:
		seconds = v
	case int64: // of an answer that is a form
		seconds = float64(v)
	case string:
		seconds, _ = strconv.ParseFloat(v, 64) // 0 when it is none
	}
	return time.Duration(min(seconds, math.MaxInt32)) * time.Second
}

// failure says what the error of a token request means. It does not wrap it:
// oauth2.RetrieveError carries the body, and the errors of net/http quote what
// they cannot read.
func (p *Provider) failure(s *server, err error) error {
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) {
		return fmt.Errorf("token endpoint: %s", describe(err))
	}
	status := answered.Response.StatusCode
	if err := s.busy(status, answered.Response.Header, p.now()); err != nil {
		return err
	}
	if status >= http.StatusInternalServerError {
		return fmt.Errorf("token endpoint: status %d", status)
	}
	switch code := answered.ErrorCode; code { // RFC 6749 §5.2
	case "invalid_grant":
		if p.refresh != nil {
			return xsp.Refuse("token endpoint: refresh token refused", 0)
		}
		return xsp.Refuse("token endpoint: grant refused", 0)
	case "invalid_scope":
		return xsp.Refuse("token endpoint: scope refused", 0)
	case "invalid_request", "invalid_client", "unauthorized_client", "unsupported_grant_type":
		// The same for all profiles, and the operator's to mend: no profile
		// is given up for it.
		return fmt.Errorf("token endpoint: %s", code)
	}
	return fmt.Errorf("token endpoint: status %d", status)
}

// describe tells the kind of a failed HTTP exchange.
func describe(err error) string {
	var (
		certificate *tls.CertificateVerificationError
		network     *net.OpError
		tooLong     *http.MaxBytesError
		timeout     net.Error
	)
	switch {
	case errors.As(err, &certificate):
		return "its certificate is not accepted"
	case errors.Is(err, context.Canceled):
		return "given up"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.As(err, &network):
		return network.Op + ": " + network.Err.Error()
	case errors.As(err, &tooLong):
		return "its answer is too long"
	}
	return "its answer is not valid"
}

// busy notes that a server asks to be left alone (429, 503 with Retry-After)
// and returns the refusal, or nil when it does not.
func (s *server) busy(status int, header http.Header, now time.Time) error {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return nil
	}
	wait := min(retryAfter(header.Get("Retry-After"), now), maxRetryAfter)
	if wait <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busyUntil = now.Add(wait)
	return xsp.Refuse("the authorization server is busy", wait)
}

func (s *server) busyFor(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busyUntil.Sub(now)
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3); 0 when it is neither.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return at.Sub(now)
	}
	return 0
}
