#!/bin/bash
# Builds the tools in .tools that are missing, of another version, or built by
# another Go.
set -eu
cd "$(dirname "$0")/.."

tool() { # NAME PACKAGE VERSION
	local have
	have=$(go version -m ".tools/$1" 2>/dev/null | awk -v go="$(go env GOVERSION)" '
		NR == 1 && $2 != go {exit}
		$1 == "path" {path = $2}
		$1 == "mod" {print path "@" $3; exit}') || true
	if [ "$have" = "$2@$3" ]; then
		return
	fi
	echo "$1 $3: building"
	GOBIN=$PWD/.tools GOFLAGS= go install "$2@$3"
}

tool buf github.com/bufbuild/buf/cmd/buf v1.75.0
tool protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go v1.36.12
tool protoc-gen-go-vtproto github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto v0.6.0
tool protoc-gen-go-grpc google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2
tool gofumpt mvdan.cc/gofumpt v0.12.0
tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0
echo "the tools are there, as pinned"
