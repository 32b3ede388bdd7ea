package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What Kamailio is started with, kept in the binary so that tests of any
// package find it.
//
//go:embed kamailio/registrar.cfg kamailio/registrar.sh
var files embed.FS

// Realm is the realm of the registrar.
const Realm = "example.test"

// Password is the password of a user; every user name exists.
func Password(user string) string { return "pw-" + user }

// Limits of what this package waits for.
const (
	startTimeout   = 15 * time.Second
	stopTimeout    = 3 * time.Second
	controlTimeout = 10 * time.Second
	// startAttempts is how often another port is tried when the one that was
	// free has been taken meanwhile.
	startAttempts = 3
)

// ErrNoContact is returned by Lookup for a user without a binding.
var ErrNoContact = errors.New("no contact is registered")

// Options are the knobs of the registrar. The zero value works.
type Options struct {
	// Port is the port on 127.0.0.1; 0 takes a free one.
	Port int
	// Transports are "udp" and "tcp"; empty means both.
	Transports []string
	// Algorithm is "MD5" or "SHA-256" and stands in the challenge; empty is MD5
	// without the parameter.
	Algorithm string
	// NonceCount makes a nonce good for many requests with rising counts;
	// OneTimeNonce makes it good for one. Without either a nonce is good until
	// NonceExpire and counts are not looked at.
	NonceCount, OneTimeNonce bool
	// NonceExpire is how long a nonce is good; 0 means 300 s.
	NonceExpire time.Duration
	// MinExpires is what is granted at least; less is answered by 423. 0 means
	// 10 s.
	MinExpires time.Duration
	// MaxExpires is what is granted at most; 0 means 7,200 s.
	MaxExpires time.Duration
	// AuthInfo adds Authentication-Info to the 200.
	AuthInfo bool
	// FaultUsers makes users whose names begin with f401-, f403-, f404-, f423-,
	// f500-, f503-, fdrop-, fmulti- or fshort- meet that fault.
	FaultUsers bool
	// Calls makes it a proxy for calls as well: it challenges those of its own
	// users with 407 and passes them to registered contacts, or to Callee
	// ("host:port") when a number is called. CallDialogs challenges the requests
	// inside dialogs, too.
	Calls, CallDialogs bool
	Callee             string
	// Workers are the processes per transport; 0 means 2.
	Workers int
}

// Kamailio is a running registrar.
type Kamailio struct {
	port  int
	dir   string
	env   []string
	child *child
	stop  sync.Once
}

// Contact is one binding as the registrar holds it.
type Contact struct {
	Address   string
	Expires   time.Duration // what is left
	CallID    string
	CSeq      uint32
	UserAgent string
}

// Counters are REGISTERs by what became of them; repeats of a request count
// once.
type Counters struct {
	Received     int // all of them
	Unauthorized int // challenged for lack of credentials
	Stale        int // challenged with stale=true
	Wrong        int // wrong credentials
	Accepted     int // 200
	Faulted      int // met by the fault of the user's name
	Refused      int // refused by the location service: 423, or an old CSeq
}

// CallCounters are requests other than REGISTER by what became of them.
type CallCounters struct {
	Challenged int // for lack of credentials, or a stale nonce
	Wrong      int // wrong credentials
	Relayed    int // INVITEs that were passed on, without those inside dialogs
}

// StartKamailio starts a registrar and returns when it answers. The caller
// stops it.
func StartKamailio(o Options) (*Kamailio, error) {
	// A folder of our own: the path of a socket has at most 107 bytes, and that
	// of a test's folder may be longer.
	dir, err := os.MkdirTemp("", "kamailio-")
	if err != nil {
		return nil, err
	}
	if err := unpack(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("unpack the registrar: %w", err), os.RemoveAll(dir))
	}
	return startIn(dir, o.Port, func(port int) (*Kamailio, error) { return start(dir, port, o) })
}

