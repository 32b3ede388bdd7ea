package sipadapter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sipmuster/muster/actors/mutation"
	"github.com/sipmuster/muster/messages"
)

func set(name, value string) *messages.HeaderMutation {
	return &messages.HeaderMutation{Op: messages.Op_SET, Name: name, Value: value}
}

// S-50, S-51: the adapter is the second line of defence. A request with an
// answer that breaks the header policy does not leave, and what its
// authenticator may change is what the request says.
func TestInvalidMutationIsNotSent(t *testing.T) {
	add := func(name, value string) *messages.HeaderMutation {
		return &messages.HeaderMutation{Op: messages.Op_ADD, Name: name, Value: value}
	}
	for name, tt := range map[string]struct {
		mutation *messages.HeaderMutation
		listed   []string
		sent     bool
	}{
		"protected":                 {set("Route", "<sip:canary>"), []string{"X-One"}, false},
		"protected and listed":      {set("Route", "<sip:canary>"), []string{"Route"}, false},
		"a second line":             {set("Authorization", "canary\r\nVia: x"), nil, false},
		"not listed":                {set("X-One", "canary"), nil, false},
		"listed":                    {set("X-One", "canary"), []string{"X-One"}, true},
		"listed for another":        {set("X-One", "canary"), []string{"X-Two"}, false},
		"sec-agree":                 {add("Require", "sec-agree"), []string{"Require"}, true},
		"sec-agree and more":        {add("Require", "sec-agree, canary"), []string{"Require"}, false},
		"instead of the node's":     {set("Supported", "sec-agree"), []string{"Supported"}, false},
		"sec-agree without leave":   {add("Require", "sec-agree"), nil, false},
		"credentials always may be": {set("Proxy-Authorization", "Bearer canary"), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			log := &canary{}
			a, conn := memAdapter(t, Options{Logger: log.logger()}, seams{})
			defer shut(t, a)
			conn.peer = func(d datagram) []datagram { return []datagram{{data: granted(d.data), addr: peerAddr}} }
			r := register()
			r.Mutations = []*messages.HeaderMutation{set("Authorization", "Bearer canary"), tt.mutation}
			r.MutableHeaders = tt.listed
			o := await(t, send(a, r))
			if tt.sent {
				if o.Response == nil || len(conn.packets()) != 1 {
					t.Errorf("outcome %+v, %d packets", o, len(conn.packets()))
				}
				return
			}
			if o.Failure != messages.ReasonMutation || len(conn.packets()) != 0 {
				t.Errorf("outcome %+v, %d packets", o, len(conn.packets()))
			}
			if strings.Contains(o.Detail+log.text(), "canary") {
				t.Error("S-65: a value is shown")
			}
		})
	}
}

// An answer that makes a request larger than any message fails cleanly.
func TestS53_AnswerOverTheLimit(t *testing.T) {
	a, conn := memAdapter(t, Options{}, seams{})
	defer shut(t, a)
	r := large(15 << 10)
	r.ContentType, r.Body = "text/plain", make([]byte, 52_000)
	if o := await(t, send(a, r)); o.Failure != messages.ReasonTooLarge || len(conn.packets()) != 0 {
		t.Errorf("outcome %+v, %d packets", o, len(conn.packets()))
	}
}

// The header part of a URI stays where it is, or is left out: no line of the
// request comes out of it.
func TestS54_URIHeadersStayInTheURI(t *testing.T) {
	const part = "?Route=%3Csip:evil%3E&Authorization=evil&Via=evil"
	for name, spoil := range map[string]func(*messages.SIPRequest){
		"Request-URI":  func(r *messages.SIPRequest) { r.RequestURI += part },
		"From":         func(r *messages.SIPRequest) { r.From += part },
		"To":           func(r *messages.SIPRequest) { r.To += part },
		"contact user": func(r *messages.SIPRequest) { r.ContactUser += part },
		"loose route":  func(r *messages.SIPRequest) { r.Route = []string{"<sip:p.test;lr" + part + ">"} },
		"strict route": func(r *messages.SIPRequest) { r.Route = []string{"<sip:p.test" + part + ">"} },
	} {
		r := register()
		spoil(r)
		p := packetOf(t, r)
		want := map[string]int{"Authorization": 0, "Via": 1, "Route": len(r.Route)}
		for header, n := range want {
			if got := headerLines([]byte(p), header); len(got) != n {
				t.Errorf("%s: %s stands there %d times, want %d:\n%s", name, header, len(got), n, p)
			}
		}
	}
}

