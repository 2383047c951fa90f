"""20,000 mutated messages over every RPC: never INTERNAL or UNKNOWN, and the server does not grow."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from server.caller import Role, Tier
from server.edge.limits import Rates
from tests.rpc.served import error_of, services

MESSAGES = 20_000
CALLERS = 16
GROWTH_BYTES = 32 * 1024 * 1024
SEED = 20261120
_TEXTS = (
    "",
    "a",
    "لا إله",
    "\x00",
    "x" * 5000,
    "6c1b4f0e-7f0e-4a07-9f5c-0d6f5a8d8c11",
    "' OR 1=1 --",
    "../../etc",
    "%s%n",
)
_NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 7)
_WHOLE = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64}


def filled(descriptor: Descriptor, chance: random.Random, depth: int = 0) -> Message:
    """A message with random fields set to awkward values."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if chance.random() < 0.5 or depth > 3:
            continue
        if field.is_repeated:
            if not (field.message_type and field.message_type.GetOptions().map_entry):
                getattr(message, field.name).extend(value(field, chance, depth) for _ in range(chance.randrange(4)))
        elif field.message_type:
            getattr(message, field.name).CopyFrom(value(field, chance, depth))
        else:
            setattr(message, field.name, value(field, chance, depth))
    return message


def value(field: FieldDescriptor, chance: random.Random, depth: int) -> Any:
    if field.message_type:
        return filled(field.message_type, chance, depth + 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.randrange(64))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type in {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}:
        return chance.choice((0.0, -1.0, float("nan"), float("inf")))
    if field.type in _WHOLE:
        return chance.choice((*_NUMBERS, 2**63 - 1, -(2**63)))
    if field.type in {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64}:
        return abs(chance.choice(_NUMBERS[:4]))
    return chance.choice(_NUMBERS)


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """The bytes as they are, or flipped, cut, doubled, nested, or replaced."""
    kind, changed = chance.randrange(6), bytearray(raw)
    if kind == 0 or not raw:
        return chance.randbytes(chance.randrange(200)) if kind == 0 else raw
    if kind == 1:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del changed[chance.randrange(len(changed)) :]
    elif kind == 3:
        return raw + raw
    elif kind == 4:
        return b"\x0a\xff\xff\xff\xff\x07" + raw
    return bytes(changed)


def trivial(generated: type, descriptor: Any) -> object:
    """A servicer that answers everything with an empty message."""

    def unary(answer: type[Message]) -> Any:
        async def method(self: object, request: Any, context: object) -> Message:
            if hasattr(request, "__aiter__"):
                async for _ in request:
                    pass
            return answer()

        return method

    def stream(answer: type[Message]) -> Any:
        async def method(self: object, request: Any, context: object) -> Any:
            yield answer()

        return method

    methods = {}
    for method in descriptor.methods:
        answer = message_factory.GetMessageClass(method.output_type)
        methods[method.name] = (stream if method.server_streaming else unary)(answer)
    return type(f"Trivial{descriptor.name}", (generated,), methods)()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
async def test_mutated_messages_never_find_a_fault_and_the_server_does_not_grow(serve, people):
    empty = services()
    servicers = {s.descriptor.name: trivial(type(s.servicer), s.descriptor) for s in empty}
    unlimited = Rates(dict.fromkeys(Tier, 10**9), 10**9, 10**9)
    edge = await serve(rates=unlimited, max_streams=1000, **servicers)
    tokens = [people.add(role).metadata for role in (Role.STUDENT, Role.TEACHER, Role.ADMIN, Role.SERVICE)]
    methods = [
        (f"/{service.descriptor.full_name}/{method.name}", method)
        for service in empty
        for method in service.descriptor.methods
    ]
    codes: Counter[grpc.StatusCode] = Counter()

    async def caller(number: int) -> None:
        chance = random.Random(SEED + number)
        for turn in range(MESSAGES // CALLERS):
            path, method = methods[(turn * CALLERS + number) % len(methods)]
            raw = mutated(filled(method.input_type, chance).SerializeToString(), chance)
            metadata = chance.choice(tokens)
            if method.client_streaming:
                call = edge.channel.stream_unary(path)(iter([raw]), metadata=metadata)
            elif method.server_streaming:
                call = edge.channel.unary_stream(path)(raw, metadata=metadata)
            else:
                call = edge.channel.unary_unary(path)(raw, metadata=metadata)
            error = await error_of(call)
            codes[error.code() if error else grpc.StatusCode.OK] += 1

    async with asyncio.timeout(120):
        await asyncio.gather(*(caller(number) for number in range(CALLERS // 2)))
        before = resident_bytes()
        await asyncio.gather(*(caller(number) for number in range(CALLERS // 2, CALLERS)))
    assert codes.total() == MESSAGES
    assert set(codes) == {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
    }
    assert resident_bytes() - before < GROWTH_BYTES
