"""HTTP/1.1 on the client port and the peer port, byte for byte as a client sees it."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tercet.core.machine import Alarm
from tercet.core.rpc_errors import TIMEOUT
from tercet.net.config import MemberConfig
from tercet.net.real import real_world
from tercet.net.server.http import BODY_BYTES_MAX, make_http1_handler

from .http_desk import Client, Machine, Methods, Node, open_door


@asynccontextmanager
async def serving(
    node: Node, methods: Methods | None, version: str = "3.4.35", streams: int = 0
) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """Serve; gives a function that connects."""
    config = MemberConfig(reported_version=version, max_concurrent_streams=streams)
    world = real_world("n1", log_level="error", environment={})
    async with open_door(world, make_http1_handler(node, config, methods)) as connect:
        yield connect


async def ask(node: Node, method: str, path: str, body: bytes = b"", version: str = "3.4.35") -> Any:
    async with serving(node, Methods(), version) as connect:
        client = await connect()
        await client.send(method, path, body)
        return await client.answer()


async def test_version_and_unknown_pages() -> None:
    status, headers, body = await ask(Node(), "GET", "/version")
    assert (status, body) == (200, b'{"etcdserver":"3.4.35","etcdcluster":"3.4.0"}')
    assert headers["content-type"] == "application/json"
    assert headers["access-control-allow-origin"] == "*"
    status, headers, body = await ask(Node(), "POST", "/version", b"x")
    assert (status, headers["allow"], body) == (405, "get", b"Method Not Allowed\n")
    assert (await ask(Node(), "GET", "/nope"))[::2] == (404, b"404 page not found\n")
    assert (await ask(Node(), "OPTIONS", "/v3/kv/range"))[::2] == (200, b"")


@pytest.mark.parametrize(("node", "path", "status", "body"), [
    (Node(), "/health", 200, b'{"health":"true"}'),
    (Node(leader_id=0), "/health", 503, b'{"health":"false"}\n'),
    (Node(leader_id=0), "/health?serializable=true", 200, b'{"health":"true"}'),
    (Node(read_error=TIMEOUT), "/health", 503, b'{"health":"false"}\n'),
    (Node(machine=Machine(alarms=(Alarm(1, 1),))), "/health", 503, b'{"health":"false"}\n'),
    (Node(machine=Machine(alarms=(Alarm(1, 1),))), "/health?exclude=NOSPACE", 200, b'{"health":"true"}'),
    (Node(), "/livez", 200, b"ok\n"),
    (Node(), "/livez?verbose=true", 200, b"[+]serializable_read ok\nok\n"),
    (Node(), "/readyz/linearizable_read", 200, b"ok\n"),
    (Node(), "/readyz/nope", 404, b"404 page not found\n"),
    (Node(machine=Machine(alarms=(Alarm(1, 2),))), "/readyz", 503,
     b"[-]data_corruption failed: alarm activated: CORRUPT\n"
     b"[+]serializable_read ok\n[+]linearizable_read ok\n\n"),
    (Node(read_error=TIMEOUT), "/readyz?exclude=linearizable_read", 200, b"ok\n"),
])  # fmt: skip
async def test_health(node: Node, path: str, status: int, body: bytes) -> None:
    assert (await ask(node, "GET", path))[::2] == (status, body)


async def test_health_gives_its_reason_from_version_3_5_on() -> None:
    assert (await ask(Node(), "GET", "/health", version="3.5.9"))[2] == b'{"health":"true","reason":""}'
    body = (await ask(Node(leader_id=0), "GET", "/health", version="3.5.9"))[2]
    assert json.loads(body) == {"health": "false", "reason": "RAFT NO LEADER"}


async def test_metrics_are_etcds() -> None:
    status, headers, body = await ask(Node(), "GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = body.decode().splitlines()
    assert 'etcd_server_version{server_version="3.4.35"} 1.0' in lines
    assert "etcd_server_has_leader 1.0" in lines
    assert "etcd_debugging_mvcc_keys_total 3.0" in lines


async def test_a_unary_call_through_the_gateway() -> None:
    methods = Methods()
    async with serving(Node(), methods) as connect:
        client = await connect()
        await client.send("POST", "/v3/kv/range", b'{"key":"Zm9v"}', "Authorization: secret")
        status, headers, body = await client.answer()
        assert (status, body) == (200, b'{"count":"3"}')
        assert headers["grpc-metadata-content-type"] == "application/grpc"
        await client.send("POST", "/v3beta/kv/range")  # the same connection, an empty body
        assert (await client.answer())[2] == b"{}"
    assert [key for key, _ in methods.seen] == [b"foo", b""]
    assert methods.seen[0][1]["token"] == "secret"
    assert "token" not in methods.seen[1][1]


async def test_an_empty_authorization_is_a_token_too() -> None:
    methods = Methods()
    async with serving(Node(), methods) as connect:
        client = await connect()
        await client.send("POST", "/v3/kv/range", b'{"key":"Zm9v"}', "Authorization:")
        await client.answer()
    assert methods.seen[0][1]["token"] == ""


async def test_a_handler_may_answer_later() -> None:
    methods = Methods()
    async with serving(Node(), methods) as connect:
        client = await connect()
        await client.send("POST", "/v3/kv/put", b'{"key":"Zm9v","value":"YmFy"}')
        while not methods.later:
            await trio.testing.wait_all_tasks_blocked(0.001)
        methods.later[0].fail(8, "etcdserver: mvcc: database space exceeded")
        status, headers, body = await client.answer()
    assert status == 429
    assert json.loads(body) == {
        "error": "etcdserver: mvcc: database space exceeded",
        "message": "etcdserver: mvcc: database space exceeded",
        "code": 8,
    }
    assert headers["trailer"] == "grpc-trailer-content-type"


@pytest.mark.parametrize(("method", "path", "sent", "status", "part"), [
    ("POST", "/v3/lease/revoke", b"{}", 404, b'"code":5}'),
    ("POST", "/v3/kv/range", b"{", 400, b'{"error":"unexpected EOF","message":"unexpected EOF","code":3}'),
    ("POST", "/v3/auth/enable", b"{}", 501, b"unknown method AuthEnable for service etcdserverpb.Auth"),
    ("POST", "/v3/nope", b"{}", 404, b"Not Found\n"),
    ("GET", "/v3/kv/range", b"", 405, b"Method Not Allowed\n"),
    ("POST", "/v3alpha/kv/range", b"{}", 404, b"404 page not found\n"),
    ("POST", "/v3/watch", b"{", 500, b'"code":2}'),
])  # fmt: skip
async def test_what_the_gateway_refuses(
    method: str, path: str, sent: bytes, status: int, part: bytes
) -> None:
    found, _, body = await ask(Node(), method, path, sent)
    assert found == status
    assert part in body


async def test_a_keep_alive_stream_ends_with_its_body() -> None:
    status, _, body = await ask(Node(), "POST", "/v3/lease/keepalive", b'{"ID":"7"}{"ID":8}')
    assert status == 200
    assert body == b'{"result":{"ID":"7","TTL":"9"}}\n{"result":{"ID":"8","TTL":"9"}}\n'


async def test_a_failure_inside_a_stream_is_its_last_line_and_before_it_a_status() -> None:
    status, _, body = await ask(Node(), "POST", "/v3/lease/keepalive", b'{"ID":7}{"ID":666}')
    assert status == 200
    assert json.loads(body.splitlines()[1])["error"]["http_code"] == 404
    status, _, body = await ask(Node(), "POST", "/v3/lease/keepalive", b'{"ID":666}')
    assert (status, json.loads(body)["error"]["grpc_code"]) == (404, 5)


async def test_a_watch_goes_on_after_its_body_and_ends_with_the_client() -> None:
    methods = Methods()
    async with serving(Node(), methods) as connect:
        client = await connect()
        await client.send("POST", "/v3/watch", b'{"create_request":{"key":"YQ==","watch_id":"4"}}')
        await client.until(b'{"result":{"watch_id":"4","created":true}}\n')
        assert not methods.watch_ended.is_set()
        client.connection.close()
        await methods.watch_ended.wait()


async def test_a_call_that_may_wait_is_answered_like_any_other() -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        for name, expected in [
            (b"free", (200, {"key": "ZnJlZQ=="})),
            (b"refused", (404, 5)),
            (b"finished", (503, 14)),
        ]:  # on one connection: it stays usable
            await client.send("POST", "/v3/lock/lock", b'{"name":"%s"}' % b64encode(name))
            status, headers, body = await client.answer()
            found = json.loads(body)
            assert (status, found if status == 200 else found["code"]) == expected
            assert headers["content-type"] == "application/json"


async def test_a_call_that_waits_ends_with_its_client() -> None:
    methods = Methods()
    async with serving(Node(), methods) as connect:
        client = await connect()
        await client.send("POST", "/v3/lock/lock", b'{"name":"%s"}' % b64encode(b"taken"))
        await methods.lock_asked.wait()
        assert not methods.lock_ended.is_set()
        client.connection.close()
        await methods.lock_ended.wait()


async def test_calls_beyond_the_bound_on_streams_wait_and_are_dropped_with_their_clients() -> None:
    methods = Methods()
    async with serving(Node(), methods, streams=1) as connect:
        watcher, leaver, stayer = [await connect() for _ in range(3)]
        await watcher.send("POST", "/v3/watch", b'{"create_request":{"key":"YQ==","watch_id":"4"}}')
        await watcher.until(b"created")
        await leaver.send("POST", "/v3/kv/range", b'{"key":"YQ=="}')
        leaver.connection.close_sending()
        assert await leaver.connection.receive(100) == b""
        await stayer.send("POST", "/v3/kv/range", b'{"key":"Yg=="}')
        watcher.connection.close()
        assert (await stayer.answer())[0] == 200
        assert [key for key, _ in methods.seen] == [b"b"]


async def test_http_1_0_gets_a_whole_answer_and_the_end() -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        await client.send("POST", "/v3/lease/revoke", b"{}", version="1.0")
        status, _, body = await client.answer()
        assert (status, json.loads(body)["code"]) == (404, 5)
        assert await client.ended()


@pytest.mark.parametrize(("method", "path", "target"), [
    ("GET", "//version", "/version"),
    ("POST", "/v3//kv/range", "/v3/kv/range"),
    ("GET", "/v3/x/../kv/./range?a=1&b", "/v3/kv/range?a=1&b"),
    ("GET", "/metrics//", "/metrics/"),
    ("GET", "/..", "/"),
    ("GET", "/a//b%20c", "/a/b%20c"),
])  # fmt: skip
async def test_an_untidy_path_is_sent_to_the_tidy_one(method: str, path: str, target: str) -> None:
    status, headers, body = await ask(Node(), method, path)
    assert (status, headers["location"]) == (301, target)
    shown = target.replace("&", "&amp;")
    assert body == (f'<a href="{shown}">Moved Permanently</a>.\n\n'.encode() if method == "GET" else b"")


async def test_what_cannot_be_read_behind_a_streams_first_request_ends_its_requests() -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        await client.send("POST", "/v3/lease/keepalive", b'{"ID":5} x')
        assert (await client.answer())[0] == 200


async def test_head_has_no_body() -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        await client.send("HEAD", "/metrics")
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        await client.send("GET", "/health")
        assert (await client.answer())[0] == 200


async def test_a_waiting_client_is_told_to_continue() -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        await client.send("POST", "/v3/kv/range", b"", "Content-Length: 2", "Expect: 100-continue")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await client.connection.send_all(b"{}")
        assert (await client.answer())[0] == 200


async def test_a_body_beyond_the_limit_ends_the_connection() -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        await client.send("POST", "/v3/kv/put", b"", f"Content-Length: {BODY_BYTES_MAX + 1}")
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with contextlib.suppress(OSError):  # the server has ended the connection
                    await client.connection.send_all(bytes(BODY_BYTES_MAX + 1))

            nursery.start_soon(send)
            assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("garbage", [
    b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"x" * 100_000, b"\x00\x01\x02\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
])  # fmt: skip
async def test_garbage_is_a_400_and_the_end(garbage: bytes) -> None:
    async with serving(Node(), Methods()) as connect:
        client = await connect()
        await client.connection.send_all(garbage)
        client.connection.close_sending()
        assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 4")


async def test_a_client_that_goes_in_the_middle_is_forgotten() -> None:
    async with serving(Node(), Methods()) as connect:
        for text in (b"GET /ver", b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"):
            client = await connect()
            await client.connection.send_all(text)
            client.connection.close()
        client = await connect()
        await client.send("GET", "/version")
        assert (await client.answer())[0] == 200


async def test_the_peer_port_tells_version_and_members_only() -> None:
    async with serving(Node(), None) as connect:
        client = await connect()
        await client.send("GET", "/members")
        _, headers, body = await client.answer()
        assert json.loads(body) == [
            {"id": 0xABC, "peerURLs": ["http://a:1"], "name": "n1", "clientURLs": ["http://a:2"]},
            {"id": 0xABD, "peerURLs": ["http://b:1"]},
        ]
        assert headers["x-etcd-cluster-id"] == "def"
        await client.send("GET", "/version")
        assert (await client.answer())[0] == 200
        await client.send("POST", "/v3/kv/range", b"{}")
        assert (await client.answer())[0] == 404
