package profile_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/sipmuster/muster/actors/profile"
	"github.com/sipmuster/muster/messages"
)

func TestDescribe(t *testing.T) {
	const at = 1795377600_000 // 2026-11-22T20:00:00Z
	origin, proxy := messages.Space_ORIGIN, messages.Space_PROXY
	spec := &messages.ProfileSpec{Aor: "sip:alice@example.test", Registrar: "acme", Username: "al", ExpiresSeconds: 600, RegistrationHandler: "digest", Register: true}
	for _, tt := range []struct {
		body any
		want string
	}{
		{
			&messages.ProfileAdded{Spec: spec, Enabled: true, Source: "file"},
			`Declared by a file, enabled: "sip:alice@example.test" at registrar "acme", user name "al", for 600 seconds, challenges answered by "digest".`,
		},
		{
			&messages.ProfileChanged{Spec: &messages.ProfileSpec{Aor: "a", Registrar: "b", RegistrationHandler: "x"}, Source: "api"},
			`Declaration changed by the API: "a" at registrar "b", not to be registered, challenges answered by "x".`,
		},
		{&messages.ProfileEnabled{}, "Enabled."},
		{&messages.ProfileDisabled{}, "Disabled; a binding that the registrar may hold is withdrawn."},
		{&messages.ProfileRemoved{}, "Removed; a binding that the registrar may hold is withdrawn first."},
		{&messages.ProfileRemoved{ByOperator: true}, "Removed by an operator; a binding that the registrar may hold is withdrawn first."},
		{&messages.ProfileForgotten{}, "Forgotten."},
		{&messages.ProfileForgotten{Reason: "binding not withdrawn: timeout"}, "Forgotten: binding not withdrawn: timeout."},
		{&messages.CredentialsReplaced{}, "The secret was replaced; the next request uses it."},
		{&messages.RefreshRequested{}, "An operator asked for an attempt now."},
		{&messages.CallIDChosen{CallId: "c", FromTag: "f"}, `Call-ID "c" begins.`},
		{
			&messages.AttemptStarted{Attempt: 7, Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_REGISTER, Cseq: 12, ExpiresSeconds: 3600},
			"Attempt 7 registers for 3600 seconds, CSeq 12.",
		},
		{
			&messages.AttemptStarted{
				Attempt: 8, Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_UNREGISTER, Cseq: 13, Handler: "digest",
				Answers: []*messages.NonceCount{{Space: proxy, Realm: "p", Count: 2}, {Space: origin, Realm: "a", Count: 1}},
			},
			`Attempt 8 removes the binding, CSeq 13, answering realm "p" of a proxy (use 2 of its nonce) and realm "a" of the registrar (use 1 of its nonce) by handler "digest".`,
		},
		{&messages.AttemptStarted{Attempt: 9, Purpose: messages.AttemptPurpose_ATTEMPT_PURPOSE_FETCH, Cseq: 1}, "Attempt 9 asks for all bindings, CSeq 1."},
		{
			&messages.ChallengeReceived{Attempt: 7, Status: 401, Challenges: []*messages.RecordedChallenge{
				{Space: origin, Raw: `Digest realm="a", nonce="n", algorithm=SHA-256, stale=true`},
				{Space: origin, Raw: `Digest realm="b", nonce="n"`, Ignored: "realm.unexpected"},
				{Space: proxy, Raw: `Digest nonce="n"`, Ignored: "challenge.unsupported"},
				{Space: proxy, Raw: `Bearer realm="t", authz_server="x"`},
			}},
			`Attempt 7 was challenged with 401: the registrar asks for realm "a", Digest SHA-256, stale: only the nonce was too old; ` +
				`the registrar asks for realm "b", Digest MD5, ignored: the realm is not the one this profile answers; ` +
				`a proxy asks something malformed, ignored: no challenge that can be answered here; a proxy asks for realm "t", Bearer.`,
		},
		{&messages.ChallengeReceived{Attempt: 7, Status: 407}, "Attempt 7 was challenged with 407, without a challenge in it."},
		{&messages.CredentialsSupplied{Attempt: 7, Handler: "tokens", ElapsedMs: 20}, `Attempt 7: handler "tokens" answered after 20ms.`},
		{
			&messages.CredentialsRefused{Attempt: 7, Handler: "tokens", Reason: "authenticator.unavailable"},
			`Attempt 7: handler "tokens" gave no answer (the handler did not answer in time or is gone); the request was not sent.`,
		},
		{
			&messages.BindingGranted{Attempt: 7, Status: 200, GrantedSeconds: 60, UntilMs: at + 60_000, RefreshAtMs: at + 27_000},
			"Attempt 7: registered (200) for 60 seconds until 2026-11-22T20:01:00Z, refresh at 2026-11-22T20:00:27Z.",
		},
		{
			&messages.BindingGranted{Attempt: 7, Status: 200, UntilMs: at, RefreshAtMs: at, Proof: "verified"},
			"Attempt 7: registered (200) for 0 seconds until 2026-11-22T20:00:00Z, refresh at 2026-11-22T20:00:00Z; the registrar proved that it knows the secret.",
		},
		{
			&messages.BindingGranted{Attempt: 7, Status: 200, UntilMs: at, RefreshAtMs: at, Proof: "wrong"},
			"Attempt 7: registered (200) for 0 seconds until 2026-11-22T20:00:00Z, refresh at 2026-11-22T20:00:00Z; the registrar's proof that it knows the secret was wrong.",
		},
		{&messages.BindingRemoved{Attempt: 7, Status: 200}, "Attempt 7: the registrar removed the binding (200)."},
		{&messages.BindingLapsed{}, "The binding ran out: no refresh came through in time."},
		{&messages.BindingLapsed{InDoubt: true}, "The binding ran out: no refresh was answered in time, though one may have been heard."},
		{&messages.BindingsFetched{Attempt: 7, Contacts: 2}, "Attempt 7: the registrar lists 2 contacts."},
		{
			&messages.AttemptFailed{Attempt: 7, Status: 503, Reason: "registrar.unavailable", RetryAtMs: at},
			"Attempt 7 failed with 503: the registrar is unavailable; next try at 2026-11-22T20:00:00Z.",
		},
		{
			&messages.AttemptFailed{Attempt: 7, Reason: "timeout"},
			"Attempt 7 failed: no final response in time; not tried again by itself.",
		},
		{
			&messages.AttemptInterrupted{Attempt: 7, RetryAtMs: at},
			"Attempt 7 was interrupted by a restart; next try at 2026-11-22T20:00:00Z.",
		},
		{
			&messages.ProfileHalted{Attempt: 7, Status: 401, Reason: "credentials.refused", RetryAtMs: at},
			"Attempt 7 was rejected with 401: the registrar refuses the user name or the secret; next try at 2026-11-22T20:00:00Z.",
		},
		{&messages.IntervalRaised{Attempt: 7, MinExpiresSeconds: 600}, "Attempt 7: 423, the registrar demands at least 600 seconds; asked again with that."},
		{&messages.Redirected{Attempt: 7, Status: 302, Target: "sip:b"}, `Attempt 7 was redirected with 302 to "sip:b".`},
		{&messages.RequestAdapted{Attempt: 7, Status: 420, Dropped: []string{"path", "gruu"}}, `Attempt 7: 420, the registrar does not know option "path, gruu"; asked again without.`},
	} {
		e := messages.NewProfileEvent(tt.body)
		if got := profile.Describe(e); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", e.TypeName(), got, tt.want)
		}
	}
	if got := profile.Describe(&messages.ProfileEvent{}); got != "An event of a type that this release does not know." {
		t.Errorf("got %q", got)
	}
}

