"""The OpenAPI document of the client port: the gateway's paths, and the pages beside them.

Made from the same tables and descriptors that serve the requests, so it cannot say anything else than the
server does. ``tercet openapi`` prints it; ``docs/openapi.json`` is that output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from tercet.core.wire.services import METHODS, Method

from .gateway import PREFIXES, ROUTES
from .gateway_errors import HTTP_STATUS

__all__ = ["document", "openapi"]

Json = dict[str, Any]

_DESCRIPTION: Final = """\
etcd's v3 API as JSON over HTTP. Fields may be written by their own names or in lowerCamelCase; 64-bit
integers are strings in answers and may be strings or numbers in requests; bytes are base64; fields that are
zero are left out of answers. A streaming method answers one JSON object a line, `{"result": ...}` or
`{"error": ...}`. With authentication on, send the token of `/v3/auth/authenticate` in the header
`Authorization`. Every path exists under `/v3beta`, too. A server that reports version 3.4, as it does unless
told otherwise, has no `/v3/maintenance/downgrade`."""

_SERVICES: Final[Mapping[str, str]] = {
    "KV": "Keys: read, write, delete, transactions, compaction.",
    "Watch": "Changes of keys as they happen, or from a revision on.",
    "Lease": "Leases that keys hang on, and their renewal.",
    "Cluster": "The members of the cluster.",
    "Maintenance": "Status, alarms, hashes, snapshots of one member.",
    "Auth": "Users, roles, permissions and tokens.",
    "Lock": "Locks held by a lease.",
    "Election": "Elections of a leader among clients.",
}

_SCALARS: Final[Mapping[int, Json]] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64"},
}


def document() -> Json:
    """The whole document, OpenAPI 3.1."""
    schemas: dict[str, Json] = {}
    paths: Json = {}
    for path, name in ROUTES.items():
        paths[PREFIXES[0] + path] = {"post": _operation(path, METHODS[name], schemas)}
    schemas["Error"] = {
        "type": "object",
        "properties": {
            "error": {"type": "string"},
            "message": {"type": "string", "description": "The same as error."},
            "code": {"type": "integer", "description": "The status code of gRPC."},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "etcd v3 API", "version": "3", "description": _DESCRIPTION},
        "tags": [{"name": name, "description": text} for name, text in _SERVICES.items()]
        + [{"name": "Pages", "description": "Health, version and metrics."}],
        "paths": paths | _pages(),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(path: str, method: Method, schemas: dict[str, Json]) -> Json:
    service, name = method.path[1:].split("/")
    request, response = method.request.DESCRIPTOR, method.response.DESCRIPTOR
    answer = _reference(response, schemas)
    if method.server_streaming:
        failed = {"$ref": "#/components/schemas/Error"}
        answer = {"type": "object", "properties": {"result": answer, "error": failed}}
    statuses = sorted({status for code, status in HTTP_STATUS.items() if code})
    return {
        "tags": [service.rpartition(".")[2]],
        "summary": name,
        "operationId": path[1:].replace("/", "_").replace("-", "_"),
        "requestBody": {"required": True, "content": _json(_reference(request, schemas))},
        "responses": {
            "200": {
                "description": "One object a line." if method.server_streaming else "The answer.",
                "content": _json(answer),
            },
            "default": {
                "description": f"It failed; the HTTP status is one of {', '.join(map(str, statuses))}.",
                "content": _json({"$ref": "#/components/schemas/Error"}),
            },
        },
    }


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _reference(message: Any, schemas: dict[str, Json]) -> Json:
    """Point to a message's schema, and make sure that it is there."""
    name = message.full_name
    if name not in schemas:
        schemas[name] = {}  # messages may contain themselves
        properties = {field.name: _field(field, schemas) for field in message.fields}
        schemas[name] = {"type": "object", "properties": properties} if properties else {"type": "object"}
    return {"$ref": f"#/components/schemas/{name}"}


def _field(field: FieldDescriptor, schemas: dict[str, Json]) -> Json:
    if field.message_type is not None:
        schema = _reference(field.message_type, schemas)
    elif field.enum_type is not None:
        schema = _enumeration(field.enum_type, schemas)
    else:
        schema = dict(_SCALARS[field.type])
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _enumeration(enum: EnumDescriptor, schemas: dict[str, Json]) -> Json:
    schemas[enum.full_name] = {"type": "string", "enum": [value.name for value in enum.values]}
    return {"$ref": f"#/components/schemas/{enum.full_name}"}


def _pages() -> dict[str, Json]:
    exclude = _parameter("exclude", "A check or an alarm to leave out; may be repeated.")
    serializable = _parameter("serializable", "true: this member alone, without asking the leader.")
    verbose = _parameter("verbose", "Whether every check is listed.")
    health = {"type": "object", "properties": {"health": {"type": "string"}, "reason": {"type": "string"}}}
    version = {
        "type": "object",
        "properties": {"etcdserver": {"type": "string"}, "etcdcluster": {"type": "string"}},
    }
    text: Json = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/health": _page("Whether the member can serve.", _json(health), [exclude, serializable], fails=True),
        "/livez": _page("Whether the process lives.", text, [exclude, verbose], fails=True),
        "/readyz": _page("Whether the member is ready for requests.", text, [exclude, verbose], fails=True),
        "/version": _page("The versions of the member and of the cluster.", _json(version), []),
        "/metrics": _page("Metrics in the text format of Prometheus.", text, []),
    }


def _page(summary: str, content: Json, parameters: list[Json], *, fails: bool = False) -> Json:
    responses: Json = {"200": {"description": summary, "content": content}}
    if fails:
        responses["503"] = {"description": "No; the body says why.", "content": content}
    page: Json = {"tags": ["Pages"], "summary": summary, "responses": responses}
    if parameters:
        page["parameters"] = parameters
    return {"get": page}


def _parameter(name: str, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}


@click.command()
def openapi() -> None:
    """Print the OpenAPI document of the client port."""
    click.echo(msgspec.json.format(msgspec.json.encode(document()), indent=1).decode())
