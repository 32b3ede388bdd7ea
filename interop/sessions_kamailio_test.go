//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// callees take calls as an embedding program does.
type callees struct {
	play func(ctx context.Context, i *muster.Invitation) error

	mu    sync.Mutex
	taken int
	errs  []error
	wait  sync.WaitGroup
}

// invited is Options.OnInvite. It must return for the call to go on.
func (c *callees) invited(i *muster.Invitation) {
	c.wait.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err := c.play(ctx, i)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.taken++
		if err != nil {
			c.errs = append(c.errs, fmt.Errorf("callee %s: %w", i.Profile, err))
		}
	})
}

// want checks how many calls were taken, all without trouble.
func (c *callees) want(t *testing.T, count int) {
	t.Helper()
	c.wait.Wait()
	if c.taken != count || len(c.errs) > 0 {
		t.Errorf("%d calls were taken, want %d; %d went wrong:\n%v", c.taken, count, len(c.errs), errors.Join(c.errs[:min(len(c.errs), 3)]...))
	}
}

// subject is the number in the Subject header, which a campaign writes there.
func subject(i *muster.Invitation) (int, error) {
	for _, h := range i.Invite.Dialog.Headers {
		if strings.EqualFold(h.Name, "Subject") {
			var n int
			_, err := fmt.Sscanf(h.Value, "call %d", &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("no Subject in %v", i.Invite.Dialog.Headers)
}

const takenBody = "v=0\r\ns=taken by a callback \xff\r\n\r\nwithout end"

// take rings, takes the call, and checks what it was offered. Of two calls the
// callee hangs up one.
func take(ctx context.Context, i *muster.Invitation) error {
	number, err := subject(i)
	if err != nil {
		return err
	}
	if got := string(i.Invite.Dialog.Body); got != string(offer(number)) {
		return fmt.Errorf("the offer of call %d arrived as %q", number, got)
	}
	if err := i.Ring(ctx, "", nil); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	if err := i.Accept(ctx, "application/sdp", []byte(takenBody)); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	if _, err := next(ctx, i.Session, session.NoticeEstablished); err != nil {
		return err
	}
	if number%2 == 0 {
		return wantEnded(ctx, i.Session, messages.ReasonRemoteHangup)
	}
	return hangUp(ctx, i.Session)
}

// taken is the caller's side of take.
func taken(ctx context.Context, i int, s *muster.Session) error {
	e, err := next(ctx, s, session.NoticeEstablished)
	if err != nil {
		return err
	}
	if got := string(e.Response.Dialog.Body); got != takenBody {
		return fmt.Errorf("the answer arrived as %q", got)
	}
	if i%2 == 0 {
		return hangUp(ctx, s)
	}
	return wantEnded(ctx, s, messages.ReasonRemoteHangup)
}

// newKamailioNode is a node whose profiles k0, k1 and so on are registered with
// a Kamailio that passes calls.
func newKamailioNode(t *testing.T, k Options, profiles int, o muster.Options) (*callNode, *Kamailio) {
	t.Helper()
	k.Calls = true
	kamailio, err := StartKamailio(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kamailio.Stop)
	o.Registrars = []actors.Registrar{{Name: "kamailio", URI: kamailio.URI("udp"), Realms: []string{Realm}, Rate: 500}}
	o.Profiles = declare(profiles, "k", "kamailio")
	n := newCallNode(t, o)
	eventually(t, 20*time.Second, func() string {
		if c, err := kamailio.Count(); err != nil || c != profiles {
			return fmt.Sprintf("Kamailio holds %d contacts (%v), want %d", c, err, profiles)
		}
		return ""
	})
	return n, kamailio
}

func (n *callNode) wantCallCounters(k *Kamailio, want CallCounters) {
	n.t.Helper()
	if got, err := k.CallCounters(); err != nil || got != want {
		n.t.Errorf("Kamailio counts %+v (%v), want %+v", got, err, want)
	}
}

// TestCallsBetweenProfiles: both ends are profiles of one node, and Kamailio
// between them asks every caller for credentials. It verifies what SIPp cannot:
// Proxy-Authorization with SHA-256 and nonce counts. CHA-01 INV-01 DLG-01
func TestCallsBetweenProfiles(t *testing.T) {
	t.Parallel()
	const calls, profiles = 200, 20
	c := &callees{play: take}
	n, k := newKamailioNode(t, Options{Algorithm: "SHA-256", NonceCount: true}, profiles, muster.Options{OnInvite: c.invited})
	n.run(campaign{count: calls, rate: 25, play: taken, call: func(i int) muster.Call {
		return muster.Call{
			Profile: fmt.Sprintf("k%d", i%profiles), Target: fmt.Sprintf("sip:k%d@%s", (i+1)%profiles, Realm), Body: offer(i),
			Headers: []messages.Header{{Name: "Subject", Value: fmt.Sprint("call ", i)}},
		}
	}})
	c.want(t, calls)
	n.wantQuiet()
	n.wantCallCounters(k, CallCounters{Challenged: calls, Relayed: calls})
}

// TestProxyThatAlwaysAsks: requests inside the dialog are challenged as well,
// those of the caller and those of the callee. DLG-10 DLG-12
func TestProxyThatAlwaysAsks(t *testing.T) {
	t.Parallel()
	const calls, profiles = 20, 4
	info := actors.InDialog{Method: "INFO", ContentType: "text/plain", Body: []byte("digit")}
	wantStatus := func(what string, want int, got actors.InDialogResult, err error) error {
		if err != nil || got.Status != want {
			return fmt.Errorf("%s: %+v, %w; want %d", what, got, err, want)
		}
		return nil
	}
	c := &callees{play: func(ctx context.Context, i *muster.Invitation) error {
		i.OnRequest = func(r *muster.PeerRequest) {
			_ = r.Respond(ctx, actors.SessionReply{Status: 200, ContentType: "application/sdp", Body: r.Dialog.Body})
		}
		if err := i.Accept(ctx, "application/sdp", []byte(takenBody)); err != nil {
			return err
		}
		if _, err := next(ctx, i.Session, session.NoticeEstablished); err != nil {
			return err
		}
		got, err := i.Session.Request(ctx, info)
		if err := wantStatus("INFO of the callee", 200, got, err); err != nil {
			return err
		}
		return wantEnded(ctx, i.Session, messages.ReasonRemoteHangup)
	}}
	n, k := newKamailioNode(t, Options{NonceCount: true, CallDialogs: true, Workers: 1}, profiles, muster.Options{OnInvite: c.invited})
	n.run(campaign{count: calls, rate: 20, call: func(i int) muster.Call {
		return muster.Call{
			Profile: fmt.Sprintf("k%d", i%profiles), Target: fmt.Sprintf("sip:k%d@%s", (i+1)%profiles, Realm), Body: offer(i),
			OnRequest: func(r *muster.PeerRequest) { _ = r.Respond(context.Background(), actors.SessionReply{Status: 200}) },
		}
	}, play: func(ctx context.Context, i int, s *muster.Session) error {
		if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
			return err
		}
		got, err := s.Reinvite(ctx, "application/sdp", offer(i+1))
		if err := wantStatus("re-INVITE", 200, got, err); err != nil {
			return err
		}
		if string(got.Body) != string(offer(i+1)) {
			return fmt.Errorf("the answer to the re-INVITE is %q", got.Body)
		}
		// The callee's INFO is challenged and must be through before the end.
		if err := n.recorded(ctx, s, "PeerRequestAnswered", 1); err != nil {
			return err
		}
		return hangUp(ctx, s)
	}})
	c.want(t, calls)
	n.wantQuiet()
	if got, err := k.CallCounters(); err != nil || got.Wrong != 0 || got.Relayed != calls {
		t.Errorf("Kamailio counts %+v (%v)", got, err)
	}
}

// TestDigestLeak: a callee that is not the registrar answers BYE with a
// challenge in the registrar's realm, collecting digests. It gets the one BYE
// without credentials, the journal says why, and the metric rises.
func TestDigestLeak(t *testing.T) {
	t.Parallel()
	numbers := map[string]string{"401 through the proxy": "11", "401 directly": "91", "407 directly": "97"}
	together(t, itself, slices.Sorted(maps.Keys(numbers)), func(t *testing.T, name string) {
		const calls = 3
		far := sippFor(t, SIPpOptions{Scenario: "leak", Calls: calls, Limit: 30 * time.Second})
		n, _ := newKamailioNode(t, Options{Callee: far.Addr()}, 1, muster.Options{})
		labels := map[string]string{"registrar": "kamailio", "reason": string(messages.ReasonUntrusted)}
		if before := n.metric("muster_challenges_withheld_total", labels); before != 0 {
			t.Errorf("muster_challenges_withheld_total begins at %v", before)
		}
		n.run(campaign{
			count: calls, rate: 10,
			call: func(i int) muster.Call {
				return muster.Call{Profile: "k0", Target: fmt.Sprintf("sip:%s@%s", numbers[name], Realm), Body: offer(i)}
			},
			play: func(ctx context.Context, _ int, s *muster.Session) error {
				if _, err := next(ctx, s, session.NoticeEstablished); err != nil {
					return err
				}
				if err := s.End(ctx); err != nil {
					return err
				}
				if _, err := next(ctx, s, session.NoticeEnded); err != nil {
					return err
				}
				if story := n.sessionStory(s.ID()); !strings.Contains(story, "credentials must not go to where the challenge came from") {
					return fmt.Errorf("the journal does not tell of it")
				}
				return nil
			},
		})
		wantDone(t, far, calls)
		for _, call := range wantWire(t, far, judgement{foreign: true}) {
			if got := call.sequence(); got != "INVITE ACK BYE" {
				t.Errorf("%s: the far end got %s, want one BYE", call.id, got)
			}
			for _, m := range call.requests {
				if len(m.credentials()) > 0 {
					t.Errorf("%s: the far end got credentials in %s", call.id, m)
				}
			}
		}
		n.wantQuiet()
		if got := n.metric("muster_challenges_withheld_total", labels); got != calls {
			t.Errorf("muster_challenges_withheld_total is %v, want %d", got, calls)
		}
	})
}