// Whatever is accepted, the request re-parses to exactly the intended header
// list: no further line, no other identity, and no longer than the bounds of an
// answer allow (S-50, S-51, S-53).
func TestMutationsSerialiseAsIntended(t *testing.T) {
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	listed := []string{"X-One", "Require", "Supported", "User-Agent"}
	ops := rapid.SampledFrom([]messages.Op{messages.Op_SET, messages.Op_ADD, messages.Op_REMOVE})
	allowed := rapid.SampledFrom([]string{"Authorization", "authorization", "Proxy-Authorization", "X-One", "user-agent"})
	options := rapid.SampledFrom([]string{"k", "Supported", "Require", "REQUIRE"})
	others := rapid.SampledFrom([]string{"Via", "l", "Route", "Contact", "X One", "X-Two", "Proxy-Require"})
	text := rapid.StringMatching(`[!-~][ -~]{0,40}`)
	accepted, agreed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *messages.HeaderMutation {
			switch kind := rapid.IntRange(0, 19).Draw(t, "kind"); {
			case kind == 0:
				return &messages.HeaderMutation{
					Op:    messages.Op(rapid.IntRange(0, 4).Draw(t, "op")),
					Name:  rapid.OneOf(allowed, options, others).Draw(t, "name"),
					Value: rapid.OneOf(text, rapid.String(), rapid.Just("a\r\nVia: x"), rapid.Just("sec-agree,x")).Draw(t, "value"),
				}
			case kind < 6:
				return &messages.HeaderMutation{Op: messages.Op_ADD, Name: options.Draw(t, "name"), Value: "sec-agree"}
			}
			return &messages.HeaderMutation{Op: ops.Draw(t, "op"), Name: allowed.Draw(t, "name"), Value: text.Draw(t, "value")}
		}), 0, 6).Draw(t, "mutations")
		if mutation.Check(list, listed) != nil {
			return
		}
		accepted++
		r := register()
		r.Supported = []string{"path"}
		plain := packet(r)
		before, err := a.parseRequest(plain, false)
		if err != nil || before.faulty {
			t.Fatalf("%v", err)
		}
		r.Mutations, r.MutableHeaders = list, listed
		mutated := packet(r)
		after, err := a.parseRequest(mutated, false)
		if err != nil || after.faulty {
			t.Fatalf("%v", err)
		}
		if diff := cmp.Diff(intended(before.fields, list), sorted(after.fields)); diff != "" {
			t.Fatalf("headers (-want +got):\n%s", diff)
		}
		if after.target != r.RequestURI || len(after.body) != 0 {
			t.Fatalf("%+v", after)
		}
		// RFC 3329: an answer adds sec-agree and takes no option tag away.
		tags := []string{"path"}
		for _, m := range list {
			if mutation.Canonical(m.GetName()) == "supported" {
				tags = append(tags, "sec-agree")
				agreed++
			}
		}
		if diff := cmp.Diff(tags, headerLines(mutated, "Supported")); diff != "" {
			t.Fatalf("Supported (-want +got):\n%s", diff)
		}
		// 16 names and values of 16 KiB together, 4 bytes around each, and a
		// compact form is written out.
		if most := len(plain) + 16<<10 + 16*(4+len("identity-info")); len(mutated) > most {
			t.Fatalf("%d bytes, at most %d are expected", len(mutated), most)
		}
	})
	if accepted < 50 || agreed < 10 {
		t.Errorf("only %d lists were accepted, %d times with sec-agree", accepted, agreed)
	}
}

// SET leaves one line where the first one stood.
func TestSetReplaces(t *testing.T) {
	lines := []line{{"A", "1"}, {"k", "2"}, {"B", "3"}, {"Supported", "4"}, {"C", "5"}}
	got := mutate(lines, []*messages.HeaderMutation{
		set("SUPPORTED", "6"),
		{Op: messages.Op_REMOVE, Name: "b"},
		{Op: messages.Op_ADD, Name: "K", Value: "7"},
	})
	want := []line{{"A", "1"}, {"SUPPORTED", "6"}, {"C", "5"}, {"supported", "7"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(line{})); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func packet(r *messages.SIPRequest) []byte {
	return compose(r, "sip:alice@192.0.2.10:5060", "").packet(transportUDP, hostPort{"192.0.2.10", 5060}, branchKey{})
}

// intended applies mutations to a header list in the most naive way there is.
func intended(fields []field, list []*messages.HeaderMutation) []string {
	out := slices.Clone(fields)
	for _, m := range list {
		name := mutation.Canonical(m.GetName())
		if m.GetOp() != messages.Op_ADD {
			out = slices.DeleteFunc(out, func(f field) bool { return f.name == name })
		}
		if m.GetOp() != messages.Op_REMOVE {
			// The parser also trims white space that only Unicode calls so.
			out = append(out, field{name: name, value: strings.TrimSpace(m.GetValue())})
		}
	}
	return sorted(out)
}

func sorted(fields []field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, fmt.Sprintf("%s: %s", f.name, f.value))
	}
	slices.Sort(out)
	return out
}
