package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/xsp"
)

// Bounds of Retry-After. No time at all would be a refusal for good.
const (
	minRetryAfter = time.Second
	maxRetryAfter = time.Hour
)

// refusedWith is what a status other than 200 means.
func refusedWith(resp *http.Response, now time.Time) error {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if wait, ok := retryAfter(resp.Header.Get("Retry-After"), now); ok {
			return xsp.Refuse("busy", wait)
		}
	}
	return fmt.Errorf("status %d", resp.StatusCode)
}

// retryAfter reads both forms of Retry-After (RFC 9110 §10.2.3).
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return bound(time.Duration(seconds) * time.Second), true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return bound(at.Sub(now)), true
}

func bound(d time.Duration) time.Duration { return min(max(d, minRetryAfter), maxRetryAfter) }

// unreachable says why there is no reply. The HTTP library quotes what the
// server sent in its errors, and that may be half of an answer, so only errors
// of the layers below and the context's pass (S-65). What is left was not HTTP
// if a byte of a response was heard, and is the end of the connection if not.
func unreachable(ctx context.Context, err error, heard bool) error {
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("no reply: %w", ended)
	}
	var (
		untrusted *tls.CertificateVerificationError
		plain     tls.RecordHeaderError
		network   *net.OpError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("the certificate is not trusted: %s", xsp.Printable(untrusted.Err.Error()))
	case errors.As(err, &plain):
		return errors.New("the server does not speak TLS")
	case errors.As(err, &network):
		return fmt.Errorf("no reply: %w", network)
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("the server does not react")
	case strings.HasPrefix(err.Error(), "tls: "):
		return fmt.Errorf("no reply: %s", xsp.Printable(err.Error()))
	case !heard, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed before the end of a reply")
	}
	return fmt.Errorf("%w: it is not HTTP", xsp.ErrMalformed)
}
