package mutation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// ask is a question as the core asks it, from challenges as they stand on the
// wire; "proxy " before one makes it a 407's.
func ask(raws ...string) *messages.AuthChallenge {
	q := &messages.AuthChallenge{Ref: "r"}
	for i, raw := range raws {
		raw, proxy := strings.CutPrefix(raw, "proxy ")
		parsed, err := challenge.Parse(raw)
		if err != nil {
			panic(err)
		}
		c := &messages.Challenge{
			Index: uint32(i), Space: messages.Space_ORIGIN, Scheme: parsed.Scheme, Realm: parsed.Realm(), Params: parsed.Map(), Raw: raw,
		}
		if proxy {
			c.Space = messages.Space_PROXY
		}
		q.Challenges = append(q.Challenges, c)
	}
	return q
}

// digest is an answer with parameters that are a secret.
func digest(realm, nonce string, params ...string) string {
	v := fmt.Sprintf(`Digest username="u", realm="%s", nonce="%s", uri="sip:a", response="canary"`, realm, nonce)
	for _, p := range params {
		v += ", " + p
	}
	return v
}

// The question of most rows: index 0 and 1 are of one realm.
var question = ask(
	`Digest realm="a.test", nonce="n1", algorithm=SHA-256`,
	`Digest realm="a.test", nonce="n1"`,
	`proxy Digest realm="p.test", nonce="n2", algorithm=MD5`,
)

var bearer = ask(`Bearer realm="a.test", scope="x"`, `Bearer realm="b.test"`, `proxy Bearer realm="p.test"`, `Digest realm="d.test", nonce="n"`)

type answerRow struct {
	question  *messages.AuthChallenge // question when nil
	mutations []*messages.HeaderMutation
	answered  []uint32
	extra     []string
	refused   string // part of the error
	headers   string
	// unanswered are the indices of the challenges that are left.
	unanswered []uint32
}

func (r answerRow) check(t *testing.T) {
	t.Helper()
	q := r.question
	if q == nil {
		q = question
	}
	got, err := CheckAnswer(q, &messages.AuthAnswer{Ref: "another", Mutations: r.mutations, Answered: r.answered}, r.extra)
	if err != nil {
		if r.refused == "" || !strings.Contains(err.Error(), r.refused) {
			t.Errorf("error %v, want %q", err, r.refused)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("S-65: the error holds a value: %v", err)
		}
		if got.Headers != nil || got.Unanswered != nil {
			t.Errorf("a refused answer is taken in part: %v", got)
		}
		return
	}
	if r.refused != "" {
		t.Fatalf("accepted, want %q", r.refused)
	}
	if h := strings.Join(got.Headers, " "); h != r.headers {
		t.Errorf("headers %q, want %q", h, r.headers)
	}
	var left []uint32
	for _, c := range got.Unanswered {
		left = append(left, c.GetIndex())
	}
	if diff := cmp.Diff(r.unanswered, left); diff != "" {
		t.Errorf("unanswered (-want +got):\n%s", diff)
	}
}

