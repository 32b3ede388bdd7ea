#!/bin/bash
# Runs go test with the given arguments. Shows one line per package, all of the
# output of those that fail, and notes every test that was skipped.
set -u -o pipefail
cd "$(dirname "$0")/.."
notes=${CI_NOTES:-/dev/null}

go test -v -timeout 15m "$@" 2>&1 | awk -v notes="$notes" '
	function keep(line) {buffer = buffer line "\n"}
	/^[ \t]*--- SKIP: / {
		skipped[++s] = $3
		keep($0)
		next
	}
	/^ok  \t/ || /^FAIL\t/ {
		if ($1 == "FAIL") {printf "%s", buffer; failed++}
		else passed++
		print
		for (i = 1; i <= s; i++) print "SKIPPED: " $2 " " skipped[i] >> notes
		if (s > 0) print "        skipped: " s
		buffer = ""; s = 0
		next
	}
	/^\?   \t/ {buffer = ""; next}
	/^=== (RUN|PAUSE|CONT|NAME)/ || /^[ \t]*--- PASS: / {next}
	{keep($0)}
	END {
		printf "%s", buffer
		printf "%d packages passed, %d failed\n", passed, failed
		if (passed + failed == 0) {print "no package was tested"; exit 1}
	}'
