"""`python -m evals DATA_DIR [TOPIC …]`: print every measured value next to its limit; exit 1 when one is missed.

A topic is a module here with `report(data) -> list[Row]`.
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

TOPICS = ("retrieval", "crosslingual", "answers", "quizzes", "language", "duplicates", "pages", "tokens", "pdf")


def main() -> int:
    """Run the topics and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("topics", nargs="*", default=TOPICS)
    arguments = parser.parse_args()
    missed = 0
    for topic in arguments.topics:
        started = time.monotonic()
        rows = import_module(f"evals.{topic}").report(arguments.data)
        print(f"\n== {topic} ({time.monotonic() - started:.0f} s)")
        for row in rows:
            print(row)
        missed += sum(not row.passed for row in rows)
    print(f"\n{missed} limits missed" if missed else "\nall limits kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
