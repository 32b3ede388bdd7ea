package sipadapter

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/messages"
)

// response builds a parsed response from header lines "Name: value".
func response(t testing.TB, code string, lines ...string) *message {
	t.Helper()
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := "SIP/2.0 " + code + "\r\n" + strings.Join(append(lines, "Content-Length: 0"), "\r\n") + "\r\n\r\n"
	m, err := a.parseResponse([]byte(text), false)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func translated(t testing.TB, code string, lines ...string) *messages.SIPResponse {
	t.Helper()
	return translate(response(t, code, lines...), "sip:alice@192.0.2.10:5060;line=a%62")
}

// REG-11, REG-12, REG-14: our contact is found by comparison, its expiry is its
// own, and a number that is none counts as 3600.
func TestREG11_OurContact(t *testing.T) {
	cases := []struct {
		name    string
		lines   []string
		found   bool
		expires uint32
	}{
		{"REG-11 parameter", []string{"Contact: <sip:alice@192.0.2.10:5060;line=ab>;expires=60"}, true, 60},
		{"REG-11 Expires header", []string{"Contact: <sip:alice@192.0.2.10:5060;line=ab>", "Expires: 70"}, true, 70},
		{"REG-11 parameter beats header", []string{"Expires: 70", "Contact: <sip:alice@192.0.2.10:5060;line=ab>;expires=60"}, true, 60},
		{"REG-11 neither", []string{"Contact: <sip:alice@192.0.2.10:5060;line=ab>"}, true, 3600},
		{"REG-11 display name, blanks, case", []string{`m: "A, \"B\"" <SIP:%61lice@192.0.2.10:5060;x=1;LINE=AB> ; Expires = 61 ;q=0.5`}, true, 61},
		{"REG-11 without brackets", []string{"Contact: sip:alice@192.0.2.10:5060;expires=62"}, true, 62},
		{"REG-11 default port left out", []string{"Contact: <sip:alice@192.0.2.10;line=ab>;expires=60"}, false, 0},
		{"REG-11 another line", []string{"Contact: <sip:alice@192.0.2.10:5060;line=c>;expires=60"}, false, 0},
		{"REG-11 user in another case", []string{"Contact: <sip:Alice@192.0.2.10:5060>;expires=60"}, false, 0},
		{"no contact at all", nil, false, 0},
		{"REG-12 others around ours", []string{
			"Contact: <sip:other@192.0.2.11>;expires=3600, <sip:alice@192.0.2.10:5060;line=ab>;expires=60",
			"Contact: <sip:third@192.0.2.12>;expires=10",
		}, true, 60},
		{"REG-12 after a broken one", []string{`Contact: "open <sip:x>`, "Contact: <sip:alice@192.0.2.10:5060>;expires=5"}, true, 5},
		{"REG-14 malformed parameter", []string{"Contact: <sip:alice@192.0.2.10:5060>;expires=soon"}, true, 3600},
		{"REG-14 negative", []string{"Contact: <sip:alice@192.0.2.10:5060>;expires=-1"}, true, 3600},
		{"REG-14 empty", []string{"Contact: <sip:alice@192.0.2.10:5060>;expires="}, true, 3600},
		{"REG-14 quoted", []string{`Contact: <sip:alice@192.0.2.10:5060>;expires="90"`}, true, 90},
		{"REG-14 largest", []string{"Contact: <sip:alice@192.0.2.10:5060>;expires=4294967295"}, true, 1<<32 - 1},
		{"REG-14 2**32", []string{"Contact: <sip:alice@192.0.2.10:5060>;expires=4294967296"}, true, 1<<32 - 1},
		{"REG-14 2**64", []string{"Contact: <sip:alice@192.0.2.10:5060>;expires=18446744073709551616"}, true, 1<<32 - 1},
		{"REG-14 malformed header", []string{"Contact: <sip:alice@192.0.2.10:5060>", "Expires: 1e9"}, true, 3600},
		{"REG-13 removed", []string{"Contact: <sip:alice@192.0.2.10:5060>;expires=0"}, true, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := translated(t, "200 OK", c.lines...)
			if (r.Contact == messages.ContactOurs) != c.found || r.ContactExpires != c.expires {
				t.Errorf("contact %v, expires %d; want %v, %d", r.Contact, r.ContactExpires, c.found, c.expires)
			}
		})
	}
}