// An answer is taken as a whole or not at all.
func TestS45_Answers(t *testing.T) {
	origin, proxy := digest("a.test", "n1"), digest("p.test", "n2")
	const nothing = "changes nothing"
	for name, r := range map[string]answerRow{
		"one":                        {mutations: list(set("Authorization", origin)), answered: []uint32{0}, headers: "Authorization", unanswered: []uint32{2}},
		"any case":                   {mutations: list(set("AUTHORIZATION", origin)), headers: "Authorization", unanswered: []uint32{2}},
		"by ADD":                     {mutations: list(add("authorization", origin)), headers: "Authorization", unanswered: []uint32{2}},
		"both spaces":                {mutations: list(set("Authorization", origin), set("Proxy-Authorization", proxy)), answered: []uint32{0, 2}, headers: "Authorization Proxy-Authorization"},
		"the proxy only":             {mutations: list(set("proxy-authorization", proxy)), headers: "Proxy-Authorization", unanswered: []uint32{0}},
		"nothing":                    {refused: nothing},
		"nothing, but lists":         {answered: []uint32{0}, refused: nothing},
		"REMOVE only":                {mutations: list(remove("Authorization")), answered: []uint32{0}, refused: nothing},
		"REMOVE of a listed header":  {mutations: list(remove("X-One")), answered: []uint32{0}, extra: []string{"X-One"}, refused: nothing},
		"SET, then REMOVE":           {mutations: list(set("Authorization", origin), remove("authorization")), answered: []uint32{0}, refused: nothing},
		"REMOVE, then ADD":           {mutations: list(remove("Authorization"), add("Authorization", origin)), headers: "Authorization", unanswered: []uint32{2}},
		"REMOVE in another space":    {mutations: list(set("Authorization", origin), remove("Proxy-Authorization")), headers: "Authorization Proxy-Authorization", unanswered: []uint32{2}},
		"not asked":                  {mutations: list(set("Authorization", origin)), answered: []uint32{7}, refused: "challenge 7 as answered, which was not asked"},
		"lists more than asked":      {mutations: list(set("Authorization", origin)), answered: []uint32{0, 0, 0, 0}, refused: "3 were asked"},
		"twice":                      {mutations: list(set("Authorization", origin), add("Authorization", origin)), refused: "second credentials for a realm"},
		"twice, one taken away":      {mutations: list(set("Authorization", origin), set("Authorization", origin)), refused: "second credentials for a realm"},
		"one good, one protected":    {mutations: list(set("Authorization", origin), set("Via", "canary")), refused: "header Via may not be changed"},
		"one good, one for nobody":   {mutations: list(set("Authorization", origin), set("Proxy-Authorization", origin)), refused: "mutation 1: header Proxy-Authorization has credentials"},
		"a custom header as well":    {mutations: list(set("Authorization", origin), set("x-one", "v")), extra: []string{"X-One"}, headers: "Authorization X-One", unanswered: []uint32{2}},
		"lists, but sends no":        {mutations: list(set("Authorization", origin), set("X-One", "v")), answered: []uint32{0, 2}, extra: []string{"X-One"}, headers: "Authorization X-One", unanswered: []uint32{2}},
		"a custom header only":       {mutations: list(set("X-One", "v"), add("Require", "sec-agree")), answered: []uint32{1}, extra: []string{"X-One", "Require"}, headers: "Require X-One", unanswered: []uint32{2}},
		"a custom header for nobody": {mutations: list(set("X-One", "v")), extra: []string{"X-One"}, refused: "does not list the challenges"},
		"a custom header taken away": {mutations: list(set("X-One", "v"), remove("X-ONE")), answered: []uint32{1}, extra: []string{"X-One"}, refused: nothing},
		"a custom header not listed": {mutations: list(set("X-One", "v")), answered: []uint32{1}, refused: "header X-One may not be changed"},
		"no operation":               {mutations: list(&messages.HeaderMutation{Name: "Authorization", Value: origin}), refused: "unknown operation"},
		"too large":                  {mutations: list(set("Authorization", origin+strings.Repeat(" ", maxBytes))), refused: "larger"},
		"too many":                   {mutations: slices.Repeat(list(remove("Authorization")), 17), refused: "at most 16"},
		"no question":                {question: ask(), mutations: list(set("Authorization", origin)), refused: "no challenge asked"},
		"two realms of one space": {
			question:  ask(`Digest realm="a", nonce="n"`, `Digest realm="b", nonce="n"`),
			mutations: list(set("Authorization", digest("a", "n")), add("Authorization", digest("b", "n"))), headers: "Authorization",
		},
		"two realms, the second takes the first away": {
			question:  ask(`Digest realm="a", nonce="n"`, `Digest realm="b", nonce="n"`),
			mutations: list(set("Authorization", digest("a", "n")), set("Authorization", digest("b", "n"))), headers: "Authorization", unanswered: []uint32{0},
		},
		"one realm in two spaces": {
			question:  ask(`Digest realm="a", nonce="n"`, `proxy Digest realm="a", nonce="n"`),
			mutations: list(set("Authorization", digest("a", "n"))), headers: "Authorization", unanswered: []uint32{1},
		},
	} {
		t.Run(name, r.check)
	}
}

