package machinetest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// Do carries out one command of a script, with its continuation lines, and
// renders what came of it. The error tells what is wrong with the command, or
// which rules the machine broke.
//
//	policy KEY=VALUE ...     realms, algorithms, targets (comma lists), expires,
//	                         tolerate, require-proof, allow-downgrade,
//	                         withdraw-tries, max-min-expires, handler
//	jitter F                 what the host draws from now on
//	declare KEY=VALUE ...    aor, registrar, username, contact, expires, handler,
//	                         row, source; disabled, secret, patch, register=false
//	enable, disable, remove [by operator], clear, refresh, withdraw, fetch
//	advance DURATION         moves the clock
//	slot, timer              the gate lets one attempt through; a deadline
//	wake                     moves to the next deadline and does what is due
//	next                     wakes until an attempt is due, and begins it
//	response STATUS [attempt=N] [proof=verified|wrong], headers below
//	lost REASON [attempt=N]  no SIP message arrived
//	offer [HANDLER] [preemptive] [continues] [not=REALM] [attempt=N]
//	                         answers; a realm may be left out
//	withhold REASON [DURATION] [attempt=N]   for good without a duration
//	security [registration=HANDLER] [session=HANDLER]
//	crash                    reads the state back and recovers
//	given JSON               folds an event as if it had been recorded
//	N times COMMAND
//	reset                    another profile under the default policy
func (m *Machine) Do(line string) (string, error) {
	verb, rest, _ := strings.Cut(line, " ")
	if n, err := strconv.Atoi(verb); err == nil {
		return m.repeat(n, strings.TrimPrefix(rest, "times "))
	}
	switch verb {
	case "policy":
		return "", m.setPolicy(rest)
	case "jitter":
		jitter, err := strconv.ParseFloat(rest, 64)
		m.Jitter = jitter
		return "", err
	case "advance":
		d, err := time.ParseDuration(rest)
		m.Now = m.Now.Add(d)
		return "", err
	case "given":
		var e messages.ProfileEvent
		if err := protojson.Unmarshal([]byte(rest), &e); err != nil {
			return "", fmt.Errorf("given: %w", err)
		}
		m.State, m.Events = profile.Apply(m.State, &e), append(m.Events, &e)
		return "", nil
	case "wake", "next":
		return m.wake(verb == "next")
	case "reset":
		arrows := m.Arrows
		*m = *New(profile.Policy{})
		m.Arrows = arrows
		return "", nil
	case "crash":
		d, err := m.Crash()
		return m.render(d), errors.Join(err, m.Check())
	}
	cmd, err := m.command(verb, rest)
	if err != nil {
		return "", err
	}
	return m.deliver(cmd)
}

func (m *Machine) repeat(n int, line string) (string, error) {
	var out strings.Builder
	var errs []error
	for range n {
		text, err := m.Do(line)
		out.WriteString(text)
		errs = append(errs, err)
	}
	return out.String(), errors.Join(errs...)
}

// wake does what is due next; with on set, until that is an attempt.
func (m *Machine) wake(on bool) (string, error) {
	var out strings.Builder
	for {
		before := m.Now
		cmd, ok := m.Wake()
		if !ok {
			return out.String() + "nothing to wait for\n", nil
		}
		text, err := m.deliver(cmd)
		fmt.Fprintf(&out, "after %s: %s\n%s", Short(m.Now.Sub(before)), name(cmd), text)
		if _, slot := cmd.(profile.SlotGranted); slot || !on || err != nil {
			return out.String(), err
		}
	}
}

func (m *Machine) deliver(cmd profile.Command) (string, error) {
	d, err := m.Step(cmd)
	return m.render(d), errors.Join(err, m.Check())
}

