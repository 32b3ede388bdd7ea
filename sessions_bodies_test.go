package muster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
	"github.com/sipmuster/muster/store"
)

// markerMedia is a media key in a session description (RFC 4568).
const markerMedia = "canary-of-a-media-key-5d0b"

const offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n" +
	"m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + markerMedia + "\r\n"

// builtNode is a node that is not started: its store is open.
func builtNode(t *testing.T, dir string, profiles ...actors.Declaration) *muster.Node {
	t.Helper()
	node, err := muster.New(muster.Options{DataDir: dir, Desired: muster.Desired{
		Registrars: []actors.Registrar{{Name: "r", URI: "sip:127.0.0.1:9"}}, Profiles: profiles,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBuilt(t, node) })
	return node
}

func stopBuilt(t *testing.T, node *muster.Node) {
	t.Helper()
	if err := node.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func keep(t *testing.T, node *muster.Node, session, contentType, body string) {
	t.Helper()
	if err := muster.Bodies(node).KeepBody(session, contentType, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

func wantBody(t *testing.T, node *muster.Node, session, contentType, body string) {
	t.Helper()
	gotType, got, ok := muster.Bodies(node).Body(session)
	if !ok || gotType != contentType || string(got) != body {
		t.Errorf("the body of %s is %q %q, %v; want %q %q", session, gotType, got, ok, contentType, body)
	}
}

func wantNoBody(t *testing.T, node *muster.Node, session string) {
	t.Helper()
	if contentType, body, ok := muster.Bodies(node).Body(session); ok || contentType != "" || body != nil {
		t.Errorf("session %s has the body %q %q, want none", session, contentType, body)
	}
}

func sealedIDs(t *testing.T, node *muster.Node) []string {
	t.Helper()
	ids, err := muster.SealedIDs(node)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestBodiesOutliveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	node := builtNode(t, dir)
	wantNoBody(t, node, "a")
	keep(t, node, "a", "application/sdp", "the first offer")
	keep(t, node, "a", "application/sdp", offer)
	keep(t, node, "b", "", "")
	keep(t, node, "c", "multipart/mixed;boundary=x", "\x00\x01\xff binary")
	keep(t, node, "gone", "application/sdp", offer)
	muster.Bodies(node).ForgetBody("gone")
	for range 2 {
		wantBody(t, node, "a", "application/sdp", offer)
		wantBody(t, node, "b", "", "")
		wantBody(t, node, "c", "multipart/mixed;boundary=x", "\x00\x01\xff binary")
		wantNoBody(t, node, "gone")
		stopBuilt(t, node)
		node = builtNode(t, dir)
	}
	for _, session := range []string{"a", "b", "c", "gone", "never there"} {
		muster.Bodies(node).ForgetBody(session)
		wantNoBody(t, node, session)
	}
	if ids := sealedIDs(t, node); len(ids) != 0 {
		t.Errorf("still sealed: %q", ids)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	node := builtNode(t, t.TempDir()+"/data")
	most := strings.Repeat("x", 64<<10-100)
	keep(t, node, "a", "application/sdp", most)
	for what, parts := range map[string][2]string{
		"a large body": {"application/sdp", most + strings.Repeat("x", 100)}, "a large type": {most + strings.Repeat("x", 100), ""},
	} {
		err := muster.Bodies(node).KeepBody("a", parts[0], []byte(parts[1]))
		if err == nil || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%s: %v, want a short error", what, err)
		}
	}
	wantBody(t, node, "a", "application/sdp", most)
}

// TestBodiesMeetNoOtherSecret: whatever a profile or an xSP is called, its
// secrets are apart.
func TestBodiesMeetNoOtherSecret(t *testing.T) {
	t.Parallel()
	registrar := newRegistrar(t, siptest.Options{})
	dir := t.TempDir() + "/data"
	node := startNode(t, muster.Options{
		DataDir: dir, Admin: muster.Admin{Listen: "127.0.0.1:0"},
		Desired: muster.Desired{Registrars: []actors.Registrar{target(registrar)}},
	})
	for i, id := range []string{"body", "b/a", "xsp"} {
		row := fmt.Sprintf(`{"id":%q,"aor":"sip:%d@example.test","registrar":"r","password":"of a profile"}`, id, i)
		if status, answer := call(t, "POST", "http://"+node.AdminAddr()+"/api/v1/profiles", "application/json", row); status >= 300 {
			t.Fatalf("profile %q: %d %s", id, status, answer)
		}
	}
	before := sealedIDs(t, node)
	for _, session := range []string{"body", "b/a", "xsp", "\x01xsp\x01", ""} {
		keep(t, node, session, "application/sdp", "of session "+session)
	}
	if ids := sealedIDs(t, node); len(before) != 3 || len(ids) != len(before)+5 {
		t.Errorf("sealed are %q, before the bodies %q", ids, before)
	}
	stopNode(t, node)

	node = builtNode(t, dir)
	for _, session := range []string{"body", "b/a", "xsp", "\x01xsp\x01", ""} {
		wantBody(t, node, session, "application/sdp", "of session "+session)
		muster.Bodies(node).ForgetBody(session)
	}
	if ids := sealedIDs(t, node); !slices.Equal(ids, before) {
		t.Errorf("sealed are %q, want %q as before the bodies", ids, before)
	}
}

func TestOrphanBodiesAreDroppedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	node := builtNode(t, dir)
	for _, session := range []string{"up", "over", "lost"} {
		keep(t, node, session, "application/sdp", offer)
	}
	// One that begins before a start knows who is alive is not of an earlier
	// process.
	muster.DropOrphanBodies(node, func(string) bool { return false })
	wantBody(t, node, "up", "application/sdp", offer)
	stopBuilt(t, node)

	node = builtNode(t, dir)
	keep(t, node, "new", "application/sdp", offer)
	var asked []string
	muster.DropOrphanBodies(node, func(session string) bool {
		asked = append(asked, session)
		return session == "up"
	})
	slices.Sort(asked)
	if !slices.Equal(asked, []string{"lost", "over", "up"}) {
		t.Errorf("asked about %q", asked)
	}
	wantBody(t, node, "up", "application/sdp", offer)
	wantBody(t, node, "new", "application/sdp", offer)
	wantNoBody(t, node, "over")
	wantNoBody(t, node, "lost")
	if ids := sealedIDs(t, node); len(ids) != 2 {
		t.Errorf("sealed are %q, want two", ids)
	}
}

func TestAnUnreadableBodyIsNone(t *testing.T) {
	t.Parallel()
	node := builtNode(t, t.TempDir()+"/data")
	for session, plain := range map[string]string{
		"empty": "", "of a later format": "\x02\x00x", "without a length": "\x01", "half a length": "\x01\xff",
		"too long": "\x01\x05abc", "far too long": "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x",
	} {
		if err := muster.SealBody(node, session, []byte(plain)); err != nil {
			t.Fatal(err)
		}
		wantNoBody(t, node, session)
	}
}

// TestNoBodyIsShown: a media key is nowhere in clear: not in the journal, its
// dump or a backup, not in the log (S-60, S-62).
func TestNoBodyIsShown(t *testing.T) {
	t.Parallel()
	var found sources
	var log logbook
	dir := t.TempDir() + "/data"
	node, err := muster.New(muster.Options{DataDir: dir, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	j := muster.JournalOf(node)
	err = j.AppendSession(t.Context(), "s/up", 0, time.Now(),
		messages.NewSessionEvent(&messages.SessionStarted{Spec: &messages.SessionSpec{Profile: "alice", ContentType: "application/sdp"}, LocalTag: "up", Body: true}))
	if err != nil {
		t.Fatal(err)
	}
	keep(t, node, "up", "application/sdp", offer)
	keep(t, node, "over", "application/sdp", offer)
	muster.Bodies(node).ForgetBody("over")
	if err := muster.Bodies(node).KeepBody("large", "application/sdp", bytes.Repeat([]byte(offer), 500)); err == nil {
		t.Error("a large body was kept")
	} else {
		found.add("error", []byte(err.Error()))
	}
	if err := muster.SealBody(node, "bad", []byte("\x09"+offer)); err != nil {
		t.Fatal(err)
	}
	wantNoBody(t, node, "bad") // which is logged
	var backup bytes.Buffer
	if err := node.Backup(&backup); err != nil {
		t.Fatal(err)
	}
	found.add("backup", backup.Bytes())
	stopBuilt(t, node)
	file := dir + "/journal.db"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found.add("journal.db", content)
	var dump bytes.Buffer
	if err := store.Dump(file, &dump, nil); err != nil {
		t.Fatal(err)
	}
	found.add("dump", dump.Bytes())
	found.add("log", log.bytes())
	found.search(t, needles{
		"a media key": markerMedia, "the password of a file": markerFile, "another line of the offer": "m=audio 4000 RTP/SAVP",
	}, map[string]string{
		"journal.db": "s/up", "backup": "s/up", "dump": `"session":{"started":`, "error": "want at most", "log": "unknown format",
	})
}

// TestAppendSessionThroughTheNode: the node's journal has sessions beside
// profiles, folds each with its own core, says conflicts in the words of the
// actors, and drops the snapshot of a session that is over.
func TestAppendSessionThroughTheNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	node := builtNode(t, dir)
	j := muster.JournalOf(node)
	started := messages.NewSessionEvent(&messages.SessionStarted{Spec: &messages.SessionSpec{Profile: "alice", Registrar: "r"}, CallId: "c"})
	ended := messages.NewSessionEvent(&messages.SessionEnded{Reason: string(messages.ReasonHangup)})
	added := messages.NewProfileEvent(&messages.ProfileAdded{Spec: &messages.ProfileSpec{Aor: "sip:alice@example.test", Registrar: "r"}, Source: "api"})
	appended := make(chan error, 1)
	j.AppendThen("p/alice", 0, time.Now(), []*messages.ProfileEvent{added}, func(err error) { appended <- err })
	for _, err := range []error{
		<-appended,
		j.AppendSession(t.Context(), "s/up", 0, time.Now(), started),
		j.AppendSession(t.Context(), "s/over", 0, time.Now(), started, ended),
		muster.Checkpoint(node),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.AppendSession(t.Context(), "s/up", 0, time.Now(), started); !errors.Is(err, actors.ErrConflict) {
		t.Errorf("a second beginning: %v, want ErrConflict", err)
	}
	for stream, want := range map[string]struct {
		state   bool
		version uint64
		history int
	}{"p/alice": {true, 1, 1}, "s/up": {true, 1, 1}, "s/over": {false, 2, 2}} {
		state, version, events, err := j.Load(t.Context(), stream)
		if err != nil || (state != nil) != want.state || version != want.version || len(events) != 0 {
			t.Errorf("Load(%s) = %x, %d, %v, %v; want %+v", stream, state, version, events, err, want)
		}
		n := 0
		err = j.History(t.Context(), stream, 0, func(*messages.Envelope) bool { n++; return true })
		if err != nil || n != want.history {
			t.Errorf("History(%s) has %d events, %v; want %d", stream, n, err, want.history)
		}
	}
	stopBuilt(t, node)
	if err := j.AppendSession(t.Context(), "s/up", 1, time.Now(), ended); !errors.Is(err, actors.ErrStoreFailed) {
		t.Errorf("append to a closed store: %v, want ErrStoreFailed", err)
	}
}
