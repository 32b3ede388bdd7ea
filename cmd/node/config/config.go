package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/sipmuster/muster/actors"
)

// Config is a configuration that was found free of errors. Paths in it are
// joined with the folder of the file.
type Config struct {
	// File is the path that was read.
	File       string
	Node       Node
	Admin      Admin
	SIP        SIP
	Remote     Remote
	Registrars []actors.Registrar
	// XSPs are in the order of their names.
	XSPs []XSP
	// Trunks are in the order of their names.
	Trunks   []actors.Trunk
	Profiles Profiles
	Log      Log
	Shutdown Shutdown
	// Warnings are sentences for the operator; the node runs all the same.
	Warnings []string
}

// Node is the section "node".
type Node struct {
	// ID names the node in logs and metrics; "node-1" when absent.
	ID string
	// DataDir holds the journal; "data" when absent.
	DataDir string
	// KeyFile seals the secrets in the journal; "muster.key" when absent. It
	// does not belong into DataDir (S-61).
	KeyFile   string
	Retention Retention
}

// Retention bounds the journal. Zero leaves it to the store, negative is no
// limit.
type Retention struct {
	Events int
	Age    time.Duration
	Bytes  int64
}

// Admin is the section "admin".
type Admin struct {
	// Listen is host:port; 127.0.0.1:8080 when absent.
	Listen string
	// TLSCert and TLSKey are PEM files, both or neither.
	TLSCert, TLSKey string
	// TokenFile lists who may call (admin.ReadTokens).
	TokenFile string
}

// SIP is the section "sip".
type SIP struct {
	// Listen are sockets such as "udp://127.0.0.1:5070".
	Listen []string
	// Advertise is the host or host:port that peers are told to answer to;
	// empty for the listener's own.
	Advertise string
	// UserAgent is the header of that name; empty for the product's.
	UserAgent string
	// AcceptFrom are addresses whose responses count although the request went
	// to another one (S-04).
	AcceptFrom []netip.Addr
}

// Remote is the section "remote": the endpoint through which xSPs are reached
// that are actors on other nodes. The zero value is none.
type Remote struct {
	// Listen is host:port.
	Listen string
	// Advertise is what peers connect to; empty for Listen.
	Advertise string
	TLS       TLS
}

// Log is the section "log".
type Log struct {
	// Level is info when absent.
	Level slog.Level
	// JSON is false for text lines.
	JSON bool
}

// Shutdown is the section "shutdown".
type Shutdown struct {
	// Deregister removes the bindings when the node stops. By default they
	// stay: a restart is not an outage.
	Deregister bool
}
