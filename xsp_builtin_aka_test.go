package muster_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sipmuster/muster"
	"github.com/sipmuster/muster/actors"
	"github.com/sipmuster/muster/actors/aka"
	"github.com/sipmuster/muster/actors/aka/akatest"
	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/actors/usim"
	"github.com/sipmuster/muster/sipadapter/siptest"
)

// imsRealm is the realm of the scripted core network.
const imsRealm = "ims.example"

// publishedKeys reads K and OPc of the conformance data of 3GPP TS 35.207 and
// 35.208.
func publishedKeys(t *testing.T) [][2][]byte {
	t.Helper()
	text, err := os.ReadFile("actors/aka/testdata/milenage.json")
	if err != nil {
		t.Fatal(err)
	}
	var sets []struct{ K, OPC string }
	if err := json.Unmarshal(text, &sets); err != nil {
		t.Fatal(err)
	}
	var all [][2][]byte
	for _, set := range sets {
		k, err1 := hex.DecodeString(set.K)
		opc, err2 := hex.DecodeString(set.OPC)
		if err1 != nil || err2 != nil || len(k) != 16 || len(opc) != 16 {
			t.Fatalf("a set is not two keys: %v %v", err1, err2)
		}
		all = append(all, [2][]byte{k, opc})
	}
	return all
}

// imsCore is the S-CSCF and the HSS of a few subscribers, as the script of a
// registrar.
type imsCore struct {
	mu          sync.Mutex
	subscribers map[string]*imsSubscriber // by user
}

// imsSubscriber is what the network knows of one subscriber.
type imsSubscriber struct {
	hss       *akatest.HSS
	k, opc    []byte
	keys      aka.Keys
	algorithm string // "MD5" challenges without AKA
	// next is sent once instead of a new challenge.
	next string
	// nonces, sqns and answers are in order: the challenges that were made by
	// the HSS and the credentials that came back. log is what became of the
	// requests.
	nonces  []string
	sqns    []uint64
	answers []string
	log     []string
}

func (c *imsCore) behave(req *siptest.Request) *siptest.Reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subscribers[userOf(req.AOR)]
	value := authorization(req)
	if value == "" {
		s.log = append(s.log, "challenged")
		return unauthorized(s.challenge())
	}
	s.answers = append(s.answers, value)
	ok, resynced, err := s.hss.Verify(value, req.Method)
	switch {
	case ok:
		s.log = append(s.log, "ok")
		return &siptest.Reply{Status: 200, Headers: []string{
			"Contact: " + contactOf(req) + ";expires=3600", "Authentication-Info: " + s.hss.Info(value),
		}}
	case resynced:
		s.log = append(s.log, "resynchronised")
	default:
		s.log = append(s.log, err.Error())
	}
	return unauthorized(s.challenge())
}

func (s *imsSubscriber) challenge() string {
	if s.algorithm == "MD5" {
		return `Digest realm="` + imsRealm + `", nonce="bm90IGZvciBhIFVTSU0", algorithm=MD5, qop="auth"`
	}
	if next := s.next; next != "" {
		s.next = ""
		return next
	}
	value := s.hss.Challenge(imsRealm, s.algorithm)
	parsed, _ := challenge.Parse(value)
	s.nonces, s.sqns = append(s.nonces, parsed.Nonce()), append(s.sqns, s.hss.SQN())
	return value
}

// of gives a test what is known of a subscriber, between two requests.
func (c *imsCore) of(user string, do func(s *imsSubscriber)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do(c.subscribers[user])
}

// newIMSCore gives each user a published set of keys of its own, and writes
// them as the file that operators write.
func newIMSCore(t *testing.T, users, algorithms []string) (*imsCore, string) {
	t.Helper()
	sets := publishedKeys(t)
	if len(users) > len(sets) {
		t.Fatalf("%d users and %d sets of keys", len(users), len(sets))
	}
	core := &imsCore{subscribers: map[string]*imsSubscriber{}}
	file := "profile,impi,k,opc,versions\n"
	for i, user := range users {
		k, opc := sets[i][0], sets[i][1]
		hss, err := akatest.New(k, opc)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := aka.KeysFromOPc(k, opc)
		if err != nil {
			t.Fatal(err)
		}
		hss.IMPI = fmt.Sprintf("00101000000000%d@%s", i, imsRealm)
		hss.SetSQN(1 << 20)
		core.subscribers[user] = &imsSubscriber{hss: hss, k: k, opc: opc, keys: keys, algorithm: algorithms[i]}
		versions := ""
		if strings.HasPrefix(algorithms[i], "AKAv2") {
			versions = "2" // never AKAv1
		}
		file += fmt.Sprintf("%s,%s,%x,%x,%s\n", user, hss.IMPI, k, opc, versions)
	}
	path := filepath.Join(t.TempDir(), "usim.csv")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return core, path
}

