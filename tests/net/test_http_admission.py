"""Origins, host names, and the pages for operators."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tercet.net.config import MemberConfig
from tercet.net.real import real_world
from tercet.net.server.admission import host_name
from tercet.net.server.http import make_http1_handler, make_metrics_handler

from .http_desk import Client, Methods, Node, open_door


@asynccontextmanager
async def serving(
    config: MemberConfig, *, secure: bool = False, metrics: bool = False, log: list[str] | None = None
) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    lines = [] if log is None else log
    world = real_world("n1", log_level="warn", write_log=lines.append, environment={})
    node = Node()
    handler = make_metrics_handler(node, config) if metrics else make_http1_handler(node, config, Methods())
    async with open_door(world, handler, secure=secure) as connect:
        yield connect


LISTED = MemberConfig(host_whitelist=("x", "example.com"), cors=("http://a.b:80",))


async def test_a_host_that_nobody_allowed_is_misdirected() -> None:
    log: list[str] = []
    async with serving(MemberConfig(host_whitelist=("example.com",)), log=log) as connect:
        client = await connect()
        for method, path, body in (("GET", "/version", b""), ("POST", "/v3/kv/range", b"{}")):
            await client.send(method, path, body)
            status, _, text = await client.answer()
            assert status == 421
            assert b'e.g. etcd --host-whitelist "x"' in text
        assert json.loads(log[0])["msg"] == "rejecting HTTP request to prevent DNS rebinding attacks"


async def test_over_tls_any_host_will_do() -> None:
    async with serving(MemberConfig(host_whitelist=("example.com",)), secure=True) as connect:
        client = await connect()
        await client.send("GET", "/version")
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(("header", "name"), [
    ("a:1", "a"), ("a", "a"), ("[::1]:2379", "::1"), ("[::1]", "::1"), ("", ""), ("127.0.0.1:8", "127.0.0.1"),
])  # fmt: skip
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


async def test_only_listed_origins_may_read_answers() -> None:
    async with serving(LISTED) as connect:
        client = await connect()
        for origin, allowed in (("http://a.b:80", "http://a.b:80"), ("http://c.d", None), ("", None)):
            await client.send("GET", "/version", b"", *([f"Origin: {origin}"] if origin else []))
            status, headers, _ = await client.answer()
            assert status == 200
            assert headers.get("access-control-allow-origin") == allowed
            assert ("access-control-allow-methods" in headers) is (allowed is not None)


async def test_the_log_level_can_be_changed_while_running() -> None:
    async with serving(MemberConfig()) as connect:
        client = await connect()
        for method, body, status, text in (
            ("GET", b"", 405, b"Method Not Allowed\n"),
            ("PUT", b'{"Level":"DEBUG"}', 204, b""),
            ("PUT", b'{"Level":"LOUD"}', 400, b'{"message":"Invalid log level LOUD"}'),
            ("PUT", b"nonsense", 400, b'{"message":"Invalid json body"}'),
        ):
            await client.send(method, "/config/local/log", body)
            answer = await client.answer()
            assert (answer[0], answer[2]) == (status, text)


async def test_what_a_member_says_of_its_raft() -> None:
    async with serving(MemberConfig()) as connect:
        client = await connect()
        await client.send("GET", "/debug/vars")
        status, headers, body = await client.answer()
        assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
        raft = json.loads(body)["raft.status"]
        assert (raft["id"], raft["lead"], raft["raftState"], raft["term"]) == ("abc", "abc", "StateLeader", 2)


@pytest.mark.parametrize(("path", "status"), [
    ("/health", 200), ("/livez", 200), ("/readyz?verbose", 200), ("/livez/serializable_read", 200),
    ("/version", 404), ("/v3/kv/range", 404), ("/debug/vars", 404),
])  # fmt: skip
async def test_the_address_for_metrics_tells_health_and_nothing_else(path: str, status: int) -> None:
    async with serving(MemberConfig(), metrics=True) as connect:
        client = await connect()
        await client.send("GET", path)
        assert (await client.answer())[0] == status


async def test_metrics_that_never_happened_are_zero_and_not_missing() -> None:
    async with serving(MemberConfig(), metrics=True) as connect:
        client = await connect()
        await client.send("GET", "/metrics")
        text = (await client.answer())[2].decode()
    for line in (
        "# TYPE etcd_server_health_failures counter", "etcd_server_health_failures 0.0",
        "# TYPE etcd_disk_backend_defrag_duration_seconds histogram", "etcd_server_slow_apply_total 0.0",
        'etcd_disk_backend_defrag_duration_seconds_bucket{le="0.1"} 0.0',
    ):  # fmt: skip
        assert line in text.splitlines()


async def test_the_gateway_can_be_switched_off() -> None:
    async with serving(MemberConfig(enable_grpc_gateway=False)) as connect:
        client = await connect()
        for path, status in (("/v3/kv/range", 404), ("/version", 405), ("/health", 405)):
            await client.send("POST", path, b"{}")
            assert (await client.answer())[0] == status
