package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// TestSnapshotKeepsEveryField fills every field of a State, however deep, by
// reflection: a field that the snapshot forgets shows up here.
func TestSnapshotKeepsEveryField(t *testing.T) {
	var s session.State
	n := 0
	fill(t, reflect.ValueOf(&s).Elem(), &n)
	b, err := session.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := session.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dump(s), dump(back)); diff != "" {
		t.Errorf("after a round trip (-want +got)\n%s", diff)
	}
}

// dump lists the fields of a state, one a line. It goes by reflection, because a
// Request has the methods of the message in it and would be taken for one.
func dump(s session.State) []string {
	var out []string
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch x := v.Interface().(type) {
		case time.Time:
			out = append(out, fmt.Sprint(name, " ", ms(x)))
			return
		case proto.Message:
			if v.Kind() == reflect.Pointer {
				text, err := proto.MarshalOptions{Deterministic: true}.Marshal(x)
				out = append(out, fmt.Sprintf("%s %t %x %v", name, v.IsNil(), text, err))
				return
			}
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Slice:
			for i := range v.Len() { // none and an empty one mean the same
				walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
			}
		default:
			out = append(out, fmt.Sprint(name, " ", v.Interface()))
		}
	}
	walk("State", reflect.ValueOf(s))
	return out
}

// fill sets v and everything in it to values that are not zero and differ from
// each other where they can.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch x := v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMilli(int64(*n) * 1001).UTC()))
		return
	case time.Duration:
		v.SetInt(int64(time.Duration(*n) * time.Second))
		return
	case proto.Message:
		if v.Kind() == reflect.Pointer {
			m := x.ProtoReflect().New()
			fillMessage(t, m, n)
			v.Set(reflect.ValueOf(m.Interface()))
			return
		}
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

func fillMessage(t *testing.T, m protoreflect.Message, n *int) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		*n++
		switch {
		case f.IsList():
			list := m.Mutable(f).List()
			if f.Kind() == protoreflect.MessageKind {
				fillMessage(t, list.AppendMutable().Message(), n)
			} else {
				list.Append(scalar(t, f, *n))
			}
		case f.Kind() == protoreflect.MessageKind:
			fillMessage(t, m.Mutable(f).Message(), n)
		default:
			m.Set(f, scalar(t, f, *n))
		}
	}
}

func scalar(t *testing.T, f protoreflect.FieldDescriptor, n int) protoreflect.Value {
	t.Helper()
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("text " + strings.Repeat("x", n%40))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	}
	t.Fatalf("%s is of kind %s", f.FullName(), f.Kind())
	return protoreflect.Value{}
}

func TestSnapshotOfNothing(t *testing.T) {
	s, err := session.Unmarshal(nil)
	if diff := cmp.Diff(dump(session.State{}), dump(s)); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := session.Unmarshal([]byte{0xff}); err == nil {
		t.Error("a damaged snapshot decodes")
	}
}

// TestSnapshotAtAnyPoint walks at random and takes the state through a snapshot:
// it must be the same value. Step itself holds each decision against one from a
// decoded snapshot (I1, I9).
func TestSnapshotAtAnyPoint(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		policies := walkPolicies()
		m := newMachine(policies[rng.IntN(len(policies))])
		for range 60 {
			if err := m.walk(rng.IntN); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(dump(m.state), dump(decode(encode(m.state)))); diff != "" {
				t.Fatalf("seed %d (-live +snapshot)\n%s", seed, diff)
			}
		}
	}
}

func TestFold(t *testing.T) {
	w := newWorld(t)
	w.do("start", "admitted", "response 200")
	up := w.events
	w.do("end", "response 200 to BYE")
	t.Run("a session that is up", func(t *testing.T) {
		b, err := session.Fold(nil, up)
		if s, _ := session.Unmarshal(b); err != nil || s.Status() != "established" || !s.EstablishedAt.Equal(start) {
			t.Errorf("%s, %v", s.Status(), err)
		}
	})
	t.Run("one that is over leaves nothing behind", func(t *testing.T) {
		if b, err := session.Fold(nil, w.events); b != nil || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
	t.Run("an unknown event stops the stream", func(t *testing.T) {
		for _, e := range []*messages.SessionEvent{nil, {}} {
			if _, err := session.Fold(nil, []*messages.Envelope{{Stream: "s/1", Session: e}}); !errors.Is(err, messages.ErrUnknownEvent) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a damaged snapshot is an error", func(t *testing.T) {
		if _, err := session.Fold([]byte{0xff}, nil); err == nil {
			t.Error("no error")
		}
	})
	t.Run("times are recorded to the millisecond", func(t *testing.T) {
		m := newMachine(session.Policy{})
		m.now = start.Add(1_234_567)
		if _, err := m.Do("start"); err != nil {
			t.Fatal(err)
		}
		if !m.state.StartedAt.Equal(start.Add(time.Millisecond)) {
			t.Error(m.state.StartedAt)
		}
	})
}
