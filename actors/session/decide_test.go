package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// world is a machine that speaks the language of the scripts.
type world struct {
	*machine
	t *testing.T
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{newMachine(scriptPolicy()), t}
}

// do carries out script commands and returns what the last one gave.
func (w *world) do(lines ...string) string {
	w.t.Helper()
	var out string
	for _, line := range lines {
		text, err := w.machine.Do(line)
		if err != nil {
			w.t.Fatalf("%s\n%v", line, err)
		}
		out = text
	}
	return out
}

// status asserts what the API would show.
func (w *world) status(want string) {
	w.t.Helper()
	if got := w.state.Status(); got != want {
		w.t.Errorf("status %q, want %q (%s)", got, want, summary(w.state, w.now))
	}
}

// TestDLG03_FailureCodes is RFC 5057 table 1, for requests of each kind. A 401,
// 407 and 422 that cannot be answered, and a second 491, are failures too.
func TestDLG03_FailureCodes(t *testing.T) {
	transaction := []int{
		302, 400, 401, 402, 403, 406, 407, 412, 413, 414, 415, 417, 420, 421, 422, 423, 428, 429, 436, 437, 438, 486, 487, 488, 491,
		493, 494, 499, 500, 503, 504, 505, 513, 580, 599, 600, 603, 606, 699,
	}
	usage := []int{408, 481}
	required := []int{405, 480, 489, 501} // of what the call cannot do without
	dialog := []int{404, 410, 416, 482, 483, 484, 485, 502, 604}
	for _, method := range []string{"INVITE", "UPDATE", "INFO", "REFER", "MESSAGE", "NOTIFY", "OPTIONS"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			offers := method == "INVITE" || method == "UPDATE"
			for _, status := range slices.Concat(transaction, usage, required, dialog) {
				w := newWorld(t)
				w.light = true
				w.do("start", "admitted", "response 200", "send "+method+" body")
				got := w.do(fmt.Sprintf("response %d to %s", status, method))
				if status == 491 && offers {
					w.do("wake")
					got = w.do("response 491 to " + method)
				}
				told := fmt.Sprintf("Tell{failed chain=2 status=%d ", status)
				bye := strings.Contains(got, "BYE")
				switch {
				case !strings.Contains(got, told):
					t.Errorf("%d: the owner is not told\n%s", status, got)
				case slices.Contains(dialog, status):
					if w.status("ended"); bye {
						t.Errorf("%d: BYE in a dialog that is gone\n%s", status, got)
					}
				case slices.Contains(usage, status), slices.Contains(required, status) && offers:
					if w.status("ending"); !bye {
						t.Errorf("%d: no BYE\n%s", status, got)
					}
				default:
					if w.status("established"); bye {
						t.Errorf("%d: BYE\n%s", status, got)
					}
				}
			}
		})
	}
	t.Run("PRACK", func(t *testing.T) {
		t.Parallel()
		for _, status := range slices.Concat(transaction, usage, required, dialog) {
			w := newWorld(t)
			w.light = true
			w.do("start", "admitted", "response 183\n RSeq: 1", fmt.Sprintf("response %d to PRACK", status))
			if w.status("early"); len(w.state.Requests) != 1 {
				t.Errorf("%d: %s", status, summary(w.state, w.now))
			}
		}
	})
}

// TestDLG14_Waits: the wait is 2.1 to 4.0 s in steps of 10 ms where we own the
// Call-ID, and 0 to 2 s where the peer does.
func TestDLG14_Waits(t *testing.T) {
	for _, tt := range []struct {
		begin       []string
		least, most time.Duration
	}{
		{[]string{"start", "admitted", "response 200"}, 2100 * time.Millisecond, 4 * time.Second},
		{[]string{"receive", "reply INVITE 1 200"}, 0, 2 * time.Second},
	} {
		seen := map[time.Duration]bool{}
		for i := range 400 {
			w := newWorld(t)
			w.light = true
			w.do(tt.begin...)
			w.do("send INVITE body")
			w.jitter = float64(i) / 400
			d := session.Decide(w.policy, w.state, session.Input{Now: w.now, Jitter: w.jitter, Command: session.Answered{
				Attempt: w.state.Attempts, Response: &messages.SIPResponse{Status: 491, Dialog: &messages.DialogInfo{}},
			}})
			wait := time.UnixMilli(d.Events[0].GetRequestFailed().GetRetryAtMs()).Sub(w.now)
			if wait < tt.least || wait > tt.most || wait%(10*time.Millisecond) != 0 {
				t.Fatalf("jitter %v: %s", w.jitter, wait)
			}
			seen[wait] = true
		}
		if len(seen) < 150 {
			t.Errorf("only %d different waits", len(seen))
		}
	}
}

