"""The blocking client of the command line, against servers that behave and servers that do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tercet.core.errors import TercetError
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client.errors import ConnectionLost, RequestTimedOut, Unreachable
from tercet.net.ctl.calls import TooLarge
from tercet.net.ctl.context import Settings
from tercet.net.ctl.failures import BAD_CONNECTION, Failure
from tercet.net.ctl.unary import Caller, ask_once

RANGE, PUT = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put"
Handler = Callable[[str, bytes, grpc.ServicerContext], bytes]


class _Service(grpc.GenericRpcHandler):
    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            lambda message, context: self.handler(details.method, message, context)
        )


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """A gRPC server; its address."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=[_Service(handler)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def accepting(then: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port whose connections are treated by ``then``, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                then(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


def settings(*endpoints: str, seconds: float = 20.0, **more: Any) -> Settings:
    return Settings(endpoints, seconds, None, more.pop("login", None), **more)


def echo_count(method: str, message: bytes, context: grpc.ServicerContext) -> bytes:
    return rpc.RangeResponse(count=len(message)).SerializeToString()


def test_an_answer_is_read() -> None:
    with serving(echo_count) as endpoint:
        request = rpc.RangeRequest(key=b"k")
        assert ask_once(settings(endpoint), RANGE, request, rpc.RangeResponse).count == request.ByteSize()


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-6])
def test_a_call_without_time_is_too_late_however_quick_the_server(seconds: float) -> None:
    asked: list[str] = []

    def count(method: str, message: bytes, context: grpc.ServicerContext) -> bytes:
        asked.append(method)
        return b""

    with serving(count) as endpoint:
        ask_once(settings(endpoint), RANGE, rpc.RangeRequest(), rpc.RangeResponse)  # the server is warm
        for _ in range(50):
            with pytest.raises(RequestTimedOut, match="deadline"):
                ask_once(settings(endpoint, seconds=seconds), RANGE, rpc.RangeRequest(), rpc.RangeResponse)
    assert len(asked) == 1


def test_a_message_larger_than_every_window_goes_through() -> None:
    large = rpc.RangeResponse(kvs=[kv_pb2.KeyValue(value=b"v" * 3_000_000)]).SerializeToString()
    with serving(lambda *_: large) as endpoint:
        request = rpc.PutRequest(key=b"k", value=b"x" * 1_900_000)
        answer = ask_once(settings(endpoint), PUT, request, rpc.RangeResponse)
        assert len(answer.kvs[0].value) == 3_000_000


def test_a_request_that_grpc_would_not_send_is_not_sent() -> None:
    with pytest.raises(TooLarge), Caller(settings("127.0.0.1:1")) as caller:
        caller.ask(PUT, rpc.PutRequest(value=b"x" * (3 << 20)), rpc.PutResponse)


def test_an_endpoint_that_refuses_is_passed_over() -> None:
    with serving(echo_count) as endpoint:
        found = ask_once(settings("127.0.0.1:1", endpoint), PUT, rpc.PutRequest(), rpc.RangeResponse)
        assert found.count == 0


def test_a_read_whose_connection_broke_is_made_elsewhere() -> None:
    with accepting(lambda connection: connection.close()) as broken, serving(echo_count) as endpoint:
        found = ask_once(settings(broken, endpoint), RANGE, rpc.RangeRequest(), rpc.RangeResponse)
        assert found.count == 0


def test_a_write_whose_connection_broke_is_not_made_again() -> None:
    calls: list[str] = []

    def count(method: str, message: bytes, context: grpc.ServicerContext) -> bytes:
        calls.append(method)
        return b""

    with (
        accepting(lambda connection: connection.close()) as broken,
        serving(count) as endpoint,
        pytest.raises(ConnectionLost),
    ):
        ask_once(settings(broken, endpoint), PUT, rpc.PutRequest(), rpc.PutResponse)
    assert calls == []


