package declare

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

const offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"

func TestSessionJSONReadsEveryField(t *testing.T) {
	quoted, err := json.Marshal(offer)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, document string
		want           actors.SessionRequest
	}{
		{
			"only what is required", `{"profile":"alice","target":"sip:bob@example.test"}`,
			actors.SessionRequest{Profile: "alice", Target: "sip:bob@example.test"},
		},
		{
			"everything", `{"profile":"alice","target":"sip:[2001:db8::1]:5062;transport=tcp","headers":{"X-Call":" one\ttwo ","Subject":["a","b"]},
				"body":` + string(quoted) + `,"content_type":"application/sdp; charset=\"x\"","hangup_after":"1m30s"}`,
			actors.SessionRequest{
				Profile: "alice", Target: "sip:[2001:db8::1]:5062;transport=tcp",
				Headers:     []messages.Header{{Name: "X-Call", Value: "one\ttwo"}, {Name: "Subject", Value: "a"}, {Name: "Subject", Value: "b"}},
				ContentType: `application/sdp; charset="x"`, Body: []byte(offer), HangupAfter: 90 * time.Second,
			},
		},
		{
			"a binary body, seconds, empty texts",
			fmt.Sprintf(`{"profile":"alice","target":"sip:example.test","body":"","content_type":"","body_base64":%q,"hangup_after":0.5,"headers":{}}`,
				base64.StdEncoding.EncodeToString([]byte{0, 255})),
			actors.SessionRequest{Profile: "alice", Target: "sip:example.test", ContentType: sdp, Body: []byte{0, 255}, HangupAfter: 500 * time.Millisecond},
		},
		{
			"no time is no limit", `{"profile":"alice","target":"sip:example.test","hangup_after":0}`,
			actors.SessionRequest{Profile: "alice", Target: "sip:example.test"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, faults := SessionJSON([]byte(tt.document))
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSessionJSONNamesEveryFault(t *testing.T) {
	const start = `{"profile":"alice","target":"sip:bob@example.test",`
	long := strings.Repeat("x", maxSIPBody+1)
	for document, want := range map[string]string{
		`{}`: "profile: is missing (name the profile that calls); target: is missing (write sip:user@host)",
		`{"profile":["x"],"target":7,"body":{"a":["canary"]},"hangup_after":true,"headers":["canary"],"content_type":null}`: "profile: must be a string; target: must be a string; body: must be a string; " +
			"hangup_after: must be a number of seconds or a string such as \"10s\"; headers: must be an object of names and values; content_type: must be a string",
		`{"profile":"a\nb","target":"tel:+49","headers":{"canary canary":"x"}}`: "profile: contains a control character; target: is not a URI with the scheme sip or sips (write sip:user@host); " +
			"headers: a name is not that of a header (at most 64 characters of RFC 3261 §25.1, token)",
		`{"profile":"alice","target":"sips:bob@example.test"}`:                       `target: "sips:bob@example.test" needs TLS, which this release does not offer (write sip:user@host)`,
		`{"profile":"alice","target":"sip:bob:canary@example.test"}`:                 `target: "sip:bob:***@example.test" carries a password (remove it)`,
		`{"profile":"alice","target":"sip:bob@example.test?Subject=x"}`:              `target: "sip:bob@example.test?Subject=x" has a header part (remove the ? and what follows; headers have a field of their own)`,
		`{"profile":"alice","target":"sip:bob@"}`:                                    `target: "sip:bob@" has no host (write sip:user@host)`,
		start + `"body":"canary","body_base64":"Y2FuYXJ5"}`:                          "body_base64: stands beside a body (give one of the two)",
		start + `"body_base64":"canary!"}`:                                           "body_base64: is not base64 (write the standard alphabet with padding, RFC 4648 §4)",
		start + `"content_type":"application/sdp"}`:                                  "content_type: stands without a body",
		start + `"content_type":"canary","body":"x"}`:                                "content_type: is not a media type (write type/subtype, such as application/sdp)",
		start + `"body":"` + long + `"}`:                                             "body: is longer than 49152 bytes",
		start + `"hangup_after":"soon"}`:                                             `hangup_after: is not a duration (write seconds, or a duration such as "10s")`,
		start + `"hangup_after":-1}`:                                                 `hangup_after: is negative (write seconds, or a duration such as "10s")`,
		start + `"hangup_after":"1us"}`:                                              `hangup_after: is shorter than a millisecond (write seconds, or a duration such as "10s")`,
		start + `"headers":{"X-A":"canary\r\nVia: x","X-B":"","X-C":{"canary":1}}}`:  "headers.X-A: contains a control character; headers.X-B: is empty; headers.X-C: must be a string or a list of strings",
		start + `"headers":{"X-A":["canary",7]}}`:                                    "headers.X-A: must be a string or a list of strings",
		start + `"headers":{"X-A":"` + long + `"}}`:                                  "headers.X-A: is longer than 4096 bytes",
		start + `"headers":{"X-A":[` + strings.Repeat(`"x",`, maxHeaders) + `"x"]}}`: "headers: has more than 32 lines",
		start + `"headers":{"X-A":"canary"`:                                          "ends in the middle of the JSON at column 77",
		start + `"headres":{"X-A":"canary"}}`:                                        `unknown name "headres" (did you mean "headers"?)`,
	} {
		_, faults := SessionJSON([]byte(document))
		if got := faults.Error(); got != want {
			t.Errorf("%.200s\n got %s\nwant %s", document, got, want)
		}
	}
}

func TestInDialogJSON(t *testing.T) {
	shown := func(r actors.InDialog, faults Faults) string {
		if len(faults) > 0 {
			return faults.Error()
		}
		return fmt.Sprintf("%s %s %q %v", r.Method, r.ContentType, r.Body, r.Headers)
	}
	for document, want := range map[string]string{
		`{"method":"INFO","body":"Signal=1","content_type":"application/dtmf-relay"}`: `INFO application/dtmf-relay "Signal=1" []`,
		`{"method":"UPDATE","body":"v=0"}`:                                            `UPDATE application/sdp "v=0" []`,
		`{"method":"REFER","headers":{"Refer-To":"<sip:carol@example.test>"}}`:        `REFER  "" [{Refer-To <sip:carol@example.test>}]`,
		`{"method":"MESSAGE","body":"hello"}`:                                         "content_type: is missing (only INVITE and UPDATE have a usual one, application/sdp)",
		`{"method":"BYE"}`:                                                            "method: is not a request that can be made inside a session (one of INFO, REFER, UPDATE, MESSAGE, NOTIFY, OPTIONS)",
		`{"body":"v=0","content_type":"application/sdp"}`:                             "method: is missing (one of INFO, REFER, UPDATE, MESSAGE, NOTIFY, OPTIONS)",
		`{"method":"INFO","target":"sip:a@b"}`:                                        `unknown name "target" (known are method, headers, body, body_base64, content_type)`,
		`[]`:                                                                          "is not a JSON object at column 2",
	} {
		if got := shown(InDialogJSON([]byte(document))); got != want {
			t.Errorf("%s\n got %s\nwant %s", document, got, want)
		}
	}
	if got, want := shown(ReinviteJSON([]byte(`{"body":"v=0"}`))), `INVITE application/sdp "v=0" []`; got != want {
		t.Errorf("reinvite: %s, want %s", got, want)
	}
	if got, want := shown(ReinviteJSON([]byte(`{"body_base64":"/wA=","content_type":"x/y"}`))), `INVITE x/y "\xff\x00" []`; got != want {
		t.Errorf("reinvite with a binary body: %s, want %s", got, want)
	}
	if got, want := shown(ReinviteJSON([]byte(`{"body":""}`))), "body: is missing (give the new session description)"; got != want {
		t.Errorf("reinvite without a body: %s, want %s", got, want)
	}
	if got, want := shown(ReinviteJSON([]byte(`{"method":"INFO"}`))), `unknown name "method" (known are headers, body, body_base64, content_type); body: is missing (give the new session description)`; got != want {
		t.Errorf("reinvite: %s, want %s", got, want)
	}
}

// FuzzSessionJSON: no document makes the reader fail, and what it accepts can
// stand in a SIP message.
func FuzzSessionJSON(f *testing.F) {
	f.Add([]byte(`{"profile":"a","target":"sip:a@b","headers":{"X":["1","2"]},"body":"v=0","hangup_after":"1s"}`))
	f.Add([]byte(`{"method":"INFO","headers":{"X":[[]]},"body_base64":"AA=="}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		r, faults := SessionJSON(document)
		for _, h := range r.Headers {
			if len(faults) == 0 && (!isToken(h.Name) || h.Value == "" || strings.ContainsAny(h.Value, "\r\n\x00")) {
				t.Fatalf("accepted the header %q: %q", h.Name, h.Value)
			}
		}
		for _, read := range []func([]byte) (actors.InDialog, Faults){InDialogJSON, ReinviteJSON} {
			if r, faults := read(document); len(faults) == 0 && (len(r.Body) > 0) != (r.ContentType != "") {
				t.Fatalf("accepted %d bytes of type %q", len(r.Body), r.ContentType)
			}
		}
	})
}
