package actors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// The rules of a bridge, as scripts: what a leg is told, and the orders that
// follow. Each line is one of
//
//	taken INVITE 1 [body]     a request of the taken leg's peer
//	placed 183 tag [body]     a provisional response or 2xx on the placed leg
//	placed ended 486 reason   the leg is over
//	placed returns INVITE 7: 200 [body]
//	                          what became of a request that was passed on
//
// and the orders stand in order, joined by "; ".
type bridgeScript []struct{ event, want string }

func (s bridgeScript) run(t *testing.T, b bridge) {
	t.Helper()
	for _, line := range s {
		var orders []bridgeOrder
		before := fmt.Sprintf("%+v", b)
		next, orders := apply(t, b, line.event)
		again, twice := apply(t, b, line.event)
		if diff := cmp.Diff(render(orders)+fmt.Sprintf("%+v", next), render(twice)+fmt.Sprintf("%+v", again)); diff != "" {
			t.Errorf("%s: not a function: %s", line.event, diff)
		}
		if after := fmt.Sprintf("%+v", b); before != after {
			t.Errorf("%s: the bridge was changed in place", line.event)
		}
		if got := render(orders); got != line.want {
			t.Errorf("%s\n got %s\nwant %s", line.event, got, line.want)
		}
		b = next
	}
}

// apply reads one line of a script.
func apply(t *testing.T, b bridge, event string) (bridge, []bridgeOrder) {
	t.Helper()
	words := strings.Fields(event)
	leg := taken
	if words[0] == "placed" {
		leg = placed
	}
	event = strings.Join(words[1:], " ")
	body := ""
	if before, after, found := strings.Cut(event, "["); found {
		event, body = strings.TrimSpace(before), strings.TrimSuffix(after, "]")
	}
	info := messages.DialogInfo{
		Body: []byte(body), RemoteTag: "t", Allow: []string{"INVITE", "UPDATE"},
		Headers: []messages.Header{
			{Name: "subject", Value: "lunch"}, {Name: "X-Private", Value: "no"}, {Name: "Content-Disposition", Value: "session"},
		},
	}
	if body != "" {
		info.ContentType = "application/sdp"
	}
	var method, verb, reason, tag, flag string
	var cseq uint32
	var status int
	switch {
	case scan(event, "returns %s %d: busy", &method, &cseq):
		return b.returned(leg, passedOn{method, cseq, body == "late"}, passedResult{busy: true})
	case scan(event, "returns %s %d: nothing %s", &method, &cseq, &reason):
		return b.returned(leg, passedOn{method, cseq, false}, passedResult{reason: messages.Reason(reason)})
	case scan(event, "returns %s %d: %d late", &method, &cseq, &status), scan(event, "returns %s %d: %d %s", &method, &cseq, &status, &reason), scan(event, "returns %s %d: %d", &method, &cseq, &status):
		late := strings.HasSuffix(event, "late")
		return b.returned(leg, passedOn{method, cseq, late}, passedResult{
			response: &messages.SIPResponse{Status: status, RetryAfter: -1, Dialog: &info}, reason: messages.Reason(reason),
		})
	case scan(event, "ended %d %s %s", &status, &reason, &flag), scan(event, "ended %d %s", &status, &reason):
		n := SessionNotice{Kind: session.NoticeEnded, Status: status, Reason: messages.Reason(reason)}
		switch {
		case flag == "why":
			info.Headers = append(info.Headers, messages.Header{Name: "Reason", Value: "Q.850;cause=17"})
			n.Request = &messages.SIPInbound{Method: "BYE", Dialog: info}
		case flag == "later":
			n.Response = &messages.SIPResponse{Status: status, RetryAfter: 7 * time.Second, Dialog: &info}
		case status != 0:
			n.Response = &messages.SIPResponse{Status: status, RetryAfter: -1, Phrase: "Phrase", Dialog: &info}
		}
		return b.notified(leg, n)
	case scan(event, "ACK %d", &cseq):
		return b.notified(leg, SessionNotice{Kind: session.NoticeReceived, Request: &messages.SIPInbound{Method: "ACK", CSeq: cseq, Dialog: info}})
	case scan(event, "%d %s %s", &status, &tag, &flag), scan(event, "%d %s", &status, &tag):
		info.RemoteTag = tag
		if flag == "reliable" {
			info.RSeq = 1
		}
		if flag == "old" {
			info.Allow = nil
		}
		kind := session.NoticeProgress
		if status >= 200 {
			kind = session.NoticeEstablished
		}
		return b.notified(leg, SessionNotice{Kind: kind, Response: &messages.SIPResponse{Status: status, Dialog: &info}})
	case event == "established":
		return b.notified(leg, SessionNotice{Kind: session.NoticeEstablished})
	case scan(event, "not %d", &status):
		return b.notPlaced(status)
	case scan(event, "%s %d", &verb, &cseq):
		return b.notified(leg, SessionNotice{Kind: session.NoticeRequest, Request: &messages.SIPInbound{Method: verb, CSeq: cseq, Dialog: info}})
	}
	t.Fatalf("cannot read %q", event)
	return b, nil
}