// Credentials leave only for the realm and scheme that asked.
func TestS02_Realms(t *testing.T) {
	const foreign = "no challenge asked for"
	for name, r := range map[string]answerRow{
		"wrong space":           {mutations: list(set("Proxy-Authorization", digest("a.test", "n1"))), refused: foreign},
		"foreign realm":         {mutations: list(set("Authorization", digest("b.test", "n1"))), refused: foreign},
		"realm of another case": {mutations: list(set("Authorization", digest("A.test", "n1"))), refused: foreign},
		"trailing blank":        {mutations: list(set("Authorization", digest("a.test ", "n1"))), refused: foreign},
		"other scheme":          {mutations: list(set("Authorization", strings.Replace(digest("a.test", "n1"), "Digest", "Other", 1))), refused: foreign},
		"scheme in another case": {
			mutations: list(set("Authorization", strings.Replace(digest("a.test", "n1"), "Digest", "dIGEST", 1))),
			headers:   "Authorization", unanswered: []uint32{2},
		},
		"quoted pair":              {mutations: list(set("Authorization", digest(`\a.test`, "n1"))), headers: "Authorization", unanswered: []uint32{2}},
		"no realm":                 {mutations: list(set("Authorization", `Digest nonce="n1", response="canary"`)), answered: []uint32{0}, refused: "not credentials"},
		"token68":                  {mutations: list(set("Authorization", `Digest canary==`)), answered: []uint32{0}, refused: "not credentials"},
		"two realms in one":        {mutations: list(set("Authorization", digest("a.test", "n1")+`, realm="b.test"`)), refused: "not credentials"},
		"two schemes in one":       {mutations: list(set("Authorization", digest("a.test", "n1")+`, Digest realm="b.test"`)), refused: "not credentials"},
		"a second scheme, no name": {mutations: list(set("Authorization", digest("a.test", "n1")+`, Bearer canary`)), refused: "not credentials"},
		"no nonce":                 {mutations: list(set("Authorization", `Digest realm="a.test", response="canary"`)), refused: "not credentials"},
		"another nonce":            {mutations: list(set("Authorization", digest("a.test", "n2"))), refused: "nonce"},
		"nonce of another case":    {mutations: list(set("Authorization", digest("a.test", "N1"))), refused: "nonce"},
		"unbalanced":               {mutations: list(set("Authorization", `Digest realm="a.test, nonce="n1", response="canary"`)), refused: "not credentials"},
		"a scheme alone":           {mutations: list(set("Authorization", `Digest`)), refused: "not credentials"},
		"an empty realm is one":    {question: ask(`Digest realm="", nonce="n"`), mutations: list(set("Authorization", digest("", "n"))), headers: "Authorization"},
	} {
		t.Run(name, r.check)
	}
}

// The algorithm of an answer must have stood in the challenge.
func TestS13_Algorithms(t *testing.T) {
	const foreign = "no challenge of the realm offered"
	two := ask(`Digest realm="a.test", nonce="n1", algorithm=SHA-256`, `Digest realm="a.test", nonce="n2", algorithm=AKAv1-MD5`)
	answer := func(nonce, params string) []*messages.HeaderMutation {
		return list(set("Authorization", digest("a.test", nonce, params)))
	}
	for name, r := range map[string]answerRow{
		"offered":             {mutations: answer("n1", "algorithm=SHA-256"), headers: "Authorization", unanswered: []uint32{2}},
		"in another case":     {mutations: answer("n1", `algorithm="sha-256"`), headers: "Authorization", unanswered: []uint32{2}},
		"MD5, which needs no": {mutations: answer("n1", "algorithm=md5"), headers: "Authorization", unanswered: []uint32{2}},
		"not offered":         {mutations: answer("n1", "algorithm=SHA-512-256"), refused: foreign},
		"another variant":     {mutations: answer("n1", "algorithm=SHA-256-sess"), refused: foreign},
		"of another space":    {question: ask(`Digest realm="a.test", nonce="n1"`, `proxy Digest realm="a.test", nonce="n1", algorithm=SHA-256`), mutations: answer("n1", "algorithm=SHA-256"), refused: foreign},
		"twice":               {mutations: answer("n1", "algorithm=SHA-256, algorithm=SHA-512-256"), refused: "not credentials"},
		"a letter that folds": {mutations: answer("n1", "algorithm=\u017fHA-256"), refused: foreign},
		"AKA":                 {question: two, mutations: answer("n2", `algorithm=AKAv1-MD5, auts="canary"`), headers: "Authorization"},
		"AKA for a bid down":  {question: two, mutations: answer("n2", "algorithm=MD5"), refused: foreign},
		"nonce of the other":  {question: two, mutations: answer("n2", "algorithm=SHA-256"), refused: "nonce"},
		"not said":            {question: two, mutations: answer("n1", "qop=auth"), headers: "Authorization"},
	} {
		t.Run(name, r.check)
	}
}

