package interop

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// SIPpOptions tell what SIPp shall do. Scenario and Calls are required.
type SIPpOptions struct {
	// Scenario is a file.
	Scenario string
	// Calls is after how many calls it ends.
	Calls int
	// Target is the "host:port" that a calling scenario calls; empty for a
	// scenario that waits.
	Target string
	// Rate are the calls per second that a calling scenario begins; 0 means 10.
	Rate int
	// Host is its IPv4 address; empty means 127.0.0.1.
	Host string
	// Port is its port; 0 takes a free one.
	Port int
	// Keys are the keywords of the scenario.
	Keys map[string]string
	// Users is the content of a file in SIPp's form, whose fields the scenario
	// uses; empty for none.
	Users string
	// Limit is after how long it gives up; 0 means a minute. Patience is how
	// long a call waits for a message; 0 means 20 s.
	Limit, Patience time.Duration
}

// SIPp is a running SIPp (Debian package sip-tester).
type SIPp struct {
	host  string
	port  int
	dir   string
	limit time.Duration
	child *child
	stop  sync.Once
}

// SIPpCounts are the calls by what became of them.
type SIPpCounts struct {
	Created, Successful, Failed int
	// OutOfCall are messages for calls that it does not know, DeadCall those for
	// calls that were over.
	OutOfCall, DeadCall int
	// Retransmissions are its own.
	Retransmissions int
}

// FindSIPp tells where SIPp is, or that it is not installed.
func FindSIPp() (string, error) {
	path, err := exec.LookPath("sipp")
	if err != nil {
		return "", fmt.Errorf("SIPp (Debian package sip-tester): %w", err)
	}
	return path, nil
}

// StartSIPp starts SIPp and returns when its port is open. The caller stops it.
func StartSIPp(o SIPpOptions) (*SIPp, error) {
	path, err := FindSIPp()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sipp-")
	if err != nil {
		return nil, err
	}
	return startIn(dir, o.Port, func(port int) (*SIPp, error) { return startSIPp(path, dir, port, o) })
}

func startSIPp(path, dir string, port int, o SIPpOptions) (*SIPp, error) {
	s := &SIPp{host: cmp.Or(o.Host, "127.0.0.1"), port: port, dir: dir, limit: cmp.Or(o.Limit, time.Minute)}
	args, err := s.arguments(o)
	if err != nil {
		return nil, err
	}
	out, err := os.Create(s.path("screen"))
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own descriptor
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	// Without a terminal its screens have no control sequences.
	cmd.Env = append(os.Environ(), "TERM=dumb")
	if s.child, err = startChild(cmd); err != nil {
		return nil, fmt.Errorf("start SIPp: %w", err)
	}
	if err := s.waitOpen(); err != nil {
		s.halt()
		return nil, err
	}
	return s, nil
}

func (s *SIPp) arguments(o SIPpOptions) ([]string, error) {
	scenario, err := filepath.Abs(o.Scenario)
	if err != nil {
		return nil, err
	}
	args := []string{
		"-sf", scenario, "-i", s.host, "-bind_local", "-ci", "127.0.0.1", "-p", strconv.Itoa(s.port), "-m", strconv.Itoa(o.Calls),
		"-nostdin", "-timeout", strconv.Itoa(int(s.limit.Seconds())), "-timeout_error", "-recv_timeout", strconv.Itoa(int(cmp.Or(o.Patience, 20*time.Second).Milliseconds())),
		// A message that a scenario does not expect, such as a late repeat, is
		// noted and ignored: SIPp cannot tell it from a mistake.
		"-default_behaviors", "none", "-max_retrans", "11",
		// What waits while a busy machine does not serve SIPp is not lost.
		"-buff_size", "1048576",
		// The watchdog ends a SIPp that a busy machine did not serve.
		"-watchdog_interval", "0",
		"-trace_err", "-error_file", s.path("errors"), "-trace_msg", "-message_file", s.path("messages"),
		"-trace_stat", "-stf", s.path("counts"), "-fd", "1",
	}
	for key, value := range o.Keys {
		args = append(args, "-key", key, value)
	}
	if o.Users != "" {
		if err := os.WriteFile(s.path("users.csv"), []byte(o.Users), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "-inf", s.path("users.csv"))
	}
	if o.Target != "" {
		args = append(args, "-r", strconv.Itoa(cmp.Or(o.Rate, 10)), "-l", strconv.Itoa(o.Calls), o.Target)
	}
	return args, nil
}

