package mutation

import (
	"slices"
	"strings"
	"testing"

	"github.com/sipmuster/muster/messages"
)

func set(name, value string) *messages.HeaderMutation {
	return &messages.HeaderMutation{Op: messages.Op_SET, Name: name, Value: value}
}

func add(name, value string) *messages.HeaderMutation {
	return &messages.HeaderMutation{Op: messages.Op_ADD, Name: name, Value: value}
}

func remove(name string) *messages.HeaderMutation {
	return &messages.HeaderMutation{Op: messages.Op_REMOVE, Name: name}
}

func list(ms ...*messages.HeaderMutation) []*messages.HeaderMutation { return ms }

// Names count in their canonical form and are never trimmed; a name that is no
// token is an error that shows no more than the token it begins with.
func TestS50_Names(t *testing.T) {
	extra := []string{"P-Access-Network-Info", "X-One", "Supported"}
	for _, m := range list(
		set("Authorization", "x"), set("AUTHORIZATION", "x"), add("proxy-authorization", "x"), remove("Authorization"),
		set("p-access-network-info", "x"), remove("x-one"), add("Supported", "sec-agree"), add("k", "sec-agree"), add("K", "sec-agree"),
	) {
		if err := Check(list(m), extra); err != nil {
			t.Errorf("%v: %v", m, err)
		}
	}
	for _, name := range []string{
		"", " Authorization", "Authorization ", "Authorization\t", "Authorization:", "Contact\x01", "X-Bypass-me :",
		"Authorization\r\nVia", "Authorization\x00", "Auth orization", "Authorizati\u00f6n", "\u212a", // the Kelvin sign folds to k
		"Authorization: Bearer canary", "X-One canary", "X-Two", "X-On", "X-One-Two", "*", "X-*",
	} {
		for _, m := range list(set(name, "canary"), add(name, "canary"), remove(name)) {
			err := Check(list(m), extra)
			if err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%q: %v", name, err)
			}
			if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q: not printable: %q", name, err)
			}
		}
	}
	long := set(strings.Repeat("x", 1000), "v")
	if err := Check(list(long), nil); err == nil || len(err.Error()) > 120 {
		t.Errorf("a long name: %v", err)
	}
}

// Require, Proxy-Require and Supported can only have sec-agree added, and only
// when they are listed (RFC 3329 §2.3.1).
func TestS50_SecAgree(t *testing.T) {
	extra := []string{"Require", "Proxy-Require", "Supported"}
	for _, name := range []string{"Require", "proxy-require", "SUPPORTED", "k"} {
		if err := Check(list(add(name, "sec-agree")), extra); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := Check(list(add(name, "sec-agree")), nil); err == nil {
			t.Errorf("%s is accepted without being listed", name)
		}
		for _, m := range list(
			set(name, "sec-agree"), remove(name), &messages.HeaderMutation{Op: messages.Op_REMOVE, Name: name, Value: "sec-agree"},
			add(name, "sec-agree, 100rel"), add(name, "100rel"), add(name, " sec-agree"), add(name, "sec-agree,"), add(name, "Sec-Agree"), add(name, ""),
		) {
			if err := Check(list(m), extra); err == nil || !strings.Contains(err.Error(), "may only have sec-agree added") {
				t.Errorf("%v: %v", m, err)
			}
		}
	}
}

func TestS51_Values(t *testing.T) {
	for _, value := range []string{"a\r\nX: y", "a\rb", "a\nb", "a\x00b", "a\x1fb", "a\x7fb", "\xff", "", " \t", "a\r\n b"} {
		if err := Check(list(set("Authorization", value)), nil); err == nil {
			t.Errorf("%q is accepted", value)
		}
	}
	for _, value := range []string{`Digest realm="ü"`, "a\tb", "  Bearer x  "} {
		if err := Check(list(set("Authorization", value)), nil); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
	// What is not written is weighed all the same.
	if err := Check(list(&messages.HeaderMutation{Op: messages.Op_REMOVE, Name: "Authorization", Value: "a\r\nb"}), nil); err == nil {
		t.Error("a REMOVE with a hostile value is accepted")
	}
}

func TestS44_Bounds(t *testing.T) {
	one := set("Authorization", "x")
	for name, ms := range map[string][]*messages.HeaderMutation{
		"empty":             {nil},
		"no operation":      {{Name: "Authorization", Value: "x"}},
		"unknown operation": {{Op: 9, Name: "Authorization", Value: "x"}},
		"17 mutations":      slices.Repeat(list(one), 17),
		"over 16 KiB":       {set("Authorization", strings.Repeat("x", 16<<10))},
		"over 16 KiB in all": {
			set("Authorization", strings.Repeat("x", 8<<10)), set("Proxy-Authorization", strings.Repeat("x", 8<<10)),
		},
		"the last is wrong": {one, one, set("Via", "x")},
	} {
		if err := Check(ms, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := Check(slices.Repeat(list(one), 16), nil); err != nil {
		t.Error(err)
	}
	if err := Check(list(set("Authorization", strings.Repeat("x", 16<<10-len("Authorization")))), nil); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = Check(nil, nil) }); n != 0 {
		t.Errorf("%v allocations for a request without mutations", n)
	}
}
