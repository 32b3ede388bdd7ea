package muster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// newRegistrar serves until the test ends. Every user has the password "pw-"
// and its name, unless the options say otherwise.
func newRegistrar(t *testing.T, o siptest.Options) *siptest.Registrar {
	t.Helper()
	if o.Password == nil {
		o.Password = func(user string) (string, bool) { return "pw-" + user, true }
	}
	r, err := siptest.NewRegistrar(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// wantInvariants checks what the registrar has seen of the node.
func wantInvariants(t *testing.T, r *siptest.Registrar) {
	t.Helper()
	for _, err := range r.CheckInvariants() {
		t.Error(err)
	}
}

// target is the configuration of the registrar "r", without a pace.
func target(r *siptest.Registrar) actors.Registrar {
	return actors.Registrar{Name: "r", URI: "sip:" + r.Addr(), Rate: -1}
}

// rows declares profiles at the registrar "r".
func rows(ids ...string) []actors.Declaration {
	var ds []actors.Declaration
	for _, id := range ids {
		ds = append(ds, actors.Declaration{ID: id, AOR: aorOf(id), Registrar: "r", Password: messages.NewSecret("pw-" + id)})
	}
	return ds
}

func aorOf(id string) string { return "sip:" + id + "@example.test" }

// userOf is the user part of an address-of-record.
func userOf(aor string) string {
	user, _, _ := strings.Cut(strings.TrimPrefix(aor, "sip:"), "@")
	return user
}

// numbered is p0, p1 and so on.
func numbered(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("p%d", i)
	}
	return ids
}

// startNode starts a node and stops it when the test ends. Unless the options
// say so, the stop does not wait for what a silent registrar owes.
func startNode(t *testing.T, o muster.Options) *muster.Node {
	t.Helper()
	if o.StopLimit == 0 {
		o.StopLimit = 5 * time.Second
	}
	if o.DataDir == "" {
		o.DataDir = t.TempDir() + "/data"
	}
	node, err := muster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Stop(context.Background()) })
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return node
}

// stopNode stops a node before its test ends.
func stopNode(t *testing.T, node *muster.Node) {
	t.Helper()
	if err := node.Stop(context.Background()); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

// eventually polls until ok. The limit is far beyond what is expected, so that
// a busy machine fails no test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const limit, pause = time.Minute, 20 * time.Millisecond
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen within %v: %s", limit, what)
		}
	}
}

// view is a profile as the API shows it.
func view(t *testing.T, node *muster.Node, id string) actors.ProfileView {
	t.Helper()
	v, err := node.Profile(t.Context(), id)
	if err != nil {
		t.Fatalf("profile %s: %v", id, err)
	}
	return v
}

// waitState waits until all profiles are in the state.
func waitState(t *testing.T, node *muster.Node, state string, ids ...string) {
	t.Helper()
	waiting := ""
	defer func() {
		if waiting != "" { // it did not happen
			t.Logf("%s:\n%s", waiting, story(t, node, waiting))
		}
	}()
	for _, waiting = range ids {
		eventually(t, waiting+" becomes "+state, func() bool { return view(t, node, waiting).State == state })
	}
	waiting = ""
}

// story is the history of a profile as text, oldest event first.
func story(t *testing.T, node *muster.Node, id string) string {
	t.Helper()
	entries, err := node.History(t.Context(), id, 0, 1000)
	if err != nil {
		t.Fatalf("history of %s: %v", id, err)
	}
	var lines []string
	for _, e := range slices.Backward(entries) {
		lines = append(lines, e.Text)
	}
	return strings.Join(lines, "\n")
}

// seenOf are the requests of one profile, without retransmissions.
func seenOf(r *siptest.Registrar, id string) []siptest.Seen {
	var seen []siptest.Seen
	for _, s := range r.Requests() {
		if userOf(s.AOR) == id && s.Retransmission == 0 {
			seen = append(seen, s)
		}
	}
	return seen
}

// contactOf is the Contact of a request without parameters, in brackets.
func contactOf(req *siptest.Request) string {
	h := req.Message.GetHeader("Contact")
	if h == nil {
		return ""
	}
	contact, _, _ := strings.Cut(h.Value(), ">")
	return contact + ">"
}
