"""HTTP/1.1 requests: the pages, the JSON gateway with its bodies, and damage to both."""

from __future__ import annotations

import base64
import json
import random
from typing import Any, Final

from tercet.net.server.gateway import PREFIXES, ROUTES

from .fuzz_damage import damage_bytes
from .fuzz_every import Guise, every_json
from .fuzz_messages import PREFIX

__all__ = ["http1_stream"]

_METHODS: Final = ("GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PUT", "TRACE", "get", "PRI", "G\x00T", "")
_PAGES: Final = (
    "/version", "/health", "/metrics", "/livez", "/readyz/x", "/members", "/", "*", "/%ff/%00", "x:1",
    "/v3/nope",
    "/health?serializable=true&exclude=NOSPACE&" + "a=1&" * 500, "/" + "p" * 70_000, "http://x/version", "//",
)  # fmt: skip
_HEADERS: Final = (
    "Connection: close", "Connection: keep-alive", "Connection: upgrade", "Upgrade: h2c",
    "Expect: 100-continue",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Length: 5", "Content-Length: -1",
    "Content-Length: 99999999999999999999", "Host: a", "Host: b", "X: " + "y" * 5000, "no colon",
    " folded: x",
    "Grpc-Metadata-A: \xff", "Authorization: \x7f", "Accept-Encoding: gzip", "Content-Encoding: gzip",
)  # fmt: skip
#: Texts that stand where a JSON value should.
_VALUES: Final = (
    "null", "true", "-1", "1e999", "NaN", "-Infinity", "9" * 30, "9" * 5000, '"' + "9" * 5000 + '"',
    '""', '"\\ud800"',
    '"\\u0000"', '"=="', '"AA="', '"AA=="', "{}", "[]",
    "[" * 50, "[" * 20_000, '{"a":' * 20_000, '"' + "[" * 20_000 + '"',
    "1.5", '"1.5"', '" 1"', '"0x1"', '"\\"x\\""', "[[[]]]", '{"key":{}}', '"DESCEND"', "18446744073709551616",
)  # fmt: skip
#: Legal requests to these would change others' keys or the cluster; they get no drawn bodies.
_KEPT_OUT: Final = (
    "/kv/deleterange", "/kv/txn", "/maintenance/alarm", "/kv/compaction", "/cluster/",
    "/auth/",
    "/maintenance/transfer-leadership",
)  # fmt: skip
#: With authentication on: what anybody may do all the same.
_KEPT_OUT_GUARDED: Final = ("/maintenance/alarm", "/maintenance/transfer-leadership")
_FIELDS: Final = (
    "key", "value", "limit", "revision", "sort_order", "sortTarget", "serializable", "lease", "ID",
    "TTL", "keys",
    "create_request", "cancel_request", "progress_request", "filters", "name", "hash", "\\ud800",
)  # fmt: skip


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _valid(rng: random.Random) -> tuple[str, str]:
    key = _b64(PREFIX + b"%d" % rng.randrange(200))
    bodies: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/kv/put", {"key": key, "value": _b64(rng.randbytes(9)), "lease": rng.choice((0, "7"))}),
        ("/kv/range", {"key": key, "limit": "3", "sort_order": "DESCEND"}),
        ("/watch", {"create_request": {"key": key, "start_revision": "1"}}),
        ("/lease/grant", {"TTL": 9}),
        ("/lease/keepalive", {"ID": "7"}),
        ("/maintenance/status", {}),
    )
    path, body = rng.choice(bodies)
    return path, json.dumps(body)


def _hostile(rng: random.Random, guise: Guise) -> tuple[str, str]:
    """A body of known field names with values that do not belong there."""
    kept_out = _KEPT_OUT_GUARDED if guise.aim.guarded else _KEPT_OUT
    paths = [path for path in sorted(ROUTES) if not path.startswith(kept_out)]
    fields = (f'"{rng.choice(_FIELDS)}":{rng.choice(_VALUES)}' for _ in range(rng.randrange(1, 4)))
    text = "{" + ",".join(fields) + "}"
    if rng.random() < 0.2:
        text = '{"create_request":' * rng.choice((1, 3, 150)) + text
    if rng.random() < 0.2:
        text *= rng.choice((2, 20))
    return rng.choice(paths), text


def _deep_txn(rng: random.Random) -> tuple[str, str]:
    depth = rng.choice((2, 30, 60, 120, 3000))
    return "/kv/txn", '{"success":[{"request_txn":' * depth + "{}" + "}]}" * depth


def _post(rng: random.Random, path: str, body: bytes, token: str = "") -> bytes:
    head = [f"POST {rng.choice(PREFIXES)}{path} HTTP/1.1", "Host: x"]
    if token:
        head.append(f"Authorization: {token}")
    while rng.random() < 0.1:
        head.append(rng.choice(_HEADERS))
    if rng.random() < 0.2:
        head.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    else:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def _page(rng: random.Random) -> bytes:
    version = rng.choice(("1.1",) * 6 + ("1.0", "2.0", "9.9", ""))
    head = [f"{rng.choice(_METHODS)} {rng.choice(_PAGES)} HTTP/{version}", "Host: x"]
    while rng.random() < 0.4:
        head.append(rng.choice(_HEADERS))
    return "\r\n".join([*head, "", ""]).encode("latin-1")


def http1_stream(rng: random.Random, guise: Guise) -> tuple[str, bytes]:
    """One connection's requests as (what they are, their bytes)."""
    draw = rng.randrange(14)
    if draw < 3:
        return "http1/page", b"".join(_page(rng) for _ in range(rng.choice((1, 1, 1, 3))))
    if draw < 6:
        path, text = _hostile(rng, guise) if draw < 5 else _deep_txn(rng)
        return "http1/json", _post(rng, path, text.encode("utf-8", "surrogatepass"), guise.token(rng))
    if draw < 10:
        path, text = every_json(rng, guise.aim)
        return "http1/every", _post(rng, path, text.encode(), guise.token(rng))
    requests = b"".join(
        _post(rng, path, text.encode(), guise.token(rng))
        for path, text in (_valid(rng) for _ in range(rng.choice((1, 1, 2))))
    )
    done, data = damage_bytes(rng, requests)
    return f"http1/{done}", data
