package webhook

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/sipmuster/muster/messages"
)

// example is the question of design §8, with values in place of its ellipses.
func example() *messages.AuthChallenge {
	return &messages.AuthChallenge{
		Ref: "c0ffee", Purpose: messages.Purpose_REGISTRATION, ProfileId: "alice", Aor: "sip:alice@example.test",
		Method: "REGISTER", RequestUri: "sip:example.test", StatusCode: 401, Round: 1,
		Deadline: timestamppb.New(time.Date(2026, 11, 22, 20, 0, 3, 0, time.UTC)),
		Challenges: []*messages.Challenge{{
			Index: 0, Space: messages.Space_ORIGIN, Scheme: "Digest", Realm: "example.test", NonceCount: 1,
			Params: map[string]string{"nonce": "84a4cc6f", "qop": "auth", "algorithm": "MD5"},
			Raw:    `Digest realm="example.test", nonce="84a4cc6f", qop="auth", algorithm=MD5`,
		}},
		BodyHashes: map[string]string{"MD5": "d41d8cd9", "SHA-256": "e3b0c442", "SHA-512-256": "c672b8d1"},
	}
}

// TestQuestionIsTheDocument holds the bytes that webhooks are written against:
// design §8.
func TestQuestionIsTheDocument(t *testing.T) {
	want, err := os.ReadFile("testdata/question.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := encode(example())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestQuestionHasEveryMember: what is empty is there all the same, but for
// bodyHashes, and a field that the contract gains is not forgotten.
func TestQuestionHasEveryMember(t *testing.T) {
	body, err := encode(&messages.AuthChallenge{Challenges: []*messages.Challenge{{}}})
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]json.RawMessage
	var challenges []map[string]json.RawMessage
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(document["challenges"], &challenges); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		message proto.Message
		members map[string]json.RawMessage
		absent  []string
	}{
		{&messages.AuthChallenge{}, document, []string{"bodyHashes"}},
		{&messages.Challenge{}, challenges[0], nil},
	} {
		fields := tt.message.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			name := fields.Get(i).JSONName()
			if _, there := tt.members[name]; there == slices.Contains(tt.absent, name) {
				t.Errorf("member %s is there: %v, in %s", name, there, body)
			}
		}
		if want := fields.Len() - len(tt.absent); len(tt.members) != want {
			t.Errorf("%d members, want %d: %s", len(tt.members), want, body)
		}
	}
	want := `{"ref":"","purpose":"PURPOSE_UNSPECIFIED","profileId":"","sessionId":"","aor":"","method":"","requestUri":"",` +
		`"statusCode":0,"round":0,"rejected":false,"deadline":null,"challenges":[{"index":0,"space":"SPACE_UNSPECIFIED",` +
		`"scheme":"","realm":"","nonceCount":0,"params":{},"raw":""}]}`
	if string(body) != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
}

// TestQuestionReadsBack: protojson takes what is sent for the same message.
func TestQuestionReadsBack(t *testing.T) {
	text := rapid.String()
	texts := rapid.MapOfN(text, text, 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		q := &messages.AuthChallenge{
			Ref: text.Draw(t, "ref"), ProfileId: text.Draw(t, "profile"), SessionId: text.Draw(t, "session"),
			Purpose: messages.Purpose(rapid.Int32Range(0, 2).Draw(t, "purpose")), Aor: text.Draw(t, "aor"),
			Method: text.Draw(t, "method"), RequestUri: text.Draw(t, "uri"),
			StatusCode: rapid.Uint32().Draw(t, "status"), Round: rapid.Uint32().Draw(t, "round"),
			Rejected: rapid.Bool().Draw(t, "rejected"), BodyHashes: texts.Draw(t, "hashes"),
		}
		if rapid.Bool().Draw(t, "has deadline") {
			q.Deadline = &timestamppb.Timestamp{
				Seconds: rapid.Int64Range(-62135596800, 253402300799).Draw(t, "seconds"),
				Nanos:   rapid.Int32Range(0, 999).Draw(t, "nanos") * rapid.SampledFrom([]int32{1, 1e3, 1e6}).Draw(t, "unit"),
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "challenges") {
			q.Challenges = append(q.Challenges, &messages.Challenge{
				Index: rapid.Uint32().Draw(t, "index"), Space: messages.Space(rapid.Int32Range(0, 2).Draw(t, "space")),
				Scheme: text.Draw(t, "scheme"), Realm: text.Draw(t, "realm"), NonceCount: rapid.Uint32().Draw(t, "count"),
				Params: texts.Draw(t, "params"), Raw: text.Draw(t, "raw"),
			})
		}
		body, err := encode(q)
		if err != nil {
			t.Fatal(err)
		}
		back := new(messages.AuthChallenge)
		if err := protojson.Unmarshal(body, back); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if d := q.GetDeadline(); d.GetNanos() > 0 { // whole seconds, rounded up
			if d.Nanos = 0; d.GetSeconds() < 253402300799 {
				d.Seconds++
			}
		}
		if !proto.Equal(q, back) {
			t.Fatalf("sent %v\nas   %s\nread %v", q, body, back)
		}
		var document struct{ Deadline *time.Time }
		if err := json.Unmarshal(body, &document); err != nil {
			t.Fatalf("the deadline is not RFC 3339: %v", err)
		}
		if q.Deadline != nil && !document.Deadline.Equal(q.GetDeadline().AsTime()) {
			t.Fatalf("the deadline is %v in %s", q.GetDeadline().AsTime(), body)
		}
	})
}

func TestQuestionWithAnImpossibleDeadline(t *testing.T) {
	for _, at := range []*timestamppb.Timestamp{{Seconds: 1 << 60}, {Nanos: -1}} {
		if body, err := encode(&messages.AuthChallenge{Deadline: at}); err == nil {
			t.Errorf("sent as %s", body)
		}
	}
}

// TestS42_TheQuestionIsAllThatIsTold lists what an xSP sees. A field of the
// contract that is added must be looked at here.
func TestS42_TheQuestionIsAllThatIsTold(t *testing.T) {
	var names []protoreflect.Name
	for _, m := range []proto.Message{&messages.AuthChallenge{}, &messages.Challenge{}} {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			names = append(names, fields.Get(i).Name())
		}
	}
	want := []protoreflect.Name{
		"ref", "purpose", "profile_id", "session_id", "aor", "method", "request_uri", "status_code", "round", "rejected",
		"deadline", "challenges", "body_hashes",
		"index", "space", "scheme", "realm", "nonce_count", "params", "raw",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
