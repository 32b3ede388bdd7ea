#!/bin/bash
# make test: every check, in order, with a summary. All of them are run even
# when one fails, except that nothing is checked without the tools. The exit
# status is 0 only when every step ran and passed; what a step could not check
# is listed under the summary.
set -u
cd "$(dirname "$0")/.."
export CI=true GOTOOLCHAIN=local LC_ALL=C
CI_NOTES=$(mktemp)
export CI_NOTES
trap 'rm -f "$CI_NOTES"' EXIT

names=() results=() failed=0 began=$SECONDS

step() { # NAME TARGET
	local start=$SECONDS result=ok
	printf '\n=== %s\n' "$1"
	if ! "${MAKE:-make}" --no-print-directory "$2"; then
		result=FAILED
		failed=1
	fi
	names+=("$1")
	results+=("$(printf '%-7s %4d s' "$result" $((SECONDS - start)))")
	[ "$result" = ok ]
}

summary() {
	printf '\n=== summary, %d s\n' $((SECONDS - began))
	local i
	for i in "${!names[@]}"; do
		printf '%s  %s\n' "${results[$i]}" "${names[$i]}"
	done
	if [ -s "$CI_NOTES" ]; then
		printf '\nnot checked, or worth knowing:\n'
		sort -u "$CI_NOTES" | sed 's/^/  /'
	fi
	if [ "$failed" = 0 ]; then
		printf '\nPASSED\n'
	else
		printf '\nFAILED\n'
	fi
	exit "$failed"
}

step 'packages of the system' packages || summary
step 'tools' tools || summary
step 'gofumpt' format-check
step 'generated code' generated
step 'go vet' vet
step 'golangci-lint' lint
step 'tests with the race detector' unit
step 'fuzzing' fuzz
step 'interop' interop
summary
