package messages_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/messages"
)

var update = flag.Bool("update", false, "write golden files that do not exist yet; existing ones are never rewritten")

// golden is one event as some release wrote it. Its bytes stand in
// testdata/events/NAME.txt and its meaning here, written out by hand. Names of
// events of a session begin with "session/".
//
// A golden is for ever: a journal written by any release is read by every later
// one. When an event gets a new field, add a golden with it (-2, -3, ...) and
// leave the older ones alone; they show what the field is when it is absent.
type golden struct {
	name string
	body any
}

var goldens = slices.Concat(profileGoldens, sessionGoldens)

var profileGoldens = []golden{
	{"ProfileAdded-1", &messages.ProfileAdded{
		Spec:    fullSpec,
		Enabled: true,
		Source:  "file",
		Row:     "9f86d081884c7d65",
	}},
	{"ProfileAdded-empty", &messages.ProfileAdded{}},
	{"ProfileChanged-1", &messages.ProfileChanged{
		Spec:   fullSpec,
		Source: "api",
		Row:    "60303ae22b998861",
	}},
	{"ProfileEnabled-1", &messages.ProfileEnabled{}},
	{"ProfileDisabled-1", &messages.ProfileDisabled{}},
	{"ProfileRemoved-1", &messages.ProfileRemoved{}},
	{"ProfileRemoved-operator", &messages.ProfileRemoved{ByOperator: true}},
	{"ProfileForgotten-1", &messages.ProfileForgotten{Reason: "removed"}},
	{"CredentialsReplaced-1", &messages.CredentialsReplaced{}},
	{"RefreshRequested-1", &messages.RefreshRequested{}},
	{"CallIDChosen-1", &messages.CallIDChosen{
		CallId:  "843817637684230@998sdasdh09",
		FromTag: "456248",
	}},
	{"AttemptStarted-1", &messages.AttemptStarted{
		Attempt:        7,
		Purpose:        messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER,
		Cseq:           1<<31 - 1,
		ExpiresSeconds: 3600,
		Round:          2,
		Answers: []*messages.NonceCount{
			{Space: messages.Space_PROXY, Realm: "proxy.example.test", Count: 1},
			{Space: messages.Space_ORIGIN, Realm: "example.test", Count: 300},
		},
		Handler:   "digest",
		GuardAtMs: 1795000000123,
	}},
	{"AttemptStarted-2", &messages.AttemptStarted{
		Attempt:    7,
		Purpose:    messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER,
		Cseq:       13,
		Round:      1,
		Answers:    []*messages.NonceCount{{Space: messages.Space_ORIGIN, Realm: "example.test", Count: 1}},
		Handler:    "token-service",
		GuardAtMs:  1795000040123,
		AnswerByMs: 1795000003123,
	}},
	{"AttemptStarted-first", &messages.AttemptStarted{
		Attempt: 1,
		Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER,
		Cseq:    1,
	}},
	{"AttemptStarted-fetch", &messages.AttemptStarted{
		Attempt: 1<<64 - 1,
		Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH,
	}},
	{"ChallengeReceived-1", &messages.ChallengeReceived{
		Attempt: 7,
		Status:  407,
		Challenges: []*messages.RecordedChallenge{
			{Space: messages.Space_PROXY, Raw: `Digest realm="proxy.example.test", nonce="p1", qop="auth"`},
			{Space: messages.Space_ORIGIN, Raw: `Digest realm="caf\"e, ü", nonce="o1", algorithm=SHA-256`},
		},
	}},
	{"ChallengeReceived-ignored", &messages.ChallengeReceived{
		Attempt: 8,
		Status:  401,
		Challenges: []*messages.RecordedChallenge{
			{Space: messages.Space_ORIGIN, Raw: `Digest realm="evil.example", nonce="n"`, Ignored: "realm.unexpected"},
		},
	}},
	{"CredentialsSupplied-1", &messages.CredentialsSupplied{
		Attempt:   7,
		Handler:   "token-service",
		ElapsedMs: 42,
	}},
	{"CredentialsRefused-1", &messages.CredentialsRefused{
		Attempt: 7,
		Handler: "token-service",
		Reason:  "authenticator.refused",
	}},
	{"CredentialsSupplied-2", &messages.CredentialsSupplied{
		Attempt:   7,
		Handler:   "token-service",
		ElapsedMs: 42,
		Unanswered: []*messages.NonceCount{
			{Space: messages.Space_PROXY, Realm: "proxy.example.test", Count: 1},
		},
		Headers:    []string{"Authorization", "P-Access-Network-Info"},
		Preemptive: true,
		Continues:  true,
	}},
	{"CredentialsDeclined-1", &messages.CredentialsDeclined{
		Attempt:    7,
		Handler:    "token-service",
		Reason:     "authenticator.refused",
		Detail:     "unknown subscriber",
		Next:       "cards",
		AnswerByMs: 1795000003123,
	}},
	{"CredentialsDeclined-digest", &messages.CredentialsDeclined{
		Attempt: 7,
		Handler: "token-service",
		Reason:  "authenticator.refused",
		Next:    "digest",
	}},
	{"CredentialsRefused-2", &messages.CredentialsRefused{
		Attempt: 7,
		Handler: "token-service",
		Reason:  "authenticator.refused",
		Detail:  "unknown subscriber",
	}},
	{"SecuritySet-1", &messages.SecuritySet{RegistrationHandler: "token-service>digest", SessionHandler: "cards"}},
	{"SecuritySet-default", &messages.SecuritySet{}},
	{"BindingGranted-1", &messages.BindingGranted{
		Attempt:        8,
		Status:         200,
		GrantedSeconds: 1<<32 - 1,
		UntilMs:        1795003600000,
		RefreshAtMs:    1795003200000,
		ServiceRoute:   []string{"<sip:p1.example.test;lr>", "<sip:p2.example.test;lr>"},
		NextNonces: []*messages.NextNonce{
			{Space: messages.Space_ORIGIN, Nonce: "n2"},
			{Space: messages.Space_PROXY, Nonce: "p2"},
		},
		Proof: "verified",
	}},
	{"BindingRemoved-1", &messages.BindingRemoved{Attempt: 9, Status: 200}},
	{"BindingLapsed-1", &messages.BindingLapsed{}},
	{"BindingLapsed-doubt", &messages.BindingLapsed{InDoubt: true}},
	{"BindingsFetched-1", &messages.BindingsFetched{Attempt: 10, Contacts: 3}},
	{"AttemptFailed-1", &messages.AttemptFailed{
		Attempt:   11,
		Status:    503,
		Reason:    "registrar.unavailable",
		RetryAtMs: 1795000060000,
	}},
	{"AttemptFailed-silence", &messages.AttemptFailed{
		Attempt:   12,
		Reason:    "timeout",
		RetryAtMs: -1,
	}},
	{"AttemptInterrupted-1", &messages.AttemptInterrupted{Attempt: 13, RetryAtMs: 1795000001000}},
	{"ProfileHalted-1", &messages.ProfileHalted{
		Attempt:   14,
		Status:    403,
		Reason:    "registrar.forbidden",
		RetryAtMs: 1795086400000,
	}},
	{"IntervalRaised-1", &messages.IntervalRaised{Attempt: 15, MinExpiresSeconds: 7200}},
	{"Redirected-1", &messages.Redirected{
		Attempt: 16,
		Status:  302,
		Target:  "sip:other.example.test;transport=tcp",
	}},
	{"RequestAdapted-1", &messages.RequestAdapted{
		Attempt: 17,
		Status:  420,
		Dropped: []string{"path", "outbound"},
	}},
}

