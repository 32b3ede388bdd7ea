package sipadapter

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TRX-10: without a way to send, or when it is lost, the INVITE ends at once.
func TestTRX10_InviteTransportErrors(t *testing.T) {
	t.Run("the first transmission", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			defer shut(t, a)
			conn.fail = errors.New("network is unreachable")
			w := place(t, a, callRequest())
			synctest.Wait()
			w.want("transport.")
		})
	})
	t.Run("the ACK", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			defer shut(t, a)
			w := place(t, a, callRequest())
			conn.mu.Lock()
			conn.fail = errors.New("network is unreachable")
			conn.mu.Unlock()
			conn.deliver(answerTo(conn.packets()[0].data, "404 Who"), peerAddr)
			synctest.Wait()
			w.want("404.")
			if n := a.table.size(); n != 0 {
				t.Errorf("%d transactions", n)
			}
		})
	})
	t.Run("the connection while it rings", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dial, far := pipes()
			a, _ := memAdapter(t, Options{}, seams{dial: dial})
			defer shut(t, a)
			r := callRequest()
			r.NextHop += ";transport=tcp"
			w := place(t, a, r)
			theirs := <-far
			_, _ = theirs.Write(answerTo(readRequest(t, theirs, &framer{}), "180 Ringing"))
			synctest.Wait()
			_ = theirs.Close()
			synctest.Wait()
			w.want("180 transport.")
		})
	})
	t.Run("a connection that stays silent is closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dial, far := pipes()
			a, _ := memAdapter(t, Options{}, seams{dial: dial})
			defer shut(t, a)
			r := callRequest()
			r.NextHop += ";transport=tcp"
			w := place(t, a, r)
			theirs := <-far
			var f framer
			readRequest(t, theirs, &f)
			start := time.Now()
			_, err := theirs.Read(f.space())
			synctest.Wait()
			w.want("timeout.")
			if !errors.Is(err, io.EOF) || time.Since(start) != 32*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("the adapter is closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, conn := memAdapter(t, Options{}, seams{})
			w := place(t, a, callRequest())
			conn.deliver(answerTo(conn.packets()[0].data, "180 Ringing"), peerAddr)
			synctest.Wait()
			w.call.Cancel()
			shut(t, a)
			synctest.Wait()
			w.want("180 transport.")
			w.call.Cancel()
			later := place(t, a, callRequest())
			synctest.Wait()
			later.want("transport.")
			w.want("180 transport.")
			if n := a.table.size(); n != 0 {
				t.Errorf("%d transactions", n)
			}
		})
	})
}

// GEN-11: over 1,300 bytes by TCP, and by UDP with a new branch when the target
// wants no TCP.
func TestGEN11_LargeInvite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, conn := memAdapter(t, Options{}, seams{dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
			return nil, syscall.ECONNREFUSED
		}})
		defer shut(t, a)
		r := callRequest()
		r.Body = make([]byte, 1300)
		w := place(t, a, r)
		synctest.Wait()
		packets := conn.packets()
		if len(packets) != 1 || !strings.HasPrefix(headerLine(t, packets[0].data, "Via"), "SIP/2.0/UDP ") {
			t.Fatalf("%d datagrams", len(packets))
		}
		conn.deliver(answerTo(packets[0].data, "486 Busy"), peerAddr)
		synctest.Wait()
		w.want("486.")
		if got := methodsOf(conn.packets()); got != "INVITE ACK" {
			t.Errorf("sent %s", got)
		}
	})
}
