package sipadapter

import (
	"bytes"
	"errors"
	"net"
	"testing"
)

// Datagrams of every size are read whole and in order, with the address of the
// sender, whatever the system's way to read them.
func TestReader(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
			if err != nil {
				t.Skipf("no %s here: %v", host, err)
			}
			_ = conn.SetReadBuffer(4 << 20)
			sender, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sender.Close() }()
			to := conn.LocalAddr().(*net.UDPAddr).AddrPort()
			from := unmap(sender.LocalAddr().(*net.UDPAddr).AddrPort())
			r := newReader(conn)
			sizes := []int{1, 0, 500, 60_000, 1_500, 65_507, 2}
			for round := range 20 {
				for i, size := range sizes {
					if _, err := sender.WriteToUDPAddrPort(bytes.Repeat([]byte{byte(round + i)}, size), to); err != nil {
						t.Fatal(err)
					}
				}
				for i := 0; i < len(sizes); {
					packets, err := r.read()
					if err != nil {
						t.Fatal(err)
					}
					for _, p := range packets {
						if !bytes.Equal(p.data, bytes.Repeat([]byte{byte(round + i)}, sizes[i])) || unmap(p.from) != from {
							t.Fatalf("round %d, datagram %d: %d bytes from %v, want %d from %v", round, i, len(p.data), p.from, sizes[i], from)
						}
						i++
					}
				}
			}
			_ = conn.Close()
			if _, err := r.read(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after closing: %v", err)
			}
		})
	}
}