// Credentials without a realm count for the challenges of their scheme that the
// answer lists.
func TestS45_CredentialsWithoutRealm(t *testing.T) {
	const token = "Bearer eyJhbGciOi.canary-_~+/x=="
	const unlisted = "no challenge of their scheme is listed"
	for name, r := range map[string]answerRow{
		"one realm":                {mutations: list(set("Authorization", token)), answered: []uint32{0}, headers: "Authorization", unanswered: []uint32{1, 2, 3}},
		"two realms":               {mutations: list(set("Authorization", token)), answered: []uint32{1, 0}, headers: "Authorization", unanswered: []uint32{2, 3}},
		"scheme in another case":   {mutations: list(set("Authorization", strings.Replace(token, "Bearer", "BEARER", 1))), answered: []uint32{0}, headers: "Authorization", unanswered: []uint32{1, 2, 3}},
		"with parameters":          {mutations: list(set("Authorization", `Bearer token="canary"`)), answered: []uint32{0}, headers: "Authorization", unanswered: []uint32{1, 2, 3}},
		"with a realm, unlisted":   {mutations: list(set("Authorization", `Bearer realm="b.test", token="canary"`)), headers: "Authorization", unanswered: []uint32{0, 2, 3}},
		"with another realm":       {mutations: list(set("Authorization", `Bearer realm="c.test", token="canary"`)), answered: []uint32{0}, refused: "no challenge asked for"},
		"not listed":               {mutations: list(set("Authorization", token)), refused: unlisted},
		"listed of another space":  {mutations: list(set("Authorization", token)), answered: []uint32{2}, refused: unlisted},
		"listed of another scheme": {mutations: list(set("Authorization", token)), answered: []uint32{3}, refused: unlisted},
		"scheme not asked":         {mutations: list(set("Authorization", "Basic canary=")), answered: []uint32{0, 1}, refused: unlisted},
		"twice":                    {mutations: list(set("Authorization", token), add("Authorization", token)), answered: []uint32{0}, refused: "second credentials"},
		"and once with the realm":  {mutations: list(set("Authorization", token), add("Authorization", `Bearer realm="a.test", token="canary"`)), answered: []uint32{0}, refused: "second credentials"},
		"both spaces":              {mutations: list(set("Authorization", token), set("Proxy-Authorization", token)), answered: []uint32{0, 1, 2}, headers: "Authorization Proxy-Authorization", unanswered: []uint32{3}},
		"next to Digest":           {mutations: list(set("Authorization", token), add("Authorization", digest("d.test", "n"))), answered: []uint32{0, 1, 3}, headers: "Authorization", unanswered: []uint32{2}},
		"two in one line":          {mutations: list(set("Authorization", token+", Bearer canary")), answered: []uint32{0}, refused: "not credentials"},
		"only padding":             {mutations: list(set("Authorization", "Bearer ==")), answered: []uint32{0}, refused: "not credentials"},
	} {
		if r.question == nil {
			r.question = bearer
		}
		t.Run(name, r.check)
	}
}

// S-50, S-51: what Check refuses, no answer gets past.
func TestS51_AnswersAreChecked(t *testing.T) {
	origin := digest("a.test", "n1")
	for name, r := range map[string]answerRow{
		"another header":             {mutations: list(set("Route", "<sip:canary>")), refused: "may not be changed"},
		"compact form of Via":        {mutations: list(set("v", "canary")), refused: "header Via may not be changed"},
		"a blank after the name":     {mutations: list(set("Authorization ", origin)), refused: "begins with Authorization is not a token"},
		"a control byte in the name": {mutations: list(set("Authorization\x01", origin)), refused: "not a token"},
		"a second line in the value": {mutations: list(set("Authorization", origin+"\r\nContact: <sip:evil@test>")), refused: "control characters"},
		"a folded value":             {mutations: list(set("Authorization", origin+",\r\n opaque=x")), refused: "control characters"},
		"a NUL":                      {mutations: list(set("Authorization", origin+"\x00")), refused: "control characters"},
		"not UTF-8":                  {mutations: list(set("Authorization", origin+"\xff")), refused: "not UTF-8"},
		"an empty value":             {mutations: list(set("Authorization", "")), refused: "empty value"},
	} {
		t.Run(name, r.check)
	}
}
