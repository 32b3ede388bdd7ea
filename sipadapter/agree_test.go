package sipadapter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sipmuster/muster/actors/challenge"
	"github.com/sipmuster/muster/messages"
)

// zeroBranch stands for the branch of the request in recorded responses.
var zeroBranch = string(branchKey{}.appendTo(nil))

// bothWays are two adapters: one writes and reads a usual REGISTER as such, the
// other has no such thing.
type bothWays struct {
	usual, plain *path
}

// path is one of the two.
type path struct {
	a       *Adapter
	conn    *memConn
	counted *recorder
}

func newBothWays(t testing.TB) bothWays {
	start := func(plain bool) *path {
		counted := newRecorder()
		a, conn := memAdapter(t, Options{UserAgent: "Muster", Counters: counted}, seams{plain: plain})
		t.Cleanup(func() { shut(t, a) })
		return &path{a, conn, counted}
	}
	return bothWays{start(false), start(true)}
}

// travelled is what can be seen of a request and of a response to it.
type travelled struct {
	Packets []string // with zeros for their branch
	Outcome messages.SIPOutcome
	Codes   map[int]int
	Dropped map[string]int
	Stats   Stats
}

// travel sends a request and answers it twice with raw.
func (w *path) travel(t testing.TB, r *messages.SIPRequest, raw []byte) travelled {
	w.conn.mu.Lock()
	w.conn.sent = nil
	w.conn.mu.Unlock()
	*w.counted = *newRecorder()
	before := w.a.Stats()
	outcomes := send(w.a, r)
	packets := w.conn.packets()
	if len(packets) == 1 {
		branch := branchOf(t, packets[0].data)
		raw = replaceAll(raw, zeroBranch, branch)
		packets[0].data = replaceAll(packets[0].data, branch, zeroBranch)
		o := origin{from: peerAddr, socket: w.a.sockets[0]}
		for range 2 {
			buffer := bytes.Clone(raw)
			w.a.receive(buffer, o)
			for i := range buffer { // as the next datagram does
				buffer[i] = '#'
			}
		}
		key, _ := parseBranch(branch)
		w.a.table.fail(key, "REGISTER", result{err: errEnding})
	}
	out := travelled{Outcome: await(t, outcomes), Codes: w.counted.codes, Dropped: w.counted.dropped, Stats: w.a.Stats()}
	none(t, outcomes)
	out.Outcome.Sent = out.Outcome.Sent.Truncate(1 << 62)
	out.Stats.Sent -= before.Sent
	out.Stats.Received -= before.Received
	out.Stats.Dropped -= before.Dropped
	out.Stats.Inbound -= before.Inbound
	out.Stats.Refused -= before.Refused
	for _, p := range packets {
		out.Packets = append(out.Packets, p.addr.String()+" "+string(p.data))
	}
	return out
}

// agree checks that a request and its response fare the same both ways.
func (b bothWays) agree(t testing.TB, r *messages.SIPRequest, raw []byte) {
	t.Helper()
	plain, usual := b.plain.travel(t, r, raw), b.usual.travel(t, r, raw)
	if diff := cmp.Diff(plain, usual, protocmp.Transform()); diff != "" {
		t.Errorf("(-plain +usual):\n%s\nresponse %q", diff, raw)
	}
}

