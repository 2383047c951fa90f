"""What a reader process does: gives up what it does not need, reads one file, says a JSON line for each page."""

import ctypes
import json
import resource
import signal
import socket
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from server.ingestion.extraction.page import ExtractionFailed, Failure, Limits
from server.ingestion.extraction.reader import open_file

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 64
_WRITTEN_FILE_BYTES = 0


def read(task: dict[str, Any], channel: socket.socket) -> None:
    """Do a task and say on the channel what becomes of it."""
    warnings.simplefilter("ignore")
    limits = Limits(**task["limits"])
    _confine(limits)
    with channel.makefile("w", encoding="utf-8") as output:
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


def _read(task: dict[str, Any], limits: Limits, output: TextIO) -> None:
    total, pages = open_file(Path(task["path"]), task["type"], int(task["first_page"]), task["language"], limits)
    _say(output, pages_total=total)
    characters = 0
    for page in pages:
        characters += len(page.text)
        if characters > limits.characters:
            raise ExtractionFailed(Failure.TOO_LARGE, f"more than {limits.characters} characters")
        _say(output, page=asdict(page))


def _say(output: TextIO, **message: object) -> None:
    output.write(json.dumps(message) + "\n")
    output.flush()


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
