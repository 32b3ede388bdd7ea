package bearer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

// Grants.
const (
	// ClientCredentials gets one token for all profiles (RFC 6749 §4.4).
	ClientCredentials = "client_credentials"
	// RefreshToken gets a token per profile, by its refresh token (RFC 6749 §6).
	RefreshToken = "refresh_token"
)

// Options configure a Provider.
type Options struct {
	// TrustedServers are the https URLs of the authorization servers that a
	// challenge may name. A challenge that names none means the only one. With
	// TokenURL or the grant RefreshToken there is exactly one: a refresh token
	// is not shown to another server than its own.
	TrustedServers []string
	// TokenURL is the token endpoint; when empty, it is taken from the
	// metadata of the authorization server (RFC 8414).
	TokenURL string
	// Grant is ClientCredentials or RefreshToken.
	Grant string
	// ClientID and ClientSecret authenticate this client. A public client with
	// refresh tokens has no secret.
	ClientID     string
	ClientSecret messages.Secret
	// RefreshTokens are the first refresh tokens, by profile id; see
	// ReadRefreshTokens. What a server has replaced them with is in the vault.
	RefreshTokens map[string]messages.Secret
	// Scopes are requested instead of those that the challenge names.
	Scopes []string
	// HTTPClient is copied and used for all requests, with its redirects
	// restricted. When nil, there is one that verifies servers by RootCAs, or
	// by the roots of the system.
	HTTPClient *http.Client
	RootCAs    *x509.CertPool
	// AllowCleartext permits tokens in SIP messages that are not encrypted.
	AllowCleartext bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger is told of token requests; nil means that nobody is.
	Logger *slog.Logger
}

// Provider answers Bearer challenges. It is an xsp.Authenticator, an xsp.Keeper
// and an io.Closer.
type Provider struct {
	options Options
	client  *http.Client
	log     *slog.Logger
	now     func() time.Time
	// servers are the trusted ones by canonical URL; only is set when there is
	// no other.
	servers map[string]*server
	only    *server
	refresh *refreshTokens // nil unless the grant is RefreshToken

	// life ends with the provider and is what its requests live under: they
	// outlive the question that starts them.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex // guards what follows
	closed  bool
	entries map[key]*entry
	sweepAt int
}

var _ xsp.Keeper = (*Provider)(nil)

// New checks the options and returns a provider that has not contacted anybody.
// All faults are reported at once, by the names of the settings.
func New(o Options) (*Provider, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	p := &Provider{
		options: o, client: o.client(), log: o.Logger, now: o.Now,
		servers: make(map[string]*server), entries: make(map[key]*entry), sweepAt: sweepFloor,
	}
	p.options.Scopes = slices.Clone(o.Scopes)
	for _, raw := range o.TrustedServers {
		u, _ := canonical(raw)
		p.servers[u.String()] = &server{url: u, turn: newTurn()}
	}
	if len(p.servers) == 1 {
		for _, p.only = range p.servers {
			break
		}
	}
	if o.Grant == RefreshToken {
		p.refresh = &refreshTokens{file: maps.Clone(o.RefreshTokens), profiles: make(map[string]*refreshState)}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// Keep implements xsp.Keeper: the vault keeps replaced refresh tokens.
func (p *Provider) Keep(v xsp.Vault) error {
	if p.refresh != nil {
		p.refresh.keep(v)
	}
	return nil
}

// Close ends the provider's requests. One that uses a refresh token may end by
// itself first, within its time: to cut it off could lose the token that the
// server has just replaced it with.
func (p *Provider) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if p.refresh == nil {
		p.end()
	}
	p.work.Wait()
	p.end()
	p.client.CloseIdleConnections()
	return nil
}

func (o *Options) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !o.AllowCleartext {
		// BEA-02, RFC 8898 §5.
		fault("allow_cleartext: a bearer token must not be sent in clear, because whoever reads it can use it, " +
			"and this release has no SIP over TLS; set allow_cleartext to true if the way to the registrar is protected otherwise")
	}
	distinct := make(map[string]bool)
	for i, raw := range o.TrustedServers {
		u, err := canonical(raw)
		if err != nil {
			fault("trusted_servers: entry %d %w", i+1, err)
			continue
		}
		distinct[u.String()] = true
	}
	switch {
	case len(o.TrustedServers) == 0:
		fault("trusted_servers: name the authorization servers that a challenge may name")
	case len(distinct) > 1 && o.TokenURL != "":
		fault("token_url: belongs to one authorization server, but trusted_servers names several")
	case len(distinct) > 1 && o.Grant == RefreshToken:
		fault("trusted_servers: refresh tokens belong to one authorization server, name no other")
	}
	if o.TokenURL != "" {
		if _, err := endpointURL(o.TokenURL); err != nil {
			fault("token_url: %w", err)
		}
	}
	switch {
	case o.Grant != ClientCredentials && o.Grant != RefreshToken:
		fault("grant: must be %s or %s", ClientCredentials, RefreshToken)
	case o.Grant == ClientCredentials && o.ClientSecret.Empty():
		fault("client_secret: the grant %s needs one", ClientCredentials)
	}
	if o.ClientID == "" {
		fault("client_id: is missing")
	}
	for _, scope := range o.Scopes {
		if scope == "" || !validScope(scope) || strings.Contains(scope, " ") {
			fault("scopes: one of them is not a scope (RFC 6749 §3.3)")
			break
		}
	}
	if o.HTTPClient != nil && o.RootCAs != nil {
		fault("the HTTP client and root certificates cannot both be given")
	}
	return errors.Join(faults...)
}

// client is the HTTP client of all requests. A redirected token request would
// carry the secret to another address, so only metadata may be redirected, and
// only within its host.
func (o *Options) client() *http.Client {
	c := &http.Client{}
	if o.HTTPClient != nil {
		*c = *o.HTTPClient
	} else {
		c.Transport = &http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
			// One server answers for many profiles.
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxAnswerBytes,
		}
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = bounded{c.Transport}
	c.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		first := via[0]
		if first.Method != http.MethodGet || r.URL.Scheme != "https" || r.URL.Host != first.URL.Host || len(via) > 3 {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return c
}

// bounded cuts answers off at maxAnswerBytes.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswerBytes)
	}
	return resp, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (b bounded) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// canonical is the form in which the URLs of authorization servers are
// compared: scheme and host in lower case, no default port, no empty path
// (RFC 3986 §6.2). What has more than one reading is refused: user
// information, query, fragment (RFC 8414 §2), dot segments.
func canonical(raw string) (*url.URL, error) {
	u, err := endpointURL(raw)
	if err != nil {
		return nil, err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return nil, errors.New("has a query")
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, errors.New("has a dot segment")
		}
	}
	u.Host = strings.ToLower(u.Host)
	u.Host = strings.TrimSuffix(u.Host, ":443")
	u.Host = strings.TrimSuffix(u.Host, ":")
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// endpointURL reads the URL of an endpoint. Token endpoints must be reached
// through TLS (RFC 6749 §3.2).
func endpointURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("is not a URL")
	case u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("must be an https URL")
	case u.User != nil:
		return nil, errors.New("must not have user information")
	case strings.Contains(raw, "#"):
		return nil, errors.New("must not have a fragment")
	}
	return u, nil
}
