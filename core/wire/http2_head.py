"""From header fields to a checked request head: RFC 9113, 8.3, and gRPC's rules, once per distinct list.

A client sends the same few lists of fields over and over, but for ``grpc-timeout``. So a head is built
without the timeout, kept by its fields, and all later requests share the one object: whatever can be decided
from the fields alone (method, path, route, content type, every refusal) is decided once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from ..rpc_errors import Status
from .grpc import percent_encode
from .hpack_decode import Field
from .hpack_encode import encode_plain

__all__ = ["NOWHERE", "RequestHead", "Route", "build_head", "malformed_trailers", "status_block"]

_PSEUDO = (b":method", b":scheme", b":path", b":authority")
_CONNECTION_SPECIFIC = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
_GRPC = "application/grpc"
#: Visible ASCII but upper case and the colon (RFC 9113, 8.2.1).
_legal_name = re.compile(rb"[!-9;-@\[-~]+").fullmatch


#: Versions of the API that clients name are told apart up to so many; a client could invent more.
_VERSIONS_MAX = 8


class Route:
    """Where requests of one path go, and how the calls there ended.

    Clients that name the version of the API they were written for are counted apart (``versions``): since
    the route hangs on the request's head, that costs a request nothing.
    """

    __slots__ = ("failed", "handler", "ok", "received", "sent", "streaming", "versions")

    def __init__(self, *, streaming: bool, handler: object) -> None:
        self.streaming = streaming
        #: The driver's; the protocol never looks into it.
        self.handler = handler
        #: Calls that ended with OK.
        self.ok = 0
        #: Calls that ended otherwise, by status code; a call that its client gave up counts as cancelled.
        self.failed: dict[int, int] = {}
        #: Messages of streaming calls, counted by who carries them.
        self.received = self.sent = 0
        #: The same route for clients of other versions, by version; empty in those.
        self.versions: dict[str, Route] = {}

    def of_version(self, version: str) -> Route:
        """The route for clients of that version; this one for those that name none, or one too many."""
        found = self.versions.get(version)
        if found is not None or not version or len(self.versions) >= _VERSIONS_MAX:
            return found or self
        found = self.versions[version] = Route(streaming=self.streaming, handler=self.handler)
        return found

    def count(self, code: int) -> None:
        """Note the end of a call with ``code``."""
        if code:
            self.failed[code] = self.failed.get(code, 0) + 1
        else:
            self.ok += 1


#: The route of requests that have none.
NOWHERE = Route(streaming=False, handler=None)


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """One distinct request head, shared by all requests that repeat it."""

    path: str
    metadata: Mapping[str, str]  # lower-case names without the protocol's own; the first of equal names
    route: Route  # NOWHERE when there is a refusal or worse
    encoding: str  # grpc-encoding; "" when not named
    content_length: int | None
    malformed: str | None  # why the stream must be reset with PROTOCOL_ERROR
    refusal: bytes | None  # header block that answers the request instead of a handler
    direct: bool  # a unary request that nothing speaks against: one DATA frame may complete it


def status_block(code: int, message: str, initial: bool) -> bytes:
    """A header block with a gRPC status: trailers, or the only block of a refused request (``initial``)."""
    fields = [(b"grpc-status", b"%d" % code)]
    if message:
        fields.append((b"grpc-message", percent_encode(message)))
    if initial:
        fields[:0] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
    return encode_plain(fields)


def _http_block(status: bytes, text: bytes) -> bytes:
    fields = [(b":status", status), (b"content-type", _GRPC.encode())]
    fields += [(b"grpc-status", b"%d" % Status.UNKNOWN), (b"grpc-message", text)]
    return encode_plain(fields)


def _malformed(fields: list[Field]) -> str | None:
    """The first rule of RFC 9113, 8.2 and 8.3 that the fields break; None: well-formed."""
    seen: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular:
                return "a pseudo-header field after a regular one"
            if name not in _PSEUDO:
                return "an unknown pseudo-header field"
            if name in seen:
                return "a pseudo-header field twice"
            seen[name] = value
            continue
        regular = True
        if not _legal_name(name):
            return "a field name with a character that is not allowed"
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
            return "a connection-specific field"
        if b"\0" in value or b"\r" in value or b"\n" in value:
            return "a field value with a control character"
    for required in _PSEUDO[:3]:
        if not seen.get(required):
            return "a required pseudo-header field is missing or empty"
    return None


def malformed_trailers(fields: list[Field]) -> bool:
    """Whether a trailer section breaks RFC 9113, 8.1: only regular fields."""
    return any(not _legal_name(name) for name, _ in fields)


def _refusal(method: str, path: str, content_type: str, routes: Mapping[str, Route]) -> bytes | None:
    """The answer to a request that no handler will see; texts as grpc-go words them."""
    if method != "POST":
        return _http_block(b"405", b"http2: only POST is served here")
    if content_type != _GRPC and not content_type.startswith((_GRPC + "+", _GRPC + ";")):
        return _http_block(b"415", percent_encode(f'invalid gRPC request content-type "{content_type}"'))
    if path in routes:
        return None
    service, slash, name = path[1:].rpartition("/")
    if path[:1] != "/" or not slash:
        return status_block(Status.RESOURCE_EXHAUSTED, f'malformed method name: "{path}"', initial=True)
    if any(known.startswith(f"/{service}/") for known in routes):
        text = f"unknown method {name} for service {service}"
    else:
        text = f"unknown service {service}"
    return status_block(Status.UNIMPLEMENTED, text, initial=True)


def build_head(fields: list[Field], routes: Mapping[str, Route]) -> RequestHead:
    """Check the fields of a request (without ``grpc-timeout``) and find its route."""
    pseudo: dict[bytes, str] = {}
    metadata: dict[str, str] = {}
    content_length: int | None = None
    malformed = _malformed(fields)
    for name, value in fields:
        text = value.decode("utf-8", "replace")
        if name[:1] == b":":
            pseudo[name] = text
            if name == b":authority":
                metadata.setdefault(":authority", text)
        else:
            metadata.setdefault(name.decode("ascii", "replace"), text)
    content_type = metadata.pop("content-type", "")
    metadata.pop("te", None)
    encoding = metadata.pop("grpc-encoding", "")
    length = metadata.pop("content-length", None)
    if length is not None:
        if length.isascii() and length.isdigit() and len(length) < 19:
            content_length = int(length)
        else:
            malformed = malformed or "a content-length that is no number"
    path = pseudo.get(b":path", "")
    route = routes.get(path, NOWHERE)
    if route is not NOWHERE:
        route = route.of_version(metadata.get("client-api-version", ""))
    refusal = None if malformed else _refusal(pseudo.get(b":method", ""), path, content_type, routes)
    plain = malformed is None and refusal is None and content_length is None
    return RequestHead(
        path=path,
        metadata=MappingProxyType(metadata),
        route=route,
        encoding=encoding,
        content_length=content_length,
        malformed=malformed,
        refusal=refusal,
        direct=plain and route is not NOWHERE and not route.streaming,
    )
