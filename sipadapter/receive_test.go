package sipadapter

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sipmuster/muster/messages"
)

// replaceHeader gives a header another value.
func replaceHeader(packet []byte, name, value string) []byte {
	head, body, _ := strings.Cut(string(packet), "\r\n\r\n")
	var out []string
	for l := range strings.SplitSeq(head, "\r\n") {
		if n, _, ok := strings.Cut(l, ":"); ok && strings.EqualFold(n, name) {
			l = name + ": " + value
		}
		out = append(out, l)
	}
	return []byte(strings.Join(out, "\r\n") + "\r\n\r\n" + body)
}

// insertLine puts a line after the start line.
func insertLine(packet []byte, l string) []byte {
	start, rest, _ := strings.Cut(string(packet), "\r\n")
	return []byte(start + "\r\n" + l + "\r\n" + rest)
}

// asIs is the answer unchanged.
func asIs(p []byte) []byte { return p }

// Which responses count, and why the others do not. The row ids are in the
// names.
func TestResponseChecks(t *testing.T) {
	other := netip.MustParseAddrPort("192.0.2.99:5060")
	cases := []struct {
		name   string
		change func([]byte) []byte
		from   netip.AddrPort
		drop   string // "" when the response counts
	}{
		{"accepted", asIs, peerAddr, ""},
		{"GEN-13 sent-by of another host", func(p []byte) []byte {
			return bytes.Replace(p, []byte("192.0.2.10:5060"), []byte("192.0.2.11:5060"), 1)
		}, peerAddr, dropVia},
		{"GEN-13 sent-by with another port", func(p []byte) []byte {
			return bytes.Replace(p, []byte("192.0.2.10:5060"), []byte("192.0.2.10:5061"), 1)
		}, peerAddr, dropVia},
		{"GEN-13 default port left out", func(p []byte) []byte {
			return bytes.Replace(p, []byte("192.0.2.10:5060"), []byte("192.0.2.10"), 1)
		}, peerAddr, ""},
		{"GEN-14 second Via line", func(p []byte) []byte {
			return insertLine(p, "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx")
		}, peerAddr, dropVia},
		{"GEN-14 second Via value", func(p []byte) []byte {
			return replaceHeader(p, "Via", headerLines(p, "Via")[0]+", SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx")
		}, peerAddr, dropVia},
		{"GEN-15 bytes past Content-Length", func(p []byte) []byte { return append(p, "INVITE sip:x"...) }, peerAddr, ""},
		{"GEN-15 shorter than Content-Length", func(p []byte) []byte {
			return replaceHeader(p, "Content-Length", "10")
		}, peerAddr, dropMalformed},
		{"GEN-15 two lengths", func(p []byte) []byte { return insertLine(p, "l: 0") }, peerAddr, dropMalformed},
		{"GEN-15 negative length", func(p []byte) []byte {
			return replaceHeader(p, "Content-Length", "-1")
		}, peerAddr, dropMalformed},
		{"S-04 another address", asIs, other, dropSource},
		{"S-04 another port", asIs, netip.AddrPortFrom(peerAddr.Addr(), 5070), dropSource},
		{"S-04 listed address", asIs, netip.MustParseAddrPort("192.0.2.21:9999"), ""},
		{"another Call-ID", func(p []byte) []byte { return replaceHeader(p, "Call-ID", "call-2") }, peerAddr, dropIdentity},
		{"GEN-04 Call-ID in another case", func(p []byte) []byte {
			return replaceHeader(p, "Call-ID", "Call-1")
		}, peerAddr, dropIdentity},
		{"another CSeq number", func(p []byte) []byte { return replaceHeader(p, "CSeq", "11 REGISTER") }, peerAddr, dropIdentity},
		{"CSeq over 2**31", func(p []byte) []byte {
			return replaceHeader(p, "CSeq", "4294967308 REGISTER")
		}, peerAddr, dropMalformed},
		{"another From tag", func(p []byte) []byte {
			return replaceHeader(p, "From", "<sip:alice@example.test>;tag=f2")
		}, peerAddr, dropIdentity},
		{"no From tag", func(p []byte) []byte {
			return replaceHeader(p, "From", "<sip:alice@example.test>")
		}, peerAddr, dropMalformed},
		{"two Call-IDs", func(p []byte) []byte { return insertLine(p, "i: call-1") }, peerAddr, dropMalformed},
		{"two CSeqs", func(p []byte) []byte { return insertLine(p, "CSeq: 12 REGISTER") }, peerAddr, dropMalformed},
		{"S-34 no To", func(p []byte) []byte { return replaceHeader(p, "To", "") }, peerAddr, dropMalformed},
		{"our branch in another header", func(p []byte) []byte {
			ours, _ := parameter(headerLines(p, "Via")[0], "branch")
			return insertLine(replaceHeader(p, "Via", "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKother"), "X-Branch: "+ours)
		}, peerAddr, dropUnmatched},
		{"our branch behind that of another", func(p []byte) []byte {
			ours, _ := parameter(headerLines(p, "Via")[0], "branch")
			other := string(branchKey{1}.appendTo(nil))
			return insertLine(replaceHeader(p, "Via", "SIP/2.0/UDP 192.0.2.10:5060;branch="+other), "X-Branch: "+ours)
		}, peerAddr, dropUnmatched},
		{"status 99", status("099 Low"), peerAddr, dropStatus},
		{"status 700", status("700 High"), peerAddr, dropStatus},
		{"status 4294967301", status("4294967301 Overlarge"), peerAddr, dropMalformed},
		{"status of two digits", status("20 Short"), peerAddr, dropMalformed},
		{"SIP/3.0", func(p []byte) []byte { return bytes.Replace(p, []byte("SIP/2.0 200"), []byte("SIP/3.0 200"), 1) }, peerAddr, dropMalformed},
		{"no reason phrase", status("200"), peerAddr, ""},
		{"empty reason phrase", status("200 "), peerAddr, ""},
		{"leading blank line", func(p []byte) []byte { return append([]byte("\r\n"), p...) }, peerAddr, ""},
		{"bare line feed in a header", func(p []byte) []byte { return insertLine(p, "X-A: b\nX-C: d") }, peerAddr, dropMalformed},
		{"header without colon", func(p []byte) []byte { return insertLine(p, "nonsense") }, peerAddr, dropMalformed},
		{"one bad Contact", func(p []byte) []byte { return insertLine(p, "Contact: <<<>") }, peerAddr, ""},
		{"empty Contact and Content-Type", func(p []byte) []byte {
			return insertLine(insertLine(p, "Contact:"), "Content-Type:")
		}, peerAddr, ""},
		{"Via in compact form", func(p []byte) []byte { return bytes.Replace(p, []byte("Via:"), []byte("v :"), 1) }, peerAddr, ""},
		{"blanks in Via", func(p []byte) []byte {
			return bytes.Replace(p, []byte(";branch="), []byte(" ; branch = "), 1)
		}, peerAddr, ""},
		{"upper-case Branch", func(p []byte) []byte { return bytes.Replace(p, []byte(";branch="), []byte(";Branch="), 1) }, peerAddr, ""},
		{"quoted parameter before branch", func(p []byte) []byte {
			return bytes.Replace(p, []byte(";branch="), []byte(`;x="a;b,c";branch=`), 1)
		}, peerAddr, ""},
		{"folded Via", func(p []byte) []byte { return bytes.Replace(p, []byte(";branch="), []byte("\r\n ;branch="), 1) }, peerAddr, ""},
		{"blanks around the slashes", func(p []byte) []byte {
			return bytes.Replace(p, []byte("SIP/2.0/UDP 192"), []byte("SIP / 2.0 / UDP   192"), 1)
		}, peerAddr, ""},
		{"received and rport", func(p []byte) []byte {
			return bytes.Replace(p, []byte(";rport"), []byte(";received=198.51.100.1;rport=1234"), 1)
		}, peerAddr, ""},
		{"S-31 100 headers", headers(100 - 7), peerAddr, ""},
		{"S-31 101 headers", headers(101 - 7), peerAddr, dropOversize},
		{"S-31 8 KiB value", func(p []byte) []byte { return insertLine(p, "X-A: "+strings.Repeat("a", 8<<10)) }, peerAddr, ""},
		{"S-31 longer value", func(p []byte) []byte { return insertLine(p, "X-A: "+strings.Repeat("a", 8<<10+1)) }, peerAddr, dropOversize},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counters := newRecorder()
				a, conn := memAdapter(t, Options{
					Counters: counters, AllowSources: []netip.Addr{netip.MustParseAddr("192.0.2.21")},
				}, seams{})
				defer shut(t, a)
				outcomes := send(a, register())
				synctest.Wait()
				conn.deliver(c.change(granted(conn.packets()[0].data)), c.from)
				synctest.Wait()
				if c.drop == "" {
					if o := await(t, outcomes); o.Response == nil || o.Response.Source != c.from.String() {
						t.Errorf("outcome %+v, drops %v", o, counters.dropped)
					}
					return
				}
				none(t, outcomes)
				if counters.drops(c.drop) != 1 {
					t.Errorf("drops %v, want one %q", counters.dropped, c.drop)
				}
			})
		})
	}
}

