package actors

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/messages"
)

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, text := range texts {
		ps = append(ps, netip.MustParsePrefix(text))
	}
	return ps
}

func TestTrunkOf(t *testing.T) {
	table := newTrunkTable([]Trunk{
		{Name: "pbx", Peers: prefixes("10.0.0.5/32", "2001:db8::/64"), Registrar: "acme"},
		{Name: "yard", Peers: prefixes("10.0.1.0/24"), Profiles: []string{"bob"}},
	})
	for source, want := range map[string]string{
		"10.0.0.5:5060": "pbx", "10.0.0.5:40000": "pbx", "10.0.0.6:5060": "", "[2001:db8::7]:5060": "pbx",
		"[::ffff:10.0.1.9]:5060": "yard", "10.0.2.1:5060": "", "pbx:5060": "", "": "",
	} {
		if got, _ := table.from(source); got.Name != want {
			t.Errorf("from %s: %q, want %q", source, got.Name, want)
		}
	}
	for _, c := range []struct{ id, registrar, want string }{
		{"alice", "acme", "pbx"}, {"bob", "acme", "yard"}, {"bob", "other", "yard"}, {"carol", "other", ""},
	} {
		if got, _ := table.of(c.id, c.registrar); got.Name != c.want {
			t.Errorf("of %s at %s: %q, want %q", c.id, c.registrar, got.Name, c.want)
		}
	}
}

func TestTrunkClaim(t *testing.T) {
	header := func(values ...string) *messages.SIPInbound {
		q := &messages.SIPInbound{From: "sip:100@10.0.0.5"}
		for _, v := range values {
			q.Dialog.Headers = append(q.Dialog.Headers, messages.Header{Name: "x-account", Value: v})
		}
		return q
	}
	for _, c := range []struct {
		profile string
		call    *messages.SIPInbound
		want    string
	}{
		{"from", header("alice"), "sip:100@10.0.0.5"},
		{"from", &messages.SIPInbound{}, ""},
		{"header:X-Account", header("alice"), "alice"},
		{"header:X-Account", header("sip:alice@example.test"), "sip:alice@example.test"},
		{"header:X-Account", header("<sip:alice@example.test>;x=1"), "sip:alice@example.test"},
		{"header:X-Account", header(), ""},
		// Whoever can add a line must not be able to choose.
		{"header:X-Account", header("alice", "bob"), ""},
	} {
		got, ok := Trunk{Profile: c.profile}.claim(c.call)
		if !ok {
			got = ""
		}
		if got != c.want {
			t.Errorf("%s of %v: %q, want %q", c.profile, c.call.Dialog.Headers, got, c.want)
		}
	}
}

func TestCheckTrunks(t *testing.T) {
	acme := []Registrar{{Name: "acme"}}
	good := func(change func(*Trunk)) []Trunk {
		trunk := Trunk{Name: "pbx", Peers: prefixes("10.0.0.5/32"), URI: "sip:10.0.0.5", Profile: ProfileFrom, Registrar: "acme"}
		change(&trunk)
		return []Trunk{{Name: "yard", Peers: prefixes("10.0.1.0/24"), URI: "sip:10.0.1.1", Profile: "header:X-A", Profiles: []string{"bob"}}, trunk}
	}
	if err := CheckTrunks(good(func(*Trunk) {}), acme); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Trunk){
		"has no name":                                       func(t *Trunk) { t.Name = "" },
		`the name belongs to trunk "yard" too`:              func(t *Trunk) { t.Name = "yard" },
		"names no peer":                                     func(t *Trunk) { t.Peers = nil },
		"the address 10.0.1.7/32 belongs to trunk":          func(t *Trunk) { t.Peers = prefixes("10.0.1.7/32") },
		"want a SIP URI without user part":                  func(t *Trunk) { t.URI = "sip:a@b" },
		"profile: want":                                     func(t *Trunk) { t.Profile = "header:" },
		"want either a registrar or profiles":               func(t *Trunk) { t.Profiles = []string{"carol"} },
		`registrar "acne" is not configured`:                func(t *Trunk) { t.Registrar = "acne" },
		`profile "bob" belongs to trunk "yard" too`:         func(t *Trunk) { t.Registrar, t.Profiles = "", []string{"bob"} },
		"headers: Via is written anew on each side":         func(t *Trunk) { t.Headers = []string{"Subject", "Via"} },
		`headers: "s" is a compact form: write subject`:     func(t *Trunk) { t.Headers = []string{"s"} },
		"headers: Content-Language passes by itself":        func(t *Trunk) { t.Headers = []string{"Content-Language"} },
		"headers: Proxy-Authorization holds or asks for cr": func(t *Trunk) { t.Headers = []string{"Proxy-Authorization"} },
	} {
		if err := CheckTrunks(good(change), acme); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, name := range []string{"Subject", "Call-Info", "X-Account", "P-Asserted-Identity", "Diversion", "History-Info", "Privacy", "Alert-Info"} {
		if err := CheckTrunkHeader(name); err != nil {
			t.Error(err)
		}
	}
}

func TestTrunkPeerNames(t *testing.T) {
	got := Trunk{Peers: prefixes("10.0.0.5/32", "10.0.1.0/24", "2001:db8::5/128")}.PeerNames()
	if diff := cmp.Diff([]string{"10.0.0.5", "10.0.1.0/24", "2001:db8::5"}, got); diff != "" {
		t.Error(diff)
	}
}