var fullSpec = &messages.ProfileSpec{
	Aor:                 "sip:alice@example.test",
	Registrar:           "acme",
	Username:            "alice-auth",
	ContactUser:         "a1",
	ExpiresSeconds:      1800,
	RegistrationHandler: "digest",
	SessionHandler:      "token-service",
	Register:            true,
}

// envelope wraps the event with every field of a record set.
func (g golden) envelope() *messages.Envelope {
	e := &messages.Envelope{Version: 5, Epoch: 1, Previous: 4711, AtUnixNano: 1795000000123456789}
	if strings.HasPrefix(g.name, "session/") {
		e.Stream, e.Session = "s/f1d2d2f924e986ac86fdf7b36c94bcdf", messages.NewSessionEvent(g.body)
	} else {
		e.Stream, e.Profile = "p/alice", messages.NewProfileEvent(g.body)
	}
	return e
}

func goldenPath(name string) string {
	return filepath.Join("testdata", "events", name+".txt")
}

// readGolden decodes a file of hex digits; spaces and lines are free.
func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(goldenPath(name))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", goldenPath(name), err)
	}
	return encoded
}

// writeGolden writes a file that does not exist, 32 bytes to a line.
func writeGolden(t *testing.T, name string, encoded []byte) {
	t.Helper()
	f, err := os.OpenFile(goldenPath(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range slices.Chunk(encoded, 32) {
		if _, err := f.WriteString(hex.EncodeToString(line) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestGoldenEvents: the bytes of every event ever shipped mean what they meant,
// and are still what we write.
func TestGoldenEvents(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			want := g.envelope()
			encoded, err := want.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				writeGolden(t, g.name, encoded)
			}
			recorded := readGolden(t, g.name)

			got := &messages.Envelope{}
			if err := got.UnmarshalVT(recorded); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("the recorded bytes mean something else (-want +got):\n%s", diff)
			}
			if string(encoded) != string(recorded) {
				t.Errorf("the event is written differently:\nrecorded %x\nwritten  %x", recorded, encoded)
			}
			if got, want := got.TypeName(), strings.SplitN(path.Base(g.name), "-", 2)[0]; got != want {
				t.Errorf("TypeName is %q, want %q", got, want)
			}
			if n := want.SizeVT(); n != len(encoded) {
				t.Errorf("SizeVT is %d, the encoding has %d bytes", n, len(encoded))
			}

			// The fast codec and the reference codec are the same language.
			reference := &messages.Envelope{}
			if err := proto.Unmarshal(recorded, reference); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(want, reference) {
				t.Errorf("the reference codec reads something else: %v", reference)
			}
		})
	}
}

