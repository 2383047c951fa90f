"""The HTTP port: probes, metrics, uploads by ticket, the web app and its headers, over a real socket."""

import asyncio
import os
import ssl
from ipaddress import ip_network
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from obstore.store import MemoryStore

from server.blobs.door import Door
from server.blobs.objects import ObjectBlobs
from server.blobs.tickets import Tickets
from server.edge.limits import Rates
from server.edge.policy import EdgeError
from server.edge.server import Tls
from server.telemetry import metrics
from tests.rpc.authority import Authority

APP = "https://app.example.org"


@pytest_asyncio.fixture
async def edge(serve):
    return await serve()


@pytest.fixture
def blobs() -> tuple[ObjectBlobs, Door]:
    tickets = Tickets(os.urandom(32), "http://test")
    store = ObjectBlobs(MemoryStore(), tickets)
    return store, Door(store, tickets)


def client(port) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.port}")


def local(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def test_liveness_is_always_told_and_readiness_follows_the_stores(serve, serve_http):
    up = [True]

    async def healthy():
        return up[0]

    edge = await serve(probes={"postgresql": healthy})
    async with client(await serve_http(edge)) as http:
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "stores": {"postgresql": True}})
        up[0] = False
        await edge.health.look()
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/healthz")).status_code == 200


async def test_metrics_are_shown_for_prometheus_and_as_json(edge, serve_http):
    metrics.record_milvus_query("grade-12-math", 0.012)
    async with client(await serve_http(edge)) as http:
        text = await http.get("/metrics/prometheus")
        assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'milvus_query_duration_seconds_count{namespace="grade-12-math"}' in text.text
        found = (await http.get("/metrics/json")).json()
    assert found["timestamp"].endswith("+00:00")
    series = {s["labels"]["namespace"]: s for s in found["metrics"]["milvus_query_duration_seconds"]["series"]}
    assert {"count", "sum", "min", "max", "mean", "p50", "p95", "p99"} <= set(series["grade-12-math"])


async def test_a_ticket_uploads_and_another_downloads(edge, serve_http, blobs):
    store, door = blobs
    async with client(await serve_http(edge, blobs=door)) as http:
        ticket = await store.sign_upload("f/1.pdf", content_type="application/pdf", max_bytes=1000, ttl_seconds=60)
        stored = await http.put(local(ticket.url), content=b"x" * 900, headers=dict(ticket.headers))
        assert (stored.status_code, stored.json()) == (200, {"size_bytes": 900})
        assert stored.headers["x-request-id"]
        download = await store.sign_download("f/1.pdf", ttl_seconds=60)
        found = await http.get(local(download.url))
    assert (found.status_code, found.content) == (200, b"x" * 900)
    assert found.headers["content-disposition"] == "attachment"


@pytest.mark.parametrize(
    ("change", "body", "kind", "code", "reason"),
    [
        (lambda url: url.replace("1.pdf", "2.pdf"), b"x", "application/pdf", 403, "NOT_SIGNED_IN"),
        (lambda url: url.partition("?")[0], b"x", "application/pdf", 403, "NOT_SIGNED_IN"),
        (lambda url: url, b"x" * 2000, "application/pdf", 400, "UPLOAD_REFUSED"),
        (lambda url: url, b"x", "text/html", 400, "UPLOAD_REFUSED"),
    ],
    ids=["another key", "no ticket", "too large", "another type"],
)
async def test_what_a_ticket_does_not_allow_is_refused(edge, serve_http, blobs, change, body, kind, code, reason):
    store, door = blobs
    ticket = await store.sign_upload("f/1.pdf", content_type="application/pdf", max_bytes=1000, ttl_seconds=60)
    async with client(await serve_http(edge, blobs=door)) as http:
        answer = await http.put(change(local(ticket.url)), content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["reason"]) == (code, reason)
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_ticket_for_upload_does_not_download(edge, serve_http, blobs):
    store, door = blobs
    await store.put_bytes("f/1.pdf", b"secret")
    ticket = await store.sign_upload("f/1.pdf", content_type="", max_bytes=10, ttl_seconds=60)
    async with client(await serve_http(edge, blobs=door)) as http:
        answer = await http.get(local(ticket.url))
    assert (answer.status_code, b"secret" in answer.content) == (403, False)


async def test_tickets_are_rate_limited_by_address(edge, serve_http, blobs):
    _, door = blobs
    async with client(await serve_http(edge, blobs=door, rates=Rates(calls_per_minute=2))) as http:
        codes = [(await http.get("/blobs/x")).status_code for _ in range(3)]
        assert codes == [403, 403, 429]
        assert int((await http.get("/blobs/x")).headers["retry-after"]) > 0


