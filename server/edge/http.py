"""The HTTP port, in the server's own loop: gRPC-Web, uploads and downloads by ticket, metrics, probes, the web app."""

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import grpc
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.blobs.port import Blob
from server.caller import Caller, acting_as
from server.edge import heads
from server.edge.address import LOOPBACK, Network, forwarded_address
from server.edge.grpcweb import GrpcWeb
from server.edge.health import Health
from server.edge.limits import Limits
from server.edge.origins import Origins
from server.edge.policy import Cost, EdgeError
from server.edge.server import MESSAGE_BYTES, Tls, check_plaintext
from server.refusal import Kind, Refusal
from server.telemetry.metrics import export

CONNECTIONS: Final = 4_000
KEEP_ALIVE_SECONDS: Final = 65
SERVICES: Final = ("/bacmr.", "/grpc.health.")
"""Paths that are methods; all others are the web's."""
SECURITY_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_STATUS: Final[Mapping[Kind, int]] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 403,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.EXHAUSTED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.DEADLINE: 504,
}
_BLOBS: Final = "/blobs"
_log = structlog.get_logger(__name__)


class BlobDoor(Protocol):
    """Serves tickets. Both methods raise a Refusal for a ticket that does not allow what is asked."""

    async def upload(self, key: str, query: Mapping[str, str], content_type: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store a stream."""

    async def download(self, key: str, query: Mapping[str, str]) -> tuple[Blob, AsyncIterator[bytes]]:
        """Return what is stored and its bytes."""


class HttpPort:
    """Serves HTTP until stopped; `port` is known once started."""

    def __init__(
        self,
        listen: str,
        health: Health,
        limits: Limits,
        *,
        blobs: BlobDoor | None = None,
        web_dir: Path | None = None,
        origins: Collection[str] = (),
        processes_dir: Path | None = None,
        tls: Tls | None = None,
        allow_plaintext: bool = False,
        proxies: Collection[Network] = LOOPBACK,
        message_bytes: int = MESSAGE_BYTES,
        reuse_port: bool = False,
    ) -> None:
        """Build the port. `processes_dir` is the metrics folder of several processes. Raises EdgeError."""
        check_plaintext("BACMR_HTTP_LISTEN", listen, tls, allow_plaintext)
        self._listen = listen
        self._reuse_port = reuse_port
        self._health = health
        self._limits = limits
        self._blobs = blobs
        self._proxies = tuple(proxies)
        self._processes_dir = processes_dir
        self._origins = Origins(origins)
        self._message_bytes = message_bytes
        self._channel: grpc.aio.Channel | None = None
        self._serving: asyncio.Task[None] | None = None
        web = GrpcWeb(self._open_channel, self._origins, message_bytes)
        self._server = _Server(_config(_Front(web, self._pages(web_dir), self._origins), tls))
        self.port = 0

    async def start(self, target: str) -> None:
        """Listen, passing gRPC-Web on to `target` (`EdgeServer.target`). Raises EdgeError when the address is taken."""
        listener = self._bind()
        self.port = listener.getsockname()[1]
        self._channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", self._message_bytes),
                ("grpc.max_send_message_length", self._message_bytes),
            ],
        )
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise EdgeError(f"BACMR_HTTP_LISTEN: {self._listen} could not be served.")
            await asyncio.sleep(0.01)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new requests and let running ones end for a while."""
        # Idle connections need a moment even when running requests get none.
        self._server.config.timeout_graceful_shutdown = max(1, math.ceil(grace_seconds))
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        if self._channel is not None:
            await self._channel.close()

    def _open_channel(self) -> grpc.aio.Channel:
        assert self._channel is not None
        return self._channel

    def _bind(self) -> socket.socket:
        host, _, port = self._listen.rpartition(":")
        host = host.strip("[]")
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, int(port)))
        except OSError:
            listener.close()
            raise EdgeError(f"BACMR_HTTP_LISTEN: {self._listen} is taken, or not an address of this machine.") from None
        return listener

    def _pages(self, web_dir: Path | None) -> Starlette:
        routes: list[BaseRoute] = [
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
            Route("/metrics/prometheus", self._prometheus),
            Route("/metrics/json", self._json),
        ]
        if self._blobs is not None:
            routes.append(Route(_BLOBS + "/{key:path}", self._blob, methods=["GET", "PUT"]))
        if web_dir is not None:
            routes.append(Mount("/", StaticFiles(directory=web_dir, html=True)))
        return Starlette(routes=routes)

    async def _alive(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        ready = self._health.serving()
        return JSONResponse({"ready": ready, "stores": self._health.stores()}, 200 if ready else 503)

    async def _prometheus(self, _: Request) -> Response:
        return Response(await asyncio.to_thread(export.exposition, self._processes_dir), media_type=export.CONTENT_TYPE)

    async def _json(self, _: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(export.snapshot, self._processes_dir))

    async def _blob(self, request: Request) -> Response:
        caller = Caller(
            request_id=heads.request_id(request.headers.get(heads.REQUEST_ID, "")),
            address=forwarded_address(
                request.client.host if request.client else "",
                request.headers.get("x-forwarded-for", ""),
                self._proxies,
            ),
        )
        with acting_as(caller):
            try:
                await self._limits.count(_BLOBS, Cost.ORDINARY, caller)
                response = await self._serve_ticket(request)
            except Refusal as refusal:
                response = _refused(refusal, caller)
        response.headers[heads.REQUEST_ID] = str(caller.request_id)
        return response

    async def _serve_ticket(self, request: Request) -> Response:
        assert self._blobs is not None
        key, query = request.path_params["key"], request.query_params
        if request.method == "PUT":
            content_type = request.headers.get("content-type", "")
            try:
                blob = await self._blobs.upload(key, query, content_type, request.stream())
            except ClientDisconnect:
                return Response(status_code=400)
            _log.info("blob_stored", key=key, size_bytes=blob.size_bytes)
            return JSONResponse({"size_bytes": blob.size_bytes})
        blob, chunks = await self._blobs.download(key, query)
        headers = {"content-length": str(blob.size_bytes), "content-disposition": "attachment"}
        return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


class _Server(uvicorn.Server):
    """Leaves signals to whoever started the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Front:
    """Sends methods to gRPC-Web and the rest to the pages, whose answers get the headers of security and CORS."""

    def __init__(self, web: ASGIApp, pages: ASGIApp, origins: Origins) -> None:
        self._web = web
        self._pages = pages
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith(SERVICES):
            await self._web(scope, receive, send)
            return
        origin = next((value.decode("latin1") for name, value in scope["headers"] if name == b"origin"), "")
        if scope["method"] == "OPTIONS":
            headers = self._origins.preflight_headers(origin, "GET, PUT")
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body"})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *SECURITY_HEADERS,
                    *self._origins.answer_headers(origin),
                ]
            await send(message)

        await self._pages(scope, receive, with_headers)


def _refused(refusal: Refusal, caller: Caller) -> Response:
    body = {"reason": refusal.reason, "message": str(refusal), "request_id": str(caller.request_id)}
    headers = {}
    if refusal.retry_after_seconds is not None:
        headers["retry-after"] = str(math.ceil(refusal.retry_after_seconds))
    return JSONResponse(body, _STATUS.get(refusal.kind, 409), headers)


def _config(app: Callable[..., object], tls: Tls | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ssl_certfile=tls.cert_file if tls else None,
        ssl_keyfile=tls.key_file if tls else None,
        ssl_ca_certs=str(tls.client_ca_file) if tls and tls.client_ca_file else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.client_ca_file else ssl.CERT_NONE,
    )
