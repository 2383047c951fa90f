"""`python -m benchmarks [TOPIC …]`: print each speed next to what it is compared with and the share to reach.

A topic is a module here with `async rows() -> list[Row]`. Exit 1 when a limit is missed. A limit of 0 is none; the
figures are of this machine and this moment, the ratios travel.
"""

import argparse
import os
import sys
import time
from importlib import import_module

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # read when gRPC is imported

import uvloop

from benchmarks import Row

TOPICS = ("edge", "wallet", "ingestion", "answers", "streaming")
"""What runs when none is named; `growth` and `capacity` take minutes."""


def main() -> int:
    """Run the topics and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="*", default=TOPICS)
    missed = 0
    for topic in parser.parse_args().topics:
        started = time.monotonic()
        rows: list[Row] = uvloop.run(import_module(f"benchmarks.{topic}").rows())
        print(f"\n== {topic} ({time.monotonic() - started:.0f} s)")
        for row in rows:
            print(_line(row))
        missed += sum(row.limit > 0 and row.ratio < row.limit for row in rows)
    print(f"\n{missed} limits missed" if missed else "\nall limits kept")
    return 1 if missed else 0


def _line(row: Row) -> str:
    compared = f"of {row.reference:,.4g}: {row.ratio:.2f}" if row.reference else ""
    reach = (f"reach {row.limit:g}  " + ("ok" if row.ratio >= row.limit else "MISSED")) if row.limit else ""
    return f"{row.name:64} {row.value:>12,.4g} {row.unit:8} {compared:22} {reach}"


if __name__ == "__main__":
    sys.exit(main())