async def test_the_web_app_is_served_under_a_strict_policy(edge, serve_http, tmp_path):
    (tmp_path / "index.html").write_text("<h1>BacMR</h1>")
    (tmp_path / "app.js").write_text("1")
    (tmp_path.parent / "outside.txt").write_text("secret")
    async with client(await serve_http(edge, web_dir=tmp_path)) as http:
        page = await http.get("/")
        assert page.text == "<h1>BacMR</h1>"
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert (await http.get("/app.js")).status_code == 200
        assert (await http.post("/app.js")).status_code == 405
        for path in ("/../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt"):
            assert (await http.get(path)).status_code == 404


async def test_every_error_carries_a_request_id_and_keeps_the_callers(edge, serve_http, tmp_path):
    mine = str(uuid4())
    async with client(await serve_http(edge, web_dir=tmp_path, metrics_token="figures")) as http:
        for method, path, status in (
            ("GET", "/nowhere", 404),
            ("POST", "/healthz", 405),
            ("GET", "/metrics/json", 401),
        ):
            told = [(await http.request(method, path, headers={"x-request-id": given})) for given in (mine, "x")]
            assert [answer.status_code for answer in told] == [status] * 2
            assert told[0].headers.get_list("x-request-id") == [mine]
            assert UUID(told[1].headers["x-request-id"])
        assert "x-request-id" not in (await http.get("/healthz")).headers


