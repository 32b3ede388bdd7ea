package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sipmuster/muster/store"
)

func testCheckpoint(t *testing.T, j Journal, kind string) {
	for i := range uint64(30) {
		mustAppend(t, j, fmt.Sprint(kind, i), 0, i, i+1)
	}
	before := LoadStream(t, j, kind+"7")
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	state, version, events, err := j.Load(t.Context(), kind+"7")
	if err != nil || len(events) != 0 {
		t.Fatalf("Load after a checkpoint gives %d events, %v", len(events), err)
	}
	want(t, "snapshot", Stream{Version: version, State: state}, before)

	mustAppend(t, j, kind+"7", 2, 50)
	_, version, events, _ = j.Load(t.Context(), kind+"7")
	want(t, "version of the snapshot", version, 2)
	want(t, "events after it", numbers(events), []uint64{50})

	r := NewReplayed()
	if err := j.Replay(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want(t, "snapshots and events", []int{r.Snapshots, r.Events}, []int{30, 1})
	want(t, "replayed", r.Streams[kind+"7"], LoadStream(t, j, kind+"7"))
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "second checkpoint", LoadStream(t, j, kind+"7"), r.Streams[kind+"7"])
}

func testEnd(t *testing.T, j Journal, kind string) {
	mustAppend(t, j, kind+"alice", 0, 1, End)
	mustAppend(t, j, kind+"bob", 0, 1)
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	state, version, events, err := j.Load(t.Context(), kind+"alice")
	if state != nil || version != 2 || len(events) != 0 || err != nil {
		t.Fatalf("Load of a stream that ended = %q, %d, %v, %v", state, version, events, err)
	}
	r := NewReplayed()
	if err := j.Replay(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Streams[kind+"alice"]; ok || r.Snapshots != 1 {
		t.Fatalf("a stream that ended was replayed: %v", r.Streams)
	}
	mustAppend(t, j, kind+"alice", 2, 10)
	want(t, "new beginning", LoadStream(t, j, kind+"alice").Version, 3)
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "new beginning, folded", LoadStream(t, j, kind+"alice").Version, 3)
}

func testSecrets(t *testing.T, j Journal) {
	put := func(id, secret string) {
		t.Helper()
		if err := j.PutSecret(t.Context(), id, []byte(secret)); err != nil {
			t.Fatal(err)
		}
	}
	get := func(id string) string {
		t.Helper()
		secret, err := j.Secret(id)
		if err != nil {
			t.Fatal(err)
		}
		return string(secret)
	}
	put("alice", "wonderland")
	put("bob", "")
	put("alice", "looking glass")
	want(t, "secrets", []string{get("alice"), get("bob")}, []string{"looking glass", ""})
	if err := j.PutSecrets(t.Context(), map[string][]byte{"carol": []byte("c"), "dave": []byte("d")}); err != nil {
		t.Fatal(err)
	}
	if err := j.DeleteSecret(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	if err := j.DeleteSecret(t.Context(), "nobody"); err != nil {
		t.Fatal(err)
	}
	put("eve", "e")
	put("mallory", "m")
	if err := j.DeleteSecrets(t.Context(), "mallory", "nobody", "eve"); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Secret("bob"); !errors.Is(err, store.ErrNoSecret) {
		t.Fatalf("a deleted secret: %v, want ErrNoSecret", err)
	}
	if err := j.PutSecret(t.Context(), "", []byte("x")); err == nil {
		t.Error("a secret without an id was taken")
	}
	if err := j.DeleteSecrets(t.Context(), "alice", ""); err == nil {
		t.Error("a secret without an id was deleted")
	}
	var all []string
	err := j.EachSecret(t.Context(), func(id string, secret []byte) error {
		all = append(all, id+"="+string(secret))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "all", all, []string{"alice=looking glass", "carol=c", "dave=d"})
}
