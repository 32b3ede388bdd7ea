package actors

import (
	"strings"
	"testing"

	"github.com/sipmuster/muster/messages"
)

// TestCheckAnswer holds S-45, S-50 and S-51: an answer is taken as a whole or
// not at all.
func TestCheckAnswer(t *testing.T) {
	asked := map[uint32]*messages.Challenge{
		0: {Index: 0, Space: messages.Space_ORIGIN, Scheme: "Digest", Realm: "a.test"},
		1: {Index: 1, Space: messages.Space_PROXY, Scheme: "Digest", Realm: "p.test"},
	}
	const origin = `Digest username="u", realm="a.test", nonce="n", uri="sip:a", response="r"`
	const proxy = `Digest username="u", realm="p.test", nonce="n", uri="sip:a", response="r"`
	set := func(name, value string) *messages.HeaderMutation {
		return &messages.HeaderMutation{Op: messages.Op_SET, Name: name, Value: value}
	}
	tests := map[string]struct {
		mutations []*messages.HeaderMutation
		answered  []uint32
		want      string // part of the error; empty accepts
	}{
		"one":                        {[]*messages.HeaderMutation{set("Authorization", origin)}, []uint32{0}, ""},
		"any case":                   {[]*messages.HeaderMutation{set("AUTHORIZATION", origin)}, []uint32{0}, ""},
		"both spaces":                {[]*messages.HeaderMutation{set("Authorization", origin), set("Proxy-Authorization", proxy)}, []uint32{0, 1}, ""},
		"a second line":              {[]*messages.HeaderMutation{set("Authorization", origin), {Op: messages.Op_ADD, Name: "Authorization", Value: origin}}, nil, ""},
		"nothing":                    {nil, nil, "changes nothing"},
		"not asked":                  {[]*messages.HeaderMutation{set("Authorization", origin)}, []uint32{7}, "not asked"},
		"wrong space":                {[]*messages.HeaderMutation{set("Proxy-Authorization", origin)}, nil, "no challenge"},
		"foreign realm":              {[]*messages.HeaderMutation{set("Authorization", strings.Replace(origin, "a.test", "b.test", 1))}, nil, "no challenge"},
		"realm of another case":      {[]*messages.HeaderMutation{set("Authorization", strings.Replace(origin, "a.test", "A.test", 1))}, nil, "no challenge"},
		"other scheme":               {[]*messages.HeaderMutation{set("Authorization", strings.Replace(origin, "Digest", "Other", 1))}, nil, "no challenge"},
		"another header":             {[]*messages.HeaderMutation{set("Route", "<sip:evil.test>")}, nil, "may not be changed"},
		"compact form of Via":        {[]*messages.HeaderMutation{set("v", "x")}, nil, "may not be changed"},
		"a blank after the name":     {[]*messages.HeaderMutation{set("Authorization ", origin)}, nil, "may not be changed"},
		"a control byte in the name": {[]*messages.HeaderMutation{set("Authorization\x01", origin)}, nil, "may not be changed"},
		"a second line in the value": {[]*messages.HeaderMutation{set("Authorization", origin+"\r\nContact: <sip:evil@test>")}, nil, "cannot hold"},
		"a NUL":                      {[]*messages.HeaderMutation{set("Authorization", origin+"\x00")}, nil, "cannot hold"},
		"not UTF-8":                  {[]*messages.HeaderMutation{set("Authorization", origin+"\xff")}, nil, "cannot hold"},
		"no operation":               {[]*messages.HeaderMutation{{Name: "Authorization", Value: origin}}, nil, "unknown operation"},
		"too large":                  {[]*messages.HeaderMutation{set("Authorization", origin+strings.Repeat(" ", maxAnswerBytes))}, nil, "larger"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := checkAnswer(&messages.AuthAnswer{Answered: tt.answered, Mutations: tt.mutations}, asked)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "response=") {
				t.Errorf("S-65: the error holds a value: %v", err)
			}
		})
	}
	many := make([]*messages.HeaderMutation, maxMutations+1)
	for i := range many {
		many[i] = set("Authorization", origin)
	}
	if checkAnswer(&messages.AuthAnswer{Mutations: many}, asked) == nil {
		t.Error("more mutations than allowed are accepted")
	}
}
