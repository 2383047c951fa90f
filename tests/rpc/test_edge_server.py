"""The server itself: health, reflection, channelz, TLS, ports and draining, over a real channel."""

import asyncio
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from bacmr.v1 import retrieval_pb2, retrieval_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from server.caller import Role
from server.edge.policy import EdgeError
from server.edge.server import Tls
from tests.rpc.authority import Authority
from tests.rpc.served import refusal

WALLET = "bacmr.v1.WalletService"
RETRIEVAL = "bacmr.v1.RetrievalService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FRESH = [("grpc.use_local_subchannel_pool", 1)]
"""A channel with a connection of its own."""


class Store:
    """A store that is up or down on command."""

    def __init__(self, up: bool = True) -> None:
        self.up: bool | Exception = up

    async def healthy(self) -> bool:
        if isinstance(self.up, Exception):
            raise self.up
        return self.up


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    async def GetBalance(self, request, context):
        return wallet_pb2.GetBalanceResponse(available_tokens=5)


class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def Ask(self, request, context):
        yield retrieval_pb2.AskEvent(sequence=1)
        await self.go_on.wait()
        yield retrieval_pb2.AskEvent(sequence=2)


async def status(stub, service: str = "") -> int:
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def seen(watch, wanted: int) -> None:
    async with asyncio.timeout(5):
        async for answer in watch:
            if answer.status == wanted:
                return


async def test_health_of_a_service_follows_the_stores_it_needs(serve):
    postgres, milvus = Store(), Store()
    edge = await serve(
        probes={"postgresql": postgres.healthy, "milvus": milvus.healthy},
        needs={"": ["postgresql"], WALLET: ["postgresql"], RETRIEVAL: ["postgresql", "milvus"]},
    )
    stub = health_pb2_grpc.HealthStub(edge.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=RETRIEVAL))
    await seen(watch, SERVING)
    milvus.up = False
    await seen(watch, NOT_SERVING)
    assert [await status(stub, name) for name in ("", WALLET, RETRIEVAL)] == [SERVING, SERVING, NOT_SERVING]
    milvus.up = True
    await seen(watch, SERVING)
    postgres.up = ConnectionError("down")
    await seen(watch, NOT_SERVING)
    overall = stub.Watch(health_pb2.HealthCheckRequest())
    await seen(overall, NOT_SERVING)
    assert await status(stub, WALLET) == NOT_SERVING


async def test_an_unknown_service_has_no_health(serve):
    edge = await serve()
    no = await refusal(
        health_pb2_grpc.HealthStub(edge.channel).Check(health_pb2.HealthCheckRequest(service="bacmr.v1.Nothing"))
    )
    assert (no.code, no.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_every_service(serve, version):
    edge = await serve()
    call = edge.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=WALLET),
    ]
    listed, described = [answer async for answer in call(questions)]
    names = {service.name for service in listed.list_services_response.service}
    assert {WALLET, RETRIEVAL, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


async def test_channelz_is_for_admins_and_only_when_switched_on(serve, people):
    off, on = await serve(), await serve(options={"channelz": True})
    request = channelz_pb2.GetServersRequest()
    admin, student = people.add(Role.ADMIN).metadata, people.add().metadata
    no = await refusal(channelz_pb2_grpc.ChannelzStub(off.channel).GetServers(request, metadata=admin))
    assert no.code is grpc.StatusCode.UNIMPLEMENTED
    stub = channelz_pb2_grpc.ChannelzStub(on.channel)
    assert (await refusal(stub.GetServers(request, metadata=student))).code is grpc.StatusCode.PERMISSION_DENIED
    assert (await stub.GetServers(request, metadata=admin)).server


async def test_draining_tells_watchers_ends_running_streams_well_and_takes_no_new_calls(serve, people):
    retrieval = Retrieval()
    edge = await serve(RetrievalService=retrieval, probes={"postgresql": Store().healthy})
    watch = health_pb2_grpc.HealthStub(edge.channel).Watch(health_pb2.HealthCheckRequest())
    await seen(watch, SERVING)
    stream = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel).Ask(
        retrieval_pb2.AskRequest(question="q", request_id=str(uuid4())), metadata=people.add().metadata
    )
    assert (await stream.read()).sequence == 1
    await edge.server.close(5.0, settle_seconds=0.0)
    await seen(watch, NOT_SERVING)
    watch.cancel()
    draining = asyncio.create_task(edge.server.drain(5.0))
    retrieval.go_on.set()
    assert (await stream.read()).sequence == 2
    assert await stream.read() is grpc.aio.EOF
    await draining
    async with grpc.aio.insecure_channel(edge.address) as late:
        assert (await refusal(late.unary_unary("/x/Y")(b"", timeout=2))).code in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }


async def balance_over(channel, people) -> int:
    stub = wallet_pb2_grpc.WalletServiceStub(channel)
    reply = await stub.GetBalance(wallet_pb2.GetBalanceRequest(), metadata=people.add().metadata, timeout=5)
    return reply.available_tokens


async def test_a_server_that_closes_takes_no_new_connection_and_all_calls_on_those_it_has(serve, people):
    edge = await serve(WalletService=Wallet())
    assert await balance_over(edge.channel, people) == 5
    await edge.server.close(5.0, settle_seconds=0.0)
    assert await balance_over(edge.channel, people) == 5
    async with grpc.aio.insecure_channel(edge.address, options=FRESH) as late:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await balance_over(late, people)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await balance_over(edge.channel, people) == 5


async def test_a_taken_port_is_an_error_that_names_the_setting(serve):
    first = await serve()
    with pytest.raises(EdgeError, match=rf"BACMR_GRPC_LISTEN: 127\.0\.0\.1:{first.server.port} is taken"):
        await serve(listen=f"127.0.0.1:{first.server.port}")


@pytest.mark.parametrize("listen", ["0.0.0.0:50051", "192.0.2.1:50051", "[::]:50051", "example.org:50051"])
async def test_plaintext_for_others_is_refused_unless_allowed(serve, listen):
    with pytest.raises(EdgeError, match="BACMR_TLS_CERT_FILE"):
        await serve(listen=listen)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def balance(port: int, credentials: grpc.ChannelCredentials, metadata) -> int:
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        answer = await wallet_pb2_grpc.WalletServiceStub(channel).GetBalance(
            wallet_pb2.GetBalanceRequest(), metadata=metadata, timeout=5
        )
    return answer.available_tokens


async def test_tls_by_files(serve, people, authority):
    certificate, key = authority.issue("server")
    edge = await serve(WalletService=Wallet(), options={"tls": Tls(certificate, key)})
    trusting = grpc.ssl_channel_credentials(authority.file.read_bytes())
    assert await balance(edge.server.port, trusting, people.add().metadata) == 5
    plain = wallet_pb2_grpc.WalletServiceStub(edge.channel)
    no = await refusal(plain.GetBalance(wallet_pb2.GetBalanceRequest(), metadata=people.add().metadata, timeout=2))
    assert no.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


async def test_mtls_lets_in_only_who_shows_a_certificate_of_the_authority(serve, people, authority):
    certificate, key = authority.issue("server")
    edge = await serve(WalletService=Wallet(), options={"tls": Tls(certificate, key, authority.file)})
    mine, mine_key = authority.issue("client")
    roots = authority.file.read_bytes()
    known = grpc.ssl_channel_credentials(roots, mine_key.read_bytes(), mine.read_bytes())
    assert await balance(edge.server.port, known, people.add().metadata) == 5
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await balance(edge.server.port, grpc.ssl_channel_credentials(roots), people.add().metadata)
    assert unknown.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_missing_certificate_file_is_an_error_that_names_it(serve, tmp_path):
    with pytest.raises(EdgeError, match=r"missing\.key cannot be read"):
        await serve(options={"tls": Tls(tmp_path / "missing.pem", tmp_path / "missing.key")})
