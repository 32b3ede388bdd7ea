package messages_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/messages"
)

// TestWebhookDocuments holds the JSON that webhooks are written against: the
// names and spellings of design §8.
func TestWebhookDocuments(t *testing.T) {
	tests := []struct {
		name     string
		value    proto.Message
		document string
	}{
		{
			"challenge",
			&messages.AuthChallenge{
				Ref: "c0ffee", Purpose: messages.Purpose_REGISTRATION, ProfileId: "alice",
				Aor: "sip:alice@example.test", Method: "REGISTER", RequestUri: "sip:example.test",
				StatusCode: 401, Round: 1,
				Deadline: timestamppb.New(time.Date(2026, 11, 22, 20, 0, 3, 0, time.UTC)),
				Challenges: []*messages.Challenge{{
					Index: 0, Space: messages.Space_ORIGIN, Scheme: "Digest", Realm: "example.test",
					NonceCount: 1,
					Params:     map[string]string{"nonce": "n", "qop": "auth", "algorithm": "MD5"},
					Raw:        `Digest realm="example.test", nonce="n"`,
				}},
				BodyHashes: map[string]string{"SHA-256": "e3b0c442"},
			},
			`{"ref":"c0ffee","purpose":"REGISTRATION","profileId":"alice",
			  "aor":"sip:alice@example.test","method":"REGISTER","requestUri":"sip:example.test",
			  "statusCode":401,"round":1,"deadline":"2026-11-22T20:00:03Z",
			  "challenges":[{"space":"ORIGIN","scheme":"Digest","realm":"example.test","nonceCount":1,
			    "params":{"nonce":"n","qop":"auth","algorithm":"MD5"},
			    "raw":"Digest realm=\"example.test\", nonce=\"n\""}],
			  "bodyHashes":{"SHA-256":"e3b0c442"}}`,
		},
		{
			"answer",
			&messages.AuthAnswer{
				Ref: "c0ffee", Answered: []uint32{0},
				Mutations: []*messages.HeaderMutation{{
					Op: messages.Op_SET, Name: "Authorization", Value: "Digest x",
				}},
			},
			`{"ref":"c0ffee","answered":[0],"mutations":[{"op":"SET","name":"Authorization","value":"Digest x"}]}`,
		},
		{
			"refusal",
			&messages.AuthRefusal{
				Ref:     "c0ffee",
				Refusal: &messages.Refusal{Reason: "unknown subscriber", RetryAfterSeconds: 600},
			},
			`{"ref":"c0ffee","refusal":{"reason":"unknown subscriber","retryAfterSeconds":600}}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := test.value.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal([]byte(test.document), got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.value, got, protocmp.Transform()); diff != "" {
				t.Errorf("the document means something else (-want +got):\n%s", diff)
			}
			written, err := protojson.Marshal(test.value)
			if err != nil {
				t.Fatal(err)
			}
			back := test.value.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal(written, back); err != nil || !proto.Equal(test.value, back) {
				t.Errorf("written %s, read back %v: %v", written, back, err)
			}
		})
	}
}

// TestReasonsAreDistinct: reasons are label values, so each is spelled once.
func TestReasonsAreDistinct(t *testing.T) {
	seen := map[messages.Reason]bool{}
	for _, r := range messages.Reasons() {
		if seen[r] || r == "" {
			t.Errorf("reason %q is empty or listed twice", r)
		}
		seen[r] = true
	}
}
