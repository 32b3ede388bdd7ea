package profile

import "testing"

// TestHostOf: a redirect leads to a host of the target set or nowhere (S-06,
// S-15).
func TestHostOf(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:one.example.test":                                               "one.example.test",
		"SIP:One.Example.Test:5080;transport=TCP":                            "one.example.test",
		"sip:user:pw@one.example.test":                                       "one.example.test",
		"sip:a@b@one.example.test":                                           "",
		"sip:one.example.test@evil.example.net":                              "evil.example.net",
		"sip:one.example.test?Route=%3Csip:evil%3E":                          "one.example.test",
		"sip:one.example.test;maddr=evil.example.net":                        "evil.example.net",
		"sip:one.example.test;%6daddr=evil.example.net":                      "",
		"sip:one.example.test;maddr=one.example.test;maddr=evil.example.net": "",
		"sip:[2001:db8::1]:5060":                                             "[2001:db8::1]",
		"sip:[2001:db8::1":                                                   "",
		"sips:one.example.test":                                              "",
		"tel:+123":                                                           "",
		"":                                                                   "",
		"one.example.test":                                                   "",
		"sip:":                                                               "",
		"<sip:one.example.test>":                                             "",
		"sip:one.example.test%00.evil.example.net":                           "one.example.test%00.evil.example.net",
		"sip:evil.example.net;x=@one.example.test":                           "",
		"sip:evil.example.net?x=@one.example.test":                           "",
		"sip:one.example.test;x=1@evil.example.net":                          "",
		"sip:one.example.test?subject=x@evil.example.net":                    "",
	} {
		if got := HostOf(uri); got != want {
			t.Errorf("HostOf(%q) = %q, want %q", uri, got, want)
		}
	}
}