// S-31: 64 contacts are kept, and ours is found behind them.
func TestS31_Contacts(t *testing.T) {
	for _, n := range []int{63, 64, 65, 90} {
		var others []string
		for range n {
			others = append(others, "Contact: <sip:o@192.0.2.11>;expires=9")
		}
		r := translated(t, "200 OK", append(others, "Contact: <sip:alice@192.0.2.10:5060>;expires=60")...)
		if r.Contact != messages.ContactOurs || len(r.Contacts) != min(n+1, 64) {
			t.Errorf("%d contacts: kept %d, ours %v", n+1, len(r.Contacts), r.Contact)
		}
	}
}

// ERR-07, S-33: Retry-After with comment and parameters, and what is none.
func TestERR07_RetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, "120": 2 * time.Minute, "18000;duration=3600": 5 * time.Hour,
		"120 (I'm in a meeting)": 2 * time.Minute, "60 (c (nested)) ;duration=5": time.Minute, " 7 ": 7 * time.Second,
		"4294967295": 4294967295 * time.Second,
		"4294967296": -1, "18446744073709551616": -1, "949302838503028349304023988": -1,
		"-1": -1, "": -1, "soon": -1, "1e9": -1, "60x": -1, "Fri, 01 Jan 2027 00:00:00 GMT": -1,
	} {
		if got := translated(t, "503 Busy", "Retry-After: "+value).RetryAfter; got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	if got := translated(t, "503 Busy").RetryAfter; got >= 0 {
		t.Errorf("absent: %v", got)
	}
	if got := translated(t, "404 No", "Retry-After: 5").RetryAfter; got != 5*time.Second {
		t.Errorf("on a 404: %v", got)
	}
	if got := translated(t, "503 Busy", "Retry-After: 5", "Retry-After: 9").RetryAfter; got >= 0 {
		t.Errorf("twice: %v", got)
	}
}

func TestMinExpires(t *testing.T) {
	for value, want := range map[string]uint32{
		"60": 60, "0": 0, "-1": 0, "x": 0, "4294967295": 1<<32 - 1, "4294967296": 0, "60;x": 0, "": 0,
	} {
		if got := translated(t, "423 Brief", "Min-Expires: "+value).MinExpires; got != want {
			t.Errorf("%q: %d, want %d", value, got, want)
		}
	}
}

// Challenges stay in wire order across both headers, lists are split, broken
// ones are passed on and control bytes are not (CHA-20, CHA-21, S-52).
func TestChallenges(t *testing.T) {
	r := translated(t, "401 Unauthorized",
		`WWW-Authenticate: Digest realm="a, b", nonce="1", qop="auth, auth-int"`,
		`Proxy-Authenticate: Digest realm="p",nonce="2"`,
		`www-authenticate: Bearer realm="c", Digest realm="d", nonce="3"`,
		`WWW-Authenticate: nonsense`,
		"WWW-Authenticate: Digest realm=\"x\x00y\", nonce=\"4\"",
		`WWW-Authenticate: Digest realm="e",`+"\r\n\t"+`nonce="5"`,
	)
	raw := func(space messages.Space, s string) *messages.RecordedChallenge {
		return &messages.RecordedChallenge{Space: space, Raw: s}
	}
	want := []*messages.RecordedChallenge{
		raw(messages.Space_ORIGIN, `Digest realm="a, b", nonce="1", qop="auth, auth-int"`),
		raw(messages.Space_PROXY, `Digest realm="p",nonce="2"`),
		raw(messages.Space_ORIGIN, `Bearer realm="c"`),
		raw(messages.Space_ORIGIN, `Digest realm="d", nonce="3"`),
		raw(messages.Space_ORIGIN, `nonsense`),
		raw(messages.Space_ORIGIN, `Digest realm="e", nonce="5"`),
	}
	if diff := cmp.Diff(want, r.Challenges, protocmp.Transform()); diff != "" {
		t.Errorf("challenges (-want +got):\n%s", diff)
	}
	if r := translated(t, "401 Unauthorized"); r.Challenges != nil {
		t.Errorf("no challenge gives %v", r.Challenges)
	}
}

