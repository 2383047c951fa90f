"""The parent of the readers: imports what they need and forks one for each file. It never looks at a file itself.

Started by `readers.Readers`, whose end of a Unix socket is its standard input. Each message there brings the end of a
channel on which one line, the task, waits: `{"path": …, "type": …, "first_page": 1, "language": "", "limits": {…}}`.
The reader answers on it by a JSON line for each page, whoever waits for the reader by a last one, `{"ended": code}`.
When the server goes, its ends of all of these close, and nothing of this is left.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from server.ingestion.extraction.reader import prepare
from server.ingestion.extraction.reading import read


def main() -> int:
    """Fork readers until the server closes its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # how a minder ends is of no interest
    control = socket.socket(fileno=sys.stdin.fileno())
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return 0
        with socket.socket(fileno=descriptors[0]) as channel:
            with channel.makefile("rb") as lines:
                task = json.loads(lines.readline())
            with contextlib.suppress(Exception):  # what is wrong there, the reader meets again and says
                prepare(task["type"])
            if os.fork() == 0:
                control.close()
                _mind(task, channel)


def _mind(task: dict[str, Any], channel: socket.socket) -> NoReturn:
    """Run a reader in a group of its own; end all of it when it is done or the server hangs up."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    running, held_while_it_runs = os.pipe()
    reader = os.fork()
    if reader == 0:
        os.setpgid(0, 0)
        os.close(running)
        read(task, channel)
        os._exit(0)
    with contextlib.suppress(OSError):  # it may be there already: whoever is first makes the group
        os.setpgid(reader, reader)
    os.close(held_while_it_runs)
    select.select([channel.fileno(), running], [], [])
    os.killpg(reader, signal.SIGKILL)
    _, status = os.waitpid(reader, 0)
    with contextlib.suppress(OSError):
        # A reader that was killed may have left half a line.
        channel.sendall(b'\n{"ended": %d}\n' % os.waitstatus_to_exitcode(status))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