// TestGoldensCoverEveryEvent: every type and every field of every event is in
// some golden with a value that is not zero.
func TestGoldensCoverEveryEvent(t *testing.T) {
	covered := map[protoreflect.FullName]bool{}
	for _, g := range goldens {
		cover(covered, g.envelope().ProtoReflect())
	}
	requireCovered(t, covered, (&messages.Envelope{}).ProtoReflect().Descriptor())
}

func cover(covered map[protoreflect.FullName]bool, m protoreflect.Message) {
	covered[m.Descriptor().FullName()] = true
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		covered[f.FullName()] = true
		switch {
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				cover(covered, v.List().Get(i).Message())
			}
		case f.Message() != nil:
			cover(covered, v.Message())
		}
		return true
	})
}

func requireCovered(t *testing.T, covered map[protoreflect.FullName]bool, d protoreflect.MessageDescriptor) {
	t.Helper()
	if !covered[d.FullName()] {
		t.Errorf("%s has no golden", d.FullName())
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if !covered[f.FullName()] {
			t.Errorf("%s is zero in every golden", f.FullName())
		}
		if f.Message() != nil {
			requireCovered(t, covered, f.Message())
		}
	}
}

// TestNoGoldenIsForgotten: a file without its meaning is not checked.
func TestNoGoldenIsForgotten(t *testing.T) {
	for _, folder := range []string{"", "session/"} {
		files, err := filepath.Glob("testdata/events/" + folder + "*.txt")
		if err != nil || len(files) == 0 {
			t.Fatalf("no goldens in %q: %v", folder, err)
		}
		for _, f := range files {
			name := folder + strings.TrimSuffix(filepath.Base(f), ".txt")
			if !slices.ContainsFunc(goldens, func(g golden) bool { return g.name == name }) {
				t.Errorf("%s: its value is missing in goldens", f)
			}
		}
	}
}