// S-31: 64 challenges.
func TestS31_Challenges(t *testing.T) {
	for _, n := range []int{63, 64, 65} {
		var lines []string
		for range n {
			lines = append(lines, `WWW-Authenticate: Digest realm="a", nonce="1"`)
		}
		if r := translated(t, "401 Unauthorized", lines...); len(r.Challenges) != min(n, 64) {
			t.Errorf("%d challenges: kept %d", n, len(r.Challenges))
		}
	}
}

// S-54, ERR-01: best q first, header parts gone, no other schemes, each once.
func TestS54_Redirects(t *testing.T) {
	r := translated(t, "302 Moved",
		"Contact: <sip:low@a>;q=0.1, <sip:first@a?Route=%3Csip:evil%3E&Authorization=x>, <tel:+1>;q=1",
		"Contact: <sip:mid@a;transport=tcp>;q=0.55, sips:half@a;q=0.5, <sip:low@a>;q=0.9, <sip:bad@a>;q=nine")
	want := []string{"sip:first@a", "sip:mid@a;transport=tcp", "sips:half@a", "sip:low@a", "sip:bad@a"}
	if diff := cmp.Diff(want, r.Redirects); diff != "" {
		t.Errorf("redirects (-want +got):\n%s", diff)
	}
	if r.Contacts != nil {
		t.Errorf("a 3xx has no bindings: %v", r.Contacts)
	}
}

// Service-Route is split by grammar, in order, at most 16; a broken list is
// none (RFC 3608).
func TestServiceRoute(t *testing.T) {
	r := translated(t, "200 OK",
		`Service-Route: <sip:p1.example.test;lr>, "P, 2" <sip:p2.example.test;lr>;x=","`,
		`Service-Route: <sip:[2001:db8::1];lr>`)
	want := []string{"<sip:p1.example.test;lr>", `"P, 2" <sip:p2.example.test;lr>;x=","`, "<sip:[2001:db8::1];lr>"}
	if diff := cmp.Diff(want, r.ServiceRoute); diff != "" {
		t.Errorf("service route (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"<sip:a>, nonsense", "<sip:a b>", "sip:a;lr", "<http://x>"} {
		if r := translated(t, "200 OK", "Service-Route: "+bad); r.ServiceRoute != nil {
			t.Errorf("%q gives %v", bad, r.ServiceRoute)
		}
	}
	for _, n := range []int{15, 16, 17} {
		r := translated(t, "200 OK", "Service-Route: "+strings.TrimSuffix(strings.Repeat("<sip:a;lr>,", n), ","))
		if want := n * min(1, 17/(n+1)); len(r.ServiceRoute) != want {
			t.Errorf("%d routes: kept %d, want %d", n, len(r.ServiceRoute), want)
		}
	}
	// REG-03: Record-Route creates no route set.
	if r := translated(t, "200 OK", "Record-Route: <sip:a;lr>"); r.ServiceRoute != nil {
		t.Errorf("REG-03: %v", r.ServiceRoute)
	}
}

func TestUnsupported(t *testing.T) {
	r := translated(t, "420 Bad Extension", "Unsupported: path,  gruu", "Unsupported: a b, outbound")
	if diff := cmp.Diff([]string{"path", "gruu", "outbound"}, r.Unsupported); diff != "" {
		t.Errorf("unsupported (-want +got):\n%s", diff)
	}
}

// AIN-05: both headers are read alike, quoted or not; ambiguous ones are not.
func TestAuthenticationInfo(t *testing.T) {
	r := translated(t, "200 OK",
		`Authentication-Info: nextnonce="n,1", qop=auth, rspauth="abc", cnonce="c\"d", nc=00000001`,
		`Proxy-Authentication-Info: NextNonce = n2 , RSPAUTH="x"`,
		`Authentication-Info: rspauth="a", rspauth="b"`,
		`Authentication-Info: junk`)
	want := []messages.AuthInfo{
		{Space: messages.Space_ORIGIN, NextNonce: "n,1", QOP: "auth", Rspauth: "abc", Cnonce: `c"d`, NC: "00000001"},
		{Space: messages.Space_PROXY, NextNonce: "n2", Rspauth: "x"},
	}
	if diff := cmp.Diff(want, r.AuthInfo); diff != "" {
		t.Errorf("authentication info (-want +got):\n%s", diff)
	}
}
