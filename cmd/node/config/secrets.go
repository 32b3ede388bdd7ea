package config

import (
	"crypto/x509"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sipmuster/muster/admin/declare"
	"github.com/sipmuster/muster/messages"
)

// leastSecret is the shortest secret that is taken without a warning, in bytes:
// 128 bits.
// maxSecret and maxPEM bound what is read.
const (
	leastSecret = 16
	maxSecret   = 64 << 10
	maxPEM      = 1 << 20
)

// secret reads a file that holds one secret. A line break at its end is not
// part of it. No problem shows anything of it.
func (v value) secret() messages.Secret {
	content, ok := v.content(maxSecret, "holds a secret")
	if !ok {
		return messages.Secret{}
	}
	text := strings.TrimRight(string(content), "\r\n") // as a shell's $(cat FILE) does
	switch {
	case text == "":
		v.problem("the file is empty", "put the secret into it")
	case len(text) < leastSecret:
		v.load.warn("%s:%d: %s: the secret has %d bytes, which can be guessed (take at least %d: openssl rand -hex 32)",
			v.load.file, v.target().Line, v.path, len(text), leastSecret)
	}
	return messages.NewSecret(text)
}

// authorities reads the certificates that are trusted instead of the system's.
func (v value) authorities() *x509.CertPool {
	content, ok := v.content(maxPEM, "")
	if !ok {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		v.problem("the file holds no certificate", "it must be PEM")
	}
	return pool
}

// content reads a small file. Others must not be able to read what is private.
func (v value) content(most int64, private string) ([]byte, bool) {
	f, ok := v.open(private)
	if !ok {
		return nil, false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		v.problem(openError(f.Name(), err).Error(), "")
		return nil, false
	case int64(len(content)) > most:
		v.problem(f.Name()+": is larger than "+strconv.Itoa(int(most>>10))+" KiB", "")
		return nil, false
	}
	return content, true
}

// open opens a plain file.
func (v value) open(private string) (*os.File, bool) {
	var path string
	if v.file(&path); path == "" {
		return nil, false
	}
	// A pipe would block: look before opening.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is not a plain file")
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err != nil {
		v.problem(openError(path, err).Error(), "relative paths are relative to the folder of this file")
		return nil, false
	}
	if private != "" {
		v.load.warnReadable(path, f, private)
	}
	return f, true
}

// warnReadable warns, once, about a private file that others can read.
func (l *loader) warnReadable(path string, f *os.File, private string) {
	info, err := f.Stat()
	if err != nil || info.Mode().Perm()&0o044 == 0 || slices.Contains(l.readable, path) {
		return
	}
	l.readable = append(l.readable, path)
	l.warn("%s: can be read by other users of this machine, and %s (chmod 600 %s)", path, private, path)
}

// dnsName reads the name that a certificate must hold.
func (v value) dnsName(into *string) {
	text, ok := v.filled()
	if !ok {
		return
	}
	if u, err := declare.ParseURI("sip:" + text); err != nil || u.Host != text {
		v.problem(declare.Show(text)+" is not a DNS name", "write the name that stands in the certificate, such as radius.example.test")
		return
	}
	*into = text
}

// readTLS reads the three files of mutual TLS; at is where their section
// begins. Unless optional they are needed, and mend says for what.
func (l *loader) readTLS(at value, given map[string]value, optional bool, mend string) TLS {
	var t TLS
	var missing []string
	for _, file := range []struct {
		key     string
		into    *string
		private string
	}{{"tls_cert", &t.Cert, ""}, {"tls_key", &t.Key, "holds a private key"}, {"tls_ca", &t.CA, ""}} {
		v, ok := given[file.key]
		if !ok {
			missing = append(missing, file.key)
			continue
		}
		if f, ok := v.open(file.private); ok {
			*file.into = f.Name()
			_ = f.Close() // it was not written to
		}
	}
	switch {
	case len(missing) == 3 && optional:
	case len(missing) == 3:
		at.problem("has no TLS", mend)
	case len(missing) > 0:
		at.problem("lacks "+strings.Join(missing, " and "), "tls_cert, tls_key and tls_ca go together")
	case t.Cert != "" && t.Key != "" && t.CA != "":
		if _, err := t.Load(); err != nil {
			for _, fault := range split(err) {
				text, authority := strings.CutPrefix(fault.Error(), "ca: ")
				key := "tls_cert"
				if authority {
					key = "tls_ca"
				}
				given[key].problem("cannot be used: "+text, "")
			}
		}
	}
	return t
}
