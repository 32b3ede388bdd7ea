package bearer

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/messages"
)

func TestAnswer(t *testing.T) {
	w := newWorld(t, nil)
	got, err := w.Answer(t.Context(), question("alice", w.challenge("authz_server="+w.as.URL, "scope=sip.register offline")))
	if err != nil {
		t.Fatal(err)
	}
	want := &messages.AuthAnswer{
		Ref: "r1", Answered: []uint32{0}, Preemptive: true,
		Mutations: []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: "Bearer " + canary + ".access1"}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	form := w.as.requests[0]
	if form.Get("grant_type") != "client_credentials" || form.Get("scope") != "offline sip.register" || form.Has("client_secret") {
		t.Errorf("the token request was %v", form)
	}
}

// BEA-01:
// TestBEA01_UnknownServerIsNotContacted watches a listener that a challenge
// names: the only connection that it accepts is the test's own.
func TestBEA01_UnknownServerIsNotContacted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Addr)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c.RemoteAddr()
			c.Close()
		}
	}()
	w := newWorld(t, nil)
	for _, named := range []string{
		"https://" + l.Addr().String(), "http://" + l.Addr().String(), "https://" + l.Addr().String() + "/?x=" + w.as.URL,
		strings.Replace(w.as.URL, "https://", "https://x@", 1), w.as.URL + "/x", w.as.URL + "/.", w.as.URL + "/%2e", w.as.URL + "?", w.as.URL + "#",
		w.as.URL + "@" + l.Addr().String(), "//" + l.Addr().String(), "", " ", "\x00", w.as.URL + ".", "ldap://x",
	} {
		w.refused(question("alice", w.challenge("authz_server="+named)))
	}
	own, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if from := <-accepted; from.String() != own.LocalAddr().String() {
		t.Errorf("%v connected", from)
	}
	if n := w.as.asked() + len(w.as.paths); n != 0 {
		t.Errorf("the trusted server was asked %d times for another one's token", n)
	}
}

// BEA-01.
func TestBEA01_ServersAreComparedAsCanonicalURLs(t *testing.T) {
	for a, b := range map[string]string{
		"https://as.example.test":      "HTTPS://AS.Example.TEST:443/",
		"https://as.example.test/t/1":  "https://as.example.test:443/t/1",
		"https://as.example.test:8443": "https://as.example.test:8443/",
		"https://[2001:db8::1]:443":    "https://[2001:DB8::1]",
	} {
		x, errX := canonical(a)
		y, errY := canonical(b)
		if errX != nil || errY != nil || x.String() != y.String() {
			t.Errorf("%s %v and %s %v differ", x, errX, y, errY)
		}
	}
	for _, b := range []string{"https://as.example.test/t", "https://as.example.test/T/1", "https://as.example.test/t/1/", "https://as.example.test:8443/t/1", "https://example.test/t/1"} {
		if y, err := canonical(b); err != nil || y.String() == "https://as.example.test/t/1" {
			t.Errorf("%s is taken for another: %v %v", b, y, err)
		}
	}
}

// BEA-01.
func TestBEA01_ChallengeWithoutServerMeansTheOnlyOne(t *testing.T) {
	w := newWorld(t, nil)
	if got := w.ask(question("alice", w.challenge())); got != "access1" {
		t.Errorf("got %s", got)
	}
	w.start(func(o *Options) { o.TrustedServers = append(o.TrustedServers, "https://other.example.test") })
	if r := w.refused(question("alice", w.challenge())); !strings.Contains(r.Reason, "names no authz_server") {
		t.Errorf("got %q", r.Reason)
	}
	if got := w.ask(question("alice", w.challenge("authz_server="+w.as.URL+"/"))); got != "access2" {
		t.Errorf("got %s", got)
	}
}

// BEA-03:
// TestBEA03_OtherMethods: each request carries a token of the server that its
// challenge names.
func TestBEA03_OtherMethods(t *testing.T) {
	w := newWorld(t, nil)
	other := newAuthServer(t)
	roots := w.as.roots()
	roots.AddCert(other.Certificate())
	w.start(func(o *Options) { o.TrustedServers, o.RootCAs = append(o.TrustedServers, other.URL), roots })
	other.set(func() { other.serial = 100 })
	for _, method := range []string{"INVITE", "SUBSCRIBE", "BYE"} {
		for server, want := range map[*authServer]string{w.as: "access1", other: "access101"} {
			q := question("alice", w.challenge("authz_server="+server.URL))
			q.Method = method
			if got := w.ask(q); got != want {
				t.Errorf("%s got %s, want %s", method, got, want)
			}
		}
	}
}

