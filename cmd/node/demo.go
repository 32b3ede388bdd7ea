package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/digest"
	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/cmd/node/config"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// maxDemo bounds the profiles of a demo; each needs about a kilobyte in the
// node and another in the registrar.
const maxDemo = 1_000_000

func newDemo() *cobra.Command {
	var d demo
	c := &cobra.Command{
		Use:   "demo",
		Short: "Register a thousand profiles at a registrar in this process",
		Long: `Demo starts a registrar on a loopback port that challenges every REGISTER, and a
node that registers profiles there and keeps them registered. It needs no
configuration; its data folder is temporary and is removed at the end.

With --xsp the node knows no password: an xSP in this process answers the
challenges, as a program of yours would (muster xsp list).

While it runs, try the other commands and the API in a second terminal.`,
		Example: `  muster demo
  muster demo --profiles 20000 --expires 5m
  muster demo --profiles 100 --for 30s
  muster demo --xsp

  muster profiles list --limit 5
  muster profiles history demo-1
  curl -s http://127.0.0.1:8080/metrics | grep ^muster_profiles`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case d.profiles < 1 || d.profiles > maxDemo:
				return wrongUse(c, "--profiles must be from 1 to %s", thousands(maxDemo))
			case d.expires < time.Second:
				return wrongUse(c, "--expires must be at least 1s")
			case d.limit < 0:
				return wrongUse(c, "--for must not be negative")
			}
			d.out, d.err = c.OutOrStdout(), c.ErrOrStderr()
			d.anyPort = !c.Flags().Changed("listen")
			return d.run(c.Context())
		},
	}
	c.Flags().IntVar(&d.profiles, "profiles", 1000, "`NUMBER` of profiles")
	c.Flags().DurationVar(&d.limit, "for", 0, "stop after this time (default: at Ctrl-C)")
	c.Flags().DurationVar(&d.expires, "expires", time.Minute, "how long a binding lasts")
	c.Flags().BoolVar(&d.xsp, "xsp", false, "let an xSP answer the challenges instead of digest")
	c.Flags().StringVar(&d.listen, "listen", "127.0.0.1:8080", "`ADDRESS` of the API; another port is taken when this one is in use")
	return c
}

// demo is a registrar and a node that register with each other.
type demo struct {
	profiles int
	limit    time.Duration
	expires  time.Duration
	listen   string
	anyPort  bool
	xsp      bool
	out, err io.Writer

	secret    string
	registrar *siptest.Registrar
	node      *muster.Node
	begun     time.Time
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.limit)
		defer cancel()
	}
	folder, err := os.MkdirTemp("", "muster-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := d.startRegistrar(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.registrar.Close()) }()
	if d.node, err = muster.New(d.options(folder)); err != nil {
		return err
	}
	d.begun = time.Now()
	if err := d.node.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("stopped before the node was ready")
		}
		return err
	}
	d.introduce(folder)
	registered := d.watch(ctx)
	if err := d.node.Stop(context.Background()); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return d.conclude(registered)
}

func (d *demo) startRegistrar() (err error) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	d.secret = hex.EncodeToString(b[:])
	d.registrar, err = siptest.NewRegistrar(siptest.Options{
		Authenticate: true,
		Realm:        "example.test",
		Algorithms:   []string{"SHA-256", "MD5"},
		CheckNC:      true,
		Password: func(user string) (string, bool) {
			return d.passwordOf(user), strings.HasPrefix(user, "demo-")
		},
		LogSize: -1,
	})
	return err
}

func (d *demo) passwordOf(user string) string { return d.secret + user }

func (d *demo) options(folder string) muster.Options {
	declarations := make([]actors.Declaration, d.profiles)
	for i := range declarations {
		user := fmt.Sprintf("demo-%d", i+1)
		declarations[i] = actors.Declaration{ID: user, AOR: "sip:" + user + "@example.test", Registrar: "demo", Expires: d.expires}
		if !d.xsp {
			declarations[i].Password = messages.NewSecret(d.passwordOf(user))
		}
	}
	// Fast enough to have everything registered in about ten seconds, and to
	// refresh twice per binding.
	seconds := min(10, d.expires.Seconds()/4)
	registrar := actors.Registrar{
		Name: "demo", URI: d.registrar.URI("udp"), Realms: []string{"example.test"},
		Rate: max(500, float64(d.profiles)/seconds),
	}
	var xsps []actors.XSP
	if d.xsp {
		xsps = []actors.XSP{{Name: "demo-xsp", Authenticator: xsp.Func(d.answer)}}
		registrar.RegistrationHandler = "demo-xsp"
	}
	return muster.Options{
		ID:      "demo",
		DataDir: filepath.Join(folder, "data"),
		KeyFile: filepath.Join(folder, "muster.key"),
		Desired: muster.Desired{
			Registrars: []actors.Registrar{registrar},
			XSPs:       xsps,
			Profiles:   declarations,
		},
		Admin:   muster.Admin{Listen: d.address()},
		Logger:  newLogger(d.err, config.Log{Level: slog.LevelWarn}),
		Version: buildInfo().Version,
	}
}

