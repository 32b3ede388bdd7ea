//go:build interop

package interop

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// sippFor starts SIPp with a scenario of testdata/sipp and stops it when the
// test ends.
func sippFor(t *testing.T, o SIPpOptions) *SIPp {
	t.Helper()
	if _, err := FindSIPp(); err != nil {
		t.Skip(err)
	}
	o.Scenario = "testdata/sipp/" + o.Scenario + ".xml"
	s, err := StartSIPp(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// wantDone waits for SIPp and checks that every call succeeded, on its own
// account.
func wantDone(t *testing.T, s *SIPp, calls int) {
	t.Helper()
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	c, err := s.Counts()
	if err != nil {
		t.Fatal(err)
	}
	if c.Successful != calls || c.Failed != 0 || c.OutOfCall != 0 {
		t.Errorf("SIPp counts %+v, want %d calls, all successful", c, calls)
	}
}

// wantWire checks what SIPp saw against the RFCs.
func wantWire(t *testing.T, s *SIPp, j judgement) []*wireCall {
	t.Helper()
	traces, err := s.Messages()
	if err != nil {
		t.Fatal(err)
	}
	calls, faults := judge(traces, j)
	for i, f := range faults {
		if i == 20 {
			t.Errorf("and %d more", len(faults)-i)
			break
		}
		t.Error(f)
	}
	return calls
}

// byHand are the scenarios and what a caller has to do in each.
var byHand = map[string]func(c *caller){
	"407":     func(c *caller) { c.invite(); c.request("BYE") },
	"401":     func(c *caller) { c.invite(); c.request("BYE") },
	"407_401": func(c *caller) { c.invite(); c.request("BYE") },
	"180_407": func(c *caller) { c.invite(); c.request("BYE") },
	"both":    func(c *caller) { c.invite(); c.request("BYE") },
	"proxies": func(c *caller) { c.invite(); c.request("BYE") },
	"422":     func(c *caller) { c.invite(); c.request("BYE") },
	"302":     func(c *caller) { c.invite(); c.request("BYE") },
	"refused": func(c *caller) { c.invite() },
	"fork": func(c *caller) {
		invite, one := c.invite()
		two := c.receive(func(m *message) bool { return m.status == 200 && m.toTag != one.toTag })
		c.ack(invite, two)
		c.remoteTag = two.toTag
		c.request("BYE")
		c.remoteTag = one.toTag
		c.request("BYE")
	},
	"in_dialog": func(c *caller) {
		c.invite()
		for _, method := range []string{"INVITE", "UPDATE", "INFO", "MESSAGE", "REFER", "BYE"} {
			c.request(method)
		}
	},
	"cancel_early": func(c *caller) {
		invite := c.send("INVITE", c.uri, "")
		if !c.is("early") {
			c.response(invite, func(status int) bool { return status == 180 })
		}
		c.cancel(invite)
		c.ack(invite, c.final(invite))
	},
	"cancel_ringing": func(c *caller) {
		invite := c.ringing()
		c.cancel(invite)
		c.ack(invite, c.final(invite))
	},
	"cancel_crosses": func(c *caller) {
		invite := c.ringing()
		c.cancel(invite)
		final := c.final(invite)
		c.ack(invite, final)
		c.remoteTag, c.target = final.toTag, targetOf(final)
		c.request("BYE")
	},
	"cancel_challenged": func(c *caller) {
		invite := c.send("INVITE", c.uri, "")
		final := c.final(invite)
		c.ack(invite, final)
		if c.is("retry") {
			c.learn(final)
			c.send("INVITE", c.uri, "")
		}
	},
	"timer_theirs": func(c *caller) {
		c.invite()
		c.reply(c.requested("UPDATE"), "200 OK", "", "Session-Expires: 90;refresher=uac")
		c.reply(c.requested("INVITE"), "200 OK", c.body, "Session-Expires: 90;refresher=uac")
		c.requested("ACK")
		c.request("BYE")
	},
	"bye": func(c *caller) { c.invite(); c.reply(c.requested("BYE"), "200 OK", "") },
	"reinvite": func(c *caller) {
		c.invite()
		c.reply(c.requested("INVITE"), "200 OK", "v=0\r\ns=answered by the owner\r\n")
		c.requested("ACK")
		c.reply(c.requested("INFO"), "200 OK", "")
		c.request("BYE")
	},
	"glare": func(c *caller) {
		c.invite()
		mine := c.send("INVITE", c.target, c.remoteTag)
		c.reply(c.requested("INVITE"), "491 Request Pending", "")
		c.requested("ACK")
		c.ack(mine, c.final(mine))
		if !c.is("hurry") {
			time.Sleep(2200 * time.Millisecond)
		}
		c.request("INVITE")
		c.request("BYE")
	},
	"prack": func(c *caller) {
		first := c.send("INVITE", c.uri, "")
		final := c.final(first)
		c.ack(first, final)
		c.learn(final)
		invite := c.send("INVITE", c.uri, "")
		reliable := c.response(invite, func(status int) bool { return status == 183 })
		c.remoteTag, c.target = reliable.toTag, targetOf(reliable)
		c.request("PRACK", "RAck: "+reliable.header("rseq")+" "+invite.header("cseq"))
		c.ack(invite, c.final(invite))
		c.request("BYE")
	},
	"leak": func(c *caller) {
		c.invite()
		refused := c.final(c.send("BYE", c.target, c.remoteTag))
		if c.is("leak") {
			c.learn(refused)
			c.send("BYE", c.target, c.remoteTag)
		}
	},
}

// ringing gets through the challenge to a 180.
func (c *caller) ringing() *message {
	first := c.send("INVITE", c.uri, "")
	final := c.final(first)
	c.ack(first, final)
	c.learn(final)
	invite := c.send("INVITE", c.uri, "")
	c.response(invite, func(status int) bool { return status == 180 })
	return invite
}

func (c *caller) cancel(invite *message) {
	branch := invite.branch
	if c.is("cancel branch") {
		branch += "x"
	}
	text := strings.ReplaceAll(c.text("CANCEL", c.uri, "", branch, c.cseq), "Contact", "X")
	c.final(c.write(text))
}

func itself(name string) string { return name }

// TestScenariosByHand: SIPp and the judge are content with a caller that does
// everything right.
func TestScenariosByHand(t *testing.T) {
	t.Parallel()
	together(t, itself, slices.Sorted(maps.Keys(byHand)), func(t *testing.T, name string) {
		s := sippFor(t, SIPpOptions{Scenario: name, Calls: 1, Limit: 30 * time.Second})
		if err := newCaller(t, s).play(byHand[name]); err != nil {
			t.Error(err)
		}
		wantDone(t, s, 1)
		wantWire(t, s, judgement{})
	})
}

type mistake struct{ wrong, scenario string }

func (m mistake) String() string { return m.wrong + " in " + m.scenario }

// mistakes are those that a scenario or the judge must notice.
var mistakes = []mistake{
	{"number", "407"},
	{"number", "in_dialog"},
	{"to tag", "407"},
	{"from tag", "407"},
	{"body", "407"},
	{"body", "180_407"},
	{"password", "407"},
	{"password", "401"},
	{"password", "both"},
	{"nonce count", "in_dialog"},
	{"ack", "407"},
	{"ack", "fork"},
	{"ack credentials", "407"},
	{"one challenge", "407_401"},
	{"one challenge", "both"},
	{"one challenge", "proxies"},
	{"early", "cancel_early"},
	{"cancel branch", "cancel_ringing"},
	{"retry", "cancel_challenged"},
	{"hurry", "glare"},
	{"leak", "leak"},
}

// TestMistakesAreNoticed: a caller that does one thing wrong is found out, by
// SIPp or by the judge of what it saw.
func TestMistakesAreNoticed(t *testing.T) {
	t.Parallel()
	together(t, mistake.String, mistakes, func(t *testing.T, m mistake) {
		s := sippFor(t, SIPpOptions{Scenario: m.scenario, Calls: 1, Limit: 15 * time.Second, Patience: 3 * time.Second})
		c := newCaller(t, s)
		c.wrong = m.wrong
		stuck := c.play(byHand[m.scenario])
		err := s.Wait()
		traces, readErr := s.Messages()
		if readErr != nil {
			t.Fatal(readErr)
		}
		_, faults := judge(traces, judgement{})
		if err == nil && len(faults) == 0 {
			t.Errorf("nobody noticed")
		}
		t.Logf("SIPp: %t; the judge: %q; the caller: %v", err != nil, faults, stuck)
	})
}
