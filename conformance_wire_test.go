package muster_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// wire keeps every request as it arrived.
type wire struct {
	mu       sync.Mutex
	requests []*siptest.Request
}

func (w *wire) add(req *siptest.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if req.Retransmission == 0 {
		w.requests = append(w.requests, req)
	}
}

// of are the requests of one profile, or of all when id is empty.
func (w *wire) of(id string) []*siptest.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.requests), func(req *siptest.Request) bool {
		return id != "" && userOf(req.AOR) != id
	})
}

// headers are the values of a request's header lines by name.
func headers(req *siptest.Request) map[string][]string {
	values := map[string][]string{}
	for _, h := range req.Message.Headers() {
		values[h.Name()] = append(values[h.Name()], h.Value())
	}
	return values
}

// TestWholeLifeOnTheWire watches some profiles from their first REGISTER to
// their removal, and holds what is true of every request:
//
//   - GEN-02: To has no tag, although that of the 401 before had one.
//   - GEN-03: no two profiles share a From tag, and a tag has room for 32 bits.
//   - GEN-09: only registered option tags of standards-track RFCs are named.
//   - REG-09: nobody sends Contact "*", not even to remove a binding.
//   - REG-19: a REGISTER names one contact, its sender's, so that it touches
//     no binding of others.
//   - REG-21: a Date from another century changes no expiry.
//   - CHA-05: the retry after a challenge differs by branch, CSeq and
//     credentials and by nothing else.
//   - CHA-30: the domain parameter of a challenge sends nothing elsewhere.
func TestWholeLifeOnTheWire(t *testing.T) {
	elsewhere, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()

	var seen wire
	var registrar *siptest.Registrar
	registrar = newRegistrar(t, siptest.Options{
		Authenticate: true,
		Headers:      []string{"Date: Sat, 13 Nov 1999 23:29:00 GMT"},
		Behaviour: func(req *siptest.Request) *siptest.Reply {
			seen.add(req)
			if req.HadCredentials {
				return nil
			}
			challenge := registrar.Challenge("MD5", false) + fmt.Sprintf(`, domain="sip:%s"`, elsewhere.LocalAddr())
			return &siptest.Reply{Status: 401, Headers: []string{"WWW-Authenticate: " + challenge}}
		},
	})
	ids := numbered(20)
	node := startNode(t, muster.Options{Desired: muster.Desired{
		Registrars: []actors.Registrar{target(registrar)},
		Profiles:   rows(ids...),
	}})
	waitState(t, node, actors.StateRegistered, ids...)
	for _, id := range ids {
		if left := time.Until(*view(t, node, id).ExpiresAt); left < 50*time.Minute || left > time.Hour {
			t.Errorf("%s has %v left of its hour: was the Date header believed?", id, left)
		}
		if err := node.RemoveProfile(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "every binding is removed", func() bool { return registrar.Snapshot().Bindings == 0 })

	tags := map[string]string{}
	for _, req := range seen.of("") {
		checkRequest(t, req)
		_, tag, _ := strings.Cut(headers(req)["From"][0], ";tag=")
		id := userOf(req.AOR)
		if other, taken := tags[tag]; taken && other != id {
			t.Errorf("%s and %s share the From tag %q", id, other, tag)
		}
		tags[tag] = id
		if len(tag) < 6 { // 32 bits in base 64
			t.Errorf("the From tag %q has no room for 32 bits", tag)
		}
	}
	if len(tags) != len(ids) {
		t.Errorf("%d profiles have used %d From tags", len(ids), len(tags))
	}
	for _, id := range ids {
		requests := seen.of(id)
		if len(requests) < 3 {
			t.Fatalf("%s sent %d requests, want a registration, its retry and a removal", id, len(requests))
		}
		if diff := cmp.Diff(lasting(requests[0]), lasting(requests[1])); diff != "" {
			t.Errorf("%s: the retry changed more than it may (-first +retry):\n%s", id, diff)
		}
	}

	if err := elsewhere.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := elsewhere.ReadFrom(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes went where the domain parameter pointed", n)
	}
}

// checkRequest holds what is true of every request by itself.
func checkRequest(t *testing.T, req *siptest.Request) {
	t.Helper()
	// IANA's registry of option tags, as far as we may ever name them.
	known := []string{"path", "outbound", "gruu", "timer", "100rel", "replaces", "norefersub", "sec-agree"}
	h := headers(req)
	for _, name := range []string{"Supported", "Require", "Proxy-Require"} {
		for _, value := range h[name] {
			for tag := range strings.SplitSeq(value, ",") {
				if !slices.Contains(known, strings.TrimSpace(tag)) {
					t.Errorf("%s names the option tag %q", name, tag)
				}
			}
		}
	}
	for _, to := range h["To"] {
		if strings.Contains(to, ";tag=") {
			t.Errorf("a request outside a dialog has To %q", to)
		}
	}
	contacts := h["Contact"]
	if len(contacts) != 1 || !strings.Contains(contacts[0], "@"+req.Source+">") {
		t.Errorf("a request from %s has the contacts %q, want its own and no other", req.Source, contacts)
	}
}

// lasting is what must not differ between a request and its retry.
func lasting(req *siptest.Request) map[string][]string {
	h := headers(req)
	h["Request-Line"] = []string{req.Method + " " + req.URI}
	h["Body"] = []string{string(req.Message.Body())}
	if before, after, ok := strings.Cut(h["Via"][0], "branch="); ok {
		_, rest, _ := strings.Cut(after, ";")
		h["Via"] = []string{before + rest}
	}
	delete(h, "CSeq")
	delete(h, "Authorization")
	return h
}