func (m *Machine) render(d profile.Decision) string {
	var out strings.Builder
	head := "recorded"
	for _, e := range d.Events {
		fmt.Fprintf(&out, "%-9s %s\n", head, Event(e, m.Now))
		head = ""
	}
	head = "do"
	for _, e := range d.Effects {
		fmt.Fprintf(&out, "%-9s %s\n", head, Effect(e, m.State))
		head = ""
	}
	if d.Dropped != "" {
		fmt.Fprintf(&out, "%-9s %s\n", "dropped", d.Dropped)
	}
	return out.String()
}

func name(cmd profile.Command) string { return fmt.Sprintf("%T", cmd)[len("profile."):] }

func (m *Machine) command(verb, rest string) (profile.Command, error) {
	words, headers, _ := strings.Cut(rest, "\n")
	args := strings.Fields(words)
	attempt := m.State.Attempt.Number
	var proof string
	for len(args) > 0 {
		key, value, found := strings.Cut(args[len(args)-1], "=")
		if !found || key != "attempt" && key != "proof" {
			break
		}
		if key == "proof" {
			proof = value
		} else if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			attempt = n
		}
		args = args[:len(args)-1]
	}
	arg := func(i int, otherwise string) string {
		if i < len(args) {
			return args[i]
		}
		return otherwise
	}
	switch verb {
	case "declare":
		return declare(args)
	case "enable":
		return profile.Enable{}, nil
	case "disable":
		return profile.Disable{}, nil
	case "remove":
		return profile.Remove{ByOperator: len(args) > 0}, nil
	case "clear":
		return profile.Clear{}, nil
	case "refresh":
		return profile.Refresh{}, nil
	case "withdraw":
		return profile.Withdraw{}, nil
	case "fetch":
		return profile.Fetch{}, nil
	case "slot":
		return profile.SlotGranted{}, nil
	case "timer":
		return profile.TimerFired{}, nil
	case "response":
		r, err := response(arg(0, ""), headers)
		return profile.ResponseReceived{Attempt: attempt, Response: r, Proof: proof}, err
	case "lost":
		return profile.RequestFailed{Attempt: attempt, Failure: messages.Reason(arg(0, "timeout"))}, nil
	case "offer":
		return m.offer(attempt, args), nil
	case "security":
		return security(args), nil
	case "withhold":
		after, err := time.ParseDuration(arg(1, "-1s"))
		handler := m.State.Attempt.Handler
		return profile.CredentialsWithheld{Attempt: attempt, Handler: handler, Reason: messages.Reason(arg(0, "")), RetryAfter: after}, err
	}
	return nil, fmt.Errorf("unknown command %q", verb)
}

func (m *Machine) offer(attempt uint64, args []string) profile.Command {
	c := profile.CredentialsOffered{Attempt: attempt, Handler: m.State.Attempt.Handler, Elapsed: 20 * time.Millisecond}
	for _, arg := range args {
		switch realm, left := strings.CutPrefix(arg, "not="); {
		case left:
			for _, a := range m.State.Attempt.Answers {
				if a.GetRealm() == realm {
					c.Unanswered = append(c.Unanswered, a)
				}
			}
		case arg == "preemptive":
			c.Preemptive = true
		case arg == "continues":
			c.Continues = true
		default:
			c.Handler = arg
		}
	}
	return c
}

func security(args []string) profile.Command {
	var c profile.SetSecurity
	for _, arg := range args {
		switch key, value, _ := strings.Cut(arg, "="); key {
		case "registration":
			c.Registration = &value
		case "session":
			c.Session = &value
		}
	}
	return c
}

