package siptest_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipmuster/muster/sipadapter/siptest"
)

func TestBehaviour(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reply *siptest.Reply
		want  []int
	}{
		{"own", nil, []int{200}},
		{"own, said with a value", &siptest.Reply{}, []int{200}},
		{"status and headers", &siptest.Reply{Status: 404, Reason: "Gone Fishing", Headers: []string{"X: y"}, Body: "b"}, []int{404}},
		{"unknown status", &siptest.Reply{Status: 499}, []int{499}},
		{"own, twice", &siptest.Reply{Copies: 1}, []int{200, 200}},
		{"provisional first", &siptest.Reply{Status: 100, Then: []*siptest.Reply{{}}}, []int{100, 200}},
		{"two finals", &siptest.Reply{Status: 503, Then: []*siptest.Reply{{Status: 200}}}, []int{503, 200}},
		{"delayed", &siptest.Reply{Delay: time.Millisecond, Then: []*siptest.Reply{{Status: 603, Delay: time.Millisecond}}}, []int{200, 603}},
		{"raw", &siptest.Reply{Raw: []byte("SIP/2.0 299 Raw\r\n\r\n")}, []int{299}},
		{"drop", &siptest.Reply{Drop: true}, nil},
		{"from elsewhere", &siptest.Reply{Elsewhere: true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, siptest.Options{Behaviour: func(q *siptest.Request) *siptest.Reply {
				if q.Method != "REGISTER" {
					return nil
				}
				return tt.reply
			}})
			c := dial(t, r, "udp") // connected: hears only the port it asked
			c.write(c.build(register{}))
			var got []int
			for range tt.want {
				got = append(got, c.read().status)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answers (-want +got)\n%s", diff)
			}
			if len(tt.want) == 0 {
				c.nothing()
			}
			settled(t, r)
		})
	}
}

// TestElsewhere: a socket that is not connected hears the other port.
func TestElsewhere(t *testing.T) {
	r := start(t, siptest.Options{Behaviour: func(*siptest.Request) *siptest.Reply { return &siptest.Reply{Elsewhere: true} }})
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	target, err := net.ResolveUDPAddr("udp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t}
	if _, err := conn.WriteTo([]byte(c.build(register{})), target); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2048)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	n, from, err := conn.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	parseResponse(t, string(buffer[:n])).want(t, 200)
	if from.String() == r.Addr() {
		t.Error("it came from the port that was asked")
	}
}

// TestScriptedAgain: a script is asked again only while nothing was answered,
// and what was found out about the first transmission holds for the others.
func TestScriptedAgain(t *testing.T) {
	var asked []int
	r := start(t, siptest.Options{
		Authenticate: true, Password: secret, CheckNC: true, Algorithms: []string{"MD5-sess"},
		Behaviour: func(q *siptest.Request) *siptest.Reply {
			asked = append(asked, q.Retransmission)
			return &siptest.Reply{Drop: q.CSeq == 2 && q.Retransmission < 2}
		},
	})
	c := dial(t, r, "udp")
	auth := c.ask(register{}).want(t, 401).answer(t, register{}, 1, "c")
	request := c.build(register{cseq: 2, auth: auth})
	for range 3 {
		c.write(request)
	}
	c.read().want(t, 200)
	c.write(request)
	c.read().want(t, 200)
	if s := settled(t, r); s.Retransmissions != 3 || s.Dropped != 2 || s.Registers != 2 {
		t.Errorf("snapshot %+v", s)
	}
	if diff := cmp.Diff([]int{0, 0, 1, 2}, asked); diff != "" {
		t.Errorf("asked (-want +got)\n%s", diff)
	}
}

// TestOutstanding: I-5, and who is to blame for what.
func TestOutstanding(t *testing.T) {
	r := start(t, siptest.Options{
		Outstanding: time.Hour,
		Behaviour: func(q *siptest.Request) *siptest.Reply {
			return &siptest.Reply{Drop: q.CSeq == 1}
		},
	})
	c := dial(t, r, "udp")
	c.write(c.build(register{cseq: 1}))
	c.ask(register{user: "bob", cseq: 2}).want(t, 200) // another address-of-record
	settled(t, r)
	r.ClientRestarted()
	c.ask(register{cseq: 2}).want(t, 200)
	settled(t, r)
	c.write(c.build(register{cseq: 1, callID: "second"}))
	c.ask(register{cseq: 3}).want(t, 200)
	violated(t, r, "I-5")
	if s := r.Snapshot(); s.Concurrent != 1 {
		t.Errorf("snapshot %+v", s)
	}
}

// TestScriptedChallenge: a script may challenge in its own words and still have
// the answer accepted.
func TestScriptedChallenge(t *testing.T) {
	var r *siptest.Registrar
	ready := make(chan struct{})
	r = start(t, siptest.Options{
		Authenticate: true, Password: secret,
		Behaviour: func(q *siptest.Request) *siptest.Reply {
			<-ready
			if q.HadCredentials {
				return nil
			}
			return &siptest.Reply{Status: 401, Headers: []string{
				`WWW-Authenticate: Basic realm="example.test"`,
				"WWW-Authenticate: " + r.Challenge("MD5", true),
			}}
		},
	})
	close(ready)
	c := dial(t, r, "udp")
	asked := c.ask(register{}).want(t, 401)
	if !strings.Contains(asked.text, "stale=true") {
		t.Error(asked.text)
	}
	c.ask(register{cseq: 2, auth: asked.answer(t, register{}, 1, "c")}).want(t, 200)
	settled(t, r)
}
