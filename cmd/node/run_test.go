package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/sipmuster/muster/cmd/node/config"
)

func TestReloadReadsTheFileAgainAndWarnsAboutWhatWaits(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile("muster.yaml", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const one = "sip: {listen: [\"udp://127.0.0.1:0\"]}\nregistrars: {one: {uri: \"sip:127.0.0.1\"}"
	write(one + "}\n")
	loaded, err := config.Load("muster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	load := reloader(loaded, &xspMaker{log: logger}, logger)

	write(one + ", two: {uri: \"sip:127.0.0.2\"}}\n")
	d, err := load(context.Background())
	if err != nil || len(d.Registrars) != 2 || log.Len() > 0 {
		t.Errorf("reload: %v, %d registrars, log %s", err, len(d.Registrars), log.String())
	}
	write("log: {level: debug}\n" + one + "}\n")
	if _, err := load(context.Background()); err != nil || !strings.Contains(log.String(), "takes effect at the next start") {
		t.Errorf("reload with another log level: %v, log %s", err, log.String())
	}
	write("remote: {listen: \"127.0.0.1:0\"}\n" + one + "}\n")
	if _, err := load(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "muster.yaml:1: remote: has no TLS") {
		t.Errorf("reload with a broken endpoint: %v", err)
	}
	write("log: {level: loud}\n" + one + "}\n")
	if _, err := load(context.Background()); err == nil || !strings.HasPrefix(err.Error(), "muster.yaml:1: log.level:") {
		t.Errorf("reload with an error: %v", err)
	}
}
