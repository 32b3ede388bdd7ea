package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/messages"
)

const (
	// maxReply is what a reply may have (S-44), and maxReplyHeader its header.
	maxReply       = 16 << 10
	maxReplyHeader = 16 << 10
	// patience bounds a question whose context has no deadline, and dialling,
	// which goes on for other questions when the one that began it ends.
	patience = 30 * time.Second
	// idleTimeout is shorter than that of most servers that set one, because
	// the side that closes first loses no question.
	idleTimeout = 45 * time.Second
)

// Options configure a Client.
type Options struct {
	// URL is that of the xSP: https, or http on a loopback address. It has no
	// user name and no fragment; a query may hold a token.
	URL string
	// Secret signs the questions: the content of the secret file without the
	// line break at its end. It is required.
	Secret messages.Secret
	// RootCAs are those that the server's certificate is checked with; nil
	// means those of the system.
	RootCAs *x509.CertPool
	// Concurrency bounds the connections, and so the questions that are out;
	// others wait for one until their deadline. 0 means 100.
	Concurrency int
	// UserAgent is the value of User-Agent, such as "Muster/1.2.0"; empty means
	// "Muster".
	UserAgent string
	// Now is the clock of the signatures; nil means time.Now.
	Now func() time.Time
}

// Client asks an xSP by HTTP. It is safe for concurrent use.
type Client struct {
	url       *url.URL
	secret    messages.Secret
	userAgent []string
	now       func() time.Time
	transport *http.Transport
	closed    atomic.Bool
}

var (
	_ xsp.Authenticator = (*Client)(nil)
	_ io.Closer         = (*Client)(nil)
)

var errClosed = errors.New("the webhook is closed")

// New makes a client. It connects when it is asked for the first time. Errors
// do not show the URL.
func New(o Options) (*Client, error) {
	u, err := parseURL(o.URL)
	switch {
	case err != nil:
		return nil, err
	case o.Secret.Empty():
		return nil, errors.New("a webhook needs a secret")
	case o.Concurrency < 0:
		return nil, errors.New("the concurrency of a webhook is negative")
	case strings.ContainsFunc(o.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }):
		return nil, errors.New("the user agent of a webhook is not printable ASCII")
	}
	if o.Concurrency == 0 {
		o.Concurrency = 100
	}
	if o.UserAgent == "" {
		o.UserAgent = "Muster"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dialer := &net.Dialer{Timeout: patience}
	return &Client{
		url: u, secret: o.Secret, userAgent: []string{o.UserAgent}, now: o.Now,
		// The transport is used without http.Client, which would follow
		// redirects and put the URL into its errors. A TLS configuration of
		// our own keeps it at HTTP/1.1.
		transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    patience,
			DisableCompression:     true,
			MaxConnsPerHost:        o.Concurrency,
			MaxIdleConns:           o.Concurrency,
			MaxIdleConnsPerHost:    o.Concurrency,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxReplyHeader,
		},
	}, nil
}

// parseURL says what is wrong without repeating it.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, errors.New("the URL of a webhook is not one with a host")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the URL of a webhook does not begin with https://")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("the URL of a webhook sends challenges in the clear: http is for loopback addresses")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("the URL of a webhook has a user name or a fragment")
	}
	return u, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// Answer implements xsp.Authenticator.
func (c *Client) Answer(ctx context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	if c.closed.Load() {
		return nil, errClosed
	}
	defer func() {
		// A question that began before Close leaves no connection behind.
		if c.closed.Load() {
			c.transport.CloseIdleConnections()
		}
	}()
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	body, err := encode(q)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	reply, err := c.read(ctx, resp)
	if err != nil {
		return nil, err
	}
	return xsp.Unpack(q, reply)
}

// Close closes the connections; later questions are not asked. Questions that
// are out run until they are answered or their context ends.
func (c *Client) Close() error {
	c.closed.Store(true)
	c.transport.CloseIdleConnections()
	return nil
}

// send posts the question. A server may close a connection that lies idle at
// the moment when it is used again; the question is then posted once more, on a
// connection of its own. The transport's way to do that (Idempotency-Key) would
// repeat it for every connection that is kept.
func (c *Client) send(ctx context.Context, body []byte) (*http.Response, error) {
	resp, stale, err := c.post(ctx, body)
	if stale {
		c.transport.CloseIdleConnections()
		resp, _, err = c.post(ctx, body)
	}
	return resp, err
}

// post also tells whether it failed on a connection that had been used before
// and that ended without a byte of a response.
func (c *Client) post(ctx context.Context, body []byte) (resp *http.Response, stale bool, err error) {
	var used, heard atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(info httptrace.GotConnInfo) { used.Store(info.Reused) },
		GotFirstResponseByte: func() { heard.Store(true) },
	})
	resp, err = c.transport.RoundTrip(c.request(traced, body))
	if err != nil {
		stale = used.Load() && !heard.Load() && ctx.Err() == nil
		return nil, stale, unreachable(ctx, err, heard.Load())
	}
	return resp, false, nil
}

func (c *Client) request(ctx context.Context, body []byte) *http.Request {
	r := &http.Request{
		Method: http.MethodPost, URL: c.url, Host: c.url.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":  {"application/json"},
			"User-Agent":    c.userAgent,
			SignatureHeader: {Sign(c.secret, c.now(), body)},
		},
		Body:          io.NopCloser(bytes.NewReader(body)),
		GetBody:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		ContentLength: int64(len(body)),
	}
	return r.WithContext(ctx)
}

// read takes the reply. One byte more than may be there tells whether there was
// more, and a response that is not read to its end costs its connection.
func (c *Client) read(ctx context.Context, resp *http.Response) (*messages.AuthReply, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if resp.StatusCode != http.StatusOK {
		return nil, refusedWith(resp, c.now())
	}
	// When the context ends the server may see that first, and end its response
	// in good order; such a reply is late in any case.
	if err != nil || ctx.Err() != nil {
		return nil, unreachable(ctx, err, true)
	}
	return decode(body)
}

// decode reads a reply. Errors of protojson quote what they complain about, so
// they end here.
func decode(body []byte) (*messages.AuthReply, error) {
	if len(body) > maxReply {
		return nil, fmt.Errorf("%w: it has more than 16 KiB", xsp.ErrMalformed)
	}
	reply := new(messages.AuthReply)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, reply); err != nil {
		return nil, fmt.Errorf("%w: it is not the JSON of an answer", xsp.ErrMalformed)
	}
	return reply, nil
}
