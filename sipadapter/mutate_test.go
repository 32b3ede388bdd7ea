package sipadapter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sipmuster/muster/messages"
)

func set(name, value string) *messages.HeaderMutation {
	return &messages.HeaderMutation{Op: messages.Op_SET, Name: name, Value: value}
}

// S-50, S-51: the header policy. Names count in their canonical form.
func TestS50_Names(t *testing.T) {
	extra := []string{"P-Access-Network-Info", "Require", "Supported"}
	for _, name := range []string{"Authorization", "AUTHORIZATION", "proxy-authorization", "p-access-network-info", "Require", "k", "K"} {
		if err := CheckMutations([]*messages.HeaderMutation{set(name, "x")}, extra); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	refused := []string{
		"Via", "v", "V", "Call-ID", "i", "From", "f", "To", "t", "CSeq", "Max-Forwards", "Route", "Record-Route",
		"Contact", "m", "Content-Length", "l", "Content-Type", "c", "Content-Encoding", "e", "Expires", "x", "o", "r", "b", "u",
		"Session-Expires", "X-Other", "Date", "P-Asserted-Identity",
		"", " Authorization", "Authorization ", "Authorization\t", "Authorization:", "Contact\x01", "X-Bypass-me :",
		"Authorization\r\nVia", "Authorization\x00", "Auth orization", "Authorizatiön",
	}
	for _, name := range refused {
		err := CheckMutations([]*messages.HeaderMutation{set(name, "canary")}, extra)
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", name, err)
		}
	}
	// Not even a configuration can open the protected ones.
	if err := CheckMutations([]*messages.HeaderMutation{set("Via", "x")}, []string{"Via"}); err == nil {
		t.Error("Via is accepted")
	}
	for _, name := range []string{"Via", "l", "Contact"} {
		if _, err := New(Options{MutableHeaders: []string{name}}); err == nil {
			t.Errorf("MutableHeaders %q is accepted", name)
		}
	}
}

func TestS51_Values(t *testing.T) {
	for _, value := range []string{"a\r\nX: y", "a\rb", "a\nb", "a\x00b", "a\x1fb", "a\x7fb", "\xff", "", " \t", "a\r\n b"} {
		err := CheckMutations([]*messages.HeaderMutation{set("Authorization", value)}, nil)
		if err == nil {
			t.Errorf("%q is accepted", value)
		}
	}
	for _, value := range []string{`Digest realm="ü"`, "a\tb", "  Bearer x  "} {
		if err := CheckMutations([]*messages.HeaderMutation{set("Authorization", value)}, nil); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
	bad := [][]*messages.HeaderMutation{
		{nil},
		{{Name: "Authorization", Value: "x"}},
		{{Op: 9, Name: "Authorization", Value: "x"}},
		slices.Repeat([]*messages.HeaderMutation{set("Authorization", "x")}, 17),
		{set("Authorization", strings.Repeat("x", 16<<10))},
	}
	for i, list := range bad {
		if err := CheckMutations(list, nil); err == nil {
			t.Errorf("list %d is accepted", i)
		}
	}
	if err := CheckMutations(slices.Repeat([]*messages.HeaderMutation{set("Authorization", "x")}, 16), nil); err != nil {
		t.Error(err)
	}
}

// A request with an invalid answer does not leave.
func TestInvalidMutationIsNotSent(t *testing.T) {
	log := &canary{}
	a, conn := memAdapter(t, Options{Logger: log.logger()}, seams{})
	defer shut(t, a)
	r := register()
	r.Mutations = []*messages.HeaderMutation{set("Authorization", "canary"), set("Route", "<sip:canary>")}
	o := await(t, send(a, r))
	if o.Failure != messages.ReasonMutation || len(conn.packets()) != 0 {
		t.Errorf("outcome %+v, %d packets", o, len(conn.packets()))
	}
	if strings.Contains(o.Detail+log.text(), "canary") {
		t.Error("S-65: a value is shown")
	}
}

// Whatever is accepted, the request re-parses to exactly the intended header
// list: no further line, no other identity.
func TestMutationsSerialiseAsIntended(t *testing.T) {
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	allowed := rapid.SampledFrom([]string{"Authorization", "authorization", "Proxy-Authorization", "X-One", "k", "Supported"})
	others := rapid.SampledFrom([]string{"Via", "l", "Route", "Contact", "X One", "X-Two"})
	printable := rapid.StringMatching(`[!-~][ -~]{0,40}`)
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *messages.HeaderMutation {
			if rapid.IntRange(0, 19).Draw(t, "hostile") > 0 {
				op := rapid.SampledFrom([]messages.Op{messages.Op_SET, messages.Op_ADD, messages.Op_REMOVE}).Draw(t, "op")
				return &messages.HeaderMutation{Op: op, Name: allowed.Draw(t, "name"), Value: printable.Draw(t, "value")}
			}
			return &messages.HeaderMutation{
				Op:    messages.Op(rapid.IntRange(0, 4).Draw(t, "op")),
				Name:  rapid.OneOf(allowed, others).Draw(t, "name"),
				Value: rapid.OneOf(printable, rapid.String(), rapid.Just("a\r\nVia: x")).Draw(t, "value"),
			}
		}), 0, 6).Draw(t, "mutations")
		if CheckMutations(list, []string{"X-One", "Supported"}) != nil {
			return
		}
		accepted++
		r := register()
		before, err := a.parseRequest(packet(r), false)
		if err != nil || before.faulty {
			t.Fatalf("%v", err)
		}
		r.Mutations = list
		after, err := a.parseRequest(packet(r), false)
		if err != nil || after.faulty {
			t.Fatalf("%v", err)
		}
		if diff := cmp.Diff(intended(before.fields, list), sorted(after.fields)); diff != "" {
			t.Fatalf("headers (-want +got):\n%s", diff)
		}
		if after.target != r.RequestURI || len(after.body) != 0 {
			t.Fatalf("%+v", after)
		}
	})
	if accepted < 50 {
		t.Errorf("only %d lists were accepted", accepted)
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
		name := canonicalName(m.GetName())
		if m.GetOp() != messages.Op_ADD {
			out = slices.DeleteFunc(out, func(f field) bool { return f.name == name })
		}
		if m.GetOp() != messages.Op_REMOVE {
			// The parser also trims white space that only Unicode calls so.
			out = append(out, field{name, strings.TrimSpace(m.GetValue())})
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