func unpack(dir string) error {
	for _, name := range []string{"registrar.cfg", "registrar.sh"} {
		text, err := files.ReadFile("kamailio/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func start(dir string, port int, o Options) (*Kamailio, error) {
	k := &Kamailio{port: port, dir: dir, env: o.environment(dir, port)}
	log, err := os.Create(k.logFile())
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command("bash", k.script(), "run")
	cmd.Env, cmd.Stdout, cmd.Stderr = k.env, log, log
	if k.child, err = startChild(cmd); err != nil {
		return nil, fmt.Errorf("start the registrar: %w", err)
	}
	if err := k.waitReady(); err != nil {
		k.halt()
		return nil, err
	}
	return k, nil
}

// freePort finds a port that is free for UDP and TCP.
func freePort() (int, error) {
	for range 10 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		p, err := net.ListenPacket("udp4", l.Addr().String())
		l.Close()
		if err == nil {
			p.Close()
			return port, nil
		}
	}
	return 0, errors.New("no port is free for UDP and TCP")
}

func (o Options) environment(dir string, port int) []string {
	transports := o.Transports
	if len(transports) == 0 {
		transports = []string{"udp", "tcp"}
	}
	seconds := func(d, zero time.Duration) string {
		return strconv.Itoa(int(cmp.Or(d, zero).Seconds()))
	}
	flag := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	return append(os.Environ(),
		"RUN_DIR="+dir,
		"PORT="+strconv.Itoa(port),
		"TRANSPORTS="+strings.Join(transports, " "),
		"ALGO="+o.Algorithm,
		"NC="+flag(o.NonceCount),
		"OTN="+flag(o.OneTimeNonce),
		"NONCE_EXPIRE="+seconds(o.NonceExpire, 300*time.Second),
		"MIN_EXPIRES="+seconds(o.MinExpires, 10*time.Second),
		"MAX_EXPIRES="+seconds(o.MaxExpires, 7200*time.Second),
		"AUTHINFO="+flag(o.AuthInfo),
		"FAULT_USERS="+flag(o.FaultUsers),
		"CALLS="+flag(o.Calls),
		"CALL_DIALOGS="+flag(o.CallDialogs),
		"CALLEE="+cmp.Or(o.Callee, "127.0.0.1:5080"),
		"WORKERS="+strconv.Itoa(cmp.Or(o.Workers, 2)),
	)
}

func (k *Kamailio) waitReady() error {
	deadline := time.After(startTimeout)
	for {
		if _, err := k.ask("ready"); err == nil {
			return nil
		}
		select {
		case <-k.child.exited:
			return fmt.Errorf("the registrar ended (%w):\n%s", k.child.err, k.logTail())
		case <-deadline:
			return fmt.Errorf("the registrar was not ready in %v:\n%s", startTimeout, k.logTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends the registrar, waits for it and removes its folder. It may be
// called more than once.
func (k *Kamailio) Stop() {
	k.halt()
	_ = os.RemoveAll(k.dir)
}

func (k *Kamailio) halt() {
	k.stop.Do(func() {
		k.child.end(syscall.SIGTERM)
	})
}

// Restart ends the registrar and starts another on the same port, with other
// options and without its bindings. The receiver is of no use any more.
func (k *Kamailio) Restart(o Options) (*Kamailio, error) {
	k.halt()
	o.Port = k.port
	return start(k.dir, k.port, o)
}

// Pause stops all its processes until Resume: a registrar that is silent while
// its port is open.
func (k *Kamailio) Pause() error { return k.child.signalAll(syscall.SIGSTOP) }

// Resume continues a registrar that Pause stopped.
func (k *Kamailio) Resume() error { return k.child.signalAll(syscall.SIGCONT) }

// Port is its port on 127.0.0.1.
func (k *Kamailio) Port() int { return k.port }

// URI is what a node is configured with to reach it: "sip:127.0.0.1:5060" and a
// transport.
func (k *Kamailio) URI(transport string) string {
	return fmt.Sprintf("sip:127.0.0.1:%d;transport=%s", k.port, transport)
}

// Count tells how many contacts are registered.
func (k *Kamailio) Count() (int, error) {
	out, err := k.ask("count")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return 0, fmt.Errorf("count contacts: %w", err)
	}
	return n, nil
}

// Lookup reads the contacts of a user, the newest first as Kamailio lists them,
// or ErrNoContact.
func (k *Kamailio) Lookup(user string) ([]Contact, error) {
	out, err := k.ask("lookup", user)
	if err != nil {
		return nil, err
	}
	return parseLookup(out)
}

// parseLookup reads the lines "Key: value" that kamcmd prints for ul.lookup.
func parseLookup(out string) ([]Contact, error) {
	if strings.Contains(out, "AOR not found") {
		return nil, ErrNoContact
	}
	var contacts []Contact
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		key, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		value = strings.TrimSpace(value)
		if key == "Address" {
			contacts = append(contacts, Contact{Address: value})
		}
		if len(contacts) == 0 {
			continue
		}
		c := &contacts[len(contacts)-1]
		var err error
		switch key {
		case "Expires":
			var seconds int
			seconds, err = strconv.Atoi(value)
			c.Expires = time.Duration(seconds) * time.Second
		case "Call-ID":
			c.CallID = value
		case "CSeq":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 32)
			c.CSeq = uint32(n)
		case "User-Agent":
			c.UserAgent = value
		}
		if err != nil {
			return nil, fmt.Errorf("lookup: %w", err)
		}
	}
	if len(contacts) == 0 {
		return nil, fmt.Errorf("lookup: unexpected answer %q", out)
	}
	return contacts, nil
}

// Counters reads what became of the REGISTERs since the start.
func (k *Kamailio) Counters() (Counters, error) {
	var c Counters
	err := k.count(map[string]*int{
		"script:received": &c.Received, "script:unauthorized": &c.Unauthorized,
		"script:stale": &c.Stale, "script:wrong": &c.Wrong, "script:accepted": &c.Accepted,
		"script:faulted": &c.Faulted, "script:refused": &c.Refused,
	})
	return c, err
}

// CallCounters reads what became of the calls since the start.
func (k *Kamailio) CallCounters() (CallCounters, error) {
	var c CallCounters
	err := k.count(map[string]*int{
		"script:call_challenged": &c.Challenged, "script:call_wrong": &c.Wrong, "script:call_relayed": &c.Relayed,
	})
	return c, err
}

// count reads counters by name.
func (k *Kamailio) count(fields map[string]*int) error {
	out, err := k.ask("stats")
	if err != nil {
		return err
	}
	found := 0
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(line, " = ")
		field := fields[name]
		if !ok || field == nil {
			continue
		}
		if *field, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("read counter %s: %w", name, err)
		}
		found++
	}
	if found != len(fields) {
		return fmt.Errorf("found %d of %d counters in %q", found, len(fields), out)
	}
	return nil
}

// ask runs a command of registrar.sh, which asks the control socket.
func (k *Kamailio) ask(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{k.script()}, args...)...)
	cmd.Env = k.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ask the registrar for %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// script is run by a shell of ours: the kernel refuses to run a file that is open
// for writing, as it may still be in a child that another test has just forked.
func (k *Kamailio) script() string  { return filepath.Join(k.dir, "registrar.sh") }
func (k *Kamailio) logFile() string { return filepath.Join(k.dir, "log") }

// logTail is the end of its log, for error messages.
func (k *Kamailio) logTail() string {
	text, err := os.ReadFile(k.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
