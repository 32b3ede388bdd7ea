package siptest_test

import (
	"fmt"
	"net"
	"strings"

	"github.com/sipmuster/muster/sipadapter/siptest"
)

// A registrar that challenges everybody, and answers the second request of each
// Call-ID with 503 once.
func Example() {
	registrar, err := siptest.NewRegistrar(siptest.Options{
		Authenticate: true,
		Algorithms:   []string{"SHA-256", "MD5"},
		Password:     func(user string) (string, bool) { return "secret", user == "alice" },
		Behaviour: func(q *siptest.Request) *siptest.Reply {
			if q.CSeq == 2 {
				return &siptest.Reply{Status: 503, Headers: []string{"Retry-After: 5"}}
			}
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = registrar.Close() }()

	conn, err := net.Dial("udp", registrar.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	for cseq := 1; cseq <= 2; cseq++ {
		_, _ = fmt.Fprintf(conn, "REGISTER sip:example.test SIP/2.0\r\n"+
			"Via: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK%d\r\n"+
			"From: <sip:alice@example.test>;tag=1\r\nTo: <sip:alice@example.test>\r\n"+
			"Call-ID: c1\r\nCSeq: %d REGISTER\r\nContact: <sip:alice@192.0.2.1>\r\nContent-Length: 0\r\n\r\n", cseq, cseq)
		answer := make([]byte, 2048)
		n, err := conn.Read(answer)
		if err != nil {
			fmt.Println(err)
			return
		}
		line, _, _ := strings.Cut(string(answer[:n]), "\r\n")
		fmt.Println(line)
	}
	seen := registrar.Snapshot()
	fmt.Println("challenges:", seen.Challenges, "violations:", len(registrar.CheckInvariants()))
	// Output:
	// SIP/2.0 401 Unauthorized
	// SIP/2.0 503 Service Unavailable
	// challenges: 1 violations: 0
}
