"""Server reflection in both versions: grpcio-reflection registers v1alpha only, but the messages of v1 are the same."""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1ALPHA: Final = reflection.SERVICE_NAME
V1: Final = "grpc.reflection.v1.ServerReflection"


def handlers(services: Iterable[str]) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """Return the handlers, by path, that describe these services and themselves."""
    servicer = reflection.aio.ReflectionServicer([*services, V1ALPHA, V1])
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return {f"/{name}/ServerReflectionInfo": handler for name in (V1ALPHA, V1)}
