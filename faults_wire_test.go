package muster_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// message is a response written by hand, line by line.
type message []string

// answerTo is the response that RFC 3261 §8.2.6 asks for, to be spoilt.
func answerTo(req *siptest.Request, start string, more ...string) message {
	m := message{start}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		value := req.Message.GetHeader(name).Value()
		if name == "To" {
			value += ";tag=by-hand"
		}
		m = append(m, name+": "+value)
	}
	return append(append(m, more...), "Content-Length: 0")
}

// without leaves a header out.
func (m message) without(name string) message {
	var kept message
	for _, line := range m {
		if !strings.HasPrefix(line, name+":") {
			kept = append(kept, line)
		}
	}
	return kept
}

// with changes the value of a header.
func (m message) with(name string, change func(value string) string) message {
	changed := make(message, len(m))
	for i, line := range m {
		if value, found := strings.CutPrefix(line, name+": "); found {
			line = name + ": " + change(value)
		}
		changed[i] = line
	}
	return changed
}

// twice repeats a header.
func (m message) twice(name string) message {
	for _, line := range m {
		if strings.HasPrefix(line, name+":") {
			return append(append(message{m[0]}, line), m[1:]...)
		}
	}
	return m
}

func (m message) bytes() []byte { return []byte(strings.Join(m, "\r\n") + "\r\n\r\n") }

// replaces is a change of a value.
func replaces(old, next string) func(string) string {
	return func(value string) string { return strings.Replace(value, old, next, 1) }
}

// spoiled are the ways to spoil a response. Each would be a 403, which rejects
// a profile for good, if it were believed.
var spoiled = map[string]func(m message) []byte{
	"letters":    func(m message) []byte { m[0] = "SIP/2.0 4O3 Forbidden"; return m.bytes() },
	"nospace":    func(m message) []byte { m[0] = "SIP/2.0403 Forbidden"; return m.bytes() },
	"twospaces":  func(m message) []byte { m[0] = "SIP/2.0  403 Forbidden"; return m.bytes() },
	"protocol":   func(m message) []byte { m[0] = "HTTP/1.1 403 Forbidden"; return m.bytes() },
	"version":    func(m message) []byte { m[0] = "SIP/3.0 403 Forbidden"; return m.bytes() },
	"lowstatus":  func(m message) []byte { m[0] = "SIP/2.0 099 Forbidden"; return m.bytes() },
	"highstatus": func(m message) []byte { m[0] = "SIP/2.0 703 Forbidden"; return m.bytes() },
	"bigstatus":  func(m message) []byte { m[0] = "SIP/2.0 4030000000 Forbidden"; return m.bytes() },
	"minus":      func(m message) []byte { m[0] = "SIP/2.0 -403 Forbidden"; return m.bytes() },
	"nostart":    func(m message) []byte { return m[1:].bytes() },
	"novia":      func(m message) []byte { return m.without("Via").bytes() },
	"twovias":    func(m message) []byte { return m.twice("Via").bytes() },
	"viascomma":  func(m message) []byte { return m.with("Via", func(v string) string { return v + ", " + v }).bytes() },
	"branch":     func(m message) []byte { return m.with("Via", replaces("z9hG4bK", "z9hG4bKx")).bytes() },
	"nobranch":   func(m message) []byte { return m.with("Via", replaces("branch", "twig")).bytes() },
	"sentby":     func(m message) []byte { return m.with("Via", replaces("127.0.0.1", "127.0.0.9")).bytes() },
	"nocseq":     func(m message) []byte { return m.without("CSeq").bytes() },
	"cseqmethod": func(m message) []byte { return m.with("CSeq", replaces("REGISTER", "OPTIONS")).bytes() },
	"cseqcase":   func(m message) []byte { return m.with("CSeq", replaces("REGISTER", "register")).bytes() },
	"cseqnumber": func(m message) []byte { return m.with("CSeq", func(v string) string { return "9" + v }).bytes() },
	"cseqbig": func(m message) []byte {
		return m.with("CSeq", func(v string) string { return "4294967297" + v }).bytes()
	},
	"cseqtwice":   func(m message) []byte { return m.twice("CSeq").bytes() },
	"callid":      func(m message) []byte { return m.with("Call-ID", func(v string) string { return v + "x" }).bytes() },
	"nocallid":    func(m message) []byte { return m.without("Call-ID").bytes() },
	"fromtag":     func(m message) []byte { return m.with("From", func(v string) string { return v + "x" }).bytes() },
	"nofrom":      func(m message) []byte { return m.without("From").bytes() },
	"noto":        func(m message) []byte { return m.without("To").bytes() },
	"length":      func(m message) []byte { return m.with("Content-Length", replaces("0", "500")).bytes() },
	"lengthword":  func(m message) []byte { return m.with("Content-Length", replaces("0", "none")).bytes() },
	"lengthtwice": func(m message) []byte { return m.twice("Content-Length").bytes() },
	"longline": func(m message) []byte {
		return append(m[:1:1], append(message{"X: " + strings.Repeat("x", 9<<10)}, m[1:]...)...).bytes()
	},
	"manylines": func(m message) []byte {
		for range 200 {
			m = append(m, "X: y")
		}
		return m.bytes()
	},
	"datagram": func(m message) []byte { return append(m.bytes(), strings.Repeat("A", 64<<10)...) }, // too long to leave
	"almost":   func(m message) []byte { return append(m, "X: "+strings.Repeat("A", 60<<10)).bytes() },
	"newline":  func(m message) []byte { return append(m, "X: y\nContact: <sip:evil@192.0.2.1>").bytes() },
	"truncated": func(m message) []byte {
		b := m.bytes()
		return b[:len(b)/2]
	},
	"lasthalf": func(m message) []byte {
		b := m.bytes()
		return b[len(b)/2:]
	},
	"binary": func(m message) []byte {
		b := make([]byte, 600)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return append(append([]byte("SIP/2.0 403 "), b...), m[1:].bytes()...)
	},
	"zeros": func(message) []byte { return make([]byte, 4000) },
}