// imsOptions configure a node with the xSP "aka" for all users. A 200 counts
// only with a right rspauth: the network, too, must know RES.
func imsOptions(t *testing.T, r *siptest.Registrar, file, data string, log *logbook, users ...string) muster.Options {
	t.Helper()
	subscribers, err := usim.ReadSubscribers(file)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := usim.New(usim.Options{Subscribers: subscribers})
	if err != nil {
		t.Fatal(err)
	}
	config := target(r)
	config.RequireProof, config.Realms = true, []string{imsRealm}
	return muster.Options{DataDir: data, Logger: log.logger(), Desired: muster.Desired{
		XSPs:       []actors.XSP{{Name: "aka", Kind: "aka", Authenticator: provider}},
		Registrars: []actors.Registrar{config}, Profiles: handledBy("aka", users...),
	}}
}

func (c *imsCore) wantLog(t *testing.T, user string, want ...string) {
	t.Helper()
	c.of(user, func(s *imsSubscriber) {
		if !slices.Equal(s.log, want) {
			t.Errorf("%s: the network saw %q, want %q", user, s.log, want)
		}
	})
}

// secrets are all that the subscribers must not show: the keys, and what both
// sides made of each challenge.
func (c *imsCore) secrets(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for user, s := range c.subscribers {
		all["K of "+user], all["OPc of "+user] = string(s.k), string(s.opc)
		for i, nonce := range s.nonces {
			n, err := aka.ParseNonce(nonce)
			if err != nil {
				t.Fatal(err)
			}
			vector, _ := s.keys.F2345(n.Rand)
			of := fmt.Sprintf(" of challenge %d to %s", i+1, user)
			all["RES"+of], all["CK"+of], all["IK"+of] = vector.RES.Reveal(), vector.CK.Reveal(), vector.IK.Reveal()
		}
		for i, value := range s.answers {
			if response := parameterOf(t, value, "response"); response != "" {
				all[fmt.Sprintf("response %d of %s", i+1, user)] = response
			}
		}
	}
	return all
}

func parameterOf(t *testing.T, value, name string) string {
	t.Helper()
	parsed, err := challenge.Parse(value)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := parsed.Get(name)
	return text
}

