package bearer

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

// BEA-02:
// TestBEA02_CleartextMustBeAllowed: as long as there is no SIP over TLS, no
// token leaves unless the operator says so.
func TestBEA02_CleartextMustBeAllowed(t *testing.T) {
	o := Options{TrustedServers: []string{"https://as.example.test"}, Grant: ClientCredentials, ClientID: "muster", ClientSecret: messages.NewSecret(canary)}
	_, err := New(o)
	if err == nil || !strings.HasPrefix(err.Error(), "allow_cleartext: ") || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("got %v", err)
	}
	o.AllowCleartext = true
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %+v", o, o, p.options); strings.Contains(text, canary) {
		t.Errorf("a secret is printed: %s", text)
	}
}

func TestOptions(t *testing.T) {
	good := func() Options {
		return Options{AllowCleartext: true, TrustedServers: []string{"https://as.example.test"}, Grant: ClientCredentials, ClientID: "muster", ClientSecret: messages.NewSecret(canary)}
	}
	for _, tt := range []struct {
		name   string
		change func(o *Options)
		want   []string
	}{
		{"good", func(*Options) {}, nil},
		{"the same server twice", func(o *Options) {
			o.TrustedServers, o.Grant = append(o.TrustedServers, "https://AS.example.test/"), RefreshToken
		}, nil},
		{"no server", func(o *Options) { o.TrustedServers = nil }, []string{"trusted_servers: name the"}},
		{"servers that are none", func(o *Options) {
			o.TrustedServers = []string{
				"", "as.example.test", "http://as.example.test", "https://", "https://user:" + canary + "@a", "https://a/?x=" + canary,
				"https://a/#" + canary, "https://a/../b", "https://a b", "https://a\n",
			}
		}, []string{
			"trusted_servers: entry 1 must be an https URL", "trusted_servers: entry 2 must be an https URL", "trusted_servers: entry 3 must be an https URL",
			"trusted_servers: entry 4 must be an https URL", "trusted_servers: entry 5 must not have user information", "trusted_servers: entry 6 has a query",
			"trusted_servers: entry 7 must not have a fragment", "trusted_servers: entry 8 has a dot segment", "trusted_servers: entry 9 is not a URL", "trusted_servers: entry 10 is not a URL",
		}},
		{"two servers and one endpoint", func(o *Options) {
			o.TrustedServers, o.TokenURL = append(o.TrustedServers, "https://b"), "https://b/token"
		}, []string{"token_url: belongs to one"}},
		{"two servers and refresh tokens", func(o *Options) {
			o.TrustedServers, o.Grant = append(o.TrustedServers, "https://b"), RefreshToken
		}, []string{"trusted_servers: refresh tokens belong"}},
		{"an endpoint in clear", func(o *Options) { o.TokenURL = "http://as.example.test/token" }, []string{"token_url: must be an https URL"}},
		{"an endpoint with a query", func(o *Options) { o.TokenURL = "https://as.example.test/token?tenant=1" }, nil},
		{"a public client", func(o *Options) { o.Grant, o.ClientSecret = RefreshToken, messages.Secret{} }, nil},
		{"all at once", func(o *Options) { *o = Options{Grant: "password", Scopes: []string{"a b"}} }, []string{
			"allow_cleartext: ", "trusted_servers: name", "grant: must be client_credentials or refresh_token", "client_id: is missing", "scopes: one of them",
		}},
		{"no secret", func(o *Options) { o.ClientSecret = messages.Secret{} }, []string{"client_secret: "}},
		{"an empty scope", func(o *Options) { o.Scopes = []string{""} }, []string{"scopes: "}},
		{"two ways to trust", func(o *Options) { o.HTTPClient, o.RootCAs = http.DefaultClient, newAuthServer(t).roots() }, []string{"the HTTP client and"}},
	} {
		o := good()
		tt.change(&o)
		_, err := New(o)
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		if len(lines) != len(tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, lines, tt.want)
			continue
		}
		for i := range lines {
			if !strings.HasPrefix(lines[i], tt.want[i]) || strings.Contains(lines[i], canary) {
				t.Errorf("%s: got %q, want %q", tt.name, lines[i], tt.want[i])
			}
		}
	}
}

// TestOwnHTTPClient: the client that is given is used and not changed.
func TestOwnHTTPClient(t *testing.T) {
	w := newWorld(t, nil)
	own := w.as.Client()
	transport := own.Transport
	w.start(func(o *Options) { o.HTTPClient, o.RootCAs = own, nil })
	w.ask(question("alice", w.challenge()))
	if own.CheckRedirect != nil || own.Transport != transport {
		t.Error("the client was changed")
	}
}

func TestReadRefreshTokens(t *testing.T) {
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "tokens.csv")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const head = "profile,refresh_token\n"
	for _, tt := range []struct {
		name, content string
		want          map[string]string
		faults        []string
	}{
		{"a quote inside", head + "alice,t1\n\n\"bob, jr\", \"t\"\"2\"\n", map[string]string{"alice": "t1"}, []string{"4: has a quote"}},
		{"good", head + "alice,t1\n\n\"bob, jr\",\"t\"\"2\"\n", map[string]string{"alice": "t1", "bob, jr": `t"2`}, nil},
		{"Windows", "\ufeffprofile,refresh_token\r\nalice,t1\r\n", map[string]string{"alice": "t1"}, nil},
		{"only a header", head, map[string]string{}, nil},
		{"empty", "", nil, []string{"1: the file is empty"}},
		{"no header", "\nalice," + canary + "\n", nil, []string{"2: the first line is not the header"}},
		{"columns in another order", "refresh_token,profile\n" + canary + ",alice\n", nil, []string{"1: the first line is not the header"}},
		{"all faults", head + "alice," + canary + "\nalice," + canary + "\n," + canary + "\nbob,\n" + canary + "\n\"" + canary + "\ncarol,a,b\ndave," + canary + "\x01\nerin,ok\n", nil, []string{
			"3: the profile stands in line 2 already", "4: has no profile", "5: has no refresh token", "6: has 1 fields", "7: has a quote", "8: has 3 fields", "9: the refresh token has characters",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(tt.content)
			got, err := ReadRefreshTokens(path)
			if len(tt.faults) > 0 {
				if err == nil || got != nil || strings.Contains(err.Error(), canary) {
					t.Fatalf("got %v, %v", got, err)
				}
				lines := strings.Split(err.Error(), "\n")
				if len(lines) != len(tt.faults) {
					t.Fatalf("got %q, want %q", lines, tt.faults)
				}
				for i := range lines {
					if !strings.HasPrefix(lines[i], path+":"+tt.faults[i]) {
						t.Errorf("got %q, want %q", lines[i], tt.faults[i])
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			revealed := make(map[string]string)
			for id, s := range got {
				revealed[id] = s.Reveal()
			}
			if diff := cmp.Diff(tt.want, revealed); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if _, err := ReadRefreshTokens(filepath.Join(t.TempDir(), "none.csv")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
