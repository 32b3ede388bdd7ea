package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a process of ours, with those that it starts.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // why it exited; readable after exited is closed
}

// startChild starts a command in a process group of its own, so that what it
// starts can be ended with it, and lets it end when this process dies.
func startChild(cmd *exec.Cmd) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c := &child{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the death signal when the thread that started the child
		// ends, so the thread lives as long as the child does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// end asks the child to end, waits for it, and kills it and what it started
// when that takes too long.
func (c *child) end(politely syscall.Signal) {
	_ = c.cmd.Process.Signal(politely)
	select {
	case <-c.exited:
	case <-time.After(stopTimeout):
		_ = c.signalAll(syscall.SIGKILL)
		<-c.exited
	}
}

// signalAll signals the child and what it started.
func (c *child) signalAll(s syscall.Signal) error { return syscall.Kill(-c.cmd.Process.Pid, s) }

// startIn starts something that listens on a port: the one that is wanted, or
// with 0 a free one, and another when that was taken meanwhile. Without success
// it removes the folder.
func startIn[T any](dir string, wanted int, start func(port int) (T, error)) (T, error) {
	var none T
	var failures []error
	for range startAttempts {
		port := wanted
		var err error
		if port == 0 {
			if port, err = freePort(); err != nil {
				err = fmt.Errorf("find a free port: %w", err)
			}
		}
		if err == nil {
			var started T
			if started, err = start(port); err == nil {
				return started, nil
			}
		}
		failures = append(failures, err)
		if wanted != 0 {
			break
		}
	}
	return none, errors.Join(append(failures, os.RemoveAll(dir))...)
}
