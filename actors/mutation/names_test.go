package mutation

import (
	"strings"
	"testing"

	"github.com/sipmuster/muster/messages"
)

// protected is the class "never" of the header policy, written out once more:
// what it lists must be refused whatever the code's own list says.
var protected = strings.Fields(`
	Via Call-ID CSeq From To Max-Forwards Route Record-Route Path Service-Route Contact
	Content-Length Content-Type Content-Encoding Content-Disposition Content-Language Content-ID MIME-Version
	Transfer-Encoding RAck RSeq Expires Min-Expires Session-Expires Min-SE Event Allow-Events
	Refer-To Referred-By Replaces Join Privacy P-Asserted-Identity P-Preferred-Identity Remote-Party-ID
	Date Retry-After WWW-Authenticate Proxy-Authenticate Authentication-Info Proxy-Authentication-Info
	v i f t m l c e o r b u x a j d`)

// listable are the headers of the policy that a configuration may open.
var listable = []string{
	"P-Access-Network-Info", "P-Visited-Network-ID", "Security-Client", "Security-Verify", "Identity",
	"P-Charging-Vector", "Require", "Proxy-Require", "Supported", "X-Token", "x-Other", "User-Agent",
	"Authorization", "Proxy-Authorization",
}

func TestS50_Canonical(t *testing.T) {
	for name, want := range map[string]string{
		"Via": "via", "VIA": "via", "v": "via", "V": "via", "i": "call-id", "f": "from", "T": "to", "m": "contact",
		"l": "content-length", "c": "content-type", "e": "content-encoding", "s": "subject", "k": "supported",
		"o": "event", "r": "refer-to", "b": "referred-by", "u": "allow-events", "x": "session-expires",
		"j": "reject-contact", "a": "accept-contact", "d": "request-disposition", "y": "identity", "n": "identity-info",
		"CSeq": "cseq", "Content-Length": "content-length", "Expires": "expires", "X-One": "x-one",
		" Via": " via", "Via ": "via ", "": "",
	} {
		if got := Canonical(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Canonical("Content-Length"); Canonical("v"); Canonical("k") }); n != 0 {
		t.Errorf("%v allocations for usual names", n)
	}
}

// A configuration cannot open what is protected, and the error says why.
func TestS50_Listable(t *testing.T) {
	for _, name := range listable {
		if err := Listable(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range protected {
		if err := Listable(name); err == nil || !strings.Contains(err.Error(), "can never be changed") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"via":                 "Via decides where the request goes and can never be changed",
		"v":                   "Via decides where the request goes and can never be changed",
		"cseq":                "CSeq decides which transaction or dialog the request belongs to and can never be changed",
		"p-asserted-identity": "P-Asserted-Identity decides who the request claims to come from or to be for and can never be changed",
		"rack":                "RAck decides which",
		"min-se":              "Min-SE decides how long",
		"Content-Foo":         "Content-Foo describes the body",
		"www-authenticate":    "WWW-Authenticate belongs into a response",
		"k":                   `"k" is a compact form: write Supported`,
		"Y":                   `"Y" is a compact form: write Identity`,
		"X-*":                 "one by one",
		"*":                   "one by one",
		"":                    "not the name of a header",
		"X One":               "not the name of a header",
		"X-One ":              "not the name of a header",
		"X-One:":              "not the name of a header",
		"X-One\r\nVia":        `"X-One\r\nVia" is not the name of a header`,
		"X-\u00dc":            "not the name of a header",
	} {
		if err := Listable(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// What Listable refuses, Check refuses as well, even when it is listed; what it
// accepts, Check refuses only as long as it is not listed.
func TestS50_CheckAgreesWithListable(t *testing.T) {
	for _, name := range protected {
		for _, written := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			for _, op := range []messages.Op{messages.Op_SET, messages.Op_ADD, messages.Op_REMOVE} {
				ms := []*messages.HeaderMutation{{Op: op, Name: written, Value: "canary"}}
				err := Check(ms, []string{name, Canonical(name)})
				if err == nil || !strings.Contains(err.Error(), "may not be changed") || strings.Contains(err.Error(), "canary") {
					t.Errorf("%v %q: %v", op, written, err)
				}
			}
		}
	}
	for _, name := range listable {
		ms := []*messages.HeaderMutation{{Op: messages.Op_ADD, Name: name, Value: secAgree}}
		if err := Check(ms, listable); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if err := Check(ms, nil); (err == nil) != isCredentials(Canonical(name)) {
			t.Errorf("%q, not listed: %v", name, err)
		}
	}
}

func TestSpelled(t *testing.T) {
	for canonical, want := range map[string]string{
		"authorization": "Authorization", "cseq": "CSeq", "call-id": "Call-ID", "rseq": "RSeq", "sip-if-match": "SIP-If-Match",
		"sip-etag": "SIP-ETag", "p-associated-uri": "P-Associated-URI", "p-visited-network-id": "P-Visited-Network-ID",
		"x--y-": "X--Y-", strings.Repeat("a", 50): "A" + strings.Repeat("a", 39) + "...",
	} {
		if got := spelled(canonical); got != want {
			t.Errorf("%q: %q, want %q", canonical, got, want)
		}
	}
}