// TestEventTypes: the constructors, the type names and the list agree and are
// complete, so that no event is without a label or a spelling.
func TestEventTypes(t *testing.T) {
	var names []string
	eachType(&messages.ProfileEvent{}, func(name string, event, body proto.Message) {
		names = append(names, name)
		if got := event.(*messages.ProfileEvent).TypeName(); got != name {
			t.Errorf("TypeName is %q, want %q", got, name)
		}
		if got := (&messages.Envelope{Profile: event.(*messages.ProfileEvent)}).TypeName(); got != name {
			t.Errorf("TypeName of its envelope is %q, want %q", got, name)
		}
		if wrapped := messages.NewProfileEvent(body); !proto.Equal(wrapped, event) {
			t.Errorf("NewProfileEvent(%s) is %v", name, wrapped)
		}
	})
	eachType(&messages.SessionEvent{}, func(name string, event, body proto.Message) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		if got := event.(*messages.SessionEvent).TypeName(); got != name {
			t.Errorf("TypeName of a session's is %q, want %q", got, name)
		}
		if got := (&messages.Envelope{Session: event.(*messages.SessionEvent)}).TypeName(); got != name {
			t.Errorf("TypeName of its envelope is %q, want %q", got, name)
		}
		if wrapped := messages.NewSessionEvent(body); !proto.Equal(wrapped, event) {
			t.Errorf("NewSessionEvent(%s) is %v", name, wrapped)
		}
	})
	if diff := cmp.Diff(names, messages.EventTypes()); diff != "" {
		t.Errorf("EventTypes (-want +got):\n%s", diff)
	}
}

// eachType gives an empty event of each type of the kind that empty is of.
func eachType(empty proto.Message, do func(name string, event, body proto.Message)) {
	fields := empty.ProtoReflect().Descriptor().Oneofs().ByName("event").Fields()
	for i := range fields.Len() {
		event := empty.ProtoReflect().New()
		event.Set(fields.Get(i), event.NewField(fields.Get(i)))
		do(string(fields.Get(i).Message().Name()), event.Interface(), event.Get(fields.Get(i)).Message().Interface())
	}
}

func TestConstructorsRefuseOtherTypes(t *testing.T) {
	for what, construct := range map[string]func(){
		"no event at all":                  func() { messages.NewProfileEvent(&messages.ProfileSpec{}) },
		"no event of a session at all":     func() { messages.NewSessionEvent(&messages.SessionSpec{}) },
		"a profile's event for a session":  func() { messages.NewSessionEvent(&messages.ProfileAdded{}) },
		"a session's event for a profile":  func() { messages.NewProfileEvent(&messages.SessionEnded{}) },
		"nothing":                          func() { messages.NewSessionEvent(nil) },
		"an event that is wrapped already": func() { messages.NewSessionEvent(&messages.SessionEvent{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was accepted", what)
				}
			}()
			construct()
		}()
	}
}

// TestUnknownEventType: an event of a later release has no type name, by which
// the store and the actors know that they must stop, and its bytes survive.
func TestUnknownEventType(t *testing.T) {
	// Fields 6 and 7 of the envelope are the event; in it field 999, an empty
	// message.
	for kind, encoded := range map[string][]byte{
		"profile": {0x32, 0x03, 0xba, 0x3e, 0x00},
		"session": {0x3a, 0x03, 0xba, 0x3e, 0x00},
	} {
		e := &messages.Envelope{}
		if err := e.UnmarshalVT(encoded); err != nil {
			t.Fatal(err)
		}
		if (e.Profile != nil) != (kind == "profile") || (e.Session != nil) != (kind == "session") {
			t.Fatalf("the event of a %s is gone", kind)
		}
		if name := e.TypeName(); name != "" {
			t.Errorf("TypeName is %q, want none", name)
		}
		again, err := e.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != string(encoded) {
			t.Errorf("the unknown event was changed: %x", again)
		}
	}
	var none *messages.ProfileEvent
	if name := none.TypeName(); name != "" {
		t.Errorf("TypeName of no event is %q", name)
	}
	var nobody *messages.SessionEvent
	if name := nobody.TypeName(); name != "" {
		t.Errorf("TypeName of no event of a session is %q", name)
	}
	if name := (&messages.Envelope{}).TypeName(); name != "" {
		t.Errorf("TypeName of an empty envelope is %q", name)
	}
}
