package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/cmd/node/config"
)

func newRun() *cobra.Command {
	var path string
	var deregister bool
	c := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Run a node",
		Long: `Run starts a node and keeps its profiles registered until it gets SIGTERM or
SIGINT. Bindings stay at the registrars when it stops, unless --deregister or
shutdown.deregister says otherwise: then they are removed first, at the pace of
each registrar. A second signal ends the process at once.

SIGHUP, or POST /-/reload, reads the configuration again: registrars, xsp,
trunks and profiles take effect at once, and only what changed is touched. The other sections
need a restart. A configuration with an error changes nothing.

Between two collections of garbage the memory grows by a fifth, or by 24 MiB when
that is more; a busy node lets it grow to twice the size. The environment
variables GOGC and GOMEMLIMIT replace that rule.

The log goes to the standard error.`,
		Example: `  muster run --config muster.yaml
  kill -HUP $(pidof muster)`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := required(c, "config", path); err != nil {
				return err
			}
			return runNode(c, path, deregister)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "", "configuration `FILE`; see muster check --example")
	c.Flags().BoolVar(&deregister, "deregister", false, "remove all bindings at shutdown, as shutdown.deregister does")
	return c
}

func runNode(c *cobra.Command, path string, deregister bool) (err error) {
	loaded, err := config.Load(path)
	if err != nil {
		fmt.Fprintln(c.ErrOrStderr(), err)
		return errReported
	}
	log := newLogger(c.ErrOrStderr(), loaded.Log)
	for _, w := range loaded.Warnings {
		log.Warn("configuration", "warning", w)
	}
	// Before Start: a SIGHUP meant for a node that is starting must not end it.
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)

	maker, err := newXSPMaker(loaded.Remote, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, maker.Close()) }()
	options, err := nodeOptions(loaded, maker, log)
	if err != nil {
		return err
	}
	options.Deregister = options.Deregister || deregister
	node, err := muster.New(options)
	if err != nil {
		return errors.Join(err, closeAll(options.XSPs))
	}
	ctx := c.Context()
	if err := node.Start(ctx); err != nil {
		if ctx.Err() != nil {
			log.Info("stopped while starting")
			return nil
		}
		return err
	}
	go muster.TendMemory(ctx)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-hangUp:
			// The node logs the error; the old configuration stays.
			_ = node.Reload(ctx)
		}
	}
	log.Info("stopping")
	if err := node.Stop(context.Background()); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	log.Info("stopped")
	return nil
}

// nodeOptions turns a configuration into a node's options.
func nodeOptions(c *config.Config, maker *xspMaker, log *slog.Logger) (muster.Options, error) {
	wanted, err := desired(c, maker)
	if err != nil {
		return muster.Options{}, err
	}
	return muster.Options{
		ID:      c.Node.ID,
		DataDir: c.Node.DataDir,
		KeyFile: c.Node.KeyFile,
		Retention: muster.Retention{
			Events: c.Node.Retention.Events, Age: c.Node.Retention.Age, Bytes: c.Node.Retention.Bytes,
		},
		SIP: muster.SIP{
			Listen: c.SIP.Listen, Advertise: c.SIP.Advertise, UserAgent: c.SIP.UserAgent, AcceptFrom: c.SIP.AcceptFrom,
		},
		Desired: wanted,
		Load:    reloader(c, maker, log),
		Admin: muster.Admin{
			Listen: c.Admin.Listen, TLSCert: c.Admin.TLSCert, TLSKey: c.Admin.TLSKey, TokenFile: c.Admin.TokenFile,
		},
		Deregister: c.Shutdown.Deregister,
		Logger:     log,
		Version:    buildInfo().Version,
	}, nil
}

// desired makes what a reload can change. Whoever gets it owns its xSPs.
func desired(c *config.Config, maker *xspMaker) (muster.Desired, error) {
	xsps, err := maker.build(c.XSPs)
	if err != nil {
		return muster.Desired{}, err
	}
	return muster.Desired{Registrars: c.Registrars, XSPs: xsps, Trunks: c.Trunks, Rows: c.Profiles.All()}, nil
}

// fixed are the sections that a running node cannot change.
type fixed struct {
	Node     config.Node
	Admin    config.Admin
	SIP      config.SIP
	Remote   config.Remote
	Log      config.Log
	Shutdown config.Shutdown
}

func fixedOf(c *config.Config) fixed {
	return fixed{c.Node, c.Admin, c.SIP, c.Remote, c.Log, c.Shutdown}
}

// reloader reads the configuration again. It warns about changes that wait for
// a restart: silence would look like success.
func reloader(c *config.Config, maker *xspMaker, log *slog.Logger) func(context.Context) (muster.Desired, error) {
	path, started := c.File, fixedOf(c)
	return func(context.Context) (muster.Desired, error) {
		loaded, err := config.Load(path)
		if err != nil {
			return muster.Desired{}, err
		}
		for _, w := range loaded.Warnings {
			log.Warn("configuration", "warning", w)
		}
		if !reflect.DeepEqual(started, fixedOf(loaded)) {
			log.Warn("node, admin, sip, remote, log or shutdown changed in the configuration; that takes effect at the next start", "file", path)
		}
		return desired(loaded, maker)
	}
}
