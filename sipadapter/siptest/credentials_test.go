package siptest_test

import (
	"strings"
	"testing"
	"time"

	oracle "github.com/icholy/digest"

	"github.com/sipmuster/muster/sipadapter/siptest"
)

// TestChallenge goes through what can be offered: the answer comes from another
// package, the verdict from this one.
func TestChallenge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options siptest.Options
		body    string
	}{
		{"MD5", siptest.Options{}, ""},
		{"no algorithm parameter", siptest.Options{Algorithms: []string{""}}, ""},
		{"several, topmost counts", siptest.Options{Algorithms: []string{"SHA-512-256", "SHA-256", "MD5"}}, ""},
		{"several in one line", siptest.Options{Algorithms: []string{"SHA-256", "MD5"}, OneLine: true}, ""},
		{"CHA-32 no qop", siptest.Options{QOP: "none"}, ""},
		{"DIG-03 auth-int without a body", siptest.Options{QOP: "auth-int", Algorithms: []string{"SHA-256"}}, ""},
		{"auth-int with a body", siptest.Options{QOP: "auth-int"}, "v=0\r\n"},
		{"both qops", siptest.Options{QOP: "auth-int, auth"}, ""},
		{"DIG-02 -sess", siptest.Options{Algorithms: []string{"MD5-sess"}, AuthInfo: true}, ""},
		{"realm with quotes", siptest.Options{Realm: `a "b" \c`}, ""},
		{"CHA-06 proxy, then registrar", siptest.Options{ProxyRealm: "proxy.test"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Authenticate, tt.options.Password, tt.options.CheckNC = true, secret, true
			r := start(t, tt.options)
			c := dial(t, r, "udp")
			q := register{body: tt.body}
			res := c.ask(q)
			rounds := 0
			var asked []response
			for ; res.status == 401 || res.status == 407; rounds++ {
				asked = append(asked, res)
				q.cseq, q.auth = rounds+2, nil
				for i, a := range asked { // each nonce with its own next count
					q.auth = append(q.auth, a.answer(t, q, uint32(len(asked)-i), "c1")...)
				}
				res = c.ask(q)
			}
			res.want(t, 200)
			s := settled(t, r)
			want := 1
			if tt.options.ProxyRealm != "" {
				want = 2
			}
			if rounds != want || s.Challenges != uint64(want) || s.Rejected != 0 {
				t.Errorf("%d rounds, snapshot %+v", rounds, s)
			}
		})
	}
}

// TestOracleClient: a client that shares no code with either side of ours.
func TestOracleClient(t *testing.T) {
	for _, algorithm := range []string{"MD5", "SHA-256", "SHA-512-256"} {
		r := start(t, siptest.Options{Authenticate: true, Password: secret, Algorithms: []string{algorithm}})
		c := dial(t, r, "udp")
		asked := c.ask(register{}).want(t, 401)
		theirs, err := oracle.ParseChallenge(asked.headers["www-authenticate"][0])
		if err != nil {
			t.Fatal(err)
		}
		cred, err := oracle.Digest(theirs, oracle.Options{Method: "REGISTER", URI: "sip:example.test", Username: "alice", Password: "pass-alice"})
		if err != nil {
			t.Fatal(err)
		}
		c.ask(register{cseq: 2, auth: []string{"Authorization: " + cred.String()}}).want(t, 200)
		settled(t, r)
	}
}

func TestRejection(t *testing.T) {
	for _, forbid := range []bool{false, true} {
		r := start(t, siptest.Options{Authenticate: true, Password: secret, StaleFlag: true, Forbid: forbid})
		c := dial(t, r, "udp")
		auth := c.ask(register{}).want(t, 401).answer(t, register{}, 1, "c")
		wrong := strings.Replace(auth[0], `response="`, `response="0`, 1)
		status := 401
		if forbid {
			status = 403
		}
		res := c.ask(register{cseq: 2, auth: []string{wrong}}).want(t, status)
		if strings.Contains(res.text, "stale") {
			t.Error("a wrong response is not stale")
		}
		c.ask(register{user: "stranger", auth: c.ask(register{user: "stranger", cseq: 1}).answer(t, register{user: "stranger"}, 1, "c"), cseq: 2}).want(t, status)
		if s := settled(t, r); s.Rejected != 2 || s.Accepted != 0 || s.Bindings != 0 {
			t.Errorf("snapshot %+v", s)
		}
	}
}

