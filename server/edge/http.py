"""The HTTP port, in the server's own loop: gRPC-Web, files by ticket, top-ups, metrics, probes, the web app."""

import asyncio
import contextlib
import hmac
import math
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import grpc
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from server.blobs.port import Blob
from server.caller import Caller, acting_as
from server.edge import heads, listening, status, topups
from server.edge.address import LOOPBACK, Network, forwarded_address
from server.edge.certificates import Certified, CertifiedProtocol
from server.edge.front import Front
from server.edge.grpcweb import GrpcWeb
from server.edge.health import Health
from server.edge.limits import Limits
from server.edge.origins import Origins
from server.edge.policy import Cost, EdgeError
from server.edge.server import Tls, check_plaintext
from server.edge.validation import MESSAGE_BYTES
from server.edge.webapp import WebApp
from server.refusal import Kind, Refusal
from server.telemetry.metrics import export

CONNECTIONS: Final = 4_000
KEEP_ALIVE_SECONDS: Final = 65
IDLE_SECONDS: Final = 2.0
"""How long an open connection is still listened to while we close: a request may be on its way already."""
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
JWKS_AGE_SECONDS: Final = 60
"""How long others may keep our public keys; a token of a key they do not know makes them look again anyway."""
_log = structlog.get_logger(__name__)


