package sipadapter

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipmuster/muster/messages"
)

// tortureMessages reads the archive of an RFC as it goes on the wire.
func tortureMessages(t testing.TB, rfc string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", rfc, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no test messages: %v", err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".dat")
		if name == "INDEX.tsv" {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if rfc == "rfc5118" {
			raw = repaired(raw)
		}
		out[name] = raw
	}
	return out
}

// repaired undoes what the archive of RFC 5118 did to its messages: bare line
// feeds, two without the empty line, and a Content-Length that fits none of
// the spellings.
func repaired(raw []byte) []byte {
	raw = bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		return append(raw, "\r\n"...)
	}
	whole := append(append(head, "\r\n\r\n"...), body...)
	return replaceHeader(whole, "Content-Length", strconv.Itoa(len(body)))
}

func allTorture(t testing.TB) map[string][]byte {
	t.Helper()
	all := tortureMessages(t, "rfc4475")
	maps.Copy(all, tortureMessages(t, "rfc5118"))
	return all
}

// tortureAnswers is what each message gets when it comes as a datagram. The
// sections of the RFCs are in the index files. Where a code differs from the
// RFC's suggestion the comment says why.
var tortureAnswers = map[string]string{
	// RFC 4475 §3.1.1, valid.
	"wsinv":      "481", // it has a To tag, and there is no dialog
	"intmeth":    "405",
	"esc01":      "480",
	"escnull":    "405",
	"esc02":      "405",
	"lwsdisp":    "200",
	"longreq":    "480",
	"dblreq":     "405", // once: the second message is discarded
	"semiuri":    "200",
	"transports": "200",
	"mpart01":    "405",
	"unreason":   "none", // responses that nobody waits for
	"noreason":   "none",
	// §3.1.2, invalid.
	"badinv01":   "400",
	"clerr":      "400",
	"ncl":        "400",
	"scalar02":   "400",
	"scalarlg":   "none",
	"quotbal":    "400",
	"ltgtruri":   "400",
	"lwsruri":    "400",
	"lwsstart":   "400",
	"trws":       "400",
	"escruri":    "400",
	"baddate":    "480", // Date is not looked at
	"regbadct":   "405", // no REGISTER is served, so no Contact is looked at
	"badaspec":   "200", // blanks inside the brackets are ignored
	"baddn":      "400",
	"badvers":    "505",
	"mismatch01": "400",
	"mismatch02": "400",
	"bigcode":    "none",
	// §3.2 and §3.3.
	"badbranch": "200", // answered without state, so the branch has no use
	"insuf":     "400",
	"unkscm":    "416",
	"novelsc":   "416",
	"unksm2":    "405",
	"bext01":    "420",
	"invut":     "480", // an INVITE is turned down before its body is read
	"regaut01":  "405",
	"multi01":   "400",
	"mcl01":     "400",
	"bcast":     "none",
	"zeromf":    "200", // an endpoint goes on as if the value were positive
	"cparam01":  "405",
	"cparam02":  "405",
	"regescrt":  "405",
	"sdp01":     "480",
	"inv2543":   "480",
	"test":      "none", // in the archive only; no Via
	// RFC 5118.
	"ipv6-good":                     "405",
	"ipv6-bad":                      "400",
	"port-ambiguous":                "405",
	"port-unambiguous":              "405",
	"via-received-param-with-delim": "481",
	"via-received-param-no-delim":   "200",
	"ipv6-in-sdp":                   "480",
	"mult-ip-in-header":             "481",
	"mult-ip-in-sdp":                "480",
	"ipv4-mapped-ipv6":              "480",
	"ipv6-bug-abnf-3-colons":        "200",
	"ipv6-correct-abnf-2-colons":    "200",
}

var stranger = netip.MustParseAddrPort("198.51.100.95:5060")

// RFC 4475 and RFC 5118, each message as one datagram.
func TestTortureUDP(t *testing.T) {
	all := allTorture(t)
	if len(all) != len(tortureAnswers) {
		t.Errorf("%d messages, %d expectations", len(all), len(tortureAnswers))
	}
	for name, raw := range all {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, conn := memAdapter(t, Options{}, seams{})
				defer shut(t, a)
				conn.deliver(raw, stranger)
				conn.deliver(raw, stranger)
				synctest.Wait()
				packets := conn.packets()
				if want := tortureAnswers[name]; want == "none" && len(packets) != 0 || want != "none" && answerCodes(packets) != want+" "+want {
					t.Fatalf("answered %q, want %s twice", answerCodes(packets), want)
				}
				if len(packets) == 2 && !bytes.Equal(packets[0].data, packets[1].data) {
					t.Error("a repeat gets another answer")
				}
			})
		})
	}
}

func answerCodes(packets []datagram) string {
	var codes []string
	for _, p := range packets {
		codes = append(codes, string(p.data[len("SIP/2.0 "):len("SIP/2.0 200")]))
	}
	return strings.Join(codes, " ")
}

// The same messages on a stream: whole, byte by byte, and cut off anywhere.
func TestTortureTCP(t *testing.T) {
	for name, raw := range allTorture(t) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, l := accepted(t, Options{})
				defer shut(t, a)
				whole := exchangeOver(l.connect(), raw, len(raw))
				single := exchangeOver(l.connect(), raw, 1)
				if whole != single {
					t.Errorf("whole: %q, byte by byte: %q", whole, single)
				}
				for cut := 0; cut < len(raw); cut += 1 + len(raw)/64 {
					exchangeOver(l.connect(), raw[:cut], max(cut, 1))
				}
				// The adapter is as well as before.
				if got := exchangeOver(l.connect(), []byte(plainOptions), len(plainOptions)); !strings.HasPrefix(got, "SIP/2.0 200 OK\r\n") {
					t.Errorf("afterwards OPTIONS gets %q", got)
				}
			})
		})
	}
}

