package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster/admin"
)

const (
	defaultServer = "http://127.0.0.1:8080"
	apiPath       = "/api/v1"
	// maxAnswer bounds an answer that is kept in memory.
	maxAnswer = 64 << 20
	// answerTimeout is above the longest that a node works on a request.
	answerTimeout = 6 * time.Minute
)

// connection holds the flags of every command that talks to a node.
type connection struct {
	server, tokenFile, caFile string
}

// flags adds them to a command and all below it. Environment variables are
// the defaults.
func (n *connection) flags(c *cobra.Command) {
	from := func(variable, otherwise string) string {
		if value := os.Getenv(variable); value != "" {
			return value
		}
		return otherwise
	}
	f := c.PersistentFlags()
	f.StringVar(&n.server, "server", from("MUSTER_SERVER", defaultServer), "`URL` of the node's API (MUSTER_SERVER)")
	f.StringVar(&n.tokenFile, "token-file", from("MUSTER_TOKEN_FILE", ""), "`FILE` that holds the bearer token (MUSTER_TOKEN_FILE)")
	f.StringVar(&n.caFile, "ca-file", from("MUSTER_CA_FILE", ""), "`FILE` with the certificates to trust instead of the system's (MUSTER_CA_FILE)")
}

// client is a caller of a node's API.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// show asks the node for what path holds. As JSON it prints that and is done;
// else answer is filled for a table.
func (n *connection) show(c *cobra.Command, path, form string, answer any) (done bool, err error) {
	node, err := n.open(c)
	if err != nil {
		return false, err
	}
	var raw json.RawMessage
	if err := node.call(c.Context(), "GET", apiPath+path, nil, &raw); err != nil {
		return false, err
	}
	if form == formJSON {
		return true, printJSON(c.OutOrStdout(), raw)
	}
	return false, json.Unmarshal(raw, answer)
}

// open checks the flags and makes a client. Nothing is sent yet.
func (n *connection) open(c *cobra.Command) (*client, error) {
	base, err := url.Parse(n.server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, wrongUse(c, "--server %q is not a URL such as %s", n.server, defaultServer)
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, wrongUse(c, "--server must be scheme://host:port only; a token belongs into --token-file")
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: answerTimeout,
	}
	cl := &client{base: base, http: &http.Client{
		Transport: transport,
		// A redirect could take the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if n.caFile != "" {
		pem, err := os.ReadFile(n.caFile)
		if err != nil {
			return nil, fmt.Errorf("read --ca-file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file %s holds no certificate", n.caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if n.tokenFile != "" {
		if base.Scheme == "http" && !admin.IsLoopback(base.Host) {
			return nil, wrongUse(c, "--server %s would get the token in the clear; use https", n.server)
		}
		if cl.token, err = readSecret(n.tokenFile); err != nil {
			return nil, fmt.Errorf("read --token-file: %w", err)
		}
	}
	return cl, nil
}

// readSecret reads a file of one line. Its errors do not hold the line.
func readSecret(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
		return "", fmt.Errorf("%s must hold one line", path)
	}
	return secret, nil
}

// profilePath is the path of a profile, whatever its id holds.
func profilePath(id string, rest ...string) string {
	return apiPath + "/profiles/" + url.PathEscape(id) + strings.Join(rest, "")
}

// sessionPath is the path of a session.
func sessionPath(id string, rest ...string) string {
	return apiPath + "/sessions/" + url.PathEscape(id) + strings.Join(rest, "")
}

// call sends a request and decodes the answer into out, unless out is nil.
func (cl *client) call(ctx context.Context, method, path string, body []byte, out any) error {
	answer, err := cl.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if out == nil {
		return nil
	}
	content, err := io.ReadAll(io.LimitReader(answer, maxAnswer))
	if err != nil {
		return cl.unreachable(err)
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = content
		return nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return fmt.Errorf("%s does not answer like a Muster node", cl.base)
	}
	return nil
}

// send returns the body of a good answer; the caller closes it.
func (cl *client) send(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	r, err := cl.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return cl.do(r)
}

// request makes a request with the token.
func (cl *client) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(cl.base.String(), "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if cl.token != "" {
		r.Header.Set("Authorization", "Bearer "+cl.token)
	}
	return r, nil
}

func (cl *client) do(r *http.Request) (io.ReadCloser, error) {
	answer, err := cl.http.Do(r)
	if err != nil {
		return nil, cl.unreachable(err)
	}
	if answer.StatusCode/100 == 2 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	return nil, cl.refused(answer)
}

// refusedError is an answer of the node that says no.
type refusedError struct {
	status int
	detail string
}

// Error implements error.
func (e *refusedError) Error() string { return e.detail }

func (cl *client) refused(answer *http.Response) error {
	var problem struct{ Detail string }
	content, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && strings.HasPrefix(answer.Header.Get("Content-Type"), "application/problem+json") {
		err = json.Unmarshal(content, &problem)
	}
	if err != nil || problem.Detail == "" {
		return fmt.Errorf("%s does not answer like a Muster node: %s", cl.base, answer.Status)
	}
	e := &refusedError{answer.StatusCode, printable(problem.Detail)}
	if answer.StatusCode == http.StatusUnauthorized {
		e.detail += " (give it with --token-file)"
	}
	return e
}

// unreachable words a failure of the connection.
func (cl *client) unreachable(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no node answers at %s (start one with \"muster run\" or \"muster demo\", or name another with --server)", cl.base)
	}
	return fmt.Errorf("ask the node at %s: %w", cl.base, err)
}