// responseSeeds are responses to the REGISTER of these tests.
func responseSeeds(t testing.TB) [][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/kamailio/*.dat")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recorded responses: %v", err)
	}
	var seeds [][]byte
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, raw)
	}
	request := compose(register(), "sip:alice@192.0.2.10:5060", "").packet(transportUDP, hostPort{"192.0.2.10", 5060}, branchKey{})
	seeds = append(seeds,
		replaceAll(granted(request), zeroBranch, zeroBranch+", SIP/2.0/UDP 192.0.2.1"), replaceAll(granted(request), zeroBranch, zeroBranch+";x=\",\""),
		replaceAll(granted(request), ";tag=t1", ";tag=\"t1"), replaceAll(granted(request), ":5060;branch", ":05060;branch"),
		replaceAll(granted(request), ":5060;branch", ";branch"), replaceAll(granted(request), "12 REG", "012 REG"))
	many := []string{
		"Contact: <sip:alice@192.0.2.10:5060>;expires=60;q=0.5, \"B\" <sip:x@192.0.2.11;transport=tcp>;expires=7",
		"Contact: <sip:ALICE@192.0.2.10:5060>", "Contact: sip:alice@192.0.2.10:5060;expires=61", "Expires: 62",
		"Service-Route: <sip:p1;lr>, <sip:p2;lr>", "Path: <sip:edge;lr>", "P-Associated-URI: <sip:a@b>", "Date: Sat, 13 Nov 2010 23:29:00 GMT",
		`Authentication-Info: nextnonce="x", nc=00000001, qop=auth, cnonce="y", rspauth="z"`,
		"Proxy-Authentication-Info: nextnonce=\"p\"", "Server: x", "Supported: path, outbound", "Flow-Timer: 60",
	}
	for _, status := range []string{"100 Trying", "200 OK", "200 Fine by me", "302 Moved", "401 Unauthorized", "407 Who", "420 Bad Extension", "423 Too Brief", "503 Busy", "699 ", "200 SIPs"} {
		seeds = append(seeds, granted(request), answerTo(request, status, many...), answerTo(request, status,
			`WWW-Authenticate: Digest realm="a", nonce="b", qop="auth,auth-int", Basic realm="c"`, `Proxy-Authenticate: Digest realm="d", nonce="e"`,
			"Min-Expires: 300", "Retry-After: 120 (later);duration=60", "Unsupported: path, x"))
	}
	for _, raw := range allTorture(t) {
		if isResponse(raw) {
			seeds = append(seeds, raw)
		}
	}
	return seeds
}

// A response that scan reads is the one that parseResponse reads, also when it
// is spoiled in every place.
func TestScanAgreesWithTheParser(t *testing.T) {
	b := newBothWays(t)
	read := 0
	for _, seed := range responseSeeds(t) {
		for _, raw := range append(mutants(seed), seed) {
			if scanAgrees(t, b.usual.a, raw) {
				read++
			}
		}
	}
	if read < 1_000 {
		t.Errorf("scan read %d responses only", read)
	}
}

// scanAgrees tells whether scan reads a response.
func scanAgrees(t testing.TB, a *Adapter, raw []byte) bool {
	t.Helper()
	m := scanned.Get().(*message)
	defer m.release()
	for _, stream := range []bool{false, true} {
		if !m.scan(raw, stream) {
			continue
		}
		plain, err := a.parseResponse(raw, stream)
		if err != nil {
			t.Fatalf("%v, but scan reads %q", err, raw)
		}
		const ours = "sip:alice@192.0.2.10:5060"
		if diff := cmp.Diff(translate(plain, ours), translate(m, ours), protocmp.Transform()); diff != "" {
			t.Fatalf("translation (-plain +scanned):\n%s\n%q", diff, raw)
		}
		for value := range m.all("contact") {
			checkOnlyOurs(t, value, ours)
		}
		for _, f := range m.fields {
			if isOneChallenge(f.value) && !slices.Equal(challenge.Split(f.value), []string{f.value}) {
				t.Fatalf("%d challenges in %q", len(challenge.Split(f.value)), f.value)
			}
		}
		plain.fields = slices.DeleteFunc(plain.fields, func(f field) bool { return !isScanned(f.written) })
		if plain.version != m.version || plain.status != m.status || plain.phrase != m.phrase || !slices.Equal(plain.fields, m.fields) {
			t.Fatalf("plain %+v\nscanned %+v\n%q", plain, m, raw)
		}
	}
	return m.scan(raw, false)
}

// isScanned tells whether a registration reads a header.
func isScanned(name string) bool {
	return slices.ContainsFunc(scannedHeaders[:], func(h scannedHeader) bool { return strings.EqualFold(h.written, name) })
}

// checkOnlyOurs compares onlyOurs with the grammar.
func checkOnlyOurs(t testing.TB, value, ours string) {
	t.Helper()
	expires, ok := onlyOurs(value, ours, 17)
	if !ok {
		return
	}
	want := uint32(17)
	list := slices.Collect(elements(value))
	n, parsed := parseNameAddr(value)
	if p, there := parameter(n.params, "expires"); there {
		want = expiry(p)
	}
	if len(list) != 1 || !parsed || n.uri != ours || expires != want {
		t.Fatalf("onlyOurs gives %d, want %d, for %q", expires, want, value)
	}
}

// mutants are a message with one thing changed: a line left out, doubled, folded
// or in another case, a byte replaced, the end cut off.
func mutants(raw []byte) [][]byte {
	var out [][]byte
	lines := strings.SplitAfter(string(raw), "\r\n")
	join := func(i int, with string) {
		out = append(out, []byte(strings.Join(lines[:i], "")+with+strings.Join(lines[i+1:], "")))
	}
	for i, l := range lines {
		name, value, ok := strings.Cut(l, ":")
		join(i, "")
		join(i, l+l)
		join(i, " "+l)
		join(i, strings.TrimSuffix(l, "\n"))
		if ok {
			for _, spelled := range []string{strings.ToLower(name), strings.ToUpper(name), name + " ", name + "\t", name[:1]} {
				join(i, spelled+":"+value)
			}
			join(i, name+":"+strings.TrimSpace(value)+"\r\n")
			join(i, name+": \t"+strings.TrimSpace(value)+" \r\n")
			join(i, name+":\r\n"+value)
			join(i, name+":\r\n")
		}
	}
	const spoilers = ",;\"< \x00\t\n\r%/0129:=>?@AZ[\\]az{~\x7f\x80\xc3\xff"
	for i := 0; i < len(raw); i += 1 + len(raw)/300 {
		b := bytes.Clone(raw)
		b[i] = spoilers[(i*7+len(raw))%len(spoilers)]
		out = append(out, b)
	}
	return append(out, raw[:len(raw)/2], append(bytes.Clone(raw), "x"...))
}

// A response fares the same whether its transaction is a usual REGISTER or not.
func TestResponsesFareTheSameBothWays(t *testing.T) {
	if !isUsual(register(), "Muster") {
		t.Fatal("there is only one way")
	}
	b := newBothWays(t)
	for _, seed := range responseSeeds(t) {
		if !bytes.Contains(seed, []byte(zeroBranch)) {
			continue
		}
		b.agree(t, register(), seed)
		if len(seed) < 700 {
			for _, raw := range mutants(seed) {
				b.agree(t, register(), raw)
			}
		}
	}
}

// A request is written the same, or refused the same, both ways.
func TestRequestsFareTheSameBothWays(t *testing.T) {
	b := newBothWays(t)
	ok, err := os.ReadFile("testdata/kamailio/200.dat")
	if err != nil {
		t.Fatal(err)
	}
	strange := []string{
		"", " ", "a", "sip:", "sip:b", "SIP:b", "sips:b", "sip:a@b", "sip:b;transport=tcp", "tel:+1", "sip:a b", "sip:<b>", "sip:\"b", "a,b", "a b",
		"sip:é", "\x00", "x\r\ny", "a%20b", "a@b", "a;b", "a?b", "<sip:p;lr>", "sip:p;lr", "<sip:p>", "\"P\" <sip:p;lr>;x", strings.Repeat("x", 1_200),
	}
	for _, field := range requestFields {
		for _, s := range strange {
			r := register()
			field(r, s)
			if len(packetText(r)) < maxDatagram-200 {
				b.agree(t, r, ok)
			}
		}
	}
	for _, expires := range []int64{-1, 0, 1, 1<<32 - 1, 1 << 32, 1 << 40} {
		for _, cseq := range []uint32{0, 1, 1<<31 - 1, 1 << 31} {
			r := register()
			r.Expires, r.CSeq = expires, cseq
			b.agree(t, r, ok)
		}
	}
	for _, spoil := range []func(*messages.SIPRequest){
		func(r *messages.SIPRequest) { r.NoContact = true },
		func(r *messages.SIPRequest) { r.Supported = nil },
		func(r *messages.SIPRequest) { r.Supported = []string{"path", "outbound", "gruu"} },
		func(r *messages.SIPRequest) { r.Route = []string{"<sip:p1;lr>", "<sip:p2;lr>"} },
		func(r *messages.SIPRequest) { r.ContentType, r.Body = "text/plain", []byte("x") },
		func(r *messages.SIPRequest) { r.Headers = []messages.Header{{Name: "Allow", Value: "BYE"}} },
	} {
		r := register()
		spoil(r)
		b.agree(t, r, ok)
	}
	for _, first := range []messages.Op{messages.Op_SET, messages.Op_ADD, messages.Op_REMOVE, 0, 9} {
		for _, second := range []messages.Op{messages.Op_SET, messages.Op_ADD, messages.Op_REMOVE} {
			for _, name := range []string{"Authorization", "Proxy-Authorization", "authorization", "Via", ""} {
				r := register()
				r.Mutations = []*messages.HeaderMutation{
					{Op: first, Name: "Authorization", Value: `Digest realm="a"`}, {Op: second, Name: name, Value: `Digest realm="b"`},
				}
				b.agree(t, r, ok)
			}
		}
	}
}

// requestFields set one field of a request.
var requestFields = []func(r *messages.SIPRequest, s string){
	func(r *messages.SIPRequest, s string) { r.RequestURI = s },
	func(r *messages.SIPRequest, s string) { r.From = s },
	func(r *messages.SIPRequest, s string) { r.FromTag = s },
	func(r *messages.SIPRequest, s string) { r.To = s },
	func(r *messages.SIPRequest, s string) { r.ToTag = s },
	func(r *messages.SIPRequest, s string) { r.CallID = s },
	func(r *messages.SIPRequest, s string) { r.ContactUser = s },
	func(r *messages.SIPRequest, s string) { r.Supported = []string{s} },
	func(r *messages.SIPRequest, s string) { r.Route = []string{s} },
	func(r *messages.SIPRequest, s string) {
		r.Mutations = []*messages.HeaderMutation{{Op: messages.Op_SET, Name: "Authorization", Value: s}}
	},
	func(r *messages.SIPRequest, s string) {
		r.Mutations = []*messages.HeaderMutation{{Op: messages.Op_ADD, Name: s, Value: "Digest x"}}
	},
}

// packetText is about as long as the request on the wire. What is over the size
// of a datagram goes by TCP, which is build.go's.
func packetText(r *messages.SIPRequest) string {
	return fmt.Sprint(compose(r, "sip:alice@192.0.2.10:5060", "Muster"), r.ContactUser)
}

// FuzzRegister sends a REGISTER and answers it, both ways.
func FuzzRegister(f *testing.F) {
	for i, raw := range responseSeeds(f) {
		f.Add(raw, "sip:example.test", "sip:alice@example.test", "f1", "call-1", "alice", "", `Digest realm="a", nonce="b"`, int64(3600), uint32(12), uint8(i))
	}
	f.Add([]byte("SIP/2.0 200 OK\r\n\r\n"), "sip:b;x=y", "sip:\"", "a;b", "a,b", "a%41", "<sip:p;lr>", " ", int64(-1), uint32(1<<31), uint8(255))
	b := newBothWays(f)
	f.Fuzz(func(t *testing.T, raw []byte, uri, aor, tag, callID, user, route, credentials string, expires int64, cseq uint32, bits uint8) {
		scanAgrees(t, b.usual.a, raw)
		r := register()
		r.RequestURI, r.From, r.To, r.FromTag, r.CallID, r.ContactUser, r.Expires, r.CSeq = uri, aor, aor, tag, callID, user, expires, cseq
		if route != "" {
			r.Route = []string{route}
		}
		for i := range int(bits & 3) {
			name := []string{"Authorization", "Proxy-Authorization", "authorization"}[(int(bits>>2)+i)%3]
			r.Mutations = append(r.Mutations, &messages.HeaderMutation{Op: messages.Op(int(bits>>(4+i)) & 3), Name: name, Value: credentials})
		}
		if len(packetText(r)) < maxDatagram-200 {
			b.agree(t, r, raw)
		}
	})
}

// plainLine finds the end of a line wherever it stands, and the first byte that
// is not plain.
func TestPlainLine(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				for _, next := range []byte{'\n', 'x', 0xff} {
					b := bytes.Repeat([]byte{'a', '~', ' '}, 8)[:length+1]
					b[at], b[at+1] = byte(c), next
					want := -1
					for i, c := range b {
						if c < ' ' || c > '~' {
							if c == '\r' && i+1 < len(b) && b[i+1] == '\n' {
								want = i
							}
							break
						}
					}
					if got := plainLine(b); got != want {
						t.Fatalf("%q: %d, want %d", b, got, want)
					}
				}
			}
		}
	}
}
