#!/bin/bash
# Checks the protobuf files and what is generated from them: style, that the
# generated code is what the committed files give, and that no change breaks what
# was committed or released before. A journal is for ever.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
notes=${CI_NOTES:-/dev/stderr}

.tools/buf lint

protos=$(git ls-files --cached --others --exclude-standard '*.proto')
mkdir "$scratch/new" "$scratch/old"
cp --parents buf.yaml buf.gen.yaml $protos "$scratch/new"
ln -s "$PWD/.tools" "$scratch/new/.tools"
(cd "$scratch/new" && .tools/buf generate)
cp --parents $(git ls-files --cached --others --exclude-standard '*.pb.go') "$scratch/old"
(cd "$scratch/new" && rm -r .tools buf.yaml buf.gen.yaml $protos)
if ! diff -ru "$scratch/old" "$scratch/new"; then
	echo "the generated code is out of date: make generate" >&2
	exit 1
fi
echo "the generated code is current"

# Against the commit here (when files are changed), the one before it, and the
# newest release.
compared=0
for ref in HEAD HEAD~1 "$(git describe --tags --abbrev=0 2>/dev/null || true)"; do
	if [ -z "$ref" ] || ! git cat-file -e "$ref:messages/event.proto" 2>/dev/null; then
		continue
	fi
	mkdir "$scratch/base"
	git archive "$ref" buf.yaml $(git ls-tree -r --name-only "$ref" | grep '\.proto$') | tar -x -C "$scratch/base"
	.tools/buf breaking --against "$scratch/base"
	rm -r "$scratch/base"
	echo "nothing breaks against $ref"
	case $ref in HEAD) ;; *) compared=1 ;; esac
done
if [ $compared = 0 ]; then
	echo "SKIPPED: buf breaking, because there is no ancestor with protobuf files here" | tee -a "$notes"
fi
