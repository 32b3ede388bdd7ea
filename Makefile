# make test runs everything that CI runs. It needs Go 1.26 and, as root on
# Debian, installs the rest by itself; see make help for the parts.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help test build generate bench packages tools format format-check \
	generated vet lint unit fuzz interop

export GOTOOLCHAIN := local

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## everything that CI runs, in order, with a summary (under 20 minutes)
	@MAKE='$(MAKE)' .ci/test.sh

build: ## the program, as bin/muster
	go build -trimpath -o bin/muster ./cmd/node

generate: tools ## write the generated code and every rendered document again
	.tools/buf generate
	go test ./metrics/... -update
	go test -run Conformance -update .

bench: ## every benchmark, with allocations
	go test -run '^$$' -bench . -benchmem ./...

packages: ## install the Debian packages that the tests use
	@.ci/packages.sh

tools: ## build the pinned tools into .tools
	@.ci/tools.sh

format: tools ## format all Go files
	.tools/gofumpt -w .

format-check: tools ## name the Go files that are not formatted
	@files=$$(.tools/gofumpt -l .); \
	if [ -n "$$files" ]; then printf 'not formatted, run make format:\n%s\n' "$$files"; exit 1; fi; \
	echo "all files are formatted"

generated: tools ## check protobuf style, generated code and compatibility
	@.ci/generated.sh

vet: ## go vet, with and without the tests of make interop
	go vet ./...
	go vet -tags interop ./...

lint: tools ## golangci-lint, configured in .golangci.yml
	.tools/golangci-lint run ./...

unit: ## every test with the race detector
	@.ci/unit.sh -race ./...

fuzz: ## every fuzz target for FUZZTIME (6s), two at a time
	@.ci/fuzz.sh

# Most of these tests wait for timers of the protocol, so more of them run at once
# than there are processors.
interop: ## the tests against Kamailio and other programs
	@.ci/unit.sh -count 1 -parallel 3 -tags interop ./interop/... ./actors/usim
	@.ci/unit.sh -count 1 -run TestS44_FaultyXSPs . # too many calls for the race detector
