package sipadapter

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// REG-11: the examples of RFC 3261 §19.1.4 and of the row itself.
func TestREG11_URIComparison(t *testing.T) {
	equal := [][2]string{
		{"sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;security=on"},
		{"sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"},
		{"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com", "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"},
		{"sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x"},
		{"SIP:alice@192.0.2.1:5060", "sip:alice@192.0.2.1:5060"},
		{"sip:alice@[2001:db8::1]", "sip:alice@[2001:DB8:0:0::1]"},
		{"sip:+15551234@a;x=1;y=2", "sip:+15551234@a;y=2;x=1"},
		{"sip:a%3bb@x", "sip:a%3Bb@x"},
	}
	different := [][2]string{
		{"SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"},
		{"sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"},
		{"sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"},
		{"sip:alice@a", "sips:alice@a"},
		{"sip:alice@a", "sip:a"},
		{"sip:a@x;maddr=1.2.3.4", "sip:a@x"},
		{"sip:a@x;ttl=1", "sip:a@x"},
		{"sip:a@x;user=phone", "sip:a@x"},
		{"sip:a@x;method=INVITE", "sip:a@x"},
		{"sip:a:secret@x", "sip:a@x"},
		{"sip:a%3bb@x", "sip:a;b@x"},
	}
	check := func(pairs [][2]string, want bool) {
		for _, pair := range pairs {
			u, errU := parseURI(pair[0])
			v, errV := parseURI(pair[1])
			if errU != nil || errV != nil {
				t.Errorf("%q %v, %q %v", pair[0], errU, pair[1], errV)
				continue
			}
			if u.equal(v) != want || v.equal(u) != want {
				t.Errorf("%q and %q: equal is %v and %v, want %v", pair[0], pair[1], u.equal(v), v.equal(u), want)
			}
		}
	}
	check(equal, true)
	check(different, false)
}

func TestParseURI(t *testing.T) {
	good := map[string]uri{
		"sip:alice;day=tue@example.com:5070;lr?x=y": {scheme: "sip", user: "alice;day=tue", hasUser: true, host: "example.com", port: 5070},
		"sips:example.com":                          {scheme: "sips", host: "example.com", port: -1},
		"sip:[::1]:5060":                            {scheme: "sip", host: "[::1]", port: 5060},
		"sip:what?ever@host":                        {scheme: "sip", user: "what?ever", hasUser: true, host: "host", port: -1},
		"sip:[2001:db8:::192.0.2.1]":                {scheme: "sip", host: "[2001:db8:::192.0.2.1]", port: -1},
	}
	for s, want := range good {
		u, err := parseURI(s)
		if err != nil || u.scheme != want.scheme || u.user != want.user || u.hasUser != want.hasUser || u.host != want.host || u.port != want.port {
			t.Errorf("%q: %+v, %v", s, u, err)
		}
	}
	for _, s := range []string{
		"", "sip", "sip:", "sip:@host", "sip:a@", "sip:a@b@c", "sip:a b@c", "sip:a@b:", "sip:a@b:x", "sip:a@b:70000",
		"sip:2001:db8::1", "sip:a@[::1", "sip:a@[::1]x", "sip:a@[]", "sip:[a@b", "sip:<a@b>", "sip:a@b\x00", "1sip:a@b", "sip:a@h\"",
	} {
		if u, err := parseURI(s); err == nil {
			t.Errorf("%q is accepted: %+v", s, u)
		}
	}
	if _, err := parseURI("tel:+15551234"); !errors.Is(err, errScheme) {
		t.Errorf("tel: %v", err)
	}
}

// A user part is escaped where it must be and nowhere else.
func TestEscapeUser(t *testing.T) {
	for in, want := range map[string]string{
		"alice": "alice", "+4930123": "+4930123", "a b": "a%20b", "a@b": "a%40b", "50%": "50%25",
		"a%41": "a%41", "a%4": "a%254", "\u00fc": "%C3%BC", `"x"`: "%22x%22", "a;b?c/d": "a;b?c/d", "#": "%23",
	} {
		if got := escapeUser(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What we write for a user is found again by comparison.
func TestEscapedUserComparesEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.String().Draw(t, "user")
		if user == "" || strings.ContainsFunc(user, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return
		}
		u, err := parseURI("sip:" + escapeUser(user) + "@host")
		if err != nil {
			t.Fatalf("%q: %v", escapeUser(user), err)
		}
		if !u.equal(u) {
			t.Fatalf("%q is not equal to itself", user)
		}
	})
}

func TestParseNameAddr(t *testing.T) {
	good := map[string]nameAddr{
		`<sip:a@b>`:                            {"sip:a@b", ""},
		`sip:a@b;tag=x`:                        {"sip:a@b", "tag=x"},
		`"A \"B\" <c>" <sip:a@b;x=y>;tag=1`:    {"sip:a@b;x=y", "tag=1"},
		`A B <sip:a@b> ; tag = 1`:              {"sip:a@b", " tag = 1"},
		`caller<sip:a@b>;tag=323`:              {"sip:a@b", "tag=323"},
		"<sip:a@b?Route=%3Csip:x%3E>;expires=": {"sip:a@b?Route=%3Csip:x%3E", "expires="},
	}
	for s, want := range good {
		if n, ok := parseNameAddr(s); !ok || n != want {
			t.Errorf("%q: %+v %v, want %+v", s, n, ok, want)
		}
	}
	for _, s := range []string{``, `"Mr. J. User <sip:a@b>`, `<sip:a@b`, `<>`, `< sip:a@b c>`, `Bell, A <sip:a@b>`, `<sip:a@b>x`, `sip:a b@c`, `a@b <sip:a@b>`} {
		if n, ok := parseNameAddr(s); ok {
			t.Errorf("%q is accepted: %+v", s, n)
		}
	}
}