// BEA-05:
// TestBEA05_OtherSchemesAreLeftAlone: a Bearer challenge is answered beside a
// Digest challenge for the same realm, and nothing without one.
func TestBEA05_OtherSchemesAreLeftAlone(t *testing.T) {
	w := newWorld(t, nil)
	digest := func() *messages.Challenge {
		return &messages.Challenge{Space: messages.Space_ORIGIN, Scheme: "Digest", Realm: "a", Params: map[string]string{"realm": "a", "nonce": "n"}}
	}
	got, err := w.Answer(t.Context(), question("alice", digest(), w.challenge(), digest()))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.GetMutations()) != 1 || len(got.GetAnswered()) != 1 || got.GetAnswered()[0] != 1 {
		t.Errorf("got %v", got)
	}
	if r := w.refused(question("alice", digest())); r.Reason != "no Bearer challenge" {
		t.Errorf("got %q", r.Reason)
	}
	w.refused(question("alice"))
}

func TestEveryRealmIsAnswered(t *testing.T) {
	w := newWorld(t, nil)
	in := func(space messages.Space, realm string, params ...string) *messages.Challenge {
		c := w.challenge(params...)
		c.Space, c.Realm, c.Scheme = space, realm, "bearer"
		return c
	}
	got, err := w.Answer(t.Context(), question("alice",
		in(messages.Space_PROXY, "a"), in(messages.Space_PROXY, "b", "scope=other"),
		in(messages.Space_ORIGIN, "a", "authz_server=https://unknown.example.test"), in(messages.Space_ORIGIN, "a"), in(messages.Space_ORIGIN, "a", "scope=third"),
		in(messages.Space_ORIGIN, "c", "authz_server=https://unknown.example.test"),
	))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for i, m := range got.GetMutations() {
		seen = append(seen, fmt.Sprintf("%d %s %s %s", got.GetAnswered()[i], m.GetOp(), m.GetName(), m.GetValue()))
	}
	token := "Bearer " + canary + ".access"
	if diff := cmp.Diff([]string{"0 SET Proxy-Authorization " + token + "1", "1 ADD Proxy-Authorization " + token + "2", "3 SET Authorization " + token + "1"}, seen); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestScopes(t *testing.T) {
	w := newWorld(t, nil)
	first := w.ask(question("alice", w.challenge("scope=b a  b")))
	if again := w.ask(question("bob", w.challenge("scope=a b"))); again != first {
		t.Errorf("the same scope in another order gets another token: %s, %s", first, again)
	}
	for _, scope := range []string{"a\"b", `a\b`, "a\nb", "ä", strings.Repeat("x", 2000)} {
		if r := w.refused(question("alice", w.challenge("scope="+scope))); r.Reason != "the scope of the challenge is not one" {
			t.Errorf("%.10q: got %q", scope, r.Reason)
		}
	}
	w.start(func(o *Options) { o.Scopes = []string{"mine"} })
	w.ask(question("alice", w.challenge("scope=theirs")))
	if got := w.as.requests[1].Get("scope"); got != "mine" {
		t.Errorf("asked for the scope %q", got)
	}
}

// TestEntriesAreBounded: a registrar that names a new scope in every challenge
// cannot fill the memory with what has expired.
func TestEntriesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	for i := range sweepFloor {
		w.entries[key{server: w.only, scope: fmt.Sprint(i)}] = &entry{token: newToken("x", w.clock.now(), 1)}
	}
	w.clock.pass(2)
	w.ask(question("alice", w.challenge()))
	if n := len(w.entries); n != 1 {
		t.Errorf("%d entries are kept", n)
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.failed(question("alice", w.challenge())); got != errClosed.Error() {
		t.Errorf("got %q", got)
	}
}

// TestCloseEndsRequests: nobody waits for a server that hangs.
func TestCloseEndsRequests(t *testing.T) {
	w := newWorld(t, nil)
	release := hang(w)
	defer release()
	ended := make(chan error)
	go func() {
		_, err := w.Answer(context.Background(), question("alice", w.challenge()))
		ended <- err
	}()
	<-w.as.arrived
	_ = w.Close()
	if err := <-ended; err == nil || err.Error() != "token endpoint: given up" {
		t.Errorf("got %v", err)
	}
}
