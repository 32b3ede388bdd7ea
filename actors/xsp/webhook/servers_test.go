package webhook_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// answers serves one body, whatever is asked.
func answers(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// status serves a status with a body that would be an answer.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, reply("r"))
	}
}

// padded is an answer of a given length.
func padded(length int) string {
	head, tail := `{"ref":"r","later":"`, `"}`
	return head + strings.Repeat("x", length-len(head)-len(tail)) + tail
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// drip sends a byte now and then until the client is gone.
func drip(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _ = io.WriteString(w, " ")
		flush(w)
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// hangUp writes bytes instead of a response and closes the connection.
func hangUp(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(conn, text)
	_ = conn.Close()
}

// reset is hangUp with RST instead of FIN, and without the end of TLS.
func reset(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(conn, text)
	inner := conn.(*tls.Conn).NetConn()
	_ = inner.(*net.TCPConn).SetLinger(0)
	_ = inner.Close()
}

// bomb sends few bytes that unpack to 2 MiB.
func bomb(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, `{"ref":"r","later":"`)
	_, _ = z.Write(bytes.Repeat([]byte("x"), 2<<20))
	_, _ = io.WriteString(z, `"}`)
	_ = z.Close()
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(b.Bytes())
}
