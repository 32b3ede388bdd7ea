//go:build interop

package usim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/actors/aka"
	"github.com/sipmuster/muster/actors/aka/akatest"
	"github.com/sipmuster/muster/actors/challenge"
)

// sippKeys are sets 2, 3 and 19 of the conformance data (K, OP, OPc). SIPp reads
// a key as text of its scenario, so that neither may hold a NUL or "[", which
// the other sets do.
var sippKeys = [][3]string{
	{"0396eb317b6d1c36f19c1c84cd6ffd16", "ff53bade17df5d4e793073ce9d7579fa", "53c15671c60a4b731c55b4a441c0bde2"},
	{"fec86ba6eb707ed08905757b1bb44b8f", "dbc59adcb6f9a0ef735477b7fadf8374", "1006020f0a478bf6b699f15c062e42b3"},
	{"5122250214c33e723a5dd523fc145fc0", "c9e8763286b5b9ffbdf56e1297d0887b", "981d464c7c52eb6e5036234984ad0bcf"},
}

// AKA-02:
// TestAKA02SIPpAgrees lets SIPp (Debian package sip-tester), which has a
// Milenage of its own, register with a registrar that believes this module's:
// if a response is accepted, both computed the same from the same keys. SIPp
// knows AKAv1-MD5 only, and never asks to resynchronise. It checks the MAC of
// the challenge, so a network that does not know K gets no answer.
func TestAKA02SIPpAgrees(t *testing.T) {
	sipp, err := exec.LookPath("sipp")
	if err != nil {
		t.Skip("sipp is not installed (Debian package sip-tester)")
	}
	for _, tt := range []struct {
		name     string
		wrongMAC bool
		want     []string
	}{
		{"the keys agree", false, []string{"challenged", "ok", "challenged", "ok", "challenged", "ok"}},
		{"the MAC is wrong", true, []string{"challenged"}},
	} {
		for _, k := range sippKeys {
			t.Run(tt.name, func(t *testing.T) {
				h, err := akatest.New(unhex(k[0]), unhex(k[2]))
				if err != nil {
					t.Fatal(err)
				}
				usimKeys, err := aka.KeysFromOPc(unhex(k[0]), unhex(k[2]))
				if err != nil {
					t.Fatal(err)
				}
				h.IMPI, h.AMF, h.WrongMAC = impi, aka.AMF{0xb9, 0xb9}, tt.wrongMAC
				conn, err := net.ListenPacket("udp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				seen := make(chan []string)
				go func() { seen <- serve(conn, h, usimKeys) }()
				calls := (len(tt.want) + 1) / 2
				out, err := runSIPp(t, sipp, conn.LocalAddr().String(), k, calls)
				conn.Close()
				got := <-seen
				if (err != nil) != tt.wrongMAC {
					t.Errorf("sipp: %v\n%s", err, out)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got)\n%s\n%s", diff, out)
				}
			})
		}
	}
}

// serve is a registrar that asks for Digest AKA, until its socket is closed. It
// returns what it made of each request, once per CSeq.
func serve(conn net.PacketConn, h *akatest.HSS, k aka.Keys) (seen []string) {
	buf := make([]byte, 64<<10)
	answered := map[string][]byte{}
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return seen
		}
		request := header(string(buf[:n]))
		transaction := request["call-id"] + request["cseq"]
		response := answered[transaction] // to a retransmission
		if response == nil {
			verdict := "challenged"
			status, more := "401 Unauthorized", ""
			if credentials := request["authorization"]; credentials == "" {
				more = "WWW-Authenticate: " + challengeForSIPp(h, k) + "\r\n"
			} else if ok, _, err := h.Verify(credentials, "REGISTER"); ok {
				verdict, status, more = "ok", "200 OK", "Contact: "+request["contact"]+"\r\n"
			} else {
				verdict, status = fmt.Sprint(err), "403 Forbidden"
			}
			seen = append(seen, verdict)
			response = fmt.Appendf(nil, "SIP/2.0 %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s;tag=r\r\nCall-ID: %s\r\nCSeq: %s\r\n%sContent-Length: 0\r\n\r\n",
				status, request["via"], request["from"], request["to"], request["call-id"], request["cseq"], more)
			answered[transaction] = response
		}
		if _, err := conn.WriteTo(response, from); err != nil {
			return append(seen, err.Error())
		}
	}
}

// challengeForSIPp is one whose RES holds no NUL: SIPp 3.6.1 takes RES for a
// text, and hashes it up to there (of 900 registrations with random challenges
// it got 42 wrong, which are those with a NUL).
func challengeForSIPp(h *akatest.HSS, k aka.Keys) string {
	for {
		raw := h.Challenge(realm, "AKAv1-MD5")
		p, err := challenge.Parse(raw)
		if err != nil {
			return err.Error()
		}
		n, err := aka.ParseNonce(p.Nonce())
		if err != nil {
			return err.Error()
		}
		if v, _ := k.F2345(n.Rand); strings.IndexByte(v.RES.Reveal(), 0) < 0 {
			return raw
		}
	}
}

// header reads the headers of a message, one line each.
func header(message string) map[string]string {
	h := map[string]string{}
	for line := range strings.SplitSeq(message, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h[strings.ToLower(name)] = value
		}
	}
	return h
}

// scenario is one registration. The password is not used with AKA, but SIPp
// falls back to plain MD5 without the keyword's other parameters.
const scenario = `<?xml version="1.0" encoding="UTF-8"?>
<scenario name="aka">
  <send retrans="500"><![CDATA[
REGISTER sip:%[1]s SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:%[2]s>;tag=[call_number]
To: <sip:%[2]s>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:a@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Length: 0

  ]]></send>
  <recv response="401" auth="true" timeout="10000"/>
  <send retrans="500"><![CDATA[
REGISTER sip:%[1]s SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:%[2]s>;tag=[call_number]
To: <sip:%[2]s>
Call-ID: [call_id]
CSeq: 2 REGISTER
Contact: <sip:a@[local_ip]:[local_port]>
[authentication username=%[2]s aka_K=0x%[3]s aka_OP=0x%[4]s aka_AMF=0xb9b9]
Max-Forwards: 70
Content-Length: 0

  ]]></send>
  <recv response="200" timeout="10000"/>
</scenario>
`

// freePort is one for SIPp, which takes 0 for 5060.
func freePort(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func runSIPp(t *testing.T, sipp, target string, k [3]string, calls int) (string, error) {
	t.Helper()
	folder := t.TempDir()
	file := filepath.Join(folder, "aka.xml")
	if err := os.WriteFile(file, fmt.Appendf(nil, scenario, realm, impi, k[0], k[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, sipp, target, "-sf", file, "-i", "127.0.0.1", "-ci", "127.0.0.1", "-p", freePort(t), "-m", strconv.Itoa(calls), "-l", "1", "-nostdin",
		"-trace_err", "-error_file", filepath.Join(folder, "errors.log"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	if errs, readErr := os.ReadFile(filepath.Join(folder, "errors.log")); readErr == nil {
		out.Write(errs)
	}
	return out.String(), err
}