func status(line string) func([]byte) []byte {
	return func(p []byte) []byte { return bytes.Replace(p, []byte("200 OK"), []byte(line), 1) }
}

func headers(n int) func([]byte) []byte {
	return func(p []byte) []byte {
		for i := range n {
			p = insertLine(p, fmt.Sprintf("X-%d: y", i))
		}
		return p
	}
}

// GEN-16: codes that nobody knows reach the core as they are.
func TestGEN16_UnknownCodes(t *testing.T) {
	for _, code := range []string{"299 Odd", "399 Odd", "499 Odd", "599 Odd", "699 Odd"} {
		t.Run(code, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			defer shut(t, a)
			conn.peer = func(d datagram) []datagram {
				return []datagram{{data: answerTo(d.data, code), addr: peerAddr}}
			}
			o := await(t, send(a, register()))
			if o.Response == nil || fmt.Sprint(o.Response.Status) != code[:3] {
				t.Errorf("outcome %+v", o)
			}
		})
	}
	t.Run("199 is provisional", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			defer shut(t, a)
			outcomes := send(a, register())
			synctest.Wait()
			conn.deliver(answerTo(conn.packets()[0].data, "199 Odd"), peerAddr)
			synctest.Wait()
			none(t, outcomes)
		})
	})
}

// GEN-12: a datagram may fill an IP packet.
func TestGEN12_LargestDatagram(t *testing.T) {
	a := loopbackAdapter(t, Options{Listen: []string{"udp://127.0.0.1:0"}})
	peer := newUDPPeer(t, func(request []byte) [][]byte {
		answer := granted(request)
		for i := 0; len(answer) < 60_000; i++ {
			answer = insertLine(answer, fmt.Sprintf("X-%d: %s", i, strings.Repeat("a", 4000)))
		}
		return [][]byte{insertLine(answer, "X-Last: "+strings.Repeat("a", 65_507-len(answer)-len("X-Last: \r\n")))}
	})
	r := register()
	r.NextHop = peer.uri()
	if o := await(t, send(a, r)); o.Response == nil || o.Response.Status != 200 {
		t.Errorf("outcome %+v", o)
	}
}

