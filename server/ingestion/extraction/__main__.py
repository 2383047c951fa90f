"""The reader process: one file in, one JSON line per page out.

    python -m server.ingestion.extraction '{"path": …, "type": …, "first_page": 1, "language": "", "limits": {…}}'

It limits its own memory and CPU time before it looks at the file, and dies with the server that started it.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits, Page

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 64
_WRITTEN_FILE_BYTES = 0


def main() -> int:
    """Read the task from the command line and print what becomes of it."""
    task = json.loads(sys.argv[1])
    limits = Limits(**task["limits"])
    output = _private_output()
    _confine(limits)
    try:
        _read(task, limits, output)
    except ExtractionFailed as failed:
        _say(output, failure=failed.failure, detail=failed.detail)
    except MemoryError:
        _say(output, failure=Failure.MEMORY_LIMIT)
    except Exception as error:  # noqa: BLE001 - readers raise whatever a malformed file makes them trip over
        detail = "the file cannot be read to its end"
        _say(output, failure=Failure.BROKEN_FILE, detail=detail, error=type(error).__name__)
    else:
        _say(output, done=True)
    return 0


def _read(task: dict[str, str], limits: Limits, output: TextIO) -> None:
    from server.ingestion.extraction.reader import open_file

    total, pages = open_file(Path(task["path"]), task["type"], int(task["first_page"]), task["language"], limits)
    _say(output, pages_total=total)
    characters = 0
    for page in pages:
        characters += len(page.text)
        if characters > limits.characters:
            raise ExtractionFailed(Failure.TOO_LARGE, f"more than {limits.characters} characters")
        _say(output, page=_fields(page))


def _fields(page: Page) -> dict[str, object]:
    return asdict(page)


def _say(output: TextIO, **message: object) -> None:
    output.write(json.dumps(message) + "\n")
    output.flush()


def _private_output() -> TextIO:
    """Keep the real output for our lines and send everything else that is printed to nowhere."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    return output


def _confine(limits: Limits) -> None:
    """Give up what a reader does not need, for good."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    cpu_seconds = int(limits.timeout_seconds) + 1
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, _WRITTEN_FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    sys.exit(main())
