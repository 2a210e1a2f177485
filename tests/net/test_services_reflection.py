"""Server reflection, asked by gRPC's own client for it: nobody needs a ``.proto`` file to call us."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import trio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tercet.core.wire.proto import reflection_pb2 as reflection
from tercet.core.wire.services import METHODS
from tercet.net.server.services.reflection import ReflectionService

from .front_server import Services, serving

PATHS = [
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
]


def _services() -> Services:
    return Services({}, ReflectionService().stream())


async def test_a_generic_client_finds_every_service_and_method() -> None:
    def look(address: str) -> dict[str, Any]:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            pool = DescriptorPool(database)
            names = list(database.get_services())
            return {name: pool.FindServiceByName(name) for name in names}

    async with serving(_services()) as (_, address):
        found = await trio.to_thread.run_sync(look, address)
    paths = {f"/{name}/{method.name}" for name, service in found.items() for method in service.methods}
    assert paths == set(METHODS)
    put = found["etcdserverpb.KV"].methods_by_name["Put"].input_type
    request = GetMessageClass(put)(key=b"k", value=b"v", lease=7)
    own = METHODS["/etcdserverpb.KV/Put"].request.FromString(request.SerializeToString())
    assert (own.key, own.lease) == (b"k", 7)  # type: ignore[attr-defined]
    check = found["grpc.health.v1.Health"].methods_by_name["Check"]
    assert check.input_type.full_name == "grpc.health.v1.HealthCheckRequest"
    assert isinstance(check.containing_service.file, FileDescriptor)


@pytest.mark.parametrize("path", PATHS)
async def test_every_kind_of_question_has_an_answer(path: str) -> None:
    service = ReflectionService()
    questions = [
        reflection.ServerReflectionRequest(host="h", file_containing_symbol="mvccpb.KeyValue.key"),
        reflection.ServerReflectionRequest(file_by_filename="no.proto"),
        reflection.ServerReflectionRequest(all_extension_numbers_of_type="mvccpb.Event"),
        reflection.ServerReflectionRequest(all_extension_numbers_of_type="no.Type"),
        reflection.ServerReflectionRequest(
            file_containing_extension=reflection.ExtensionRequest(containing_type="mvccpb.Event")
        ),
        reflection.ServerReflectionRequest(),
    ]
    stream = _Stream(questions)
    await service.stream()[path](stream)
    first, missing, numbers, no_type, extension, empty = stream.answers
    assert first.valid_host == "h"
    assert first.original_request == questions[0]
    assert len(first.file_descriptor_response.file_descriptor_proto) == 1
    assert (missing.error_response.error_code, missing.error_response.error_message) == (
        5, "not found: no.proto",
    )  # fmt: skip
    assert numbers.all_extension_numbers_response.base_type_name == "mvccpb.Event"
    assert no_type.error_response.error_code == extension.error_response.error_code == 5
    assert empty.error_response.error_code == 3


class _Stream:
    def __init__(self, questions: list[reflection.ServerReflectionRequest]) -> None:
        self.metadata: dict[str, str] = {}
        self.client_common_name = ""
        self._questions = [question.SerializeToString() for question in questions]
        self.answers: list[reflection.ServerReflectionResponse] = []

    async def receive(self) -> bytes | None:
        return self._questions.pop(0) if self._questions else None

    async def send(self, message: bytes) -> None:
        self.answers.append(reflection.ServerReflectionResponse.FromString(message))

    def finish(self, code: int = 0, message: str = "") -> None:
        raise AssertionError(f"finished early: {code} {message}")
