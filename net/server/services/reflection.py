"""gRPC server reflection, v1 and v1alpha: generic clients ask what services there are and what they take.

Answers are the descriptors of the checked-in ``.proto`` files. Two of them stand in packages of their own in
this process (``health.proto`` says why); clients get them under the names by which their services are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from tercet.core.rpc_errors import Status
from tercet.core.wire.proto import election_pb2, health_pb2, lock_pb2, reflection_pb2, rpc_pb2

from ..call import StreamCall, StreamHandler

__all__ = ["ReflectionService"]

_VERSIONS: Final = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
_PUBLIC: Final = (rpc_pb2.DESCRIPTOR, lock_pb2.DESCRIPTOR, election_pb2.DESCRIPTOR)

Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse


class _Known:
    """All files, and what is to be found in them."""

    def __init__(self) -> None:
        files = [*_with_dependencies(_PUBLIC), _as_package(health_pb2.DESCRIPTOR, "grpc.health.v1")]
        files += [_as_package(reflection_pb2.DESCRIPTOR, version) for version in _VERSIONS]
        self.files = {file.name: file for file in files}
        self.by_symbol = {symbol: file for file in files for symbol in _symbols(file)}
        services = (f"{file.package}.{service.name}" for file in files for service in file.service)
        self.services = sorted(services)


@cache
def _known() -> _Known:
    return _Known()


class ReflectionService:
    """``grpc.reflection.*.ServerReflection``: knows every service that this server offers."""

    def stream(self) -> dict[str, StreamHandler]:
        """The streaming handlers by path."""
        return {f"/{version}.ServerReflection/ServerReflectionInfo": self.info for version in _VERSIONS}

    async def info(self, call: StreamCall) -> None:
        """Answer questions until the client has no more."""
        while (message := await call.receive()) is not None:
            request = Request.FromString(message)
            response = self._answer(request)
            response.valid_host = request.host
            response.original_request.CopyFrom(request)
            await call.send(response.SerializeToString())

    def _answer(self, request: Request) -> Response:
        response, known = Response(), _known()
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in known.services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _give(response, known.files.get(request.file_by_filename), request.file_by_filename)
            case "file_containing_symbol":
                symbol = request.file_containing_symbol
                _give(response, known.by_symbol.get(symbol), symbol)
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                if name in known.by_symbol:
                    response.all_extension_numbers_response.base_type_name = name
                else:
                    _refuse(response, f"unknown type: {name}")
            case "file_containing_extension":
                asked = request.file_containing_extension
                _refuse(response, f"unknown extension: {asked.containing_type} {asked.extension_number}")
            case _:
                response.error_response.error_code = Status.INVALID_ARGUMENT
                response.error_response.error_message = "the question is empty or of an unknown kind"
        return response


def _give(response: Response, file: FileDescriptorProto | None, asked: str) -> None:
    """The file and all that it needs, the file itself first."""
    if file is None:
        _refuse(response, f"not found: {asked}")
        return
    files = _known().files
    wanted = {file.name: file}
    for name in _needed(file, files):
        wanted[name] = files[name]
    for one in wanted.values():
        response.file_descriptor_response.file_descriptor_proto.append(one.SerializeToString())


def _refuse(response: Response, text: str) -> None:
    response.error_response.error_code = Status.NOT_FOUND
    response.error_response.error_message = text


def _needed(file: FileDescriptorProto, files: dict[str, FileDescriptorProto]) -> Iterator[str]:
    for name in file.dependency:
        yield name
        yield from _needed(files[name], files)


def _with_dependencies(files: Iterable[FileDescriptor]) -> list[FileDescriptorProto]:
    found: dict[str, FileDescriptorProto] = {}
    waiting = list(files)
    while waiting:
        file = waiting.pop(0)
        if file.name not in found:
            found[file.name] = FileDescriptorProto.FromString(file.serialized_pb)
            waiting += file.dependencies
    return list(found.values())


def _as_package(file: FileDescriptor, package: str) -> FileDescriptorProto:
    """The file as if it had been written in another package."""
    copy = FileDescriptorProto.FromString(file.serialized_pb)
    rename = partial(_renamed, f".{file.package}.", f".{package}.")
    copy.package = package
    copy.name = package.replace(".", "/") + f"/{file.name.rpartition('/')[2]}"
    for service in copy.service:
        for method in service.method:
            method.input_type, method.output_type = rename(method.input_type), rename(method.output_type)
    waiting: list[DescriptorProto] = list(copy.message_type)
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        for field in message.field:
            if field.type_name:
                field.type_name = rename(field.type_name)
    return copy


def _renamed(old: str, new: str, name: str) -> str:
    return new + name.removeprefix(old) if name.startswith(old) else name


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    """The full names that the file defines."""
    waiting = [(file.package, message) for message in file.message_type]
    while waiting:
        prefix, message = waiting.pop()
        name = f"{prefix}.{message.name}"
        yield name
        yield from (f"{name}.{field.name}" for field in message.field)
        yield from (f"{name}.{enum.name}" for enum in message.enum_type)
        waiting += [(name, nested) for nested in message.nested_type]
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}"
    for service in file.service:
        yield f"{file.package}.{service.name}"
        yield from (f"{file.package}.{service.name}.{method.name}" for method in service.method)
