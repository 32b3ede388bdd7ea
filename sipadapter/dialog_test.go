package sipadapter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// dialogOf parses a message and reads its dialog.
func dialogOf(t *testing.T, raw []byte) *messages.DialogInfo {
	t.Helper()
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	parse := a.parseRequest
	if isResponse(raw) {
		parse = a.parseResponse
	}
	m, err := parse(raw, false)
	if err != nil {
		t.Fatal(err)
	}
	return dialogInfo(m)
}

// ringing is a response to an INVITE with these lines.
func ringing(status string, extra ...string) []byte {
	return answerTo(inbound("INVITE"), status, extra...)
}

// Everything that a message says about its dialog, of both kinds. RFC 3261
// §12.1.1, §12.1.2: the route set is reversed from a response, and as it stands
// in a request.
func TestDialogInfo(t *testing.T) {
	lines := []string{
		`Contact: "Bob, B." <sip:bob@192.0.2.4;transport=tcp?Subject=x>;expires=60`,
		`Record-Route: <sip:p3.example.test;lr>, "P, 2" <sip:p2.example.test;lr>;x=","`,
		"Record-Route: <sip:[2001:db8::1];lr>",
		"Allow: INVITE, ACK", "Allow: BYE",
		"k: timer,  100rel",
		"Require: 100rel",
		"RSeq: 776656",
		"x: 1800 ; Refresher = UAS",
		"Min-SE: 90;x=y",
		"P-Early-Media: sendrecv",
		"s: lunch",
		"Server: x", "Expires: 60", "Replaces: a;to-tag=b;from-tag=c", "WWW-Authenticate: Digest realm=\"a\"",
		"Retry-After: 5", "X-Bad: a\x00b", "X-Empty:",
	}
	want := &messages.DialogInfo{
		Target:    "sip:bob@192.0.2.4;transport=tcp",
		Allow:     []string{"INVITE", "ACK", "BYE"},
		Supported: []string{"timer", "100rel"}, Require: []string{"100rel"},
		SessionExpires: 1800, Refresher: "uas", MinSE: 90,
		Headers: []messages.Header{{Name: "P-Early-Media", Value: "sendrecv"}, {Name: "subject", Value: "lunch"}},
		Body:    []byte{},
	}
	routes := []string{"<sip:p3.example.test;lr>", `"P, 2" <sip:p2.example.test;lr>;x=","`, "<sip:[2001:db8::1];lr>"}

	t.Run("response", func(t *testing.T) {
		want := *want
		want.RemoteTag, want.RSeq = "t1", 776656
		want.RouteSet = []string{routes[2], routes[1], routes[0]}
		if diff := cmp.Diff(&want, dialogOf(t, ringing("183 Progress", lines...))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("request", func(t *testing.T) {
		want := *want
		want.RemoteTag, want.RouteSet = "b1", routes
		raw := without(inbound("INVITE"), "Content-Length")
		head, _, _ := strings.Cut(string(raw), "\r\n\r\n")
		raw = []byte(head + "\r\n" + strings.Join(lines, "\r\n") + "\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n")
		want.ContentType, want.Body = "application/sdp", []byte("v=0\r\n")
		if diff := cmp.Diff(&want, dialogOf(t, raw)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A Contact is a target when it is the only one and a SIP URI (RFC 3261 §12.1).
func TestDialogTarget(t *testing.T) {
	for contact, want := range map[string]string{
		"<sip:bob@192.0.2.4>":                      "sip:bob@192.0.2.4",
		"sip:bob@192.0.2.4;expires=1":              "sip:bob@192.0.2.4",
		"<sips:bob@example.test:5061;lr>;q=1":      "sips:bob@example.test:5061;lr",
		"<sip:bob@192.0.2.4?Route=%3Csip:evil%3E>": "sip:bob@192.0.2.4",
		"<sip:a@192.0.2.4>, <sip:b@192.0.2.4>":     "",
		"<sip:a@192.0.2.4>\r\nContact: <sip:b@c>":  "",
		"<sip:a@192.0.2.4>, nonsense":              "",
		"nonsense, <sip:a@192.0.2.4>":              "",
		"*":                                        "",
		"<tel:+1>":                                 "",
		"<sip:a b@c>":                              "",
		"<sip:a\xff@c>":                            "",
		"<sip:a@c":                                 "",
		"":                                         "",
		"\"open <sip:a@c>":                         "",
		"<sip:a@c:99999>":                          "",
		"<sip:bob@192.0.2.4>;a=\"<sip:x@y>, \";b=c": "sip:bob@192.0.2.4",
	} {
		if got := dialogOf(t, ringing("180 Ringing", "Contact: "+contact)).Target; got != want {
			t.Errorf("%q: %q, want %q", contact, got, want)
		}
	}
}

// A route set that cannot be used as a whole leaves no target either.
func TestDialogRouteSet(t *testing.T) {
	for name, c := range map[string]struct {
		routes string
		want   int // -1: unusable
	}{
		"none":            {"", 0},
		"one":             {"<sip:p;lr>", 1},
		"strict":          {"<sip:p>", 1},
		"without angle":   {"sip:p;lr", -1},
		"nonsense":        {"<sip:p;lr>, nonsense", -1},
		"another scheme":  {"<sip:p;lr>, <http://p>", -1},
		"header part":     {"<sip:p;lr?Route=x>", -1},
		"control byte":    {"<sip:p;lr>;a=\"\x01\"", -1},
		"angle in params": {"<sip:p;lr>;a=<,>", -1},
		"16":              {strings.TrimSuffix(strings.Repeat("<sip:p;lr>,", 16), ","), 16},
		"S-31 17":         {strings.TrimSuffix(strings.Repeat("<sip:p;lr>,", 17), ","), -1},
	} {
		t.Run(name, func(t *testing.T) {
			d := dialogOf(t, ringing("200 OK", "Contact: <sip:bob@192.0.2.4>", "Record-Route: "+c.routes))
			if len(d.RouteSet) != max(c.want, 0) || (d.Target == "") != (c.want < 0) {
				t.Errorf("target %q, route set %q", d.Target, d.RouteSet)
			}
		})
	}
}

// RFC 3262 §3, §7.1: which responses are reliable.
func TestDialogRSeq(t *testing.T) {
	for _, c := range []struct {
		status, require, rseq string
		want                  uint32
	}{
		{"183 Progress", "100rel", "1", 1},
		{"180 Ringing", "timer, 100rel", "2147483647", 1<<31 - 1},
		{"183 Progress", "100rel", "0", 0},
		{"183 Progress", "100rel", "2147483648", 0},
		{"183 Progress", "100rel", "-1", 0},
		{"183 Progress", "100rel", "1 2", 0},
		{"183 Progress", "100rel", "1\r\nRSeq: 2", 0},
		{"183 Progress", "timer", "1", 0},
		{"100 Trying", "100rel", "1", 0},
		{"200 OK", "100rel", "1", 0},
	} {
		got := dialogOf(t, ringing(c.status, "Require: "+c.require, "RSeq: "+c.rseq)).RSeq
		if got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
	if got := dialogOf(t, inbound("INVITE", "Require: 100rel", "RSeq: 1")).RSeq; got != 0 {
		t.Errorf("a request: %d", got)
	}
}

// S-33: numbers of RFC 4028 §4 and §5.
func TestS33_SessionExpires(t *testing.T) {
	for value, want := range map[string]string{
		"1800": "1800 ", "1800;refresher=uac": "1800 uac", "90 ;x=y; REFRESHER=UAS": "90 uas", "90;refresher=me": "90 ",
		"0;refresher=uac": "0 ", "-1": "0 ", "": "0 ", "4294967295": "4294967295 ", "4294967296": "0 ",
		"18446744073709551616;refresher=uac": "0 ", "1e9": "0 ", "60 (c)": "0 ", "90\r\nx: 90": "0 ",
	} {
		d := dialogOf(t, ringing("200 OK", "Session-Expires: "+value))
		if got := fmt.Sprint(d.SessionExpires, " ", d.Refresher); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// S-31, S-52: what may be passed on is bounded and clean.
func TestS31_PassedHeaders(t *testing.T) {
	var lines []string
	for i := range 80 {
		lines = append(lines, fmt.Sprintf("X-%d: v", i))
	}
	d := dialogOf(t, ringing("200 OK", lines...))
	if len(d.Headers) != 64 || d.Headers[0].Name != "X-0" || d.Headers[63].Name != "X-63" {
		t.Errorf("%d headers passed: %v", len(d.Headers), d.Headers)
	}
	checkClean(t, d)
}

// checkClean fails when a value could not be written into a message.
func checkClean(t *testing.T, d *messages.DialogInfo) {
	t.Helper()
	fault := func(what, value string) { t.Errorf("%s %q", what, value) }
	if d.RemoteTag != "" && !challenge.IsToken(d.RemoteTag) {
		fault("remote tag", d.RemoteTag)
	}
	if d.Target != "" {
		if u, err := parseURI(d.Target); err != nil || u.headers != "" || !isBracketable(d.Target) {
			fault("target", d.Target)
		}
	}
	if len(d.RouteSet) > 16 || len(d.Headers) > 64 || d.RSeq >= 1<<31 {
		t.Errorf("over a limit: %d routes, %d headers, RSeq %d", len(d.RouteSet), len(d.Headers), d.RSeq)
	}
	for _, r := range d.RouteSet {
		n, ok := parseNameAddr(r)
		if !ok || !isBracketable(n.uri) || !challenge.IsFieldValue(r) {
			fault("route", r)
		}
	}
	for _, list := range [][]string{d.Allow, d.Supported, d.Require} {
		for _, v := range list {
			if !challenge.IsToken(v) {
				fault("token", v)
			}
		}
	}
	for _, h := range d.Headers {
		if !challenge.IsToken(h.Name) || !challenge.IsFieldValue(h.Value) || h.Value == "" || len(h.Value) > 8<<10 {
			fault("header "+h.Name, h.Value)
		}
	}
	if !challenge.IsFieldValue(d.ContentType) || d.Refresher != "" && d.Refresher != "uac" && d.Refresher != "uas" {
		fault("content type or refresher", d.ContentType+d.Refresher)
	}
}

// FuzzDialogInfo reads the dialog of whatever parses as a message: no panic,
// and every value can be written into a message of ours.
func FuzzDialogInfo(f *testing.F) {
	f.Add(ringing("183 Progress", "Contact: <sip:a@b?c=d>", "Record-Route: <sip:p;lr>, <sip:q>;r=s", "RSeq: 1", "Require: 100rel",
		"Session-Expires: 1800;refresher=uas", "Min-SE: 90", "X-A: b", "s: c", "Allow: INVITE", "Supported: timer"))
	f.Add(inbound("INVITE", "Contact: sip:a@b", "Record-Route: <sip:p;lr>"))
	for _, raw := range allTorture(f) {
		f.Add(raw)
	}
	a, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		parse := a.parseRequest
		if isResponse(raw) {
			parse = a.parseResponse
		}
		if m, err := parse(raw, false); err == nil {
			checkClean(t, dialogInfo(m))
		}
	})
}
