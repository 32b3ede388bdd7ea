package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// scenario registers a user through one challenge, and again so many times with
// the nonce that it has.
func scenario(refreshes int) string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<scenario name=\"register\">\n")
	send := func(cseq int, credentials string) {
		fmt.Fprintf(&b, `<send retrans="500"><![CDATA[
REGISTER sip:[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:[field0]@example.test>;tag=[call_number]
To: <sip:[field0]@example.test>
Call-ID: [call_id]
CSeq: %d REGISTER
Contact: <sip:[field0]@[local_ip]:[local_port]>
Expires: 3600
%sContent-Length: 0

]]></send>
`, cseq, credentials)
	}
	send(1, "")
	b.WriteString("<recv response=\"401\" auth=\"true\"/>\n")
	for i := range refreshes + 1 {
		send(2+i, "[field1]\n")
		b.WriteString("<recv response=\"100\" optional=\"true\"/>\n<recv response=\"200\"/>\n")
	}
	b.WriteString("</scenario>\n")
	return b.String()
}

// sipp runs SIPp and returns its user and system time.
func sipp(dir, registrar string, users, refreshes int, rate float64) (time.Duration, error) {
	path, err := exec.LookPath("sipp")
	if err != nil {
		return 0, errNotInstalled
	}
	rows := []byte("SEQUENTIAL\n")
	for i := range users {
		rows = fmt.Appendf(rows, "u%d;[authentication username=u%d password=pw-u%d]\n", i, i, i)
	}
	xml, csv := filepath.Join(dir, "register.xml"), filepath.Join(dir, "users.csv")
	if err := errors.Join(os.WriteFile(xml, []byte(scenario(refreshes)), 0o600), os.WriteFile(csv, rows, 0o600)); err != nil {
		return 0, err
	}
	const flatOut, open = 20_000, "500"
	if rate <= 0 {
		rate = flatOut
	}
	cmd := exec.Command(path, registrar, "-sf", xml, "-inf", csv, "-i", "127.0.0.1", "-t", "u1", "-nostdin",
		"-r", fmt.Sprintf("%.0f", rate), "-l", open, "-m", fmt.Sprint(users), "-buff_size", "8388608", "-timeout", "300s")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TERM=dumb")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("sipp: %w: %s", err, tail(out))
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

func tail(out []byte) []byte {
	const most = 600
	return out[max(0, len(out)-most):]
}