// TestMalformedResponses: a response that is wrong in any way is as good as
// lost, and the right one after it counts (S-04, S-34).
func TestMalformedResponses(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			faults := map[string]fault{
				// Written by hand and not spoiled, it is believed: the others
				// are not passed over for another reason.
				"right": {
					script: func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
						return &siptest.Reply{Raw: answerTo(req, "SIP/2.0 403 Forbidden").bytes()}
					},
					most: 1, state: actors.StateRejected, reason: "registrar.forbidden", told: "was rejected with 403",
				},
			}
			for name, spoil := range spoiled {
				if transport == "tcp" && breaksFraming[name] {
					continue // ends the connection: see TestBrokenFramingEndsTheConnection
				}
				faults[name] = fault{
					script: func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
						wrong := spoil(answerTo(req, "SIP/2.0 403 Forbidden"))
						return &siptest.Reply{Raw: wrong, Then: []*siptest.Reply{{Delay: 50 * time.Millisecond}}}
					},
					most: 2, state: actors.StateRegistered, told: "registered (200)",
				}
			}
			wantFaults(t, actors.Registrar{URI: ";transport=" + transport}, siptest.Options{}, faults)
		})
	}
}

// breaksFraming are those that leave a stream without a message boundary.
var breaksFraming = map[string]bool{
	"length": true, "lengthword": true, "lengthtwice": true, "truncated": true, "lasthalf": true, "datagram": true, "zeros": true,
}

// TestForgedResponses: only the address that was asked may answer, whatever
// else is right about a response (S-04).
func TestForgedResponses(t *testing.T) {
	t.Parallel()
	forged := func(start string, more ...string) script {
		return func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
			var lines []string
			for _, line := range more {
				lines = append(lines, strings.ReplaceAll(line, "CONTACT", contactOf(req)))
			}
			return &siptest.Reply{
				Raw: answerTo(req, start, lines...).bytes(), Elsewhere: true, Copies: 3,
				Then: []*siptest.Reply{{Status: 404, Delay: 100 * time.Millisecond}},
			}
		}
	}
	// The true answer is a 404. Requests beyond the first would mean that the
	// forged one was believed.
	deaf := func(s script) fault {
		return fault{script: s, most: 1, state: actors.StateRejected, reason: "registrar.configuration", told: "was rejected with 404"}
	}
	wantFaults(t, actors.Registrar{}, siptest.Options{}, map[string]fault{
		"ok":        deaf(forged("SIP/2.0 200 OK", "Contact: CONTACT;expires=3600")),
		"challenge": deaf(forged("SIP/2.0 401 Unauthorized", `WWW-Authenticate: Digest realm="example.test", nonce="n", qop="auth"`)),
		"redirect":  deaf(forged("SIP/2.0 302 Moved", "Contact: <sip:127.0.0.1:1>")),
		"later":     deaf(forged("SIP/2.0 503 Later", "Retry-After: 3000")),
	})
}

