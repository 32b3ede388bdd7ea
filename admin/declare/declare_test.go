package declare

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/messages"
)

// secrets lets cmp compare declarations.
var secrets = cmp.Comparer(func(a, b messages.Secret) bool { return a.Reveal() == b.Reveal() })

func TestJSONReadsEveryField(t *testing.T) {
	const md5 = "939e7578ed9e3c518a452acee763bce9"
	tests := []struct {
		name, document string
		want           actors.Declaration
	}{
		{
			name:     "only what is required",
			document: `{"aor":"sip:alice@example.test","registrar":"acme"}`,
			want: actors.Declaration{
				ID: "sip:alice@example.test", AOR: "sip:alice@example.test", Registrar: "acme",
			},
		},
		{
			name: "everything",
			document: `{"id":"a/1","aor":"sip:alice@[2001:db8::1]:5061;user=phone","registrar":"acme","username":"ålice",
				"password":" pw,\" ","contact_user":"al%20ice","expires":3600.0,"registration_handler":"digest",
				"session_handler":"token-service>digest","register":false,"enabled":false}`,
			want: actors.Declaration{
				ID: "a/1", AOR: "sip:alice@[2001:db8::1]:5061;user=phone", Registrar: "acme", Username: "ålice",
				Password: messages.NewSecret(` pw," `), ContactUser: "al%20ice", Expires: time.Hour,
				RegistrationHandler: "digest", SessionHandler: "token-service>digest", NoRegister: true, Disabled: true,
			},
		},
		{
			name:     "a duration, an HA1 in capitals, empty texts",
			document: `{"id":"","aor":"sip:alice@example.test","registrar":"acme","ha1":"` + strings.ToUpper(md5) + `","expires":"1h30m","username":""}`,
			want: actors.Declaration{
				ID: "sip:alice@example.test", AOR: "sip:alice@example.test", Registrar: "acme",
				HA1: messages.NewSecret(md5), Expires: 90 * time.Minute,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, faults := JSON([]byte(tt.document))
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			if diff := cmp.Diff(tt.want, got, secrets); diff != "" {
				t.Errorf("declaration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJSONNamesEveryFault(t *testing.T) {
	tests := []struct{ name, document, want string }{
		{
			"all at once", `{"aor":"sip:example.test","expires":0,"enabeld":true,"register":"maybe"}`,
			`aor: "sip:example.test" has no user part (write sip:user@host); ` +
				`unknown name "enabeld" (did you mean "enabled"?); ` +
				`register: is neither true nor false (write true or false); ` +
				`expires: is not between 1 and 4294967295 seconds (leave it out for the registrar's); ` +
				`registrar: is missing (every profile needs an aor and a registrar)`,
		},
		{
			"far from any name", `{"aor":"sip:a@b","registrar":"c","colour":1}`,
			`unknown name "colour" (known are id, aor, registrar, username, password, ha1, contact_user, expires, registration_handler, session_handler, register, enabled)`,
		},
		{"twice", `{"aor":"sip:a@b","registrar":"c","aor":"sip:a@b"}`, `the name "aor" stands there twice (remove one)`},
		{
			"wrong types", `{"aor":["x",{"y":1}],"registrar":null,"password":12}`,
			`aor: must be a string (leave the field out for its default); ` +
				`registrar: must be a string (leave the field out for its default); ` +
				`password: must be a string (leave the field out for its default)`,
		},
		{
			"two secrets", `{"aor":"sip:a@b","registrar":"c","password":"canary","ha1":"` + strings.Repeat("0", 64) + `"}`,
			`ha1: stands beside a password (give one of the two)`,
		},
		{
			"ha1 of a wrong length", `{"aor":"sip:a@b","registrar":"c","ha1":"canary"}`,
			`ha1: has 6 characters (give 32 (MD5) or 64 (SHA-256, SHA-512-256) hex digits)`,
		},
		{
			"ha1 of a wrong alphabet", `{"aor":"sip:a@b","registrar":"c","ha1":"` + strings.Repeat("g", 32) + `"}`,
			`ha1: has a character that is not a hex digit (give 32 (MD5) or 64 (SHA-256, SHA-512-256) hex digits)`,
		},
		{
			"password in the aor", `{"aor":"sip:alice:canary@b","registrar":"c"}`,
			`aor: "sip:alice:***@b" carries a password (put it in the field password)`,
		},
		{
			"control characters", `{"id":"a\nb","aor":"sip:a\r\n@b","registrar":"c","password":"canary\u0000"}`,
			`id: contains a control character; ` +
				`aor: contains a blank, a control character or a letter beyond ASCII at byte 6 (write sip:user@host); ` +
				`password: contains a control character`,
		},
		{"reserved id", `{"id":"export","aor":"sip:a@b","registrar":"c"}`, `id: is a reserved word (choose another id)`},
		{"broken", "{\"aor\":\n \"sip:a@b\" \"canary\"}", `is not valid JSON at line 2, column 12`},
		{"cut", `{"aor":"sip:a@b","password":"cana`, `ends in the middle of the JSON at column 34`},
		{"not an object", `["canary"]`, `is not a JSON object at column 2`},
		{"something after it", `{"aor":"sip:a@b","registrar":"c"} canary`, `has something after the closing brace at column 35`},
		{"huge number", `{"aor":"sip:a@b","registrar":"c","expires":1e999}`, `expires: is not a whole number between 1 and 4294967295`},
		{
			"too long", `{"aor":"sip:a@b","registrar":"c","expires":"4294967296"}`,
			`expires: is not between 1 and 4294967295 seconds (write seconds or a duration such as 1h)`,
		},
		{
			"milliseconds", `{"aor":"sip:a@b","registrar":"c","expires":"1500ms"}`,
			`expires: is not a whole number of seconds (write seconds or a duration such as 1h)`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, faults := JSON([]byte(tt.document))
			if diff := cmp.Diff(tt.want, faults.Error()); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if strings.Contains(faults.Error(), "canary") {
				t.Error("a fault shows a secret")
			}
		})
	}
}

func TestPatchChangesOnlyWhatIsNamed(t *testing.T) {
	p, faults := PatchJSON([]byte(`{"username":"","expires":0,"session_handler":"","enabled":false,"ha1":"` + strings.Repeat("a", 32) + `"}`))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	empty, off, zero := "", false, time.Duration(0)
	ha1, none := messages.NewSecret(strings.Repeat("a", 32)), messages.Secret{}
	want := actors.Patch{Username: &empty, Expires: &zero, SessionHandler: &empty, Enabled: &off, HA1: &ha1, Password: &none}
	if diff := cmp.Diff(want, p, secrets); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
}

func TestPatchFaults(t *testing.T) {
	tests := []struct{ document, want string }{
		{`{"id":"b"}`, `id: cannot be changed (remove the profile and add it under the other id)`},
		{`{"aor":"","registrar":""}`, `aor: is empty (leave it out to keep it); registrar: is empty (leave it out to keep it)`},
		{`{}`, `names no field to change (give at least one of [aor registrar username password ha1 contact_user expires registration_handler session_handler register enabled])`},
		{`{"aor":"sip:b"}`, `aor: "sip:b" has no user part (write sip:user@host)`},
	}
	for _, tt := range tests {
		_, faults := PatchJSON([]byte(tt.document))
		if diff := cmp.Diff(tt.want, faults.Error()); diff != "" {
			t.Errorf("%s: faults (-want +got):\n%s", tt.document, diff)
		}
	}
}

func TestRequestIsReadBackAsTheSameDeclaration(t *testing.T) {
	want := actors.Declaration{
		ID: "a", AOR: "sip:a@b", Registrar: "c", Username: "u", Password: messages.NewSecret("p\"w"),
		ContactUser: "x", Expires: time.Minute, RegistrationHandler: "digest", SessionHandler: "s", NoRegister: true,
	}
	document, err := Request(want)
	if err != nil {
		t.Fatal(err)
	}
	got, faults := JSON(document)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if diff := cmp.Diff(want, got, secrets); diff != "" {
		t.Errorf("declaration (-want +got):\n%s", diff)
	}
}

func TestExportIsAcceptedAgain(t *testing.T) {
	document, err := Export(actors.ProfileView{ID: "a", AOR: "sip:a@b", Registrar: "c", Register: true, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"a","aor":"sip:a@b","registrar":"c","register":true,"enabled":true}`; string(document) != want {
		t.Errorf("export = %s, want %s", document, want)
	}
	if _, faults := JSON(document); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestURI(t *testing.T) {
	good := map[string]URI{
		"sip:127.0.0.1:5060;transport=UDP": {Scheme: "sip", Host: "127.0.0.1", Port: 5060, Params: []string{"transport=UDP"}},
		"SIPS:a;b=c?d@example.test":        {Scheme: "sips", User: "a;b=c?d", Host: "example.test"},
		"sip:[::1]":                        {Scheme: "sip", Host: "[::1]"},
		"sip:a:p@h?Route=%3Csip:x%3E":      {Scheme: "sip", User: "a", Password: true, Host: "h", Headers: true},
	}
	for text, want := range good {
		got, err := ParseURI(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{
		"", "sip:", "sip", "tel:+1", "http://a", "sip:@h", "sip:a@", "sip:a@@h", "sip:a b@h", "sip:ä@h", "sip:a%2@h", "sip:a@h:", "sip:a@h:0",
		"sip:a@h:65536", "sip:a@h:+5", "sip:a@h:5060x", "sip:a@-h", "sip:a@h..x", "sip:a@1.2.3", "sip:a@256.1.1.1", "sip:a@[::1", "sip:a@[1.2.3.4]",
		"sip:a@[fe80::1%25eth0]", "sip:a@h;", "sip:a@h;=x", "sip:a@h;x=<>", "sip:a@h_x", "sip:" + strings.Repeat("a", 1100) + "@h",
	} {
		if u, err := ParseURI(text); err == nil {
			t.Errorf("%q was read as %+v", text, u)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"90": 90 * time.Second, "1h": time.Hour, "30d": 720 * time.Hour, "-1": -time.Second, "250ms": 250 * time.Millisecond} {
		if got, err := Duration(text); err != nil || got != want {
			t.Errorf("Duration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "1x", "+5", "9999999999999999999", "999999999999d"} {
		if got, err := Duration(text); err == nil {
			t.Errorf("Duration(%q) = %v, want an error", text, got)
		}
	}
}

func TestColumnsAreTheContract(t *testing.T) {
	want := "id,aor,registrar,username,password,ha1,contact_user,expires,registration_handler,session_handler,register,enabled"
	if got := strings.Join(Columns(), ","); got != want {
		t.Errorf("columns = %s, want %s", got, want)
	}
}

// FuzzJSON: hostile bodies never panic, and what is accepted holds what later
// stages rely on.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"id":"a","aor":"sip:a@b","registrar":"c","expires":"1h","register":true}`))
	f.Add([]byte(`{"aor":[{"x":[]}],"a":1e999,"a":null}`))
	f.Add([]byte("{\"password\":\"\\u0000\",\"ha1\":\"00\"}"))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, document []byte) {
		d, faults := JSON(document)
		_, _ = PatchJSON(document)
		if len(faults) > 0 {
			_ = faults.Error()
			return
		}
		if !json.Valid(document) {
			t.Fatalf("accepted %q, which is not JSON", document)
		}
		mustHold(t, d)
	})
}

// mustHold checks what every accepted declaration promises.
func mustHold(t *testing.T, d actors.Declaration) {
	t.Helper()
	u, err := ParseURI(d.AOR)
	if err != nil || u.User == "" || u.Host == "" || u.Password || u.Headers {
		t.Fatalf("accepted AOR %q: %v", d.AOR, err)
	}
	if d.ID == "" || d.Registrar == "" {
		t.Fatalf("accepted %+v", d)
	}
	for _, text := range []string{d.RegistrationHandler, d.SessionHandler} {
		if _, err := Handlers(text); err != nil {
			t.Fatalf("accepted the handler %q: %v", text, err)
		}
	}
	if !d.Password.Empty() && !d.HA1.Empty() {
		t.Fatal("accepted two secrets")
	}
	if d.Expires != 0 && (d.Expires < time.Second || d.Expires%time.Second != 0) {
		t.Fatalf("accepted expiry %v", d.Expires)
	}
	for _, s := range []string{d.ID, d.AOR, d.Username, d.ContactUser, d.Password.Reveal()} {
		if strings.ContainsAny(s, "\r\n\x00") {
			t.Fatalf("accepted a line break or NUL in %q", s)
		}
	}
}
