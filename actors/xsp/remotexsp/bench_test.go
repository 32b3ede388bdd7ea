package remotexsp

import (
	"crypto/rand"
	"syscall"
	"testing"
	"time"

	"github.com/sipmuster/muster/actors/xsp/xsptls/xsptlstest"
)

// BenchmarkAnswer has both ends in one process, over loopback and TLS.
func BenchmarkAnswer(b *testing.B) {
	ca := xsptlstest.New(b)
	e := listen(b, Options{TLS: ca.Config("node.test")})
	s := serve(b, ServeOptions{TLS: ca.Config("xsp.test")}, echo)
	a := e.Authenticator(Peer{Address: s.Addr(), Actor: "answerer", Identity: "xsp.test"})
	wantAnswer(b, ask(b, a, "first"), "first")
	b.ReportAllocs()
	before := cpu(b)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := a.Answer(b.Context(), questionOf(rand.Text())); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpu is the time that the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
