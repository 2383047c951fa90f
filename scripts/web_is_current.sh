#!/usr/bin/env bash
# The page's stubs and dist/ are committed; making them again must change nothing. Needs node.
set -euo pipefail
cd "$(dirname "$0")/../clients/web"
if [ ! -d node_modules ]; then
  echo "clients/web: not checked (needs node: cd clients/web && npm ci --ignore-scripts)"
  exit 0
fi
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
buf generate --output "$made" 2>/dev/null
node_modules/.bin/tsc -p .
node_modules/.bin/tsc -p tsconfig.worker.json
node --test --test-reporter=dot tests/ >/dev/null
node build.mjs "$made/dist"
if ! diff -rq "$made/src/gen" src/gen || ! diff -rq "$made/dist" dist; then
  echo "clients/web differs from its sources: run 'make protos web' and commit it"
  exit 1
fi
