"""Run a command beside a real Milvus 2.3.5, the newest server that a package index offers.

It listens on all interfaces, so it runs in a network namespace of its own where only loopback is up (needs root):

    python3.11 -m venv /tmp/milvus && /tmp/milvus/bin/pip install milvus==2.3.5 'setuptools<80'
    unshare -n /tmp/milvus/bin/python scripts/with_milvus_server.py .venv/bin/pytest tests/contract -m milvus_server
"""

import fcntl
import socket
import struct
import subprocess
import sys
import tempfile

from milvus import MilvusServer, MilvusServerConfig

_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = 0x1 | 0x40


def raise_loopback() -> None:
    """Bring up the namespace's loopback interface."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))


def main() -> int:
    """Start the server, run the command with BACMR_TEST_MILVUS_URI set, stop the server; return the command's code."""
    raise_loopback()
    with tempfile.TemporaryDirectory(prefix="milvus-server-") as folder:
        server = MilvusServer(MilvusServerConfig(), wait_for_started=True)
        server.set_base_dir(folder)
        server.start()
        try:
            address = f"BACMR_TEST_MILVUS_URI=http://127.0.0.1:{server.listen_port}"
            return subprocess.run(["env", address, *sys.argv[1:]], check=False).returncode
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
