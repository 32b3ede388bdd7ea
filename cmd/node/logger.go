package main

import (
	"io"
	"log/slog"

	"github.com/sipmuster/muster/cmd/node/config"
)

// newLogger makes the logger of a node.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.JSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
