package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/bearer"
	"github.com/sipmuster/muster/actors/signature"
	"github.com/sipmuster/muster/actors/usim"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/grpcxsp"
	"github.com/sipmuster/muster/actors/xsp/remotexsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/cmd/node/config"
)

// xspMaker makes the xSPs of a configuration, at the start and again at each
// reload.
type xspMaker struct {
	// endpoint reaches actors on other nodes. It lives as long as the process;
	// nil without the section remote.
	endpoint *remotexsp.Endpoint
	log      *slog.Logger
}

// newXSPMaker opens the endpoint when there is a section remote.
func newXSPMaker(r config.Remote, log *slog.Logger) (*xspMaker, error) {
	if r.Listen == "" {
		return &xspMaker{log: log}, nil
	}
	t, err := r.TLS.Load()
	if err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	endpoint, err := remotexsp.Listen(remotexsp.Options{Listen: r.Listen, Advertise: r.Advertise, TLS: t, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	return &xspMaker{endpoint, log}, nil
}

// Close closes the endpoint, after the node that uses it has stopped.
func (m *xspMaker) Close() error {
	if m.endpoint == nil {
		return nil
	}
	return m.endpoint.Close()
}

// build makes all xSPs or none: after an error nothing is left open.
func (m *xspMaker) build(list []config.XSP) ([]actors.XSP, error) {
	built := make([]actors.XSP, 0, len(list))
	for _, c := range list {
		a, err := m.authenticator(c)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("xsp.%s: %w", c.Name, err), closeAll(built))
		}
		built = append(built, actors.XSP{
			Name: c.Name, Kind: c.Kind(), Authenticator: a,
			Timeout: c.Timeout, Concurrency: c.Concurrency, Waiting: c.Waiting, Headers: c.Headers,
		})
	}
	return built, nil
}

// closeAll closes xSPs that no node has taken over.
func closeAll(built []actors.XSP) error {
	var errs []error
	for _, x := range built {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

func (m *xspMaker) authenticator(c config.XSP) (xsp.Authenticator, error) {
	switch {
	case c.Webhook != nil:
		return webhook.New(webhook.Options{
			URL: c.Webhook.URL, Secret: c.Webhook.Secret, RootCAs: c.Webhook.RootCAs, Concurrency: c.Concurrency,
			UserAgent: "Muster/" + buildInfo().Version,
		})
	case c.GRPC != nil:
		t, err := c.GRPC.TLS.Load()
		if err != nil {
			return nil, err
		}
		return grpcxsp.New(grpcxsp.Options{Target: c.GRPC.Target, TLS: t})
	case c.Actor != nil && m.endpoint == nil:
		// A reload cannot open the endpoint.
		return nil, errors.New("needs the section remote, which takes effect at the next start")
	case c.Actor != nil:
		return m.endpoint.Authenticator(*c.Actor), nil
	case c.AKA != nil:
		return usim.New(usim.Options{Subscribers: c.AKA.Subscribers})
	case c.Bearer != nil:
		o := *c.Bearer
		o.Logger = m.log.With("component", "xsp", "xsp", c.Name)
		return bearer.New(o)
	}
	return signature.New(*c.HMAC)
}