func scan(text, format string, into ...any) bool {
	n, err := fmt.Sscanf(text, format, into...)
	return err == nil && n == len(into) && len(strings.Fields(text)) == len(strings.Fields(format))
}

func render(orders []bridgeOrder) string {
	var out []string
	for _, o := range orders {
		switch o := o.(type) {
		case placeOrder:
			out = append(out, "place"+renderRest(o.headers, o.contentType, o.body))
		case replyOrder:
			out = append(out, fmt.Sprintf("%v: %s %d %d%s", o.to, o.reply.Method, o.reply.CSeq, o.reply.Status,
				renderRest(o.reply.Headers, o.reply.ContentType, o.reply.Body)))
		case sendOrder:
			out = append(out, fmt.Sprintf("%v: %s%s", o.to, o.request.Method, renderRest(o.request.Headers, o.request.ContentType, o.request.Body)))
		case answerOrder:
			out = append(out, fmt.Sprintf("%v: ACK%s", o.to, renderRest(nil, o.contentType, o.body)))
		case endOrder:
			out = append(out, fmt.Sprintf("%v: end%s", o.to, renderRest(o.headers, "", nil)))
		}
	}
	return strings.Join(out, "; ")
}

func renderRest(headers []messages.Header, contentType string, body []byte) string {
	out := ""
	for _, h := range headers {
		out += " " + h.Name + ": " + h.Value
	}
	if len(body) > 0 {
		out += " [" + contentType + " " + string(body) + "]"
	}
	return out
}

// up is a bridge with a call on it.
func up(trunk side) bridge {
	b := newBridge(trunk, []string{"Subject"})
	for _, s := range []side{taken, placed} {
		b.legs[s].phase, b.legs[s].update = phaseUp, true
	}
	b.legs[taken].invite = 1
	return b
}

const (
	call    = "place subject: lunch Content-Disposition: session [application/sdp offer]"
	ringing = "taken: INVITE 1 180 subject: lunch"
	picked  = "taken: INVITE 1 200 subject: lunch Content-Disposition: session [application/sdp answer]"
)