def test_a_server_that_never_answers_is_given_up_when_the_commands_time_is_over() -> None:
    with accepting(lambda connection: None) as silent, pytest.raises(RequestTimedOut, match="deadline"):
        ask_once(settings(silent, seconds=0.2), RANGE, rpc.RangeRequest(), rpc.RangeResponse)


def test_a_server_that_has_fallen_silent_is_given_up_before_the_commands_time_is_over() -> None:
    with accepting(lambda connection: None) as silent, pytest.raises(ConnectionLost, match="silent"):
        short = settings(silent, seconds=1000.0, keepalive_time=0.1, keepalive_timeout=0.1)
        ask_once(short, PUT, rpc.PutRequest(), rpc.PutResponse)


def test_a_patient_call_is_answered_however_little_time_the_command_has() -> None:
    with serving(echo_count) as endpoint:
        late = settings(endpoint, seconds=0.0)
        assert ask_once(late, PUT, rpc.PutRequest(), rpc.RangeResponse, patient=True).count == 0


def test_a_patient_call_is_told_what_went_wrong_however_late() -> None:
    def refuse(method: str, message: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
        return b""

    with serving(refuse) as endpoint, pytest.raises(RpcError, match="request timed out"):
        late = settings(endpoint, seconds=0.0)
        ask_once(late, PUT, rpc.PutRequest(), rpc.PutResponse, patient=True)


def test_a_patient_call_does_not_look_for_a_server_for_ever() -> None:
    nobody = settings("127.0.0.1:1", seconds=0.0, dial_timeout=0.1)
    with pytest.raises(Unreachable):
        ask_once(nobody, PUT, rpc.PutRequest(), rpc.PutResponse, patient=True)


def test_a_patient_call_gives_up_a_server_that_has_fallen_silent() -> None:
    with accepting(lambda connection: None) as silent, pytest.raises(ConnectionLost, match="silent"):
        short = settings(silent, seconds=0.0, keepalive_time=0.1, keepalive_timeout=0.1)
        ask_once(short, PUT, rpc.PutRequest(), rpc.PutResponse, patient=True)


def test_nobody_to_connect_to_is_a_definite_failure() -> None:
    with pytest.raises(TercetError, match="deadline"):
        ask_once(settings("127.0.0.1:1", "nonsense", seconds=0.2), PUT, rpc.PutRequest(), rpc.PutResponse)


def test_what_the_server_refuses_is_told() -> None:
    def refuse(method: str, message: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
        return b""

    with serving(refuse) as endpoint, pytest.raises(RpcError) as refused:
        ask_once(settings(endpoint), PUT, rpc.PutRequest(), rpc.PutResponse)
    assert refused.value.message == "etcdserver: permission denied"


class _Guard:
    """Gives out tokens, and takes only the newest."""

    def __init__(self) -> None:
        self.tokens = 0
        self.refused = 0

    def __call__(self, method: str, message: bytes, context: grpc.ServicerContext) -> bytes:
        if method.endswith("/Authenticate"):
            if rpc.AuthenticateRequest.FromString(message).password != "pw":
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "etcdserver: authentication failed, invalid user ID or password",
                )
            self.tokens += 1
            return rpc.AuthenticateResponse(token=f"t{self.tokens}").SerializeToString()
        if dict(context.invocation_metadata()).get("token") != "t2":
            self.refused += 1
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
        return b""


def test_a_token_that_is_no_longer_good_is_renewed_once() -> None:
    with serving(guard := _Guard()) as endpoint:
        ask_once(settings(endpoint, login=("a", "pw")), PUT, rpc.PutRequest(), rpc.PutResponse)
    assert (guard.tokens, guard.refused) == (2, 1)


def test_a_wrong_password_ends_the_command() -> None:
    with serving(_Guard()) as endpoint, pytest.raises(Failure) as failure:
        ask_once(settings(endpoint, login=("a", "no")), PUT, rpc.PutRequest(), rpc.PutResponse)
    assert failure.value.status == BAD_CONNECTION
