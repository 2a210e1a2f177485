"""HTTP/1.1 requests that fuzzing found: what a client sends may end its connection, never the member."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.config import MemberConfig
from tercet.net.real import real_world
from tercet.net.server.call import StreamCall
from tercet.net.server.gateway_json import InputError, documents, from_json
from tercet.net.server.http import make_http1_handler

from .http_desk import Methods, Node
from .test_http import ask, serving


@pytest.mark.parametrize(("path", "status"), [("/v3/nope", 404), ("/v3/kv/put", 405), ("/nope", 404)])
async def test_a_refused_head_request_is_answered_without_a_body(path: str, status: int) -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        await client.send("HEAD", path)
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        await client.send("GET", "/version")
        assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_head_request_with_a_broken_body_is_refused_without_a_body() -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        request = b"HEAD /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        await client.connection.send_all(request)
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert client.buffer == b""
        assert await client.ended()


@pytest.mark.parametrize("path", ["/metrics", "/version", "/v3/kv/range", "x:1"])
async def test_connect_is_refused_on_every_path(path: str) -> None:
    status, headers, body = await ask(Node(), "CONNECT", path)
    assert (status, headers["connection"], body) == (405, "close", b"Method Not Allowed\n")


@pytest.mark.parametrize(("body", "error"), [
    (b'{"limit":' + b"9" * 5000 + b"}", "json: number with too many digits"),
    (b'{"limit":"' + b"9" * 5000 + b'"}', "json: number with too many digits"),
    (b'{"limit":"' + b"[" * 100_000 + b'"}', "exceeded max depth"),
    (b"[" * 100_000, "exceeded max depth"),
    (b'{"sort_order":"\\ud800"}', 'unknown value "?" for enum etcdserverpb.RangeRequest_SortOrder'),
])  # fmt: skip
async def test_a_body_that_python_cannot_hold_is_a_bad_request(body: bytes, error: str) -> None:
    status, _, answer = await ask(Node(), "POST", "/v3/kv/range", body)
    assert (status, json.loads(answer)) == (400, {"error": error, "message": error, "code": 3})


def test_long_numbers_are_an_input_error_wherever_they_stand() -> None:
    with pytest.raises(InputError, match="too many digits"):
        list(documents("1 " + "7" * 6000))
    with pytest.raises(InputError):
        from_json(rpc.RangeRequest, {"limit": "[" * 50_000})


class Leaving:
    """A connection whose client asks for a stream and then is gone while we write."""

    remote = "10.0.0.9:4711"

    def __init__(self) -> None:
        self.writes = 0

    async def send_all(self, data: bytes) -> None:
        self.writes += 1
        await trio.lowlevel.checkpoint()
        raise OSError(32, "Broken pipe")

    async def receive(self, max_bytes: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    def close(self) -> None:
        pass


class Nested(Methods):
    """Its watch sends from a nursery of its own, as the real one does."""

    async def _watch(self, call: StreamCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await super()._watch(call)


@pytest.mark.parametrize("methods", [Methods, Nested])
async def test_a_client_that_leaves_in_the_middle_of_a_stream_ends_only_its_connection(
    methods: Callable[[], Methods],
) -> None:
    world = real_world("n1", log_level="error", environment={})
    handler = make_http1_handler(Node(), MemberConfig(), methods())
    body = b'{"create_request":{"key":"AA=="}}'
    request = b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    connection: Any = Leaving()
    with trio.fail_after(90):
        await handler(world, connection, request)
    assert connection.writes == 1


class Half(Leaving):
    """A connection whose client ends its side while the head of a stream is being written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    async def send_all(self, data: bytes) -> None:
        if not self.sent and not self.writes:
            self.writes += 1
            await trio.sleep_forever()
        self.sent += data

    async def receive(self, max_bytes: int) -> bytes:
        while not self.writes:
            await trio.lowlevel.checkpoint()
        return b""


async def test_nothing_follows_a_head_that_could_not_be_written() -> None:
    world = real_world("n1", log_level="error", environment={})
    handler = make_http1_handler(Node(), MemberConfig(), Methods())
    body = b'{"create_request":{"key":"AA=="}}'
    request = b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    connection: Any = Half()
    with trio.fail_after(90):
        await handler(world, connection, request)
    assert connection.sent == b""
