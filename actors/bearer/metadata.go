package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

const (
	// metadataTimeout bounds one metadata request.
	metadataTimeout = 5 * time.Second
	// metadataLife is how long its answer is used.
	metadataLife = time.Hour
)

// server is a trusted authorization server.
type server struct {
	url *url.URL // canonical

	turn turn // guards what follows, across the request
	// endpoint is known until endpointUntil.
	endpoint      endpoint
	endpointUntil time.Time

	mu        sync.Mutex // guards what follows
	busyUntil time.Time
}

// endpoint is a token endpoint and how the client authenticates there.
type endpoint struct {
	url   string
	style oauth2.AuthStyle
}

// endpointOf returns the token endpoint of a server: the configured one, or
// that of its metadata (RFC 8414). RFC 8898 §2.1.1 leaves open how it is found.
func (p *Provider) endpointOf(ctx context.Context, s *server) (endpoint, error) {
	if p.options.TokenURL != "" {
		// RFC 6749 §2.3.1: what a server must understand.
		return endpoint{p.options.TokenURL, oauth2.AuthStyleInHeader}, nil
	}
	if err := s.turn.take(ctx); err != nil {
		return endpoint{}, errors.New("wait for the metadata of the authorization server: " + describe(err))
	}
	defer s.turn.pass()
	now := p.now()
	if now.Before(s.endpointUntil) {
		return s.endpoint, nil
	}
	e, err := p.discover(ctx, s)
	if err != nil {
		return endpoint{}, err
	}
	s.endpoint, s.endpointUntil = e, now.Add(metadataLife)
	return e, nil
}

// discover asks at the address of RFC 8414 §3.1 and, when nothing is there, at
// that of OpenID Connect Discovery 1.0 §4.
func (p *Provider) discover(ctx context.Context, s *server) (endpoint, error) {
	path := strings.TrimSuffix(s.url.EscapedPath(), "/")
	origin := s.url.Scheme + "://" + s.url.Host
	var failed error
	for _, address := range []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + path + "/.well-known/openid-configuration",
	} {
		e, status, err := p.metadata(ctx, s, address)
		if err == nil {
			return e, nil
		}
		failed = firstOf(failed, err)
		if status < 400 || status >= 500 || status == http.StatusTooManyRequests {
			break
		}
	}
	return endpoint{}, failed
}

// metadata reads one metadata document. status is 0 when there was no answer.
func (p *Provider) metadata(ctx context.Context, s *server, address string) (e endpoint, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return e, 0, errors.New("metadata of the authorization server: its address is not a URL")
	}
	r.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(r)
	if err != nil {
		return e, 0, errors.New("metadata of the authorization server: " + describe(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := s.busy(resp.StatusCode, resp.Header, p.now())
		return e, resp.StatusCode, firstOf(err, fmt.Errorf("metadata of the authorization server: status %d", resp.StatusCode))
	}
	var m struct {
		Issuer        string   `json:"issuer"`
		TokenEndpoint string   `json:"token_endpoint"`
		Methods       []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		return e, resp.StatusCode, errors.New("metadata of the authorization server: " + describe(err))
	}
	// RFC 8414 §3.3: otherwise one server could speak for another.
	if issuer, err := canonical(m.Issuer); err != nil || issuer.String() != s.url.String() {
		return e, resp.StatusCode, errors.New("metadata of the authorization server: its issuer is another one")
	}
	u, err := endpointURL(m.TokenEndpoint)
	if err != nil {
		return e, resp.StatusCode, fmt.Errorf("metadata of the authorization server: token_endpoint %w", err)
	}
	e = endpoint{u.String(), oauth2.AuthStyleInHeader}
	if slices.Contains(m.Methods, "client_secret_post") && !slices.Contains(m.Methods, "client_secret_basic") {
		e.style = oauth2.AuthStyleInParams
	}
	return e, resp.StatusCode, nil
}
