package muster

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// isHere tells whether a host in a Request-URI is this node: the advertised one,
// or an address that it listens on. The host is in lower case and without
// brackets.
func (n *Node) isHere(host string) bool {
	if advertised := n.options.SIP.Advertise; advertised != "" {
		if name, _, err := net.SplitHostPort(advertised); err == nil {
			advertised = name
		}
		if strings.ToLower(strings.Trim(advertised, "[]")) == host {
			return true
		}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, listener := range n.adapter.Addrs() {
		u, err := url.Parse(listener)
		if err != nil {
			continue
		}
		local, err := netip.ParseAddr(u.Hostname())
		switch {
		case err != nil:
		case local == addr, local.IsUnspecified() && isLocal(addr):
			return true
		}
	}
	return false
}

// isLocal tells whether an interface of this machine has an address.
func isLocal(addr netip.Addr) bool {
	locals, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, local := range locals {
		if p, err := netip.ParsePrefix(local.String()); err == nil && p.Addr() == addr {
			return true
		}
	}
	return false
}
