#!/usr/bin/env bash
# Generated code is committed; making it again must change nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
buf generate --output "$made" 2>/dev/null
find "$made" -name '*_pb2_grpc.pyi' -size -600c -delete
if ! diff -r -x __pycache__ "$made/clients/python/bacmr/v1" clients/python/bacmr/v1 ||
   ! diff -r -x __pycache__ "$made/clients/python/buf" clients/python/buf; then
  echo "the stubs differ from protos/: run 'make protos' and commit them"
  exit 1
fi