// TestNonceReuse: one challenge serves many requests; then the count repeats.
func TestNonceReuse(t *testing.T) {
	r := start(t, siptest.Options{Authenticate: true, Password: secret, CheckNC: true, StaleFlag: true, Algorithms: []string{"SHA-256-sess"}})
	c := dial(t, r, "udp")
	asked := c.ask(register{}).want(t, 401)
	for i := range 3 {
		c.ask(register{cseq: i + 2, auth: asked.answer(t, register{}, uint32(i+1), "c1")}).want(t, 200)
	}
	settled(t, r)
	res := c.ask(register{cseq: 5, auth: asked.answer(t, register{}, 3, "c1")}).want(t, 401)
	if !strings.Contains(res.text, "stale=true") {
		t.Errorf("a replayed count is stale\n%s", res.text)
	}
	violated(t, r, "I-6")
	if s := r.Snapshot(); s.Replays != 1 || s.Challenges != 2 {
		t.Errorf("snapshot %+v", s)
	}
}

// TestNonceExpiry: Restart makes every nonce old, without StaleFlag the client
// is not told so.
func TestNonceExpiry(t *testing.T) {
	for _, flag := range []bool{false, true} {
		r := start(t, siptest.Options{Authenticate: true, Password: secret, StaleFlag: flag})
		c := dial(t, r, "udp")
		asked := c.ask(register{}).want(t, 401)
		c.ask(register{cseq: 2, auth: asked.answer(t, register{}, 1, "c")}).want(t, 200)
		r.Restart()
		if n := len(r.Bindings("sip:alice@example.test")); n != 0 {
			t.Errorf("%d bindings after a restart", n)
		}
		res := c.ask(register{cseq: 3, auth: asked.answer(t, register{}, 2, "c")}).want(t, 401)
		if strings.Contains(res.text, "stale=true") != flag {
			t.Errorf("stale flag %v\n%s", flag, res.text)
		}
		c.ask(register{cseq: 4, auth: res.answer(t, register{}, 1, "c")}).want(t, 200)
		if s := settled(t, r); s.Stale != 1 {
			t.Errorf("snapshot %+v", s)
		}
	}
	r := start(t, siptest.Options{Authenticate: true, Password: secret, NonceLifetime: time.Nanosecond})
	c := dial(t, r, "udp")
	c.ask(register{cseq: 2, auth: c.ask(register{}).answer(t, register{}, 1, "c")}).want(t, 401)
	if s := r.Snapshot(); s.Stale != 1 {
		t.Errorf("snapshot %+v", s)
	}
}

func TestAuthInfo(t *testing.T) {
	r := start(t, siptest.Options{Authenticate: true, ProxyRealm: "p", Password: secret, AuthInfo: true})
	c := dial(t, r, "udp")
	proxy := c.ask(register{}).want(t, 407)
	origin := c.ask(register{cseq: 2, auth: proxy.answer(t, register{}, 1, "c")}).want(t, 401)
	both := append(proxy.answer(t, register{}, 2, "c"), origin.answer(t, register{}, 1, "c")...)
	res := c.ask(register{cseq: 3, auth: both}).want(t, 200)
	for _, name := range []string{"authentication-info", "proxy-authentication-info"} {
		value := strings.Join(res.headers[name], "")
		for _, part := range []string{`nextnonce="`, `rspauth="`, `cnonce="c"`, "nc=0000000", "qop=auth"} {
			if !strings.Contains(value, part) {
				t.Errorf("AIN-03 no %s in %s: %s", part, name, value)
			}
		}
	}
	settled(t, r)
}

