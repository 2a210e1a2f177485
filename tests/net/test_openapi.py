"""The OpenAPI document: checked in, whole, and true to what the server takes and gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.server.gateway import ROUTES
from tercet.net.server.gateway_json import to_json
from tercet.net.server.openapi import document, openapi

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_document_in_docs_is_what_the_command_prints() -> None:
    """After a change of the API: ``tercet openapi > docs/openapi.json``."""
    printed = CliRunner().invoke(openapi, [], catch_exceptions=False)
    assert printed.output == DOCUMENT.read_text()
    assert json.loads(printed.output) == document()


def test_every_path_of_the_gateway_is_described_once() -> None:
    described = document()
    posts = {path for path, item in described["paths"].items() if "post" in item}
    assert posts == {"/v3" + path for path in ROUTES}
    names = [item["post"]["operationId"] for item in described["paths"].values() if "post" in item]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in described["tags"]}
    operations = [operation for item in described["paths"].values() for operation in item.values()]
    assert {tag for operation in operations for tag in operation["tags"]} == tags


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_every_reference_leads_to_a_schema_and_every_schema_is_referred_to() -> None:
    described = document()
    schemas = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert set(_references(described)) == schemas


@pytest.mark.parametrize(
    "message",
    [
        rpc.WatchResponse(watch_id=7, created=True, header=rpc.ResponseHeader(revision=3, raft_term=2)),
        rpc.TxnResponse(responses=[rpc.ResponseOp(response_range=rpc.RangeResponse(count=1))]),
        rpc.AlarmResponse(alarms=[rpc.AlarmMember(memberID=1, alarm=rpc.NOSPACE)]),
        rpc.HashResponse(hash=4_000_000_000),
        rpc.RangeRequest(key=b"k", sort_order=rpc.RangeRequest.DESCEND, keys_only=True),
    ],
)
def test_what_the_gateway_writes_fits_its_schema(message: Any) -> None:
    schemas = document()["components"]["schemas"]
    _fits(json.loads(to_json(message)), schemas[message.DESCRIPTOR.full_name], schemas)


def _fits(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    kinds: dict[str, type] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    assert type(value) is kinds[schema["type"]]
    if schema["type"] == "object":
        for name, inner in value.items():
            _fits(inner, schema["properties"][name], schemas)
    elif schema["type"] == "array":
        for inner in value:
            _fits(inner, schema["items"], schemas)
    elif "enum" in schema:
        assert value in schema["enum"]
