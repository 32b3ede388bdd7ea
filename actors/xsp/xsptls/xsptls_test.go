package xsptls_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipmuster/muster/actors/xsp/xsptls"
	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
)

func TestLoadTellsEveryFaultByField(t *testing.T) {
	ca := xsptlstest.New(t)
	cert, key, root := ca.Files("a.test")
	_, otherKey, _ := ca.Files("b.test")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert, key, ca string
		want          []string
	}{
		"nothing given":     {"", "", "", []string{"cert: ", "key: ", "ca: "}},
		"no files":          {"/none/cert", "/none/key", "/none/ca", []string{"cert: ", "key: ", "ca: "}},
		"another's key":     {cert, otherKey, root, []string{"cert " + cert + " with key " + otherKey}},
		"not PEM":           {text, key, text, []string{"cert " + text, "ca: "}},
		"no authority":      {cert, key, text, []string{"ca: "}},
		"a key for the CA":  {cert, key, key, []string{"ca: "}},
		"nothing is broken": {cert, key, root, nil},
	} {
		_, err := xsptls.Load(c.cert, c.key, c.ca)
		if (err != nil) != (c.want != nil) {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not name %q", name, err, want)
			}
		}
	}
}

// TestS76_BothSidesVerify connects configurations of Load with each other.
func TestS76_BothSidesVerify(t *testing.T) {
	ca, other := xsptlstest.New(t), xsptlstest.New(t)
	server := ca.Config("server.test")
	bare := ca.Config("client.test")
	bare.Certificates = nil
	old := ca.Config("client.test")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, c := range map[string]struct {
		client *tls.Config
		ok     bool
	}{
		"same authority":    {ca.Config("client.test"), true},
		"another authority": {other.Config("client.test"), false},
		"no certificate":    {bare, false},
		"TLS 1.2":           {old, false},
	} {
		client := c.client.Clone()
		client.ServerName = "server.test"
		if err := handshake(t, client, server); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// handshake is the server's error: with TLS 1.3 the client is done before it is
// verified.
func handshake(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		conn, err := tls.Dial("tcp", listener.Addr().String(), client)
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1))
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).HandshakeContext(t.Context())
}
