package interop

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"
)

// echo answers every datagram with itself, until the test ends.
func echo(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	}()
	return conn.LocalAddr().String()
}

// through sends numbers through a relay and returns those that came back, in
// the order of their arrival, until there is silence.
func through(t *testing.T, o RelayOptions, count int) ([]int, RelayCounts) {
	t.Helper()
	o.Target = echo(t)
	r, err := StartRelay(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	conn, err := net.Dial("udp4", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var came []int
	buf := make([]byte, 1500)
	read := func(wait time.Duration) bool {
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			return false
		}
		came = append(came, int(binary.BigEndian.Uint32(buf[:n])))
		return true
	}
	for i := range count {
		if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			t.Fatal(err)
		}
		read(time.Millisecond)
	}
	for read(500 * time.Millisecond) {
	}
	return came, r.Counts()
}

func TestRelayWithoutFaultsIsAWire(t *testing.T) {
	t.Parallel()
	const count = 200
	came, counts := through(t, RelayOptions{}, count)
	if counts != (RelayCounts{Received: 2 * count}) {
		t.Errorf("counts %+v", counts)
	}
	if len(came) != count || !slices.IsSorted(came) {
		t.Errorf("%d of %d came back, sorted: %t", len(came), count, slices.IsSorted(came))
	}
}

func TestRelayLosesRepeatsAndReorders(t *testing.T) {
	t.Parallel()
	const count = 1000
	came, counts := through(t, RelayOptions{Seed: 1, Drop: 0.1, Duplicate: 0.1, Delay: 0.2}, count)
	within := func(what string, got, of int, share float64) {
		if f := float64(got) / float64(of); f < share/2 || f > share*2 {
			t.Errorf("%s: %d of %d, want about %g", what, got, of, share)
		}
	}
	within("dropped", counts.Dropped, counts.Received, 0.1)
	within("duplicated", counts.Duplicated, counts.Received, 0.1)
	within("delayed", counts.Delayed, counts.Received, 0.2)
	if slices.IsSorted(came) {
		t.Error("nothing was overtaken")
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(came)))
	if len(distinct) == len(came) || len(distinct) == count {
		t.Errorf("%d datagrams of %d came back, %d of them distinct", len(came), count, len(distinct))
	}
}
