package remotexsp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/grpclog"
)

// starting serialises the starts of remote: each replaces gRPC's logger, which
// is a variable without a lock.
var starting sync.Mutex

// start runs remote.Start, which panics when it cannot listen, and gives gRPC a
// logger again before the first connection is served. On an error nothing is
// left running.
func (l *link) start(s settings) (err error) {
	if s.grpcLogger == nil {
		s.grpcLogger = defaultLogger()
	}
	starting.Lock()
	defer starting.Unlock()
	defer func() {
		if fault := recover(); fault != nil {
			grpclog.SetLoggerV2(s.grpcLogger)
			l.cancel()
			err = fmt.Errorf("listen on %s: %v", s.listen, fault)
		}
	}()
	l.remote.Start()
	// The server's goroutine logs once before it accepts. Without waiting until
	// that is over, the logger would change under it.
	err = l.knock(s)
	grpclog.SetLoggerV2(s.grpcLogger)
	close(l.ready)
	if err != nil {
		l.stop()
	}
	return err
}

// knock connects to our own server, and returns when it has accepted.
func (l *link) knock(s settings) error {
	address := l.system.Address()
	if s.advertise != "" {
		address = s.listen
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return fmt.Errorf("connect to our own listener: %w", err)
	}
	defer conn.Close()
	l.probe <- conn.LocalAddr().String()
	select {
	case <-l.accepted:
		return nil
	case <-time.After(patience):
		return errors.New("our own listener does not accept")
	}
}

// ownKnock tells whether a connection is the one of knock, and makes others
// wait until that has arrived.
func (l *link) ownKnock(conn net.Conn) bool {
	select {
	case <-l.ready:
		return false
	case address := <-l.probe:
		if address == conn.RemoteAddr().String() {
			close(l.accepted)
			return true
		}
		l.probe <- address
	}
	<-l.ready
	return false
}

// defaultLogger is what gRPC has when nobody sets another: errors on standard
// error, or what its environment variables say.
func defaultLogger() grpclog.LoggerV2 {
	info, warning, fault := io.Discard, io.Discard, io.Discard
	switch os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") {
	case "", "ERROR", "error":
		fault = os.Stderr
	case "WARNING", "warning":
		warning = os.Stderr
	case "INFO", "info":
		info = os.Stderr
	}
	verbosity, _ := strconv.Atoi(os.Getenv("GRPC_GO_LOG_VERBOSITY_LEVEL"))
	return grpclog.NewLoggerV2WithVerbosity(info, warning, fault, verbosity)
}