// waitOpen waits until the port is taken, as the kernel lists it: to try it
// would be to take it.
func (s *SIPp) waitOpen() error {
	ip := net.ParseIP(s.host).To4()
	if ip == nil {
		return fmt.Errorf("%q is not an IPv4 address", s.host)
	}
	slices.Reverse(ip) // as a number of this machine, which is little endian
	entry := fmt.Appendf(nil, " %X:%04X ", []byte(ip), s.port)
	deadline := time.After(startTimeout)
	for {
		table, err := os.ReadFile("/proc/net/udp")
		if err != nil {
			return err
		}
		if bytes.Contains(table, entry) {
			return nil
		}
		select {
		case <-s.child.exited:
			return fmt.Errorf("SIPp ended (%w):\n%s", s.child.err, s.tail())
		case <-deadline:
			return fmt.Errorf("SIPp was not ready in %v:\n%s", startTimeout, s.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Addr is its "host:port".
func (s *SIPp) Addr() string { return fmt.Sprintf("%s:%d", s.host, s.port) }

// Wait waits until all calls are over. The error tells how SIPp ended when a
// call failed or the limit was reached, with what it noted.
func (s *SIPp) Wait() error {
	select {
	case <-s.child.exited:
	case <-time.After(s.limit + stopTimeout):
		return fmt.Errorf("SIPp did not end in %v:\n%s", s.limit, s.tail())
	}
	if s.child.err != nil {
		return fmt.Errorf("SIPp ended (%w):\n%s", s.child.err, s.tail())
	}
	return nil
}

// Stop ends it, whatever it does, and removes its folder. It may be called more
// than once.
func (s *SIPp) Stop() {
	s.halt()
	_ = os.RemoveAll(s.dir)
}

func (s *SIPp) halt() { s.stop.Do(func() { s.child.end(syscall.SIGTERM) }) }

// Counts reads its statistics. They are complete after Wait, and a second late
// before.
func (s *SIPp) Counts() (SIPpCounts, error) {
	text, err := os.ReadFile(s.path("counts"))
	if err != nil {
		return SIPpCounts{}, err
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma, r.FieldsPerRecord = ';', -1
	rows, err := r.ReadAll()
	if err != nil {
		return SIPpCounts{}, fmt.Errorf("statistics of SIPp: %w", err)
	}
	var c SIPpCounts
	if len(rows) < 2 {
		return c, nil
	}
	last, found := rows[len(rows)-1], 0
	for name, field := range map[string]*int{
		"TotalCallCreated": &c.Created, "SuccessfulCall(C)": &c.Successful, "FailedCall(C)": &c.Failed,
		"OutOfCallMsgs(C)": &c.OutOfCall, "DeadCallMsgs(C)": &c.DeadCall, "Retransmissions(C)": &c.Retransmissions,
	} {
		for i, column := range rows[0] {
			if column != name || i >= len(last) {
				continue
			}
			if *field, err = strconv.Atoi(last[i]); err != nil {
				return c, fmt.Errorf("statistics of SIPp: %s: %w", name, err)
			}
			found++
		}
	}
	if found != 6 {
		return c, fmt.Errorf("found %d of 6 figures in the statistics of SIPp", found)
	}
	return c, nil
}

// Trace is one message as SIPp logged it.
type Trace struct {
	At time.Time
	// Received is true for what came, false for what SIPp sent.
	Received bool
	Text     string
}

// Messages are all messages so far, oldest first.
func (s *SIPp) Messages() ([]Trace, error) {
	log, err := os.ReadFile(s.path("messages"))
	if err != nil {
		return nil, err
	}
	return parseTraces(string(log))
}

// parseTraces reads SIPp's message log: a line of dashes and the time, a line
// with the direction and the length, an empty line, and the message, whose
// length is the only thing that tells where it ends.
func parseTraces(log string) ([]Trace, error) {
	const dashes = "-----------------------------------------------"
	var traces []Trace
	for log != "" {
		line, rest, _ := strings.Cut(log, "\n")
		stamp, ok := strings.CutPrefix(line, dashes+" ")
		if !ok { // what it notes between messages
			log = rest
			continue
		}
		at, err := time.ParseInLocation("2006-01-02 15:04:05.000000", strings.ReplaceAll(strings.TrimSpace(stamp), "\t", " "), time.Local)
		if err != nil {
			return nil, fmt.Errorf("message log of SIPp: %w", err)
		}
		line, rest, _ = strings.Cut(rest, "\n")
		tr := Trace{At: at, Received: strings.Contains(line, "message received")}
		digits := strings.TrimRight(line[strings.LastIndexAny(line, "[(")+1:], "]) :bytes")
		length, err := strconv.Atoi(digits)
		if err != nil || length+1 > len(rest) || rest[0] != '\n' {
			return nil, fmt.Errorf("message log of SIPp: unexpected line %q", line)
		}
		tr.Text, log = rest[1:1+length], rest[1+length:]
		traces = append(traces, tr)
	}
	return traces, nil
}

func (s *SIPp) path(name string) string { return filepath.Join(s.dir, name) }

// tail is what it noted of errors and the end of its screen, for error
// messages.
func (s *SIPp) tail() string {
	var b strings.Builder
	for _, name := range []string{"errors", "screen"} {
		text, err := os.ReadFile(s.path(name))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&b, "%s:\n%s\n", name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
	return b.String()
}