// GEN-18: the answer to a request with rport comes to the socket it left from.
func TestGEN18_SameSocket(t *testing.T) {
	a := loopbackAdapter(t, Options{Listen: []string{"udp://127.0.0.1:0"}})
	peer := newUDPPeer(t, func(request []byte) [][]byte {
		if !strings.HasSuffix(headerLines(request, "Via")[0], ";rport") {
			return nil
		}
		return [][]byte{granted(request)}
	})
	r := register()
	r.NextHop = peer.uri()
	if o := await(t, send(a, r)); o.Response == nil || o.Response.Contact != messages.ContactOurs {
		t.Errorf("outcome %+v", o)
	}
	if from := peer.lastFrom(); from != listenAddrOf(t, a, transportUDP) {
		t.Errorf("the request came from %v", from)
	}
}

// IPv6 works with and without a port, and the brackets stay.
func TestIPv6(t *testing.T) {
	if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here")
	} else {
		_ = c.Close()
	}
	a := loopbackAdapter(t, Options{Listen: []string{"udp://127.0.0.1:0", "udp://[::1]:0"}})
	peer := newUDPPeerAt(t, "[::1]:0", func(request []byte) [][]byte { return [][]byte{granted(request)} })
	r := register()
	r.NextHop = peer.uri()
	o := await(t, send(a, r))
	if o.Response == nil || o.Response.Contact != messages.ContactOurs {
		t.Fatalf("outcome %+v", o)
	}
	if contact := o.Response.Contacts[0].URI; !strings.HasPrefix(contact, "sip:alice@[::1]:") {
		t.Errorf("contact %s", contact)
	}
}