// TestXSPAKAAgainstAScriptedRegistrar registers software USIMs with a network
// that challenges by Digest AKA: every algorithm, a resynchronisation (AKA-03),
// a network that does not know K (AKA-04), one that asks for a password or an
// older version (S-12), and no RES that serves twice (AKA-06). The node shows no secret of theirs
// (AKA-08).
func TestXSPAKAAgainstAScriptedRegistrar(t *testing.T) {
	t.Parallel()
	genuine := []string{"v1md5", "v2md5", "v1sha", "v2sha", "behind"}
	users := append(slices.Clone(genuine), "forged", "plain")
	core, file := newIMSCore(t, users, []string{
		"AKAv1-MD5", "AKAv2-MD5", "AKAv1-SHA-256", "AKAv2-SHA-256", "AKAv1-MD5", "AKAv1-MD5", "MD5",
	})
	core.subscribers["forged"].hss.WrongMAC = true
	registrar := newRegistrar(t, siptest.Options{Behaviour: core.behave, Realm: imsRealm})
	var log logbook
	data := t.TempDir() + "/data"
	node := startNode(t, imsOptions(t, registrar, file, data, &log, users...))
	waitState(t, node, actors.StateRegistered, genuine...)
	waitState(t, node, actors.StateRejected, "forged", "plain")

	core.of("behind", func(s *imsSubscriber) { s.hss.SetSQN(0) }) // an HSS that was restored from a backup
	for _, user := range genuine {
		reregister(t, node, user)
	}
	for _, user := range genuine[:4] {
		core.wantLog(t, user, "challenged", "ok", "challenged", "ok")
	}
	core.wantLog(t, "behind", "challenged", "ok", "challenged", "resynchronised", "ok")
	core.of("behind", func(s *imsSubscriber) {
		if len(s.answers) != 3 || parameterOf(t, s.answers[1], "auts") == "" || parameterOf(t, s.answers[2], "auts") != "" {
			t.Errorf("AKA-03: auts is not in the second of three answers, and only there: %d answers", len(s.answers))
		}
		if last := len(s.sqns) - 1; s.sqns[last] <= s.sqns[0] {
			t.Errorf("AKA-03: the network goes on with SQN %x, the USIM had accepted %x", s.sqns[last], s.sqns[0])
		}
	})
	for _, user := range genuine {
		answered := map[string]bool{}
		for _, seen := range seenOf(registrar, user) {
			if seen.HadCredentials && answered[seen.Nonce] {
				t.Errorf("AKA-06: %s used the RES of one challenge twice", user)
			}
			answered[seen.Nonce] = true
		}
		if v := view(t, node, user); v.RegistrationHandler != "aka" {
			t.Errorf("%s is answered for by %q", user, v.RegistrationHandler)
		}
	}

	wrongMAC := akatest.ErrMACFailure.Error()
	core.wantLog(t, "forged", "challenged", wrongMAC, wrongMAC)
	core.of("forged", func(s *imsSubscriber) {
		for _, value := range s.answers {
			if parameterOf(t, value, "response") != "" || strings.Contains(value, "auts") {
				t.Errorf("AKA-04: a network that does not know K was told something")
			}
		}
	})
	if text := story(t, node, "forged"); !strings.Contains(text, aka.ReasonInvalid) {
		t.Errorf("AKA-04: the history does not tell why:\n%s", text)
	}
	core.of("v2md5", func(s *imsSubscriber) { s.algorithm = "AKAv1-MD5" })
	if _, err := node.RefreshProfile(t.Context(), "v2md5"); err != nil {
		t.Fatal(err)
	}
	waitState(t, node, actors.StateRejected, "v2md5")
	core.wantLog(t, "v2md5", "challenged", "ok", "challenged", "ok", "challenged")
	core.wantLog(t, "plain", "challenged")
	if text := story(t, node, "plain"); !strings.Contains(text, `handler "aka" gave no answer`) {
		t.Errorf("S-12: the history does not tell who refused:\n%s", text)
	}

	shown := map[string][]byte{"metrics": []byte(metricsOf(node))}
	for _, user := range users {
		shown["history"] = append(shown["history"], story(t, node, user)...)
	}
	stopNode(t, node)
	shown["log"] = log.bytes()
	wantNowhere(t, data, shown, core.secrets(t))
	wantInvariants(t, registrar)
}

// TestXSPAKARemembersAcrossARestart: an AUTN that was accepted before a restart
// is answered by AUTS after it, and not by RES once more (AKA-08).
func TestXSPAKARemembersAcrossARestart(t *testing.T) {
	t.Parallel()
	core, file := newIMSCore(t, []string{"alice"}, []string{"AKAv2-SHA-256"})
	registrar := newRegistrar(t, siptest.Options{Behaviour: core.behave, Realm: imsRealm})
	var log logbook
	data := t.TempDir() + "/data"
	first := imsOptions(t, registrar, file, data, &log, "alice")
	node := startNode(t, first)
	waitState(t, node, actors.StateRegistered, "alice")
	second := imsOptions(t, registrar, file, data, &log, "alice") // a provider that remembers nothing itself
	second.SIP.Listen = node.SIPAddrs()
	stopNode(t, node)

	core.of("alice", func(s *imsSubscriber) {
		n, err := aka.ParseNonce(s.nonces[0])
		if err != nil {
			t.Fatal(err)
		}
		s.next = s.hss.ChallengeWith(imsRealm, s.algorithm, n.Rand, s.sqns[0])
		if !strings.Contains(s.next, s.nonces[0]) {
			t.Fatal("the second challenge is not the first once more")
		}
	})
	node = startNode(t, second)
	reregister(t, node, "alice")
	core.wantLog(t, "alice", "challenged", "ok", "challenged", "resynchronised", "ok")
	core.of("alice", func(s *imsSubscriber) {
		if parameterOf(t, s.answers[1], "auts") == "" {
			t.Error("AKA-08: a replayed AUTN was not answered by AUTS")
		}
	})
	stopNode(t, node)
	wantNowhere(t, data, map[string][]byte{"log": log.bytes()}, core.secrets(t))
	wantInvariants(t, registrar)
}
