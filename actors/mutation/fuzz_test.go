package mutation

import (
	"slices"
	"strings"
	"testing"

	"github.com/sipmuster/muster/messages"
)

// FuzzCheckAnswer weighs answers with hostile names and values. Whatever is
// accepted must hold by simpler means than the code uses: no byte that ends a
// line, no protected header, and no credentials but for a challenge that was
// asked.
func FuzzCheckAnswer(f *testing.F) {
	const one, two = uint8(messages.Op_SET), uint8(messages.Op_ADD)
	f.Add(one, "Authorization", digest("a.test", "n1"), two, "Authorization", "Bearer eyJ.x", uint8(0b1000), "X-One")
	f.Add(one, "proxy-authorization", digest("p.test", "n2"), two, "X-One", "v", uint8(1), "X-One")
	f.Add(one, "X-One", "v", two, "k", "sec-agree", uint8(1), "Supported")
	f.Add(one, "Authorization ", "Digest", two, "v", "x\r\nVia: y", uint8(255), "Via")
	f.Add(uint8(3), "Authorization", "", uint8(0), "Contact\x01", "\x00", uint8(0), "X-*")
	f.Add(one, "Authorization", `Digest realm="a.test", nonce="n1", qop=auth,auth-int, algorithm=`, two, "Authorization", `Other x=1, Digest realm="b"`, uint8(7), "")
	q := ask(
		`Digest realm="a.test", nonce="n1", algorithm=SHA-256`, `Digest realm="a.test", nonce="n1"`,
		`proxy Digest realm="p.test", nonce="n2", algorithm=MD5`, `Bearer realm="b.test"`,
	)
	f.Fuzz(func(t *testing.T, op1 uint8, name1, value1 string, op2 uint8, name2, value2 string, answered uint8, listed string) {
		a := &messages.AuthAnswer{Mutations: list(
			&messages.HeaderMutation{Op: messages.Op(op1), Name: name1, Value: value1},
			&messages.HeaderMutation{Op: messages.Op(op2), Name: name2, Value: value2},
		)}
		for i := range uint32(8) {
			if answered&(1<<i) != 0 {
				a.Answered = append(a.Answered, i)
			}
		}
		got, err := CheckAnswer(q, a, []string{listed, "X-One", "Supported"})
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) || len(err.Error()) > 200 {
				t.Errorf("error %q", err)
			}
			return
		}
		if len(got.Headers) == 0 || !slices.IsSorted(got.Headers) {
			t.Errorf("headers %q", got.Headers)
		}
		if len(got.Unanswered) > 2 {
			t.Errorf("nothing is answered: %v", got.Unanswered)
		}
		for _, m := range a.Mutations {
			if strings.ContainsAny(m.GetName()+m.GetValue(), "\r\n\x00") {
				t.Errorf("a line could end in %q: %q", m.GetName(), m.GetValue())
			}
			if slices.ContainsFunc(protected, func(p string) bool { return Canonical(p) == Canonical(m.GetName()) }) {
				t.Errorf("%q is accepted", m.GetName())
			}
			if m.GetOp() != messages.Op_REMOVE {
				checkBelongs(t, q, a.Answered, m)
			}
		}
	})
}

// checkBelongs looks for the realm of a challenge by text alone.
func checkBelongs(t *testing.T, q *messages.AuthChallenge, answered []uint32, m *messages.HeaderMutation) {
	name := strings.ToLower(m.GetName())
	if name != authorization && name != proxyAuthorization {
		return
	}
	// Quoting backslashes may stand anywhere in a quoted realm.
	value := strings.ReplaceAll(m.GetValue(), `\`, "")
	scheme, _, _ := strings.Cut(strings.TrimLeft(strings.ReplaceAll(value, "\t", " "), " "), " ")
	hasRealm := strings.Contains(strings.ToLower(value), "realm")
	for _, c := range q.GetChallenges() {
		proxy := c.GetSpace() == messages.Space_PROXY
		if proxy != strings.HasPrefix(name, "proxy-") || !strings.EqualFold(c.GetScheme(), scheme) {
			continue
		}
		if hasRealm && strings.Contains(value, c.GetRealm()) && strings.Contains(value, c.GetParams()["nonce"]) {
			return
		}
		if !strings.EqualFold(scheme, "Digest") && slices.Contains(answered, c.GetIndex()) {
			return
		}
	}
	t.Errorf("%s belongs to no challenge: %q", name, m.GetValue())
}
