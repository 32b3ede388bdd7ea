package messages_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sipmuster/muster/messages"
)

// canary is what must never be printed. It has no character that an encoder
// would escape.
const canary = "canary7f3a9"

// carrier is how secrets travel: in exported fields of larger values.
type carrier struct {
	User     string
	Password messages.Secret
	Pointer  *messages.Secret
	List     []messages.Secret
	Map      map[string]messages.Secret
	Any      any
}

func secrets() []any {
	s := messages.NewSecret(canary)
	c := carrier{
		"alice", s, &s,
		[]messages.Secret{s},
		map[string]messages.Secret{"k": s},
		s,
	}
	return []any{s, &s, c, &c, []any{s}, map[string]any{"k": &c}, [1]messages.Secret{s}}
}

// hidden are values from which fmt cannot call the methods of a Secret: it
// prints what reflection finds. The same happens with %p and below a verb that
// does not fit. Only a value that reflection does not show is safe there.
func hidden() []any {
	type private struct{ secret messages.Secret }
	s := messages.NewSecret(canary)
	return []any{private{s}, &private{s}, []private{{s}}, map[string]*private{"k": {s}}}
}

var verbs = []string{
	"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%t", "%T",
	"%b", "%o", "%O", "%c", "%U", "%e", "%E", "%f", "%g", "%p", "%10s", "%-40v", "%.3s", "%!",
}

func TestSecretIsNeverFormatted(t *testing.T) {
	for _, value := range secrets() {
		for _, text := range []string{
			fmt.Sprint(value), fmt.Sprintln(value), fmt.Sprintf("%v %+v %#v", value, value, value),
			fmt.Errorf("wrapped: %v", value).Error(),
		} {
			if strings.Contains(text, canary) {
				t.Errorf("%T prints the secret: %s", value, text)
			}
		}
	}
	s := messages.NewSecret(canary)
	if got := fmt.Sprintf("%s %q %x %d", s, s, s, s) + s.String() + s.GoString(); strings.ReplaceAll(got, "[redacted]", "") != "   " {
		t.Errorf("a secret prints as %q", got)
	}
}

// TestSecretIsHiddenFromReflection tries every verb on every value, also where
// fmt does not call the methods of a Secret.
func TestSecretIsHiddenFromReflection(t *testing.T) {
	for _, value := range append(secrets(), hidden()...) {
		for _, verb := range verbs {
			text := fmt.Sprintf(verb, value)
			if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", canary)) {
				t.Errorf("%T with %s prints the secret: %s", value, verb, text)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Error("message", "value", value)
		if strings.Contains(log.String(), canary) {
			t.Errorf("%T is logged with the secret: %s", value, log.String())
		}
	}
}

func TestSecretIsNeverEncoded(t *testing.T) {
	for _, value := range secrets() {
		text, err := json.Marshal(value)
		if err == nil {
			t.Errorf("%T was encoded: %s", value, text)
			continue
		}
		if !errors.Is(err, messages.ErrSecret) {
			t.Errorf("%T: error %v does not say why", value, err)
		}
		if strings.Contains(err.Error(), canary) || bytes.Contains(text, []byte(canary)) {
			t.Errorf("%T: the error holds the secret: %v", value, err)
		}
	}
	if text, err := messages.NewSecret(canary).MarshalText(); !errors.Is(err, messages.ErrSecret) || text != nil {
		t.Errorf("MarshalText gives %q, %v", text, err)
	}
}

func TestSecretIsNeverLogged(t *testing.T) {
	var log bytes.Buffer
	options := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, options), slog.NewJSONHandler(&log, options)} {
		logger := slog.New(handler)
		for _, value := range secrets() {
			logger.Debug("message", "value", value)
			logger.With("value", value).WithGroup("g").Error("message", slog.Any("value", value))
		}
	}
	if strings.Contains(log.String(), canary) {
		t.Errorf("the secret was logged:\n%s", log.String())
	}
	if !strings.Contains(log.String(), "[redacted]") {
		t.Error("nothing was redacted: does this test still log?")
	}
}

func TestSecretIsReadAndRevealed(t *testing.T) {
	var in struct{ Password, Empty messages.Secret }
	if err := json.Unmarshal([]byte(`{"password":"`+canary+`"}`), &in); err != nil {
		t.Fatal(err)
	}
	if got := in.Password.Reveal(); got != canary {
		t.Errorf("revealed %q", got)
	}
	if in.Password.Empty() || !in.Empty.Empty() {
		t.Error("Empty is wrong")
	}
	// What is not a string is refused without quoting it.
	err := json.Unmarshal([]byte(`{"password":{"a":"`+canary+`"}}`), &in)
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a secret that is no string gives %v", err)
	}
}
