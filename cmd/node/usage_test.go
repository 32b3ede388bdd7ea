package main

import (
	"bytes"
	"strings"
	"testing"
)

// command runs a command line in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = execute(t.Context(), args, streams{strings.NewReader(""), &out, &err})
	return code, out.String(), err.String()
}

func TestWrongUseIsExitCodeTwoWithAHint(t *testing.T) {
	tests := []struct{ line, want string }{
		{"", `muster needs a command: check, completion, demo, journal, profiles, registrars, run, sessions, version, xsp`},
		{"profile", `unknown command "profile" for "muster" (did you mean "profiles"?)`},
		{"profiles", `muster profiles needs a command: add, disable, enable, export, history, import, list, refresh, remove, security, show, watch`},
		{"profiles lsit", `unknown command "lsit" for "muster profiles" (did you mean "list"?)`},
		{"profiles list --registar acme", `unknown flag: --registar (did you mean --registrar?)`},
		{"profiles list extra", `muster profiles list takes no argument, and got "extra"`},
		{"profiles list --limit 0", `--limit must be at least 1`},
		{"profiles list --limit many", `invalid argument "many" for "--limit" flag`},
		{"profiles list --state fine", `must be one of registered, registering`},
		{"profiles list -o yaml", `must be one of table, json`},
		{"profiles show", `muster profiles show needs the id of a profile`},
		{"profiles show a b", `takes the id of a profile, and got 2 arguments`},
		{"profiles history a -n 0", `-n must be at least 1`},
		{"profiles remove", `needs the id of at least one profile`},
		{"profiles list --server localhost:8080", `--server "localhost:8080" is not a URL`},
		{"profiles list --server http://user:canary@localhost:8080", `a token belongs into --token-file`},
		{"profiles list --server http://example.test --token-file x", `would get the token in the clear; use https`},
		{"profiles import f.csv --batch 0", `--batch must be from 1 to 5000`},
		{"profiles import f.csv --dry-run --resume", `exclude each other`},
		{"profiles add --aor example.test", `aor: is not a URI with the scheme sip or sips (write sip:user@host)`},
		{"profiles add --aor sip:a@b", `registrar: is missing`},
		{"profiles add --aor sip:a@b --registrar c --password-file x --ask-password", `give one of --ask-password, --password-file and --ha1-file`},
		{"profiles add --aor sip:a@b --registrar c --ask-password", `--ask-password needs a terminal; use --password-file`},
		{"profiles add --aor sip:a@b --registrar c --session-handler a>a", `session-handler: names a handler twice`},
		{"profiles security", `muster profiles security needs the id of a profile`},
		{"profiles security a --registration a>>b", `--registration "a>>b" lacks a name beside a > (write digest, the name of an xSP`},
		{"profiles security a --session a>b>c>d>e", `names more than 4 handlers`},
		{"sessions", `muster sessions needs a command: end, list, reinvite, request, show, start, watch`},
		{"sessions start", "--profile: is missing (name the profile that calls)\nmuster: --to: is missing (write sip:user@host)"},
		{"sessions start --profile a --to bob", `--to: is not a URI with the scheme sip or sips (write sip:user@host)`},
		{"sessions start --profile a --to sip:b:canary@c", `--to: "sip:b:***@c" carries a password (remove it)`},
		{"sessions start --profile a --to sip:b@c --for 0s", `--for must be above 0`},
		{"sessions start --profile a --to sip:b@c --for 10", `invalid argument "10" for "--for" flag`},
		{"sessions start --profile a --to sip:b@c --sdp x --body y", `give --sdp or --body, not both`},
		{"sessions start --profile a --to sip:b@c --body y", `--body and --content-type go together`},
		{"sessions start --profile a --to sip:b@c --content-type y", `--body and --content-type go together`},
		{"sessions start --profile a --to sip:b@c --header canary", `a --header is not of the form 'Name: value'`},
		{"sessions start --profile a --to sip:b@c --header X-A:", `--header X-A: is empty`},
		{"sessions start --profile a --to sip:b@c --header X/A:canary", `--header: a name is not that of a header`},
		{"sessions list --limit 0", `--limit must be at least 1`},
		{"sessions list --state ended", `must be one of calling, challenged, early, established, ending`},
		{"sessions show", `muster sessions show needs the id of a session`},
		{"sessions show a -n -1", `-n must not be negative`},
		{"sessions end", `muster sessions end needs the id of at least one session, or --all`},
		{"sessions end a --all", `give ids or --all, not both`},
		{"sessions end a --profile b", `--profile, --registrar and --state go with --all`},
		{"sessions reinvite a", `muster sessions reinvite needs --sdp, or --body and --content-type`},
		{"sessions request a", `muster sessions request needs --method`},
		{"sessions request a --method BYE", `must be one of INFO, REFER, UPDATE, MESSAGE, NOTIFY, OPTIONS`},
		{"sessions watch a b", `takes the id of one session at most, and got 2 arguments`},
		{"xsp", `muster xsp needs a command: list`},
		{"run", `muster run needs --config`},
		{"check", `muster check needs --config`},
		{"demo --profiles 0", `--profiles must be from 1 to 1,000,000`},
		{"demo --for -1s", `--for must not be negative`},
		{"demo --expires 1ms", `--expires must be at least 1s`},
		{"journal verify", `needs --data-dir, --config, or the path`},
		{"journal verify --data-dir a --config b", `give --data-dir or --config, not both`},
		{"journal dump x --data-dir a", `give a journal file, or --data-dir or --config, not both`},
		{"journal backup", `muster journal backup needs --out`},
		{"journal backup --out x --data-dir a --server http://127.0.0.1:9", `give --server for a running node, or --data-dir or --config`},
	}
	for _, tt := range tests {
		code, stdout, stderr := command(t, strings.Fields(tt.line)...)
		if code != exitWrongUse || stdout != "" || !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, "--help\".\n") {
			t.Errorf("muster %s: exit code %d, stdout %q, stderr %q", tt.line, code, stdout, stderr)
		}
		if strings.Contains(stderr, "canary") {
			t.Errorf("muster %s: shows a secret: %s", tt.line, stderr)
		}
	}
}

// TestHelpTeaches: every command says what it does and gives examples that
// exist.
func TestHelpTeaches(t *testing.T) {
	for _, line := range []string{
		"demo", "run", "check", "version", "profiles list", "profiles show", "profiles add", "profiles import", "profiles export",
		"profiles remove", "profiles enable", "profiles disable", "profiles refresh", "profiles history", "profiles security",
		"profiles watch", "sessions start", "sessions list", "sessions show", "sessions end", "sessions reinvite", "sessions request",
		"sessions watch", "registrars list", "xsp list", "journal verify", "journal dump", "journal backup",
	} {
		code, stdout, _ := command(t, append(strings.Fields(line), "--help")...)
		if code != exitDone || !strings.Contains(stdout, "Examples:\n  muster "+line) {
			t.Errorf("muster %s --help: exit code %d\n%s", line, code, stdout)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	// Nobody listens on the discard port of a machine of today.
	code, _, stderr := command(t, "profiles", "list", "--server", "http://127.0.0.1:9")
	if code != exitFailed || !strings.Contains(stderr, `no node answers at http://127.0.0.1:9 (start one with "muster run" or "muster demo"`) {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -100: "-100"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestPrintableStopsEscapes(t *testing.T) {
	if got := printable("a\x1b[2Jb\r\nc\u202ed é"); got != "a�[2Jb��c�d é" {
		t.Errorf("printable = %q", got)
	}
}
