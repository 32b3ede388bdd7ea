package declare

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHandlers(t *testing.T) {
	good := map[string][]string{
		"":                     nil,
		"digest":               {"digest"},
		"token-service>digest": {"token-service", "digest"},
		"a>b>c>d":              {"a", "b", "c", "d"},
	}
	for text, want := range good {
		got, err := Handlers(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	bad := map[string]string{
		"canary>":                          "lacks a name beside a >",
		">":                                "lacks a name beside a >",
		"canary>>digest":                   "lacks a name beside a >",
		"canary > digest":                  "is not a name: only letters, digits, '.', '_' and '-' may stand in it",
		"canary,digest":                    "is not a name: only letters, digits, '.', '_' and '-' may stand in it",
		"canary>digest>canary":             "names a handler twice",
		"canary>b>c>d>e":                   "names more than 4 handlers",
		">" + strings.Repeat("canary", 11): "lacks a name beside a >",
		strings.Repeat("canary", 11):       "is not a name: 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first",
	}
	for text, want := range bad {
		names, err := Handlers(text)
		if err == nil || err.Error() != want || names != nil {
			t.Errorf("Handlers(%q) = %q, %v; want %q", text, names, err, want)
		}
	}
}

func TestUnknownHandlerNamesTheKnownOnes(t *testing.T) {
	xsps := []string{"sim", "token-service"}
	if f, unknown := UnknownHandler([]string{"sim", "digest", "token-service"}, xsps); unknown {
		t.Error(f)
	}
	for name, want := range map[string]string{
		"token-servcie": `unknown handler "token-servcie" (did you mean "token-service"? known are digest, sim, token-service)`,
		"far":           `unknown handler "far" (known are digest, sim, token-service)`,
	} {
		if f, unknown := UnknownHandler([]string{"digest", name}, xsps); !unknown || f.Error() != want {
			t.Errorf("%s: %v, want %s", name, f, want)
		}
	}
}

func TestSecurityJSON(t *testing.T) {
	text := func(p *string) string {
		if p == nil {
			return "-"
		}
		return "'" + *p + "'"
	}
	for document, want := range map[string]string{
		`{"session_handler":"a>digest"}`:                    "- 'a>digest'",
		`{"registration_handler":"a","session_handler":""}`: "'a' ''",
		`{"registration_handler":"a>a"}`:                    "registration_handler: names a handler twice (" + HandlerMend + ")",
		`{"enabled":true,"session_handler":"a"}`:            "enabled: does not belong here (PATCH the profile to change it)",
		`{}`:                                                "names no handler (give registration_handler, session_handler or both)",
		`{"registration_handler":`:                          "ends in the middle of the JSON at column 25",
		`{"registration_handler":1,"password":"canary"}`:    "registration_handler: must be a string (leave the field out for its default); password: does not belong here (PATCH the profile to change it)",
		`{"registrationHandler":"canary"}`:                  `unknown name "registrationHandler" (did you mean "registration_handler"?)`,
	} {
		registration, session, faults := SecurityJSON([]byte(document))
		got := text(registration) + " " + text(session)
		if len(faults) > 0 {
			got = faults.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", document, got, want)
		}
	}
}