func TestBridgeSetup(t *testing.T) {
	for name, s := range map[string]bridgeScript{
		"a call that is answered": {
			{"taken INVITE 1 [offer]", call},
			{"placed 180 a", ringing},
			{"placed 200 a [answer]", picked},
			{"taken established", ""},
			{"taken ACK 1", ""},
		},
		"progress with a body, forks and a 199 that the caller does not see": {
			{"taken INVITE 1 [offer]", call},
			{"placed 183 a [one]", "taken: INVITE 1 183 subject: lunch Content-Disposition: session [application/sdp one]"},
			{"placed 183 b [two]", "taken: INVITE 1 183 subject: lunch Content-Disposition: session [application/sdp two]"},
			{"placed 199 a", ""},
			{"placed 200 b [answer]", picked},
			{"placed 183 b [late]", ""},
		},
		"the answer in a reliable 183 stands in the 200, which the caller gets without": {
			{"taken INVITE 1 [offer]", call},
			{"placed 183 a reliable [one]", "taken: INVITE 1 183 subject: lunch Content-Disposition: session [application/sdp one]"},
			{"placed 183 b reliable [two]", "taken: INVITE 1 183 subject: lunch Content-Disposition: session [application/sdp two]"},
			{"placed 200 a", "taken: INVITE 1 200 subject: lunch Content-Disposition: session [application/sdp one]"},
		},
		"a late offer: the answer comes in the ACK": {
			{"taken INVITE 1", "place subject: lunch"},
			{"placed 200 a [offer]", "taken: INVITE 1 200 subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"taken ACK 1 [answer]", "placed: ACK [application/sdp answer]"},
			{"taken ACK 1 [answer]", ""},
		},
		"the caller gives up while it rings": {
			{"taken INVITE 1 [offer]", call},
			{"placed 180 a", ringing},
			{"taken ended 487 hangup.remote why", "placed: end Reason: Q.850;cause=17"},
			{"placed 200 a [answer]", ""},
			{"placed ended 0 hangup.local", ""},
		},
		"the caller gives up before anything came": {
			{"taken INVITE 1 [offer]", call},
			{"taken ended 487 hangup.remote", "placed: end Reason: SIP;cause=487"},
		},
		"the INVITE is refused before the bridge sees it": {
			{"taken ended 400 contact.missing", ""},
		},
		"the call cannot be placed": {
			{"taken INVITE 1 [offer]", call},
			{"placed not 503", "taken: INVITE 1 503"},
			{"taken ended 503 peer.declined", ""},
		},
		"the call cannot be placed, and the caller has gone": {
			{"taken INVITE 1 [offer]", call},
			{"taken ended 487 hangup.remote", "placed: end Reason: SIP;cause=487"},
			{"placed not 503", ""},
		},
		"requests that come too soon": {
			{"taken INVITE 1 [offer]", call},
			{"placed 180 a", ringing},
			{"placed UPDATE 9 [x]", "placed: UPDATE 9 500 Retry-After: 2"},
			{"taken UPDATE 2 [x]", "taken: UPDATE 2 500 Retry-After: 2"},
			{"taken INFO 3", "taken: INFO 3 500 Retry-After: 2"},
		},
	} {
		t.Run(name, func(t *testing.T) { s.run(t, newBridge(taken, []string{"s"})) })
	}
}

func TestBridgeFailures(t *testing.T) {
	for event, want := range map[string]string{
		"ended 486 peer.busy":                   "486 subject: lunch",
		"ended 404 peer.declined":               "404 subject: lunch",
		"ended 600 peer.busy":                   "600 subject: lunch",
		"ended 487 peer.no_answer":              "487 subject: lunch",
		"ended 503 registrar.unavailable":       "503 subject: lunch",
		"ended 503 registrar.unavailable later": "503 subject: lunch Retry-After: 7",
		"ended 488 peer.declined [why]":         "488 subject: lunch Content-Disposition: session [application/sdp why]",
		// A redirection is for who placed the call.
		"ended 302 redirect.refused": "480",
		// A challenge is never shown.
		"ended 401 credentials.refused":       "403",
		"ended 407 credentials.refused":       "403",
		"ended 407 challenge.allowance":       "403",
		"ended 407 credentials.missing":       "500",
		"ended 401 realm.unexpected":          "500",
		"ended 407 untrusted_target":          "500",
		"ended 407 authenticator.unavailable": "500",
		// What is agreed per leg says nothing to the caller.
		"ended 420 peer.declined":      "500",
		"ended 421 peer.declined":      "500",
		"ended 422 interval.too_brief": "500",
		"ended 494 peer.declined":      "500",
		// No response came.
		"ended 0 timeout":               "408",
		"ended 0 guard.expired":         "408",
		"ended 0 transport":             "503",
		"ended 0 target.unresolved":     "503",
		"ended 0 not_admitted":          "503",
		"ended 0 request.too_large":     "513",
		"ended 0 peer.no_answer":        "480",
		"ended 0 authenticator.refused": "500",
		// An operator ended the other leg.
		"ended 0 hangup.local":   "480",
		"ended 487 hangup.local": "480",
		"ended 487 hangup.after": "480",
	} {
		t.Run(event, func(t *testing.T) {
			bridgeScript{
				{"taken INVITE 1 [offer]", call},
				{"placed " + event, "taken: INVITE 1 " + want},
				{"taken ended 486 peer.declined", ""},
			}.run(t, newBridge(taken, []string{"Subject"}))
		})
	}
	t.Run("the trunk's peer challenges", func(t *testing.T) {
		bridgeScript{
			{"taken INVITE 1 [offer]", call},
			{"placed ended 407 untrusted_target", "taken: INVITE 1 403"},
		}.run(t, newBridge(placed, []string{"Subject"}))
	})
}

// TestBridgeInside: both directions are alike.
func TestBridgeInside(t *testing.T) {
	for name, s := range map[string]bridgeScript{
		"re-INVITE": {
			{"NEAR INVITE 5 [offer]", "FAR: INVITE subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"FAR returns INVITE 5: 200 [answer]", "NEAR: INVITE 5 200 subject: lunch Content-Disposition: session [application/sdp answer]"},
			{"NEAR ACK 5", ""},
		},
		"re-INVITE without an offer": {
			{"NEAR INVITE 5", "FAR: INVITE subject: lunch"},
			{"FAR returns INVITE 5: 200 late [offer]", "NEAR: INVITE 5 200 subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"FAR ACK 9 [wrong]", ""},
			{"NEAR ACK 5 [answer]", "FAR: ACK [application/sdp answer]"},
		},
		"re-INVITE that is refused": {
			{"NEAR INVITE 5 [offer]", "FAR: INVITE subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"FAR returns INVITE 5: 488", "NEAR: INVITE 5 488 subject: lunch"},
		},
		"glare": {
			{"NEAR INVITE 5 [offer]", "FAR: INVITE subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"FAR returns INVITE 5: busy", "NEAR: INVITE 5 491"},
			{"NEAR INVITE 6 [offer]", "FAR: INVITE subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"FAR returns INVITE 6: 491 glare", "NEAR: INVITE 6 491 subject: lunch"},
		},
		"UPDATE": {
			{"NEAR UPDATE 5 [offer]", "FAR: UPDATE subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"FAR returns UPDATE 5: 200 [answer]", "NEAR: UPDATE 5 200 subject: lunch Content-Disposition: session [application/sdp answer]"},
			{"NEAR UPDATE 6 [offer]", "FAR: UPDATE subject: lunch Content-Disposition: session [application/sdp offer]"},
			{"FAR returns UPDATE 6: busy", "NEAR: UPDATE 6 491"},
		},
		"INFO and MESSAGE": {
			{"NEAR INFO 5 [dtmf]", "FAR: INFO subject: lunch Content-Disposition: session [application/sdp dtmf]"},
			{"FAR returns INFO 5: 200", "NEAR: INFO 5 200 subject: lunch"},
			{"NEAR MESSAGE 6 [hello]", "FAR: MESSAGE subject: lunch Content-Disposition: session [application/sdp hello]"},
			{"FAR returns MESSAGE 6: 202", "NEAR: MESSAGE 6 202 subject: lunch"},
			{"NEAR INFO 7", "FAR: INFO subject: lunch"},
			{"FAR returns INFO 7: busy", "NEAR: INFO 7 500 Retry-After: 2"},
		},
		"what does not cross": {
			{"NEAR REFER 5", "NEAR: REFER 5 603"},
			{"NEAR NOTIFY 6", "NEAR: NOTIFY 6 481"},
		},
		"responses that are translated": {
			{"FAR returns INVITE 5: 407 credentials.refused", "NEAR: INVITE 5 403"},
			{"FAR returns INVITE 5: 302", "NEAR: INVITE 5 500"},
			{"FAR returns INVITE 5: 422 interval.too_brief", "NEAR: INVITE 5 500"},
			{"FAR returns INVITE 5: nothing timeout", "NEAR: INVITE 5 408"},
			{"FAR returns INFO 5: nothing timeout", "NEAR: INFO 5 504"},
			{"FAR returns INFO 5: 408", "NEAR: INFO 5 504"},
			{"FAR returns INFO 5: nothing transport", "NEAR: INFO 5 503"},
			{"FAR returns INFO 5: 481 dialog.gone", "NEAR: INFO 5 481 subject: lunch"},
		},
		"BYE": {
			{"NEAR ended 0 hangup.remote", "FAR: end"},
			{"FAR INFO 5", ""},
			{"FAR returns INVITE 5: 200 [answer]", ""},
			{"FAR ended 200 hangup.local", ""},
		},
		"BYE with a reason":   {{"NEAR ended 0 hangup.remote why", "FAR: end Reason: Q.850;cause=17"}},
		"the peer is lost":    {{"NEAR ended 481 dialog.gone", "FAR: end Reason: SIP;cause=481"}},
		"the session expired": {{"NEAR ended 0 session.expired", "FAR: end"}},
		// A challenge is never shown, not even as a cause.
		"a challenge": {{"NEAR ended 407 credentials.refused", "FAR: end"}},
	} {
		for _, near := range []side{taken, placed} {
			t.Run(fmt.Sprintf("%s of the %v leg", name, near), func(t *testing.T) {
				turned := bridgeScript{}
				names := strings.NewReplacer("NEAR", near.String(), "FAR", near.other().String())
				for _, line := range s {
					turned = append(turned, struct{ event, want string }{names.Replace(line.event), names.Replace(line.want)})
				}
				turned.run(t, up(taken))
			})
		}
	}
}

// TestBridgeTurnsUpdateIntoReinvite: a peer that does not list UPDATE gets the offer
// in a re-INVITE; a 405 would cost the call (RFC 5057 §5.1).
func TestBridgeTurnsUpdateIntoReinvite(t *testing.T) {
	bridgeScript{
		{"taken INVITE 1 [offer]", call},
		{"placed 200 a old [answer]", picked},
		{"taken UPDATE 2 [offer]", "placed: INVITE subject: lunch Content-Disposition: session [application/sdp offer]"},
		{"placed returns UPDATE 2: 200 [answer]", "taken: UPDATE 2 200 subject: lunch Content-Disposition: session [application/sdp answer]"},
		{"placed UPDATE 9 [offer]", "taken: UPDATE subject: lunch Content-Disposition: session [application/sdp offer]"},
	}.run(t, newBridge(taken, []string{"Subject"}))
}

func TestBridgePassesInfoPackages(t *testing.T) {
	info := messages.DialogInfo{Headers: []messages.Header{{Name: "Info-Package", Value: "dtmf"}, {Name: "Recv-Info", Value: "dtmf"}}}
	for method, want := range map[string]string{"INFO": " Info-Package: dtmf Recv-Info: dtmf", "INVITE": " Recv-Info: dtmf"} {
		if got := renderRest(up(taken).passing(method, info), "", nil); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
}

// TestBridgeWalks: whatever the legs say in whatever order, the first INVITE gets
// one final response, no leg is told anything after its end, and no leg is left
// alone.
func TestBridgeWalks(t *testing.T) {
	events := []string{
		"INVITE 1 [offer]", "INVITE 2 [offer]", "UPDATE 3 [x]", "INFO 4", "REFER 5", "180 a", "183 a reliable [early]", "200 a [answer]",
		"200 b", "established", "ACK 1 [answer]", "ended 0 hangup.remote", "ended 486 peer.busy", "ended 407 credentials.refused",
		"not 503", "returns INVITE 2: 200 late [offer]", "returns INFO 4: busy", "returns INFO 4: nothing timeout",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		b := newBridge(side(random.IntN(2)), []string{"Subject"})
		var story []string
		var over, told, heard [2]bool
		finals, invite, open := 0, uint32(0), map[string]bool{}
		for range 1 + random.IntN(12) {
			leg := side(random.IntN(2))
			event := events[random.IntN(len(events))]
			line := leg.String() + " " + event
			returns, _, _ := strings.Cut(line, ":")
			switch {
			case strings.Contains(event, "returns"):
				if !open[returns] {
					continue // nothing was passed on
				}
				delete(open, returns)
			case over[leg], leg == placed && (!heard[placed] || event == "established"), slices.Contains(story, line):
				continue // it is not there, or has said that
			case strings.HasPrefix(event, "ended"):
				over[leg] = true
			}
			story = append(story, line)
			var orders []bridgeOrder
			b, orders = apply(t, b, leg.String()+" "+event)
			heard[leg] = true
			for _, o := range orders {
				to, ends := taken, false
				switch o := o.(type) {
				case placeOrder:
					to, heard[placed], invite = placed, true, b.legs[taken].invite
				case replyOrder:
					to = o.to
					if to == taken && o.reply.Method == "INVITE" && o.reply.CSeq == invite && o.reply.Status >= 200 {
						finals++
						ends = o.reply.Status >= 300
					}
				case sendOrder:
					to = o.to
					open[fmt.Sprintf("%v returns %s %d", o.to, o.from.method, o.from.cseq)] = true
				case answerOrder:
					to = o.to
				case endOrder:
					to, ends = o.to, true
				}
				if told[to] || over[to] && to != leg {
					t.Fatalf("%v: told after its end: %s", story, render(orders))
				}
				told[to] = told[to] || ends
			}
		}
		if finals > 1 {
			t.Fatalf("%v: %d final responses", story, finals)
		}
		for _, s := range []side{taken, placed} {
			alive := b.legs[s].phase == phaseSetup || b.legs[s].phase == phaseUp
			if over[s.other()] && heard[s] && alive && !over[s] {
				t.Fatalf("%v: the %v leg is left alone", story, s)
			}
		}
	}
}

// TestBridgePassingIsBounded: a peer cannot make a request of ours too large.
func TestBridgePassingIsBounded(t *testing.T) {
	info := messages.DialogInfo{Headers: []messages.Header{{Name: "Subject", Value: strings.Repeat("x", maxPassedSize)}}}
	for range 64 {
		info.Headers = append(info.Headers, messages.Header{Name: "s", Value: "short"})
	}
	if got := up(taken).passing("INVITE", info); len(got) != maxPassed || got[0].Value != "short" {
		t.Errorf("%d headers pass", len(got))
	}
}
