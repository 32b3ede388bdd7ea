package profile_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/sipmuster/muster/actors/machinetest"
	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

// TestSnapshotKeepsEveryField fills every field of a State, however deep, by
// reflection: a field that the snapshot forgets shows up here.
func TestSnapshotKeepsEveryField(t *testing.T) {
	var s profile.State
	n := 0
	fill(t, reflect.ValueOf(&s).Elem(), &n)
	b, err := profile.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := profile.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back, protocmp.Transform()); diff != "" {
		t.Errorf("after a round trip (-want +got)\n%s", diff)
	}
}

// fill sets v and everything in it to values that are not zero and differ from
// each other where they can.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMilli(int64(*n) * 1001).UTC()))
		return
	case time.Duration:
		v.SetInt(int64(time.Duration(*n) * time.Second))
		return
	case []*messages.NonceCount:
		v.Set(reflect.ValueOf([]*messages.NonceCount{{Space: messages.Space_PROXY, Realm: "r", Count: uint32(*n)}}))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("text " + strings.Repeat("x", *n))
	case reflect.Int32:
		v.SetInt(2)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a State has a field of kind %s: values only", v.Kind())
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	s, err := profile.Unmarshal(nil)
	if diff := cmp.Diff(profile.State{}, s); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := profile.Unmarshal([]byte{0xff}); err == nil {
		t.Error("a damaged snapshot decodes")
	}
}

// TestSnapshotAtAnyPoint walks at random and takes the state through a
// snapshot: it must be the same value, and go on to the same future. Step
// itself holds each decision against one from a decoded snapshot (I1, I9).
func TestSnapshotAtAnyPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		policies := machinetest.Policies()
		m := machinetest.New(policies[pick(len(policies))])
		for range 60 {
			if err := m.Walk(pick); err != nil {
				t.Fatal(err)
			}
			b, err := profile.Marshal(m.State)
			if err != nil {
				t.Fatal(err)
			}
			back, err := profile.Unmarshal(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m.State, back, protocmp.Transform(), emptyIsNil); diff != "" {
				t.Fatalf("(-live +snapshot)\n%s", diff)
			}
		}
		if err := m.CheckReplay(); err != nil {
			t.Fatal(err)
		}
	})
}

// emptyIsNil compares slices by content: an empty one and none mean the same.
var emptyIsNil = cmp.FilterValues(func(a, b []*messages.NonceCount) bool {
	return len(a) == 0 && len(b) == 0
}, cmp.Comparer(func(_, _ []*messages.NonceCount) bool { return true }))

func TestFold(t *testing.T) {
	added := func(source string) *messages.ProfileEvent {
		return messages.NewProfileEvent(&messages.ProfileAdded{
			Spec: &messages.ProfileSpec{Aor: "sip:alice@example.test"}, Enabled: true, Source: source, Row: "r1",
		})
	}
	removed := messages.NewProfileEvent(&messages.ProfileRemoved{ByOperator: true})
	forgotten := messages.NewProfileEvent(&messages.ProfileForgotten{})
	fold := func(events ...*messages.ProfileEvent) ([]byte, error) {
		var list []*messages.Envelope
		for i, e := range events {
			list = append(list, &messages.Envelope{Stream: "p/alice", Version: uint64(i + 1), Profile: e})
		}
		return profile.Fold(nil, list)
	}
	t.Run("a profile of the API leaves nothing behind", func(t *testing.T) {
		if b, err := fold(added("api"), removed, forgotten); b != nil || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
	t.Run("a profile of a file leaves a tombstone", func(t *testing.T) {
		b, err := fold(added("file"), removed, forgotten)
		if err != nil {
			t.Fatal(err)
		}
		s, err := profile.Unmarshal(b)
		if diff := cmp.Diff(profile.State{Gone: true, Source: "file", Row: "r1"}, s); diff != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
	})
	t.Run("a tombstone that is cleared leaves nothing", func(t *testing.T) {
		if b, err := fold(added("file"), removed, forgotten, forgotten); b != nil || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
	t.Run("an unknown event stops the stream", func(t *testing.T) {
		if _, err := fold(added("file"), &messages.ProfileEvent{}); !errors.Is(err, messages.ErrUnknownEvent) {
			t.Errorf("got %v", err)
		}
		if _, err := fold(nil); !errors.Is(err, messages.ErrUnknownEvent) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a damaged snapshot is an error", func(t *testing.T) {
		if _, err := profile.Fold([]byte{0xff}, nil); err == nil {
			t.Error("no error")
		}
	})
}