// answer is the procedure of the demo's xSP: digest, with passwords that only it
// knows.
func (d *demo) answer(_ context.Context, q *messages.AuthChallenge) (*messages.AuthAnswer, error) {
	user := q.GetProfileId()
	credential := digest.Credential{Username: user, Password: messages.NewSecret(d.passwordOf(user))}
	answer, refusal := digest.Answer(q, credential, func(int, bool, string, string) string { return rand.Text() })
	if refusal != nil {
		return nil, xsp.Refuse(refusal.GetReason(), 0)
	}
	return answer, nil
}

// address is where the API listens: unless it was asked for, a free port does
// when the usual one is taken.
func (d *demo) address() string {
	if !d.anyPort {
		return d.listen
	}
	probe, err := net.Listen("tcp", d.listen)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = probe.Close() // nothing was sent or received
	return d.listen
}

// introduce says where everything is.
func (d *demo) introduce(folder string) {
	api := "http://" + d.node.AdminAddr()
	t := newTable(d.out)
	t.row("registrar", d.registrar.URI("udp")+" (challenges every REGISTER)")
	t.row("node", strings.Join(d.node.SIPAddrs(), " "))
	t.row("API", api+apiPath+"/profiles")
	t.row("metrics", api+"/metrics")
	t.row("data", folder+" (removed at the end)")
	if api != defaultServer {
		t.row("try", "muster profiles list --limit 5 --server "+api)
	} else {
		t.row("try", "muster profiles list --limit 5")
	}
	// A closed output is no reason to stop registering.
	_ = t.flush()
}

// watch shows the progress until everything is registered, then a line now and
// then. It returns how many were registered at the end.
func (d *demo) watch(ctx context.Context) int {
	bar := newProgress(d.err, "profiles registered", d.profiles)
	// registering is false once everything was registered for the first time.
	registering := true
	registered := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for {
		if n, err := d.registered(); err == nil {
			registered = n
		}
		switch {
		case registering && registered == d.profiles:
			registering = false
			bar.set(registered)
			bar.finish()
			fmt.Fprintln(d.out, d.farewell())
			said = time.Now()
		case registering:
			bar.set(registered)
		case time.Since(said) >= plainEvery:
			said = time.Now()
			fmt.Fprintln(d.err, d.status(registered))
		}
		select {
		case <-ctx.Done():
			if registering {
				bar.finish()
			}
			return registered
		case <-tick.C:
		}
	}
}

func (d *demo) farewell() string {
	if d.limit > 0 {
		return fmt.Sprintf("Keeping them registered until %s have passed.", d.limit)
	}
	return "Keeping them registered; stop with Ctrl-C."
}

// registered counts the registered profiles.
func (d *demo) registered() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), plainEvery)
	defer cancel()
	views, err := d.node.Registrars(ctx)
	if err != nil || len(views) == 0 {
		return 0, err
	}
	return views[0].Profiles[actors.StateRegistered], nil
}

// status is a line about what the registrar saw.
func (d *demo) status(registered int) string {
	s := d.registrar.Snapshot()
	refreshes := max(0, int(s.Accepted)-d.profiles)
	return fmt.Sprintf("%s registered, %s refreshed, %s, %s",
		thousands(registered), thousands(refreshes), counted(int(s.Registers), "request"), counted(int(s.Challenges), "challenge"))
}

// conclude says how it went. The registrar checks what a client must not do:
// repeat a CSeq or a nonce count, have two requests open.
func (d *demo) conclude(registered int) error {
	fmt.Fprintf(d.out, "%s, in %s\n", d.status(registered), time.Since(d.begun).Round(100*time.Millisecond))
	violations := d.registrar.CheckInvariants()
	for _, v := range violations {
		fmt.Fprintln(d.err, "the registrar complains:", v)
	}
	switch {
	case len(violations) > 0:
		return fmt.Errorf("the registrar saw %s of the protocol", counted(len(violations), "violation"))
	case registered < d.profiles:
		return fmt.Errorf("%s of %s profiles were registered at the end", thousands(registered), thousands(d.profiles))
	}
	return nil
}
