"""One of several server processes; started by `server.app.processes`, never by hand."""

import argparse
import socket
import sys
from pathlib import Path

from server.telemetry import seat


def main() -> int:
    """Serve until told to stop, or until the parent is gone. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Serve beside other processes, for a parent.")
    parser.add_argument("--seat", type=int, required=True)
    parser.add_argument("--line", type=int, required=True)
    parser.add_argument("--grpc", required=True)
    parser.add_argument("--http", required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    options = parser.parse_args()
    seat.take(options.seat, options.metrics)

    # Not before: importing the rest makes the metrics.
    import uvloop

    from server.app.failure import StartupError
    from server.cli.serve import serve_beside
    from server.config import SettingsError, load

    with socket.socket(fileno=options.line) as line:
        line.setblocking(False)
        try:
            settings = load(grpc_listen=options.grpc, http_listen=options.http)
            uvloop.run(serve_beside(settings, options.metrics, line))
        except (SettingsError, StartupError) as error:
            line.send(f"{error}\n".encode())
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
