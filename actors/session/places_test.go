package session_test

import (
	"github.com/sipmuster/muster/actors/session"
	"github.com/sipmuster/muster/messages"
)

// Where things are in scripts and walks. The profile's registrar is also its
// proxy: proxy.example.test, which answers from 192.0.2.1.
const (
	ownTarget  = "proxy.example.test:5060"
	ownSource  = "192.0.2.1:5060"
	ownRoute   = "<sip:proxy.example.test;lr>"
	farContact = "sip:bob@far.example.net"
)

// places are all URIs that scripts and walks name: true for those that lead to
// the registrar, written down by hand and not by any parser.
var places = map[string]bool{
	ownRoute:                           true,
	"<sip:PROXY.example.test:5060>":    true,
	"<sip:192.0.2.1;transport=tcp;lr>": true,
	"sip:bob@proxy.example.test":       true,
	"sip:bob@192.0.2.1:5060":           true,

	"<sip:far.example.net;lr>":             false,
	"<sip:evil.example.net;lr>":            false,
	"<sip:proxy.example.test:5080;lr>":     false,
	"<sip:192.0.2.1:5062;lr>":              false,
	farContact:                             false,
	"sip:bob@far.example.net:5070":         false,
	"sip:carol@192.0.2.99;transport=tcp":   false,
	"sip:proxy.example.test@192.0.2.66":    false,
	"sip:bob@proxy.example.test.evil.test": false,
	"tel:+4930123456":                      false,
	"sip:bob@example.test":                 false,
	"sip:one.example.test":                 false,
	"sip:u@two.example.test:5080":          false,

	// The user part ends at the "@", whatever stands in it (RFC 3261 §25.1).
	"<sip:proxy.example.test?@evil.example.net;lr>":   false,
	"<sip:proxy.example.test;x=@evil.example.net;lr>": false,
	"<sip:proxy.example.test:5060@evil.example.net>":  false,
	// maddr is where the request goes (RFC 3263 §4).
	"<sip:proxy.example.test;maddr=192.0.2.66;lr>": false,
	"sip:bob@192.0.2.1;MADDR=192.0.2.66":           false,
	"<sip:evil.example.net;maddr=192.0.2.1;lr>":    true,
	// A display name may look like a URI.
	`"<sip:proxy.example.test>" <sip:evil.example.net;lr>`: false,
}

// ours tells whether a request to a URI goes to the registrar. Where an INVITE
// was answered from counts only for a call of ours.
func ours(s session.State, uri string) bool {
	leads, known := places[uri]
	if !known {
		panic("places does not know " + uri)
	}
	switch uri {
	case "<sip:192.0.2.1;transport=tcp;lr>", "sip:bob@192.0.2.1:5060", "<sip:evil.example.net;maddr=192.0.2.1;lr>":
		return leads && !s.Inbound() && s.Source == ownSource
	}
	return leads
}

// ourHop tells whether a request in a dialog goes to the registrar first.
func ourHop(s session.State, d *messages.Dialog) bool {
	if routes := d.GetRouteSet(); len(routes) > 0 {
		return ours(s, routes[0])
	}
	return ours(s, d.GetTarget())
}

// known tells a dialog of places from one that was made up where the peer gave
// no Contact.
func known(d *messages.Dialog) bool {
	_, ok := places[d.GetTarget()]
	return ok || len(d.GetRouteSet()) > 0
}
