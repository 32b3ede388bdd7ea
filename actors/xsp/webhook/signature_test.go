package webhook_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/xsp/webhook"
	"github.com/sipmuster/muster/messages"
)

var (
	secret = messages.NewSecret("k3y-of-the-hook")
	noon   = time.Unix(1795377600, 0)
)

// TestSignatureIsTheDocument compares with what openssl dgst -sha256 -hmac
// makes of the time, a dot and the body.
func TestSignatureIsTheDocument(t *testing.T) {
	body, err := os.ReadFile("testdata/question.json")
	if err != nil {
		t.Fatal(err)
	}
	body = bytes.TrimSuffix(body, []byte("\n"))
	want := "t=1795377600,v1=e8debdfba9b3ad12fc37830bbbbd303cb8c142020ba153d24c1fa64166ef03e5"
	got := webhook.Sign(secret, noon, body)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := webhook.Verify(secret, got, body, noon, 0); err != nil {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	body := []byte(`{"ref":"r"}`)
	good := webhook.Sign(secret, noon, body)
	sum := strings.TrimPrefix(good, "t=1795377600,")
	for _, tt := range []struct {
		name   string
		secret messages.Secret
		header string
		body   string
		now    time.Time
		skew   time.Duration
		fault  string
	}{
		{"as sent", secret, good, string(body), noon, 0, ""},
		{"other order and unknown elements", secret, sum + ", v2=zz,t=1795377600", string(body), noon, 0, ""},
		{"upper-case hex", secret, "t=1795377600,v1=" + strings.ToUpper(sum[3:]), string(body), noon, 0, ""},
		{"as old as may be", secret, good, string(body), noon.Add(webhook.DefaultSkew), 0, ""},
		{"as early as may be", secret, good, string(body), noon.Add(-time.Minute), time.Minute, ""},
		{"older", secret, good, string(body), noon.Add(webhook.DefaultSkew + 1), 0, "too old"},
		{"earlier", secret, good, string(body), noon.Add(-time.Minute - 1), time.Minute, "from the future"},
		{"negative skew is the default", secret, good, string(body), noon.Add(time.Minute), -1, ""},
		{"other body", secret, good, `{"ref":"s"}`, noon, 0, "not of this body"},
		{"other secret", messages.NewSecret("k"), good, string(body), noon, 0, "not of this body"},
		{"no secret", messages.Secret{}, webhook.Sign(messages.Secret{}, noon, body), string(body), noon, 0, "no secret"},
		{"other time", secret, "t=1795377601," + sum, string(body), noon, 0, "not of this body"},
		{"same time, other spelling", secret, "t=01795377600," + sum, string(body), noon, 0, "not of this body"},
		{"two times", secret, "t=1795377600,t=1795377600," + sum, string(body), noon, 0, "not one"},
		{"two sums", secret, good + "," + sum, string(body), noon, 0, "not one"},
		{"none", secret, "", string(body), noon, 0, "missing"},
		{"no sum", secret, "t=1795377600", string(body), noon, 0, "not one"},
		{"short sum", secret, good[:len(good)-2], string(body), noon, 0, "not one"},
		{"no hex", secret, good[:len(good)-1] + "g", string(body), noon, 0, "not one"},
		{"signed number", secret, "t=+1795377600," + sum, string(body), noon, 0, "not one"},
		{"huge number", secret, "t=99999999999999999999," + sum, string(body), noon, 0, "not one"},
		{"long", secret, good + strings.Repeat(",x=", 200), string(body), noon, 0, "not one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := webhook.Verify(tt.secret, tt.header, []byte(tt.body), tt.now, tt.skew)
			switch {
			case tt.fault == "" && err != nil:
				t.Error(err)
			case tt.fault != "" && (!errors.Is(err, webhook.ErrSignature) || !strings.Contains(err.Error(), tt.fault)):
				t.Errorf("got %v, want %q", err, tt.fault)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	body := []byte(`{"ref":"r"}`)
	good := webhook.Sign(secret, noon, body)
	for _, header := range []string{
		good, "", "t=,v1=", "t=1795377600", good + ",v0=" + good, strings.ToUpper(good), "v1=" + good, "t=1795377600 ,v1=00",
	} {
		f.Add(header, body)
	}
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		err := webhook.Verify(secret, header, body, noon, 0)
		if err != nil {
			if !errors.Is(err, webhook.ErrSignature) || len(err.Error()) > 100 {
				t.Fatalf("the error quotes or is another one: %v", err)
			}
			return
		}
		// Only what was signed passes, however its header is spelled.
		for at := noon.Add(-webhook.DefaultSkew); !at.After(noon.Add(webhook.DefaultSkew)); at = at.Add(time.Second) {
			_, sum, _ := strings.Cut(webhook.Sign(secret, at, body), ",v1=")
			if strings.Contains(strings.ToLower(header), sum) {
				return
			}
		}
		t.Fatalf("%q passes for %q", header, body)
	})
}