// TestOddOrder: what comes twice, late or in the wrong order changes nothing.
func TestOddOrder(t *testing.T) {
	t.Parallel()
	own := func(then ...*siptest.Reply) script { return always(siptest.Reply{Then: then}) }
	raw := func(start string, lines ...string) script {
		// A 500, and then another final response to the same request.
		return func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
			var more []string
			for _, line := range lines {
				more = append(more, strings.ReplaceAll(line, "CONTACT", contactOf(req)))
			}
			second := &siptest.Reply{Raw: answerTo(req, start, more...).bytes(), Copies: 2, Delay: 100 * time.Millisecond}
			return &siptest.Reply{Status: 500, Then: []*siptest.Reply{second, {Raw: second.Raw, Delay: 200 * time.Millisecond}}}
		}
	}
	registered := func(s script) fault {
		return fault{script: s, most: 2, state: actors.StateRegistered, told: "registered (200)"}
	}
	failed := func(s script) fault {
		return fault{script: s, most: 1, state: actors.StateBackoff, reason: "registrar.error", told: "failed with 500"}
	}
	wantFaults(t, actors.Registrar{}, siptest.Options{}, map[string]fault{
		"copies":     registered(always(siptest.Reply{Copies: 5})),
		"tryinglate": registered(own(&siptest.Reply{Status: 100}, &siptest.Reply{Status: 183})),
		"provisional": registered(always(siptest.Reply{Status: 100, Then: []*siptest.Reply{
			{Status: 180}, {Status: 199, Delay: 50 * time.Millisecond}, {},
		}})),
		"ok":        failed(raw("SIP/2.0 200 OK", "Contact: CONTACT;expires=3600")),
		"challenge": failed(raw("SIP/2.0 401 Unauthorized", `WWW-Authenticate: Digest realm="example.test", nonce="n", qop="auth"`)),
		"forbidden": failed(raw("SIP/2.0 403 Forbidden")),
		// A 200 to the request that was challenged arrives while the answer to
		// the challenge is under way.
		"overtaken": registered(func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
			if req.HadCredentials {
				return &siptest.Reply{Delay: 200 * time.Millisecond}
			}
			late := answerTo(req, "SIP/2.0 200 OK", "Contact: "+contactOf(req)+";expires=7")
			return &siptest.Reply{Then: []*siptest.Reply{{Raw: late.bytes(), Delay: 100 * time.Millisecond}}}
		}),
	})
}

// TestSilenceOfEveryKind: what is no final response within Timer F ends the
// attempt once, and what comes after that changes nothing. It takes the 32
// seconds of RFC 3261 §17.1.2.2.
func TestSilenceOfEveryKind(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: it takes 40 seconds")
	}
	t.Parallel()
	timeout := func(s script) fault {
		return fault{script: s, most: 1, state: actors.StateBackoff, reason: "timeout", told: "no final response in time"}
	}
	var trying []*siptest.Reply
	for range 30 {
		trying = append(trying, &siptest.Reply{Status: 100, Delay: 1200 * time.Millisecond})
	}
	names := []string{}
	for name := range spoiled {
		names = append(names, name)
	}
	late := timeout(func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
		return &siptest.Reply{Status: 200, Headers: []string{"Contact: " + contactOf(req) + ";expires=3600"}, Delay: 34 * time.Second}
	})
	late.settle = 4 * time.Second
	wantFaults(t, actors.Registrar{}, siptest.Options{Outstanding: 40 * time.Second}, map[string]fault{
		"nothing": timeout(always(siptest.Reply{Drop: true})),
		"trying":  timeout(always(siptest.Reply{Status: 100, Then: trying})),
		"malformed": timeout(func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
			wrong := answerTo(req, "SIP/2.0 200 OK", "Contact: "+contactOf(req)+";expires=3600")
			return &siptest.Reply{Raw: spoiled[names[req.Retransmission%len(names)]](wrong)}
		}),
		"forged": timeout(func(_ *siptest.Registrar, req *siptest.Request) *siptest.Reply {
			wrong := answerTo(req, "SIP/2.0 200 OK", "Contact: "+contactOf(req)+";expires=3600")
			return &siptest.Reply{Raw: wrong.bytes(), Elsewhere: true}
		}),
		"late": late,
	})
}
