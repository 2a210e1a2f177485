"""Unary calls without an event loop: what most commands make is one call, and then they end.

Importing Trio takes longer than such a command may. So what asks and waits for its answer does so on a
blocking socket; framing, replies and what follows from a failure are those of the client on Trio, which the
commands use that listen, wait for one another, or talk to several members at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

from tercet.core.errors import OutcomeUnknown, TercetError
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.hpack_decode import Field
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..address import Address, read_url
from ..client.attempts import RETRY_SECONDS, Attempts
from ..client.errors import ConnectionLost, NotProcessed, RequestTimedOut, Unreachable, rpc_error
from ..client.framing import ClientFraming, Event, FramingError
from ..client.reply import Reply, framed
from .calls import DEADLINE, READS, check_size, login_failed, readable
from .context import Settings
from .failures import Failure

__all__ = ["Caller", "ask_once", "check_login"]

RECEIVE_BYTES = 64 << 10
#: What a socket can be asked to wait for; shorter would mean not to wait at all.
SHORTEST_SECONDS = 1e-3
#: As good as for ever, and what a socket takes.
PATIENT_SECONDS = 86_400.0

Answer = TypeVar("Answer")


class _Late(Exception):
    """The call's time is over."""


def ask_once(
    settings: Settings, path: str, request: Any, answer: type[Answer], *, patient: bool = False
) -> Answer:
    """One call on a connection of its own. ``patient``: see ``Caller.ask``.

    Raises:
        TercetError: It failed.
        Failure: The login was refused.
    """
    with Caller(settings) as caller:
        return caller.ask(path, request, answer, patient=patient)


def check_login(settings: Settings) -> None:
    """Fail where nobody can be asked or a login is refused, before members are asked one by one.

    Raises:
        Failure: See above.
    """
    if settings.login is not None or not settings.endpoints:
        with Caller(settings):
            pass


