"""The methods of etcd's gRPC services by path, read from the protobuf descriptors.

A path is ``/package.Service/Method``, as in HTTP/2's ``:path``. Whoever needs to know what a method takes
and gives (the front door, the JSON gateway, the client library) looks here, so that the ``.proto`` files
are the only place that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from .proto import election_pb2, health_pb2, lock_pb2, reflection_pb2, rpc_pb2

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its message classes, and on which sides more than one message may come."""

    path: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool


_FILES = (
    rpc_pb2.DESCRIPTOR, lock_pb2.DESCRIPTOR, election_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)  # fmt: skip
#: Services whose paths are not those of their own file's package (``health.proto`` says why).
_KNOWN_AS = {
    "tercetpb.health.Health": ("grpc.health.v1.Health",),
    "tercetpb.reflection.ServerReflection": (
        "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
    ),
}  # fmt: skip


def _read_methods() -> dict[str, Method]:
    found: dict[str, Method] = {}
    for service in (service for file in _FILES for service in file.services_by_name.values()):
        for name in _KNOWN_AS.get(service.full_name, (service.full_name,)):
            for method in service.methods:
                path = f"/{name}/{method.name}"
                found[path] = Method(
                    path,
                    GetMessageClass(method.input_type),
                    GetMessageClass(method.output_type),
                    bool(method.client_streaming),
                    bool(method.server_streaming),
                )
    return found


#: Every method of every service, by path.
METHODS: Mapping[str, Method] = MappingProxyType(_read_methods())