const plainOptions = "OPTIONS sip:a@192.0.2.10 SIP/2.0\r\n" +
	"Via: SIP/2.0/TCP 198.51.100.95;branch=z9hG4bK1\r\n" +
	"From: <sip:b@198.51.100.95>;tag=1\r\nTo: <sip:a@192.0.2.10>\r\n" +
	"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"

// exchangeOver writes in pieces and gives what comes back within a minute.
func exchangeOver(conn net.Conn, raw []byte, piece int) string {
	var got bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&got, conn)
	}()
	for len(raw) > 0 {
		n := min(piece, len(raw))
		if _, err := conn.Write(raw[:n]); err != nil {
			break
		}
		raw = raw[n:]
	}
	time.Sleep(time.Minute)
	_ = conn.Close()
	<-done
	return got.String()
}

// The five responses of RFC 4475, as answers to a request of ours.
func TestTortureResponses(t *testing.T) {
	cases := map[string]struct {
		status int
		drop   string
	}{
		"unreason": {status: 200},
		"noreason": {}, // a 100: nothing to report
		"scalarlg": {drop: dropMalformed},
		"bigcode":  {drop: dropMalformed},
		"bcast":    {drop: dropVia},
	}
	all := tortureMessages(t, "rfc4475")
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counters := newRecorder()
				a, conn := memAdapter(t, Options{Counters: counters}, seams{})
				defer shut(t, a)
				outcomes := send(a, register())
				synctest.Wait()
				conn.deliver(asOurs(t, conn.packets()[0].data, all[name], name), peerAddr)
				synctest.Wait()
				if c.status != 0 {
					if o := await(t, outcomes); o.Response == nil || o.Response.Status != c.status {
						t.Errorf("outcome %+v", o)
					}
					return
				}
				none(t, outcomes)
				if c.drop != "" && counters.drops(c.drop) != 1 {
					t.Errorf("drops %v", counters.dropped)
				}
			})
		})
	}
}

// asOurs makes a response of the archive answer a request: the identity is
// the request's, unless it is what the message is about.
func asOurs(t testing.TB, request, response []byte, name string) []byte {
	t.Helper()
	via := headerLine(t, request, "Via")
	head, body, _ := strings.Cut(string(response), "\r\n\r\n")
	var out []string
	first := true
	for l := range strings.SplitSeq(head, "\r\n") {
		switch n, _, _ := strings.Cut(l, ":"); strings.ToLower(strings.TrimSpace(n)) {
		case "via", "v":
			if first {
				l, first = "Via: "+via, false
			}
		case "from", "f":
			l = "From: " + headerLine(t, request, "From")
		case "call-id", "i":
			l = "Call-ID: " + headerLine(t, request, "Call-ID")
		case "cseq":
			if name != "scalarlg" {
				l = "CSeq: " + headerLine(t, request, "CSeq")
			}
		}
		out = append(out, l)
	}
	return []byte(strings.Join(out, "\r\n") + "\r\n\r\n" + body)
}

// RFC 4475 §3.3.12 and §3.3.13: a parameter of the header is none of the URI.
func TestTortureContacts(t *testing.T) {
	all := tortureMessages(t, "rfc4475")
	contact := func(name string) uri {
		n, ok := parseNameAddr(headerLine(t, all[name], "Contact"))
		u, err := parseURI(n.uri)
		if !ok || err != nil {
			t.Fatalf("%s: %+v, %v", name, n, err)
		}
		return u
	}
	header, inURI := contact("cparam01"), contact("cparam02")
	if _, ok := header.param("unknownparam"); ok {
		t.Error("cparam01: the parameter belongs to the header")
	}
	if _, ok := inURI.param("unknownparam"); !ok {
		t.Error("cparam02: the parameter belongs to the URI")
	}
	// §3.3.14: the escaped header stays in the URI and is no header of ours.
	if u := contact("regescrt"); u.headers == "" || strings.Contains(u.noHeader, "?") {
		t.Errorf("regescrt: %+v", u)
	}
	// §3.1.1.4: escaped NULs are not decoded.
	var kept []string
	for _, value := range headerLines(all["escnull"], "Contact") {
		n, _ := parseNameAddr(value)
		u, err := parseURI(n.uri)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, unescape(u.user))
	}
	if fmt.Sprint(kept) != "[%00 %00%00]" {
		t.Errorf("escnull: users %q", kept)
	}
}

// A 401 for every method we can send is an outcome and nothing else (S-34).
func TestS34_EveryMethodChallenged(t *testing.T) {
	a, conn := memAdapter(t, Options{}, seams{})
	defer shut(t, a)
	conn.peer = func(d datagram) []datagram {
		return []datagram{{data: answerTo(d.data, "401 Unauthorized"), addr: peerAddr}}
	}
	for _, method := range []string{"REGISTER", "OPTIONS", "BYE", "MESSAGE", "SUBSCRIBE", "PUBLISH", "REFER", "NOTIFY", "X-UNKNOWN"} {
		r := register()
		r.Method = method
		o := await(t, send(a, r))
		if o.Response == nil || o.Response.Status != 401 || o.Response.Challenges != nil || o.Response.Contact != messages.ContactMissing {
			t.Errorf("%s: %+v", method, o)
		}
	}
}