class Caller:
    """A client for unary calls, one at a time; use as a context manager, which logs in.

    Args:
        settings: How to reach the cluster.
        endpoints: Those instead of the settings' own.
    """

    def __init__(self, settings: Settings, endpoints: Sequence[str] = ()) -> None:
        self._settings = settings
        self._endpoints = readable(endpoints or settings.endpoints)
        self._next = 0
        self._line: _Line | None = None
        self._metadata: tuple[tuple[str, str], ...] = ()

    def __enter__(self) -> Caller:
        try:
            self._log_in()
        except TercetError as error:
            try:
                login_failed(error, time.time)
            except Failure:
                self._leave()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def ask(self, path: str, request: Any, answer: type[Answer], *, patient: bool = False) -> Answer:
        """Make one call and read its answer, within the command's time. Raises ``TercetError``.

        Args:
            path: Service and method.
            request: A protobuf message.
            answer: The class of the answer.
            patient: The command's time is for finding a server, and if need be the time for dialling; one
                that is found and gives signs of life may take as long as it wants.
        """
        check_size(request)
        until = time.monotonic() + self._settings.command_timeout
        if patient:
            until = max(until, time.monotonic() + self._settings.dial_timeout)
        try:
            found = self._call(path, request, until, until + PATIENT_SECONDS if patient else until)
        except TercetError as error:
            if not patient and time.monotonic() >= until:  # whatever went wrong on the way
                raise RequestTimedOut(DEADLINE) from error
            raise
        return cast("Answer", answer.FromString(found))  # type: ignore[attr-defined]

    def _log_in(self) -> None:
        if self._settings.login is None:
            return
        self._metadata = ()
        name, password = self._settings.login
        until = time.monotonic() + self._settings.command_timeout
        request = rpc.AuthenticateRequest(name=name, password=password)
        found = self._call("/etcdserverpb.Auth/Authenticate", request, until, until)
        self._metadata = (("token", rpc.AuthenticateResponse.FromString(found).token),)

    def _call(self, path: str, request: Any, until: float, answered: float) -> bytes:
        """A call's answer; connected ``until`` then, and answered then, by the monotonic clock."""
        repeatable = path in READS or path.endswith("/Authenticate")
        attempts = Attempts(path, request.SerializeToString(), repeatable)
        try:
            return self._answer(attempts, until, answered)
        except _Late:
            self._leave()
            raise attempts.last or Unreachable("no endpoint could be connected to in time") from None

    def _answer(self, attempts: Attempts, until: float, answered: float) -> bytes:
        """Try until there is an answer, or an error that ends the call."""
        while True:
            line = self._connected(until)
            attempts.begin()
            try:
                return line.unary(attempts.path, attempts.message, self._metadata, answered)
            except (RpcError, NotProcessed, OutcomeUnknown) as error:
                verdict = attempts.judge(error, bool(self._metadata))
                if verdict.leave:
                    self._leave()
                if verdict.give_up:
                    raise
            if verdict.log_in:
                self._log_in()
            else:
                time.sleep(min(_remaining(until), RETRY_SECONDS))

    def _connected(self, until: float) -> _Line:
        """The present connection, or a new one; tries the endpoints in turn until the call's time is over."""
        while self._line is None or not self._line.usable:
            url = self._endpoints[self._next % len(self._endpoints)]
            try:
                self._line = _Line(_dial(self._settings, url, until), read_url(url).authority, self._settings)
            except OSError:
                self._next += 1
                time.sleep(min(_remaining(until), RETRY_SECONDS))
        return self._line

    def _leave(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
            self._next += 1


class _Line:
    """One HTTP/2 connection with one call at a time."""

    def __init__(self, connection: socket.socket, authority: str, settings: Settings) -> None:
        self._connection = connection
        self._framing = ClientFraming(authority)
        self._silence = max(settings.keepalive_time, SHORTEST_SECONDS)
        self._patience = max(settings.keepalive_timeout, SHORTEST_SECONDS)
        self.usable = True

    def unary(self, path: str, message: bytes, metadata: tuple[tuple[str, str], ...], until: float) -> bytes:
        """One request, one answer. Raises ``RpcError``, ``ConnectionLost``, ``NotProcessed`` or ``_Late``."""
        try:
            stream = self._framing.open(path, metadata)
            reply = self._exchange(stream, framed(message), until)
        except (OSError, FramingError) as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error
        trouble = reply.outcome()
        if trouble is not None:
            raise trouble
        if len(reply.messages) != 1:
            raise rpc_error(13, "a unary call must be answered by one message")
        return reply.messages[0]

    def close(self) -> None:
        """Close at once."""
        self._connection.close()

    def _exchange(self, stream: int, data: bytes, until: float) -> Reply:
        """Send what the windows allow and take what comes, until the server has ended the call."""
        reply, ended, unsent = Reply(), False, True
        while not ended:
            if unsent:
                taken = self._framing.send(stream, data, True)
                unsent = taken < len(data)
                data = data[taken:]
            self._send(until)
            for event in self._framing.receive(self._receive(until)):
                ended = self._take(event, stream, reply) or ended
        self._send(until)
        return reply

    def _take(self, event: Event, stream: int, reply: Reply) -> bool:
        """Take an event; whether it ends the call."""
        kind, about, value = event
        if kind == "goaway":
            self.usable = False
            if stream > about:
                raise NotProcessed("the server is going away")
        elif about != stream:
            pass
        elif kind == "data":
            reply.feed(cast("bytes", value))
        elif kind == "headers":
            reply.read_fields(cast("list[Field]", value))
        elif kind == "reset":
            raise _reset(cast("int", value))
        return kind == "end" and about == stream

    def _send(self, until: float) -> None:
        output = self._framing.take_output()
        if output:
            self._connection.settimeout(_remaining(until))
            try:
                self._connection.sendall(output)
            except TimeoutError:
                raise _Late from None

    def _receive(self, until: float) -> bytes:
        """What comes next; a server that is silent is asked for a sign of life, and given up without one."""
        heard, asked = time.monotonic(), False
        while True:
            patience = heard + self._silence + (self._patience if asked else 0.0)
            silence = max(patience - time.monotonic(), SHORTEST_SECONDS)
            self._connection.settimeout(min(_remaining(until), silence))
            try:
                data = self._connection.recv(RECEIVE_BYTES)
            except TimeoutError:
                if time.monotonic() < patience:
                    continue
                if asked:
                    raise ConnectionLost("the server has fallen silent") from None
                asked = True
                self._framing.ping()
                self._send(until)
                continue
            if not data:
                raise ConnectionLost("connection closed by the server")
            return data


def _reset(code: int) -> TercetError:
    refused = 7
    if code == refused:
        return NotProcessed("the server refused the stream")
    return ConnectionLost(f"the server reset the stream with code {code}")


def _remaining(until: float) -> float:
    """The seconds that are left, more than none. Raises ``_Late``."""
    left = until - time.monotonic()
    if left <= 0:
        raise _Late
    return left


def _dial(settings: Settings, url: str, until: float) -> socket.socket:
    """Connect and, where the URL asks for it, shake hands. ``OSError`` when it fails or takes too long."""
    address = read_url(url)
    patience = min(max(settings.dial_timeout, SHORTEST_SECONDS), _remaining(until))
    if address.path:
        connection = _connected_to(socket.AF_UNIX, address.path, patience)
    else:
        connection = _connected_by_name(address, patience)
    secure = settings.tls is not None if address.secure is None else address.secure
    return _shaken_hands(settings, connection, address) if secure else connection


def _connected_to(family: int, place: Any, patience: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(patience)
        connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection


def _connected_by_name(address: Address, patience: float) -> socket.socket:
    """To the first of the host's addresses that takes the connection."""
    trouble: OSError | None = None
    host = _host(address.host)
    for family, _, _, _, place in socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM):
        try:
            connection = _connected_to(family, place, patience)
        except OSError as error:
            trouble = error
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    raise trouble or ConnectionAbortedError(f"{address.host} has no address")


def _host(name: str) -> str | bytes:
    """A host's name for a look-up; in bytes it is not taken for IDNA, which would take long to import."""
    return name.encode() if name.isascii() else name


def _shaken_hands(settings: Settings, connection: socket.socket, address: Address) -> socket.socket:
    from ..tls_settings import ClientTls, TlsError
    from .tls import tls_context

    tls = settings.tls or ClientTls()
    try:
        name = _host(tls.server_name or address.host or "localhost")
        return tls_context(tls, ("h2",)).wrap_socket(connection, server_hostname=name)
    except TlsError as problem:
        connection.close()
        raise ConnectionAbortedError(str(problem)) from None
    except OSError:
        connection.close()
        raise
