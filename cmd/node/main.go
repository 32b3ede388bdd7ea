// Command muster runs a node that keeps SIP profiles registered and places calls
// in their name, and talks to running nodes.
//
// This file and root.go hold what all commands share: exit codes, wrong use,
// help. Each group of commands has a file of its own: run.go, demo.go and
// check.go work with a configuration, xsp.go makes its xSPs; profiles*.go,
// sessions*.go, registrars.go and xsp_list.go are clients of the HTTP API
// (client.go, follow.go); journal.go reads data folders.
//
// Exit codes: 0 done, 1 failed, 2 wrong use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the work in good order; after it, the next one ends
	// the process.
	context.AfterFunc(ctx, stop)
	code := execute(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// The exit codes of design §9.
const (
	exitDone = iota
	exitFailed
	exitWrongUse
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var wrong *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &wrong):
		fmt.Fprintf(s.err, "muster: %s\n", wrong.text)
		if wrong.hint != "" {
			fmt.Fprintln(s.err, wrong.hint)
		}
		return exitWrongUse
	case errors.Is(err, errReported):
		return exitFailed
	}
	text := err.Error()
	if !strings.Contains(text, "\n") {
		text = "muster: " + text
	}
	fmt.Fprintln(s.err, text)
	return exitFailed
}

// errReported ends a command with exit code 1 when it has said why itself.
var errReported = errors.New("reported already")

// usageError is wrong use of the command line: exit code 2.
type usageError struct {
	text string
	// hint says where to look.
	hint string
}

// Error implements error.
func (e *usageError) Error() string { return e.text }