async def test_the_web_app_is_small_on_the_wire_and_kept_by_browsers(edge, serve_http, tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<h1>BacMR</h1>")
    (tmp_path / "assets" / "app-1A2B.js").write_text("say('once');" * 1000)
    async with client(await serve_http(edge, web_dir=tmp_path)) as http:
        page, script = await http.get("/"), await http.get("/assets/app-1A2B.js")
        plain = await http.get("/assets/app-1A2B.js", headers={"accept-encoding": "identity"})
        again = await http.get("/", headers={"if-none-match": page.headers["etag"]})
    assert script.headers["content-encoding"] == "gzip"
    assert int(script.headers["content-length"]) < len(script.text) / 10
    assert plain.text == script.text
    assert "content-encoding" not in plain.headers
    assert "immutable" in script.headers["cache-control"]
    assert page.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


async def test_a_page_may_send_files_to_the_blob_store_and_nowhere_else(edge, serve_http, tmp_path):
    (tmp_path / "index.html").write_text("")
    async with client(await serve_http(edge, web_dir=tmp_path, upload_origin="https://files.example.org")) as http:
        policy = (await http.get("/")).headers["content-security-policy"]
    assert "connect-src 'self' https://files.example.org;" in policy


async def test_only_allowed_origins_may_read_answers(edge, serve_http, blobs):
    _, door = blobs
    async with client(await serve_http(edge, blobs=door, origins=[APP])) as http:
        allowed = await http.options("/blobs/x", headers={"origin": APP, "access-control-request-method": "PUT"})
        assert allowed.headers["access-control-allow-origin"] == APP
        assert "PUT" in allowed.headers["access-control-allow-methods"]
        other = await http.options(
            "/blobs/x", headers={"origin": "https://evil.example", "access-control-request-method": "PUT"}
        )
        assert "access-control-allow-origin" not in other.headers


async def test_a_taken_port_is_an_error_that_names_the_setting(edge, serve_http):
    first = await serve_http(edge)
    with pytest.raises(EdgeError, match=rf"BACMR_HTTP_LISTEN: 127\.0\.0\.1:{first.port} is taken"):
        await serve_http(edge, listen=f"127.0.0.1:{first.port}")


async def test_plaintext_for_others_is_refused_unless_allowed(edge, serve_http):
    with pytest.raises(EdgeError, match="BACMR_HTTP_LISTEN"):
        await serve_http(edge, listen="0.0.0.0:0")


async def test_public_keys_are_where_other_verifiers_look(edge, serve_http):
    keys = [{"kty": "EC", "kid": "k1", "crv": "P-256", "x": "x", "y": "y"}]
    async with client(await serve_http(edge, jwks=lambda: keys)) as http:
        answer = await http.get("/.well-known/jwks.json")
    assert (answer.status_code, answer.json()) == (200, {"keys": keys})
    assert answer.headers["cache-control"] == "public, max-age=60"


@pytest.mark.parametrize("path", ["/metrics/prometheus", "/metrics/json"])
async def test_metrics_with_a_token_are_for_who_shows_it(edge, serve_http, path):
    async with client(await serve_http(edge, metrics_token="figures")) as http:
        for shown in ({}, {"authorization": "Bearer wrong"}, {"authorization": "figures"}, {"authorization": "é"}):
            headers = {name: value.encode() for name, value in shown.items()}
            answer = await http.get(path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "grpc" not in answer.text
        assert (await http.get(path, headers={"authorization": "Bearer figures"})).status_code == 200
        assert (await http.get("/healthz")).status_code == 200


async def test_an_address_that_no_proxy_of_ours_forwards_is_not_believed(edge, serve_http, blobs):
    _, door = blobs
    ours = await serve_http(edge, blobs=door, rates=Rates(calls_per_minute=2), proxies=[ip_network("127.0.0.0/8")])
    strange = await serve_http(edge, blobs=door, rates=Rates(calls_per_minute=2), proxies=[ip_network("10.0.0.0/8")])
    for port, expected in ((ours, 403), (strange, 429)):
        async with client(port) as http:
            for number in range(3):
                answer = await http.get("/blobs/x", headers={"x-forwarded-for": f"203.0.113.{number}"})
        assert answer.status_code == expected


async def test_with_mtls_all_but_probes_need_a_certificate_of_the_authority(edge, serve_http, tmp_path):
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = authority.issue("server")
    port = await serve_http(edge, tls=Tls(certificate, key, authority.file))

    def over_tls(issuer: Authority | None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=authority.file)
        if issuer is not None:
            context.load_cert_chain(*issuer.issue("client"))
        return httpx.AsyncClient(base_url=f"https://127.0.0.1:{port.port}", verify=context)

    async with over_tls(None) as probe:
        assert (await probe.get("/healthz")).status_code == 200
        assert (await probe.get("/readyz")).status_code in {200, 503}
        for path in ("/metrics/json", "/", "/healthz/", "/healthz/../metrics/json", "/%68ealthz/x"):
            assert (await probe.get(path)).status_code == 403
        balance = await probe.post(
            "/bacmr.v1.WalletService/GetBalance", headers={"content-type": "application/grpc-web+proto"}
        )
        assert (balance.status_code, balance.text) == (403, "Show a client certificate.\n")
    async with over_tls(authority) as known:
        assert (await known.get("/metrics/json")).status_code == 200
    async with over_tls(other) as stranger:
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            await stranger.get("/healthz")


async def test_a_port_without_grpc_web_shows_metrics_and_probes_alone(edge, serve_http):
    async with client(await serve_http(edge, grpc_web=False)) as http:
        assert (await http.get("/healthz")).status_code == 200
        assert "grpc_calls_total" in (await http.get("/metrics/prometheus")).text
        called = await http.post(
            "/bacmr.v1.AuthService/GetJwks", content=b"", headers={"content-type": "application/grpc-web+proto"}
        )
    assert called.status_code == 404


async def test_a_port_that_closes_takes_no_new_request_and_ends_the_running_one(edge, serve_http, blobs):
    port = await serve_http(edge)
    async with client(port) as http:
        assert (await http.get("/healthz")).status_code == 200
        await port.close(1, idle_seconds=0.1)
        with pytest.raises(httpx.ConnectError):
            async with client(port) as late:
                await late.get("/healthz")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_on_an_open_connection_is_answered_as_its_last_while_the_port_closes(edge, serve_http, method):
    port = await serve_http(edge)
    path = {"GET": "/healthz", "POST": "/bacmr.v1.AuthService/GetJwks"}[method]
    headers = {"content-type": "application/grpc-web+proto"}
    async with client(port) as http:
        assert "connection" not in (await http.request(method, path, content=bytes(5), headers=headers)).headers
        closing = asyncio.create_task(port.close(1, idle_seconds=30))
        await asyncio.sleep(0)
        assert not closing.done()
        last = await http.request(method, path, content=bytes(5), headers=headers)
        assert (last.status_code, last.headers["connection"]) == (200, "close")
        async with asyncio.timeout(10):
            await closing  # nobody is connected any more, so nobody is waited for


async def test_a_connection_that_stays_idle_is_cut_in_the_end(edge, serve_http):
    port = await serve_http(edge)
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    async with asyncio.timeout(10):
        await port.close(1, idle_seconds=0.2)
        assert await reader.read() == b""
    writer.close()


async def test_a_call_on_its_way_to_grpc_is_waited_for_while_the_port_closes(edge, serve_http):
    port = await serve_http(edge)
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    writer.write(
        b"POST /bacmr.v1.AuthService/GetJwks HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web+proto\r\n"
        b"content-length: 5\r\nexpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(10):
        await reader.readuntil(b"100 Continue\r\n\r\n")
        closing = asyncio.create_task(port.close(1, idle_seconds=30))
        await asyncio.sleep(0)
        assert not closing.done()
        writer.write(bytes(5))
        await closing
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()
