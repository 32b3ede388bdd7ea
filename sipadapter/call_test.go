package sipadapter

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/messages"
)

// callee answers INVITE with the given statuses, CANCEL with 200 and a 487, and
// everything else but ACK with 200.
func callee(statuses ...string) func(request []byte) [][]byte {
	var invite []byte
	return func(request []byte) [][]byte {
		method, _, _ := strings.Cut(string(request), " ")
		switch method {
		case "ACK":
			return nil
		case "INVITE":
			invite = bytes.Clone(request)
			var out [][]byte
			for _, status := range statuses {
				out = append(out, answerTo(request, status, "Contact: <sip:bob@192.0.2.31>"))
			}
			return out
		case "CANCEL":
			return [][]byte{answerTo(request, "200 OK"), answerTo(invite, "487 Terminated")}
		}
		return [][]byte{answerTo(request, "200 OK")}
	}
}

// follow starts an invitation on real sockets and gives its reports.
func follow(a *Adapter, r *messages.SIPRequest) (messages.Invitation, <-chan messages.InviteReport) {
	reports := make(chan messages.InviteReport, 16)
	return a.Invite(r, func(r messages.InviteReport) { reports <- r }), reports
}

// expect takes the next report, which must be this one.
func expect(t *testing.T, reports <-chan messages.InviteReport, status int, last bool) *messages.SIPResponse {
	t.Helper()
	select {
	case r := <-reports:
		if r.Response == nil || r.Response.Status != status || r.Last != last {
			t.Fatalf("report %+v, want %d", r, status)
		}
		return r.Response
	case <-time.After(time.Minute):
		t.Fatalf("no report, want %d", status)
		return nil
	}
}

// Whole calls on the loopback interface, by UDP and TCP: one that is answered,
// acknowledged and ended, one that is cancelled, one that is refused.
func TestCallsOverLoopback(t *testing.T) {
	for _, tr := range []transport{transportUDP, transportTCP} {
		for name, c := range map[string]struct {
			statuses []string
			methods  string
		}{
			"answered":  {[]string{"100 Trying", "180 Ringing", "200 OK"}, "INVITE ACK BYE"},
			"cancelled": {[]string{"180 Ringing"}, "INVITE CANCEL ACK"},
			"refused":   {[]string{"603 No"}, "INVITE ACK"},
		} {
			t.Run(string(tr)+" "+name, func(t *testing.T) {
				arrived := make(chan string, 16)
				answers := callee(c.statuses...)
				answer := func(request []byte) [][]byte {
					method, _, _ := strings.Cut(string(request), " ")
					arrived <- method
					return answers(request)
				}
				r := callRequest()
				if tr == transportUDP {
					r.NextHop = newUDPPeer(t, answer).uri()
				} else {
					server := newTCPPeer(t, func(request []byte) []byte { return bytes.Join(answer(request), nil) })
					r.NextHop = "sip:" + server.addr().String() + ";transport=tcp"
				}
				// A slow machine must not make it repeat itself.
				a := loopbackAdapter(t, Options{T1: 4 * time.Second})
				call, reports := follow(a, r)
				switch name {
				case "answered":
					expect(t, reports, 100, false)
					expect(t, reports, 180, false)
					ok := expect(t, reports, 200, false)
					ack := ackRequest()
					ack.NextHop, ack.RequestURI, ack.ToTag = r.NextHop, ok.Dialog.Target, ok.Dialog.RemoteTag
					a.Ack(ack)
					bye := *ack
					bye.Method, bye.CSeq, bye.ContentType, bye.Body = "BYE", 13, "", nil
					if o := await(t, send(a, &bye)); o.Response == nil || o.Response.Status != 200 {
						t.Errorf("outcome %+v", o)
					}
				case "cancelled":
					expect(t, reports, 180, false)
					call.Cancel()
					expect(t, reports, 487, true)
				case "refused":
					expect(t, reports, 603, true)
				}
				var methods []string
				for range strings.Fields(c.methods) {
					methods = append(methods, <-arrived)
				}
				if got := strings.Join(methods, " "); got != c.methods {
					t.Errorf("the callee got %s, want %s", got, c.methods)
				}
			})
		}
	}
}