// TestForm: what a lenient registrar would let pass.
func TestForm(t *testing.T) {
	for _, tt := range []struct{ name, old, new string }{
		{"DIG-07: quoting of qop", "qop=auth", `qop="auth"`},
		{"DIG-07: quoting of nc", "nc=00000001", `nc="00000001"`},
		{"DIG-07: quoting of algorithm", "algorithm=MD5", `algorithm="MD5"`},
		{"DIG-07: quoting of username", `username="alice"`, "username=alice"},
		{"DIG-05", "nc=00000001", "nc=1"},
		{"DIG-05", "nc=00000001", "nc=00000000"},
		{"DIG-04", `uri="sip:example.test"`, `uri="sip:EXAMPLE.test"`},
		{"DIG-08: opaque", `opaque="`, `opaque="0`},
		{"DIG-08: algorithm", "algorithm=MD5", "algorithm=md5"},
		{"CHA-31: qop was not", "qop=auth", "qop=auth-int"},
		{"CHA-31: qop without", "nc=00000001", "x=1"},
		{"CHA-31: qop was not", ", qop=auth", ""},
		{"realm stands twice", "realm=", `realm="x", realm=`},
		{"quotes of realm", `realm="example.test"`, `realm="example.test"x`},
		{"quotes of realm", `realm="example.test"`, `realm="`},
		{"without name or value", "qop=auth", "qop="},
		{"no response", "response=", "reply="},
		{"scheme", "Digest ", "DigestX "},
		{"no parameters", "Digest ", "Digest\x00"},
	} {
		t.Run(tt.name+" "+tt.new, func(t *testing.T) {
			r := start(t, siptest.Options{Authenticate: true, Password: secret})
			c := dial(t, r, "udp")
			auth := c.ask(register{}).want(t, 401).answer(t, register{}, 1, "c")
			broken := strings.Replace(auth[0], tt.old, tt.new, 1)
			if broken == auth[0] {
				t.Fatalf("nothing to break in %s", auth[0])
			}
			if tt.name == "no parameters" {
				broken = "Authorization: Digest"
			}
			res := c.ask(register{cseq: 2, auth: []string{broken}}).want(t, 400)
			if len(res.headers["warning"]) != 1 {
				t.Errorf("no explanation\n%s", res.text)
			}
			violated(t, r, tt.name)
		})
	}
	t.Run("CHA-06 two for one realm", func(t *testing.T) {
		r := start(t, siptest.Options{Authenticate: true, Password: secret})
		c := dial(t, r, "udp")
		auth := c.ask(register{}).want(t, 401).answer(t, register{}, 1, "c")
		second := strings.Replace(auth[0], "nc=00000001", "nc=00000002", 1)
		c.ask(register{cseq: 2, auth: []string{auth[0], second}}).want(t, 400)
		violated(t, r, "CHA-06")
	})
	t.Run("credentials of others do not matter", func(t *testing.T) {
		r := start(t, siptest.Options{Authenticate: true, Password: secret})
		c := dial(t, r, "udp")
		auth := c.ask(register{}).want(t, 401).answer(t, register{}, 1, "c")
		foreign := []string{
			`Authorization: Digest username="x", realm="other", nonce="n", uri="sip:x", response="r"`,
			`Proxy-Authorization: Digest username="x", realm="example.test", nonce="n", uri="sip:x", response="r"`,
		}
		c.ask(register{cseq: 2, auth: append(foreign, auth...)}).want(t, 200)
		settled(t, r)
	})
	for _, tt := range []struct{ name, old, new string }{
		{"GEN-05", "CSeq: 1 REGISTER", "CSeq: 2147483648 REGISTER"},
		{"GEN-05", "CSeq: 1 REGISTER", "CSeq: 1 INVITE"},
		{"GEN-06", "branch=z9hG4bK", "branch=1"},
	} {
		t.Run(tt.name+" "+tt.new, func(t *testing.T) {
			r := start(t, siptest.Options{})
			c := dial(t, r, "udp")
			c.write(strings.Replace(c.build(register{}), tt.old, tt.new, 1))
			c.read().want(t, 400)
			violated(t, r, tt.name)
		})
	}
}