func declare(args []string) (profile.Command, error) {
	d := profile.Declare{
		Spec: profile.Spec{
			AOR: "sip:alice@example.test", Registrar: "acme", Register: true,
			RegistrationHandler: "digest", SessionHandler: "digest",
		},
		Source: "file", Row: "r1",
	}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "aor":
			d.Spec.AOR = value
		case "registrar":
			d.Spec.Registrar = value
		case "username":
			d.Spec.Username = value
		case "contact":
			d.Spec.ContactUser = value
		case "handler":
			d.Spec.RegistrationHandler = value
		case "expires":
			d.Spec.Expires, err = time.ParseDuration(value)
		case "register":
			d.Spec.Register, err = strconv.ParseBool(value)
		case "row":
			d.Row = value
		case "source":
			d.Source = value
		case "disabled":
			d.Disabled = true
		case "patch":
			d.Patch = true
		case "secret":
			d.NewSecret = true
		default:
			err = fmt.Errorf("unknown argument %q", key)
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (m *Machine) setPolicy(text string) error {
	p := &m.Policy
	for _, arg := range strings.Fields(text) {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "realms":
			p.Challenge.Realms = strings.Split(value, ",")
		case "algorithms":
			p.Challenge.Algorithms = strings.Split(value, ",")
		case "handler":
			p.RegistrationHandler = value
		case "allow-downgrade":
			p.Challenge.AllowDowngrade = true
		case "targets":
			p.Targets = strings.Split(value, ",")
		case "expires":
			p.Expires, err = time.ParseDuration(value)
		case "max-min-expires":
			p.MaxMinExpires, err = time.ParseDuration(value)
		case "tolerate":
			p.Tolerate = true
		case "require-proof":
			p.RequireProof = true
		case "withdraw-tries":
			var n int
			n, err = strconv.Atoi(value)
			p.WithdrawTries = uint32(n)
		default:
			err = fmt.Errorf("unknown policy %q", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// response reads a response as the adapter would hand it over.
func response(status, headers string) (*messages.SIPResponse, error) {
	code, err := strconv.Atoi(status)
	if err != nil {
		return nil, err
	}
	r := &messages.SIPResponse{Status: code, RetryAfter: -1}
	for line := range strings.Lines(headers) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			return nil, fmt.Errorf("no header: %q", line)
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "www-authenticate":
			r.Challenges = append(r.Challenges, challenges(messages.Space_ORIGIN, value)...)
		case "proxy-authenticate":
			r.Challenges = append(r.Challenges, challenges(messages.Space_PROXY, value)...)
		case "authentication-info":
			r.AuthInfo = append(r.AuthInfo, authInfo(messages.Space_ORIGIN, value))
		case "proxy-authentication-info":
			r.AuthInfo = append(r.AuthInfo, authInfo(messages.Space_PROXY, value))
		case "contact":
			err = contact(r, value)
		case "min-expires":
			r.MinExpires, err = seconds(value)
		case "retry-after":
			var n uint32
			n, err = seconds(value)
			r.RetryAfter = time.Duration(n) * time.Second
		case "service-route":
			r.ServiceRoute = append(r.ServiceRoute, value)
		case "unsupported":
			r.Unsupported = append(r.Unsupported, strings.Split(value, ",")...)
		default:
			err = fmt.Errorf("unknown header %q", name)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func challenges(space messages.Space, value string) []*messages.RecordedChallenge {
	var out []*messages.RecordedChallenge
	for _, raw := range challenge.Split(value) {
		out = append(out, &messages.RecordedChallenge{Space: space, Raw: raw})
	}
	return out
}

func authInfo(space messages.Space, value string) messages.AuthInfo {
	_, after, _ := strings.Cut(value, `nextnonce="`)
	nonce, _, _ := strings.Cut(after, `"`)
	return messages.AuthInfo{Space: space, NextNonce: nonce}
}

// contact reads "ours;expires=60" or a URI of somebody else.
func contact(r *messages.SIPResponse, value string) error {
	if r.Status >= 300 {
		r.Redirects = append(r.Redirects, value)
		return nil
	}
	uri, expires, found := strings.Cut(value, ";expires=")
	n, err := uint32(3600), error(nil)
	if found {
		n, err = seconds(expires)
	}
	if uri == "ours" {
		r.Contact, r.ContactExpires = messages.ContactOurs, n
	}
	r.Contacts = append(r.Contacts, messages.ContactBinding{URI: uri, Expires: n})
	return err
}

func seconds(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}
