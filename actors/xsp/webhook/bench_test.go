package webhook_test

import (
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sipmuster/muster/actors/xsp"
	"github.com/sipmuster/muster/actors/xsp/webhook"
)

// BenchmarkAnswer asks over loopback. The CPU time, like the allocations, is
// that of the whole process, so it includes the server unless that is the
// example.
func BenchmarkAnswer(b *testing.B) {
	b.Run("fixed reply", func(b *testing.B) {
		s := httptest.NewServer(answers(reply("r")))
		defer s.Close()
		benchmark(b, dial(b, s, webhook.Options{}), func() string { return "r" })
	})
	b.Run("Handler", func(b *testing.B) {
		s := httptest.NewServer(webhook.Handler(secret, xsp.Func(answerer), webhook.HandlerOptions{}))
		defer s.Close()
		benchmark(b, dial(b, s, webhook.Options{}), counter())
	})
	b.Run("Handler with TLS", func(b *testing.B) {
		s := quiet(httptest.NewUnstartedServer(webhook.Handler(secret, xsp.Func(answerer), webhook.HandlerOptions{})))
		s.StartTLS()
		defer s.Close()
		benchmark(b, dial(b, s, webhook.Options{}), counter())
	})
	b.Run("example", func(b *testing.B) {
		benchmark(b, startExample(b, [][]string{{"", "alice", "s3cr3t"}}), counter())
	})
}

func counter() func() string {
	var n atomic.Uint64
	return func() string { return strconv.FormatUint(n.Add(1), 36) }
}

func benchmark(b *testing.B, a xsp.Authenticator, ref func() string) {
	b.ReportAllocs()
	b.SetParallelism(4)
	began := cpu()
	b.RunParallel(func(p *testing.PB) {
		q := question("")
		q.Deadline = timestamppb.New(time.Now().Add(time.Hour))
		q.Challenges[0].Params = map[string]string{"nonce": "84a4cc6f3082121f32b42a2187831a9e", "qop": "auth", "algorithm": "SHA-256"}
		for p.Next() {
			q.Ref = ref()
			if _, err := a.Answer(b.Context(), q); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpu()-began).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
