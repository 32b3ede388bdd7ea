#!/bin/bash
# Runs every fuzz target of the tree for FUZZTIME (6s), two at a time. Targets
# are found, so a new one is fuzzed without being listed anywhere.
set -eu -o pipefail
cd "$(dirname "$0")/.."
: "${FUZZTIME:=6s}" "${FUZZJOBS:=2}"
export FUZZTIME
logs=$(mktemp -d)
export logs
trap 'rm -rf "$logs"' EXIT

if ! list=$(go test -run '^$' -list '^Fuzz' ./...); then
	printf '%s\n' "$list" >&2
	echo "the fuzz targets cannot be listed" >&2
	exit 1
fi
targets=$(printf '%s\n' "$list" | awk '
	/^Fuzz/ {names[++n] = $1}
	/^ok/ {for (i = 1; i <= n; i++) print $2, names[i]; n = 0}')
count=$(printf '%s' "$targets" | grep -c . || true)
if [ "$count" = 0 ]; then
	echo "no fuzz target was found" >&2
	exit 1
fi
echo "$count targets, $FUZZTIME each, $FUZZJOBS at a time"

# A run can end with nothing but "context deadline exceeded": go's fuzzing races
# with its own deadline, more often on a busy machine. That is no finding, and it
# is no success either: such a run is made once more.
interrupted() { # LOG
	grep -q '^    context deadline exceeded$' "$1" && ! grep -qE 'Failing input|panic:|_test\.go:' "$1"
}
export -f interrupted

fuzz() { # PACKAGE NAME LOG
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$FUZZTIME" -parallel 1 "$1" >"$3" 2>&1
}
export -f fuzz

one() { # PACKAGE NAME
	local log
	log=$logs/$(printf '%s' "$1.$2" | tr / _)
	if fuzz "$1" "$2" "$log" || { interrupted "$log" && fuzz "$1" "$2" "$log"; }; then
		printf 'ok      %s %s: %s\n' "$1" "$2" "$(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
		return 0
	fi
	{
		printf 'FAILED  %s %s\n' "$1" "$2"
		cat "$log"
	}
	return 1
}
export -f one

# xargs ends with 123 when any target failed, and the others still run.
printf '%s\n' "$targets" | xargs -P "$FUZZJOBS" -L 1 bash -c 'one "$1" "$2" || exit 1' bash
