"""A store that speaks S3's wire protocol, on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""What the process needs in its environment, as with any S3."""


@contextmanager
def serving() -> Iterator[str]:
    """Serve a bucket; gives the URL that `open_blobs` takes."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        httpx.put(f"{endpoint}/bacmr").raise_for_status()
        yield f"s3://bacmr/files?endpoint={endpoint}&region=us-east-1"
    finally:
        server.stop()
