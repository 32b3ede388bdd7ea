package remotexsp

import (
	"crypto/rand"
	"syscall"
	"testing"
	"time"
)

func ref() string { return rand.Text() }

// cpu is the time that the process has used, of both ends.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
