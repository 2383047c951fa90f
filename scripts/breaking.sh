#!/usr/bin/env bash
# The contract may grow but not break: compare it with the last released one.
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=protos/released.binpb
if [ ! -f "$baseline" ]; then
  echo "no released contract yet: nothing to compare with"
  exit 0
fi
buf breaking protos --exclude-imports --against "$baseline"
