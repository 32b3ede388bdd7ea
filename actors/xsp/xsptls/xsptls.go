// Package xsptls reads the files of mutual TLS between a node and the xSPs that
// it reaches by gRPC or as actors (S-40, S-76).
//
// Both ends use the same kind of configuration: a certificate of their own and
// one authority that both certificates come from. It works as a client, which
// verifies the server's name, and as a server, which demands and verifies the
// client's certificate. Who of those with a certificate may do what is not
// decided here.
package xsptls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Load reads a certificate chain, its key and the authority's certificates,
// each a PEM file, for TLS 1.3. All faults are told at once, by the field that
// is at fault: cert, key or ca.
func Load(cert, key, ca string) (*tls.Config, error) {
	certPEM, certErr := read("cert", cert)
	keyPEM, keyErr := read("key", key)
	pool, caErr := authorities(ca)
	faults := []error{certErr, keyErr, caErr}
	var pair tls.Certificate
	if certErr == nil && keyErr == nil {
		var err error
		if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
			faults = append(faults, fmt.Errorf("cert %s with key %s: %w", cert, key, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}

func read(field, path string) ([]byte, error) {
	if path == "" {
		return nil, fmt.Errorf("%s: no file is given", field)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return pem, nil
}

func authorities(path string) (*x509.CertPool, error) {
	pem, err := read("ca", path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s holds no certificate in PEM form", path)
	}
	return pool, nil
}