Jwks = Callable[[], Sequence[Mapping[str, str]]]
"""Returns our public keys (RFC 7517)."""


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
        top_ups: topups.TopUpDoor | None = None,
        web_dir: Path | None = None,
        upload_origin: str = "",
        origins: Collection[str] = (),
        jwks: Jwks | None = None,
        figures: export.Figures | None = None,
        metrics_token: str = "",
        grpc_web: bool = True,
        tls: Tls | None = None,
        allow_plaintext: bool = False,
        proxies: Collection[Network] = LOOPBACK,
        message_bytes: int = MESSAGE_BYTES,
        reuse_port: bool = False,
        setting: str = "BACMR_HTTP_LISTEN",
    ) -> None:
        """Build the port. `figures` are the metrics to show, `setting` gives the address. Raises EdgeError.

        With a `metrics_token` the metrics are for who shows it.
        `upload_origin` is where tickets send the files of the web app, as in `https://bucket.example.org`.
        """
        check_plaintext(setting, listen, tls, allow_plaintext)
        self._setting = setting
        self._listen = listen
        self._reuse_port = reuse_port
        self._health = health
        self._limits = limits
        self._blobs = blobs
        self._top_ups = top_ups
        self._proxies = tuple(proxies)
        self._jwks = jwks
        self._figures = figures or export.Figures()
        self._metrics_token = metrics_token
        self._origins = Origins(origins)
        self._message_bytes = message_bytes
        self._channel: grpc.aio.Channel | None = None
        self._serving: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None
        web = GrpcWeb(self._open_channel, self._origins, message_bytes) if grpc_web else None
        self._front = Front(web, self._pages(web_dir), self._origins, upload_origin)
        self._server = _Server(_config(self._front, tls))
        self.port = 0

    async def start(self, target: str = "") -> None:
        """Listen, passing gRPC-Web on to `target` (`EdgeServer.target`). Raises EdgeError when the address is taken."""
        self._listener = listener = self._bind()
        self.port = listener.getsockname()[1]
        if target:
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
                raise EdgeError(f"{self._setting}: {self._listen} could not be served.")
            await asyncio.sleep(0.01)

    async def close(self, grace_seconds: float, idle_seconds: float = IDLE_SECONDS) -> None:
        """Take no new connections, and ask who has one to close it with the next answer; then close the idle ones.

        Returns when none is idle any more and the calls that came are with gRPC, so that it may take no new ones;
        what runs goes on until `stop`. Either may last `idle_seconds`, and no longer than `grace_seconds`.
        """
        seconds = min(idle_seconds, grace_seconds)
        self._front.closing = True
        if self._listener is not None:
            await listening.all_accepted(self._listener, seconds)
        for server in self._server.servers:
            server.close()
        await self._until_none_is(self._idle, seconds)
        for connection in list(self._server.server_state.connections):
            connection.shutdown()
        await self._until_none_is(lambda: self._idle() or bool(self._front.on_their_way), seconds)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new requests and let running ones end for a while."""
        # Idle connections need a moment even when running requests get none.
        self._server.config.timeout_graceful_shutdown = max(1, math.ceil(grace_seconds))
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        if self._channel is not None:
            await self._channel.close()

    def _idle(self) -> bool:
        state = self._server.server_state
        return len(state.connections) > len(state.tasks)

    @staticmethod
    async def _until_none_is(some_are: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.sleep(0.01)  # what was accepted at the last moment is not counted yet
                while some_are():  # noqa: ASYNC110 - uvicorn has no event
                    await asyncio.sleep(0.01)

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
            raise EdgeError(f"{self._setting}: {self._listen} is taken, or not an address of this machine.") from None
        return listener

    def _pages(self, web_dir: Path | None) -> Starlette:
        routes: list[BaseRoute] = [
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
            Route("/metrics/prometheus", self._prometheus),
            Route("/metrics/json", self._json),
        ]
        if self._jwks is not None:
            routes.append(Route("/.well-known/jwks.json", self._keys))
        if self._blobs is not None:
            routes.append(Route(_BLOBS + "/{key:path}", self._blob, methods=["GET", "PUT"]))
        if self._top_ups is not None:
            routes.append(Route(topups.PATH + "/{provider}", self._top_up, methods=["POST"]))
        if web_dir is not None:
            routes.append(Route("/{path:path}", WebApp(web_dir).answer))
        return Starlette(routes=routes)

    async def _alive(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        ready = self._health.serving()
        return JSONResponse({"ready": ready, "stores": self._health.stores()}, 200 if ready else 503)

    async def _prometheus(self, request: Request) -> Response:
        if not self._shows_metrics_token(request):
            return _no_token()
        return Response(await self._figures.exposition(), media_type=export.CONTENT_TYPE)

    async def _json(self, request: Request) -> Response:
        if not self._shows_metrics_token(request):
            return _no_token()
        return JSONResponse(await self._figures.snapshot())

    def _shows_metrics_token(self, request: Request) -> bool:
        shown = request.headers.get("authorization", "").encode()
        return not self._metrics_token or hmac.compare_digest(shown, f"Bearer {self._metrics_token}".encode())

    async def _keys(self, _: Request) -> Response:
        assert self._jwks is not None
        return JSONResponse({"keys": self._jwks()}, headers={"cache-control": f"public, max-age={JWKS_AGE_SECONDS}"})

    async def _blob(self, request: Request) -> Response:
        return await self._refusable(request, _BLOBS, self._serve_ticket)

    async def _top_up(self, request: Request) -> Response:
        assert self._top_ups is not None
        return await self._refusable(request, topups.PATH, partial(topups.answer, self._top_ups))

    async def _refusable(
        self, request: Request, path: str, serve: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Serve one of those that nobody signs in for: counted by address, refused in JSON, under a request id."""
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
                await self._limits.count(path, Cost.ORDINARY, caller)
                response = await serve(request)
            except Refusal as refusal:
                response = _refused(refusal, caller)
            except Exception:  # noqa: BLE001 - the trace is for the operators, its request id for the caller
                _log.exception("http_failed", path=path)
                said = _said(status.INTERNAL_REASON, status.INTERNAL_SENTENCE, caller)
                response = JSONResponse(said, 500)
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


def _no_token() -> Response:
    return PlainTextResponse("Show the metrics token.\n", 401, {"www-authenticate": "Bearer"})


def _refused(refusal: Refusal, caller: Caller) -> Response:
    body = _said(refusal.reason, str(refusal), caller)
    if refusal.violations:
        body["violations"] = [{"field": each.field, "description": each.description} for each in refusal.violations]
    headers = {}
    if refusal.retry_after_seconds is not None:
        headers["retry-after"] = str(math.ceil(refusal.retry_after_seconds))
    return JSONResponse(body, _STATUS.get(refusal.kind, 409), headers)


def _said(reason: str, message: str, caller: Caller) -> dict[str, object]:
    return {"reason": reason, "message": message, "request_id": str(caller.request_id)}


def _config(app: ASGIApp, tls: Tls | None) -> uvicorn.Config:
    certified = tls is not None and tls.client_ca_file is not None
    return uvicorn.Config(
        Certified(app) if certified else app,
        http=CertifiedProtocol if certified else "h11",
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
        ssl_cert_reqs=ssl.CERT_OPTIONAL if certified else ssl.CERT_NONE,
    )
