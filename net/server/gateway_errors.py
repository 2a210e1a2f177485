"""How a call that failed looks in JSON: HTTP's status and a body, as the gateway of etcd 3.4 words them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from .gateway_json import dumps

__all__ = ["HTTP_STATUS", "GatewayFailure", "error_body", "stream_error_body"]

#: gRPC status -> HTTP status, as the gateway of etcd 3.4 maps them.
HTTP_STATUS: Final[Mapping[int, int]] = {
    0: 200, 1: 408, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 412, 10: 409, 11: 400,
    12: 501, 13: 500, 14: 503, 15: 500, 16: 401,
}


def error_body(code: int, message: str) -> bytes:
    """The JSON of a failed call."""
    return dumps({"error": message, "message": message, "code": code}).encode()


def stream_error_body(code: int, message: str) -> bytes:
    """The JSON of a failed stream: its only line, or its last one."""
    status = HTTP_STATUS.get(code, 500)
    error = {
        "grpc_code": code,
        "http_code": status,
        "message": message,
        "http_status": HTTPStatus(status).phrase,
    }
    return dumps({"error": error}).encode()


class GatewayFailure(Exception):
    """A call failed before its first answer."""

    def __init__(
        self, code: int, message: str, *, from_service: bool = True, streaming: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.from_service = from_service  # False: the body could not be read
        self.streaming = streaming  # the method would have answered with a stream