func TestDescribeExplainsEveryReason(t *testing.T) {
	for _, r := range messages.Reasons() {
		got := profile.Describe(messages.NewProfileEvent(&messages.AttemptFailed{Reason: string(r)}))
		if strings.Contains(got, string(r)) && r != "timeout" || strings.Contains(got, `reason "`) {
			t.Errorf("%s is not put in words: %s", r, got)
		}
	}
	got := profile.Describe(messages.NewProfileEvent(&messages.AttemptFailed{Reason: "of a\nlater release"}))
	if !strings.Contains(got, `reason "of alater release"`) {
		t.Errorf("an unknown reason is not shown: %s", got)
	}
}

// TestDescribeTamesWhatPeersWrite: one bounded line without control characters
// or nonces, whatever stands in an event.
func TestDescribeTamesWhatPeersWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Just(strings.Repeat("é\x00\r\n\u202e", 3000)), rapid.Just("\xff\xfe")).Draw(t, "text")
		const nonce = "cafebabe-nonce"
		var challenges []*messages.RecordedChallenge
		for range rapid.IntRange(0, 8).Draw(t, "challenges") {
			raw := fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm="%s"`, strings.ReplaceAll(text, `"`, ""), nonce, strings.ReplaceAll(text, `"`, ""))
			challenges = append(challenges, &messages.RecordedChallenge{Raw: raw, Ignored: text})
		}
		for _, body := range []any{
			&messages.ChallengeReceived{Challenges: challenges},
			&messages.ProfileAdded{Spec: &messages.ProfileSpec{Aor: text, Registrar: text, Username: text, RegistrationHandler: text}, Source: text},
			&messages.ProfileForgotten{Reason: text}, &messages.CallIDChosen{CallId: text},
			&messages.Redirected{Target: text}, &messages.RequestAdapted{Dropped: []string{text, text}},
			&messages.AttemptStarted{Handler: text, Answers: []*messages.NonceCount{{Realm: text}, {Realm: text}}},
			&messages.CredentialsRefused{Handler: text, Reason: text}, &messages.BindingGranted{Proof: text},
		} {
			got := profile.Describe(messages.NewProfileEvent(body))
			if len(got) > 1000 || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%d bytes: %q", len(got), got)
			}
			if strings.Contains(got, nonce) {
				t.Fatalf("a nonce is shown: %q", got)
			}
		}
	})
}
