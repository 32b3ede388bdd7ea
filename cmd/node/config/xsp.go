package config

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"time"

	"github.com/sipmuster/muster/actors/bearer"
	"github.com/sipmuster/muster/actors/signature"
	"github.com/sipmuster/muster/actors/usim"
	"github.com/sipmuster/muster/actors/xsp/remotexsp"
	"github.com/sipmuster/muster/actors/xsp/xsptls"
	"github.com/sipmuster/muster/messages"
)

// XSP is an entry of the section "xsp". Exactly one of the pointers is set.
type XSP struct {
	Name string
	// Timeout is 3 s when absent.
	Timeout time.Duration
	// Concurrency is 100 when absent, Waiting a hundred times as many.
	Concurrency, Waiting int
	// Headers are those that answers may change besides the two of credentials.
	Headers []string

	Webhook *Webhook
	GRPC    *GRPC
	// Actor is an actor on another node.
	Actor *remotexsp.Peer
	AKA   *AKA
	// Bearer and HMAC lack only what a file cannot say, such as a logger.
	Bearer *bearer.Options
	HMAC   *signature.Options
}

// Kind is the key that tells how the xSP is reached.
func (x *XSP) Kind() string {
	switch {
	case x.Webhook != nil:
		return "webhook"
	case x.GRPC != nil:
		return "grpc"
	case x.Actor != nil:
		return "actor"
	case x.AKA != nil:
		return "aka"
	case x.Bearer != nil:
		return "bearer"
	}
	return "hmac"
}

// Target is where the questions go, for people. It shows no path of a URL, which
// may hold a token.
func (x *XSP) Target() string {
	switch {
	case x.Webhook != nil:
		return origin(x.Webhook.URL)
	case x.GRPC != nil:
		if x.GRPC.TLS == (TLS{}) {
			return x.GRPC.Target + " without TLS"
		}
		return x.GRPC.Target
	case x.Actor != nil:
		return x.Actor.Actor + " at " + x.Actor.Address
	case x.AKA != nil:
		return "subscribers of " + x.AKA.File
	case x.Bearer != nil:
		servers := make([]string, len(x.Bearer.TrustedServers))
		for i, s := range x.Bearer.TrustedServers {
			servers[i] = origin(s)
		}
		return strings.Join(servers, " and ")
	}
	if x.HMAC.KeyID == "" {
		return "a key without a name"
	}
	return "key " + x.HMAC.KeyID
}

func origin(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// TLS are PEM files: a certificate with its key, and the authorities whose
// peers are trusted. Either all of them are given or none.
type TLS struct{ Cert, Key, CA string }

// Load reads the files; without any it returns nil.
func (t TLS) Load() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	return xsptls.Load(t.Cert, t.Key, t.CA)
}

// Webhook is an xSP behind HTTPS.
type Webhook struct {
	// URL may hold a token in its path or query, so it is not shown.
	URL    string
	Secret messages.Secret
	// RootCAs are nil for those of the system.
	RootCAs *x509.CertPool
}

// GRPC is an xSP behind gRPC.
type GRPC struct {
	// Target is host:port.
	Target string
	// TLS is empty only where Target is on this machine.
	TLS TLS
}

// AKA is the built-in xSP with software USIMs.
type AKA struct {
	// File is where the subscribers come from.
	File        string
	Subscribers []usim.Subscriber
}