// TestDLG15_RetryAfter: a second INVITE is told to wait 0 to 10 s.
func TestDLG15_RetryAfter(t *testing.T) {
	seen := map[string]bool{}
	for i := range 100 {
		w := newWorld(t)
		w.light = true
		w.do("policy owned", "receive", "reply INVITE 1 200", "peer INVITE 2 body")
		w.jitter = float64(i) / 100
		got := w.do("peer INVITE 3 body")
		_, value, _ := strings.Cut(got, "Retry-After:")
		value, _, _ = strings.Cut(value, "}")
		seen[value] = true
	}
	for n := range 11 {
		if !seen[fmt.Sprint(n)] {
			t.Errorf("Retry-After is never %d", n)
		}
		delete(seen, fmt.Sprint(n))
	}
	if len(seen) > 0 {
		t.Errorf("Retry-After %v", seen)
	}
}

// TestTMR04_Margin: BYE at the smaller of 32 s and a third of the interval before
// its end (RFC 4028 §10), for any interval; TMR05: never a refresh sooner than
// half of the shortest interval.
func TestTMR04_Margin(t *testing.T) {
	for _, seconds := range []int64{90, 91, 96, 97, 120, 1800, 86400, 1<<32 - 1} {
		w := newWorld(t)
		w.do("start", "admitted", fmt.Sprintf("response 200\n Session-Expires: %d;refresher=uac", seconds))
		interval := time.Duration(seconds) * time.Second
		want := (interval - min(32*time.Second, interval/3)).Truncate(time.Millisecond)
		if got := w.state.ExpiresAt.Sub(w.now); got != want {
			t.Errorf("%d s: ends after %s, want %s", seconds, got, want)
		}
		if got := w.state.RefreshAt.Sub(w.now); got != interval/2 {
			t.Errorf("%d s: refreshed after %s", seconds, got)
		}
	}
	for _, seconds := range []int{1, 2, 10, 45, 89} { // TMR-05
		w := newWorld(t)
		w.do("start", "admitted", fmt.Sprintf("response 200\n Session-Expires: %d;refresher=uac", seconds))
		if got := w.state.RefreshAt.Sub(w.now); got < 45*time.Second {
			t.Errorf("%d s: refreshed after %s", seconds, got)
		}
	}
}

// TestINV02_ManyBranches: each unwanted branch is ended, up to a bound; what is
// beyond it ends by itself, because its 2xx is never acknowledged.
func TestINV02_ManyBranches(t *testing.T) {
	w := newWorld(t)
	w.light = true
	w.do("start", "admitted", "response 200\n Tag: b0")
	for i := 1; i <= 16; i++ {
		got := w.do(fmt.Sprintf("response 200\n Tag: b%d", i))
		if !strings.Contains(got, "Acknowledge{1") || !strings.Contains(got, "BYE") {
			t.Fatalf("branch %d\n%s", i, got)
		}
		w.do("response 200 to BYE")
	}
	if got := w.do("response 200\n Tag: b17"); got != "dropped   busy\n" {
		t.Error(got)
	}
	w.status("established")
}

// TestEarlyDialogsAreBounded (S-31): a peer cannot make us remember any number of
// early dialogs, or record any number of its responses.
func TestEarlyDialogsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.light = true
	w.do("start", "admitted")
	for i := range 100 {
		w.do(fmt.Sprintf("response 180\n Tag: b%d", i))
	}
	for range 100 {
		w.do("response 180\n Tag: b1")
	}
	if len(w.state.Early) != 16 || len(w.events) > 18 {
		t.Errorf("%d early dialogs, %d events", len(w.state.Early), len(w.events))
	}
}

