package sipadapter

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sipmuster/muster/messages"
)

// callRequest is a plain INVITE to the test peer.
func callRequest() *messages.SIPRequest {
	return &messages.SIPRequest{
		NextHop:     "sip:" + peerAddr.String(),
		Method:      "INVITE",
		RequestURI:  "sip:bob@example.test",
		From:        "sip:alice@example.test",
		FromTag:     "f1",
		To:          "sip:bob@example.test",
		CallID:      "call-1",
		CSeq:        12,
		ContactUser: "alice",
		Expires:     -1,
		ContentType: "application/sdp",
		Body:        []byte("v=0\r\n"),
	}
}

// witness keeps the reports of one invitation, and notes a report that comes
// while another is made or after the last one.
type witness struct {
	t    testing.TB
	call messages.Invitation
	busy atomic.Int32
	// seen is called with each report, inside the report, when not nil.
	seen func(messages.InviteReport)

	mu      sync.Mutex
	reports []messages.InviteReport
}

// place starts an invitation.
func place(t testing.TB, a *Adapter, r *messages.SIPRequest) *witness {
	w := &witness{t: t}
	w.call = a.Invite(r, w.take)
	return w
}

func (w *witness) take(r messages.InviteReport) {
	if w.busy.Add(1) != 1 {
		w.t.Error("two reports at the same time")
	}
	defer w.busy.Add(-1)
	w.mu.Lock()
	if n := len(w.reports); n > 0 && w.reports[n-1].Last {
		w.t.Errorf("a report after the last one: %+v", r)
	}
	w.reports = append(w.reports, r)
	w.mu.Unlock()
	if w.seen != nil {
		w.seen(r)
	}
}

func (w *witness) all() []messages.InviteReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]messages.InviteReport(nil), w.reports...)
}

// text is what was reported: statuses and failures, with a "." behind the last
// one.
func (w *witness) text() string {
	var out []string
	for _, r := range w.all() {
		text := string(r.Failure)
		if r.Response != nil {
			text = fmt.Sprint(r.Response.Status)
		}
		if (r.Response == nil) != (r.Failure != "") {
			w.t.Errorf("neither a response nor a failure: %+v", r)
		}
		if r.Response != nil && r.Response.Dialog == nil {
			w.t.Errorf("no dialog in %+v", r.Response)
		}
		if r.Last {
			text += "."
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// want compares what was reported so far.
func (w *witness) want(text string) {
	w.t.Helper()
	if got := w.text(); got != text {
		w.t.Errorf("reported %q, want %q", got, text)
	}
}

// only are the packets of one method.
func only(method string, packets []datagram) []datagram {
	var out []datagram
	for _, p := range packets {
		if strings.HasPrefix(string(p.data), method+" ") {
			out = append(out, p)
		}
	}
	return out
}

// sent are the packets of one method that the adapter sent on a memConn.
func (c *memConn) requests(method string) []datagram { return only(method, c.packets()) }

// methodsOf are the methods of packets in order.
func methodsOf(packets []datagram) string {
	var out []string
	for _, p := range packets {
		method, _, _ := strings.Cut(string(p.data), " ")
		out = append(out, method)
	}
	return strings.Join(out, " ")
}

// answered gives the To tag to an answer that it would have from the callee.
func answered(request []byte, status, tag string, extra ...string) []byte {
	return replaceAll(answerTo(request, status, extra...), ";tag=t1", ";tag="+tag)
}

func branchOf(t testing.TB, packet []byte) string {
	t.Helper()
	branch, _ := parameter(headerLine(t, packet, "Via"), "branch")
	return branch
}
