package muster_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/signature"
	"github.com/sipmuster/muster/messages"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// handledBy declares profiles at the registrar "r" without any secret: the xSP
// knows them.
func handledBy(handler string, ids ...string) []actors.Declaration {
	ds := rows(ids...)
	for i := range ds {
		ds[i].Password, ds[i].RegistrationHandler = messages.Secret{}, handler
	}
	return ds
}

// authorization is the value of the Authorization header, which stands there
// once or not at all.
func authorization(req *siptest.Request) string {
	all := req.Message.GetHeaders("Authorization")
	if len(all) == 0 {
		return ""
	}
	return all[0].Value()
}

// unauthorized asks for credentials.
func unauthorized(challenge string) *siptest.Reply {
	return &siptest.Reply{Status: 401, Headers: []string{"WWW-Authenticate: " + challenge}}
}

// reregister refreshes a profile that is registered, and waits until it is
// again.
func reregister(t *testing.T, node *muster.Node, id string) {
	t.Helper()
	before := strings.Count(story(t, node, id), "registered (200)")
	if _, err := node.RefreshProfile(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, id+" is refreshed", func() bool { return strings.Count(story(t, node, id), "registered (200)") > before })
}

// metricsOf is what a scrape of the node shows.
func metricsOf(node *muster.Node) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(node.Metrics().Gatherer(), promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// wantNowhere searches the folder of a node that has stopped, and other texts,
// for secrets: as they are, in hex, in base64 and as printed bytes.
func wantNowhere(t *testing.T, folder string, texts map[string][]byte, secrets map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing is in %s (%v)", folder, err)
	}
	for _, name := range files {
		if texts[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(text []byte, secret string) bool {
		raw := []byte(secret)
		return slices.ContainsFunc([]string{
			secret, hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
			base64.RawStdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
			strings.Trim(fmt.Sprint(raw), "[]"),
		}, func(spelling string) bool { return bytes.Contains(text, []byte(spelling)) })
	}
	for where, text := range texts {
		if len(text) == 0 {
			t.Errorf("%s is empty: is it what it should be?", where)
		}
		for what, secret := range secrets {
			if holds(text, secret) {
				t.Errorf("%s holds %s", where, what)
			}
		}
	}
	for what, secret := range secrets {
		if !holds([]byte("before"+secret+"behind"), secret) || !holds(fmt.Appendf(nil, "before%xbehind", secret), secret) {
			t.Errorf("the search for %s is blind", what)
		}
	}
}

// signedRegistrar wants requests to be signed with a key: the other side of
// package signature.
type signedRegistrar struct {
	key messages.Secret
	// nonces tells whether the challenges have one, good for one request.
	nonces bool

	mu    sync.Mutex
	given map[string]bool // nonces that were not used yet
	log   []string
}

func (s *signedRegistrar) behave(req *siptest.Request) *siptest.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	challenge := `HMAC-SHA256 realm="example.test"`
	if s.nonces {
		nonce := fmt.Sprintf("n%d", req.Serial)
		s.given[nonce] = true
		challenge += fmt.Sprintf(`, nonce=%q`, nonce)
	}
	value := authorization(req)
	if value == "" {
		s.log = append(s.log, "challenged")
		return unauthorized(challenge)
	}
	realm, nonce, err := signature.Verify(s.key, "REGISTER", req.URI, value, req.At, time.Minute)
	header := req.Message.GetHeader("X-Muster-Signature")
	switch {
	case err != nil:
		s.log = append(s.log, err.Error())
		return unauthorized(challenge)
	case realm != "example.test" || s.nonces && !s.given[nonce]:
		s.log = append(s.log, "replayed")
		return unauthorized(challenge)
	case header == nil || !strings.HasPrefix(header.Value(), "t="):
		s.log = append(s.log, "no X-Muster-Signature")
		return &siptest.Reply{Status: 400}
	}
	delete(s.given, nonce)
	s.log = append(s.log, "ok")
	return nil
}

// TestXSPSignsForARegistrar: the worked example of a procedure of one's own,
// against a server that uses its Verify. Without a nonce in the challenge a
// refresh is one request, with one it is two.
func TestXSPSignsForARegistrar(t *testing.T) {
	t.Parallel()
	const secret = "canary-of-the-signature-77d0"
	for name, tt := range map[string]struct {
		nonces bool
		want   string
	}{
		"without nonces": {false, "challenged ok ok"},
		"with nonces":    {true, "challenged ok challenged ok"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &signedRegistrar{key: messages.NewSecret(secret), nonces: tt.nonces, given: map[string]bool{}}
			registrar := newRegistrar(t, siptest.Options{Behaviour: s.behave})
			signer, err := signature.New(signature.Options{Key: s.key, KeyID: "k1", Header: "X-Muster-Signature"})
			if err != nil {
				t.Fatal(err)
			}
			var log logbook
			data := t.TempDir() + "/data"
			node := startNode(t, muster.Options{DataDir: data, Logger: log.logger(), Desired: muster.Desired{
				XSPs:       []actors.XSP{{Name: "sign", Authenticator: signer, Headers: []string{"X-Muster-Signature"}}},
				Registrars: []actors.Registrar{target(registrar)}, Profiles: handledBy("sign", "alice"),
			}})
			waitState(t, node, actors.StateRegistered, "alice")
			reregister(t, node, "alice")
			stopNode(t, node)
			s.mu.Lock()
			got := strings.Join(s.log, " ")
			s.mu.Unlock()
			if got != tt.want {
				t.Errorf("the registrar saw %q, want %q", got, tt.want)
			}
			wantNowhere(t, data, map[string][]byte{"log": log.bytes()}, map[string]string{"the key": secret})
			wantInvariants(t, registrar)
		})
	}
}