// TestWithheldChallengesAreBounded (S-31): neither can a far end that may not
// challenge us at all.
func TestWithheldChallengesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.do("start", "admitted", "response 200\n Record-Route: none", "send INFO")
	w.do("response 407 to INFO" + strings.Repeat("\n Proxy-Authenticate: a n1", 64))
	if n := len(w.events[len(w.events)-2].GetSession().GetChallengeReceived().GetChallenges()); n != 8 {
		t.Errorf("%d challenges are recorded", n)
	}
}

// TestStatuses lists them by hand, and each is seen.
func TestStatuses(t *testing.T) {
	want := []string{"calling", "challenged", "early", "established", "ending"}
	if got := session.Statuses(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	w := newWorld(t)
	if w.state.Exists() || w.state.Status() != "" {
		t.Errorf("%q before it exists", w.state.Status())
	}
	w.do("start")
	w.status("calling")
	w.do("admitted")
	w.status("calling")
	w.do("response 407\n Proxy-Authenticate: a n1")
	w.status("challenged")
	w.do("offer", "response 180")
	w.status("early")
	w.do("response 200")
	w.status("established")
	w.do("end")
	w.status("ending")
	w.do("offer", "response 200 to BYE")
	w.status("ended")
	w.do("reset", "receive")
	w.status("early")
}

// TestNotices lists the spellings by hand.
func TestNotices(t *testing.T) {
	want := []string{"none", "progress", "established", "succeeded", "failed", "request", "received", "ended"}
	for i, text := range want {
		if got := session.Notice(i).String(); got != text {
			t.Errorf("%d is %q, want %q", i, got, text)
		}
	}
}

// TestAddressOf holds the places against the parser that decides where
// credentials go (S-01).
func TestAddressOf(t *testing.T) {
	for uri, leads := range places {
		at := session.AddressOf(uri)
		if ours := at == ownTarget || at == ownSource; ours && !leads {
			t.Errorf("%s reads as %s", uri, at)
		}
	}
	for uri, want := range map[string]string{
		"sip:proxy.example.test":                   "proxy.example.test:5060",
		"SIP:Proxy.Example.Test:5070;lr":           "proxy.example.test:5070",
		"<sip:[2001:DB8::1];lr>":                   "[2001:db8::1]:5060",
		"sip:bob@[2001:db8::1]:5070?Subject=x":     "[2001:db8::1]:5070",
		`"Proxy" <sip:proxy.example.test>`:         "",
		"Proxy <sip:proxy.example.test;lr>;x=y":    "proxy.example.test:5060",
		"sip:a@b@proxy.example.test":               "",
		"sip:@proxy.example.test":                  "",
		"sip:proxy.example.test;%6daddr=192.0.2.1": "",
		"sip:proxy.example.test?x=a@b":             "b:5060",
		"sip:":                                     "",
		"sip":                                      "",
		"tel:1":                                    "",
		"":                                         "",
	} {
		if got := session.AddressOf(uri); got != want {
			t.Errorf("%s reads as %q, want %q", uri, got, want)
		}
	}
}

// TestImpossibleCommand: what no caller may do is a panic.
func TestImpossibleCommand(t *testing.T) {
	w := newWorld(t)
	w.do("start")
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	session.Decide(w.policy, w.state, session.Input{Now: w.now})
}

// TestUnknownEvent: the codec refuses what Apply does not know.
func TestUnknownEvent(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	session.Apply(session.State{}, &messages.SessionEvent{}, start)
}

// TestEventsOfRequestsThatAreGone: Apply is silent about them.
func TestEventsOfRequestsThatAreGone(t *testing.T) {
	w := newWorld(t)
	w.do("start", "admitted", "response 200")
	before := encode(w.state)
	for _, body := range []any{
		&messages.CredentialsRefused{Attempt: 9},
		&messages.RequestSucceeded{Attempt: 9},
		&messages.RequestFailed{Attempt: 9},
		&messages.PeerRequestAnswered{Method: "INFO", Cseq: 9},
		&messages.CredentialsDeclined{Attempt: 9},
	} {
		if after := session.Apply(w.state, messages.NewSessionEvent(body), w.now); string(encode(after)) != string(before) {
			t.Errorf("%T changes the state", body)
		}
	}
}
