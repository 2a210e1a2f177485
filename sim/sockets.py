"""Trio's own socket interface on the simulated network, for third-party code that knows no ``World``.

``install_sockets`` sets Trio's socket factory and host-name resolver for one run; then
``trio.open_tcp_stream``, ``trio.serve_tcp`` and all that is built on them work between simulated hosts. A
socket belongs to the process whose task made it. ``ConnectionStream`` shows a connection of the ``Network``
port as a Trio stream.
"""

from __future__ import annotations

import errno
import socket as stdlib_socket
from operator import index
from socket import AddressFamily, SocketKind
from typing import Any

import trio

from .connection import Endpoint
from .host import CURRENT_PROCESS, Process
from .network import NetworkPort, SimListener, SimNetwork

__all__ = ["ConnectionStream", "SimSocket", "install_sockets"]

_RECEIVE = 65_536


def install_sockets(network: SimNetwork) -> None:
    """Let ``trio.socket`` in this run make simulated sockets; to be called inside the run."""
    trio.socket.set_custom_socket_factory(_Factory(network))
    trio.socket.set_custom_hostname_resolver(_Resolver(network))


class _Factory(trio.abc.SocketFactory):
    def __init__(self, network: SimNetwork) -> None:
        self._network = network

    def socket(
        self,
        family: AddressFamily | int = stdlib_socket.AF_INET,
        type: SocketKind | int = stdlib_socket.SOCK_STREAM,
        proto: int = 0,
    ) -> trio.socket.SocketType:
        if type != stdlib_socket.SOCK_STREAM:
            raise OSError(errno.EPROTONOSUPPORT, "only TCP exists in this world")
        if family != stdlib_socket.AF_INET:
            raise OSError(errno.EAFNOSUPPORT, "only IPv4 exists in this world")
        return SimSocket(CURRENT_PROCESS.get(), self._network)


class _Resolver(trio.abc.HostnameResolver):
    def __init__(self, network: SimNetwork) -> None:
        self._network = network

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        await trio.lowlevel.checkpoint()
        name = host.decode() if isinstance(host, bytes) else host or "0.0.0.0"
        mine = CURRENT_PROCESS.get().host
        address = name if name == "0.0.0.0" else self._network.resolve(name, mine).address
        kind = SocketKind.SOCK_STREAM
        return [(AddressFamily.AF_INET, kind, stdlib_socket.IPPROTO_TCP, "", (address, int(port or 0)))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        await trio.lowlevel.checkpoint()
        host = self._network.resolve(sockaddr[0], CURRENT_PROCESS.get().host)
        return host.name, str(sockaddr[1])


class SimSocket(trio.socket.SocketType):
    """A TCP socket of one simulated process, with what Trio's high-level interface asks of it."""

    def __init__(self, process: Process, network: SimNetwork, endpoint: Endpoint | None = None) -> None:
        self._process = process
        self._network = network
        self._port = NetworkPort(process, network)
        self._endpoint = endpoint
        self._listener: SimListener | None = None
        self._bound: tuple[str, int] = ("0.0.0.0", 0)
        self._closed = False
        self._shutdown = False

    @property
    def family(self) -> AddressFamily:
        return AddressFamily.AF_INET

    @property
    def type(self) -> SocketKind:
        return SocketKind.SOCK_STREAM

    @property
    def proto(self) -> int:
        return 0

    @property
    def did_shutdown_SHUT_WR(self) -> bool:
        return self._shutdown

    def __repr__(self) -> str:
        return f"<SimSocket of {self._process.host.name}>"

    def __enter__(self) -> SimSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return -1 if self._closed else 0

    def setsockopt(self, *_: Any) -> None:
        self._open()

    def getsockopt(self, level: int, option: int, buffersize: int = 0) -> Any:
        self._open()
        return int(option == stdlib_socket.SO_ACCEPTCONN and self._listener is not None)

    def getsockname(self) -> tuple[str, int]:
        if self._endpoint is not None:
            return _split(self._endpoint.address)
        return _split(self._listener.address) if self._listener is not None else self._bound

    def getpeername(self) -> tuple[str, int]:
        return _split(self._connected().remote)

    async def bind(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._open()
        self._bound = (str(address[0]), int(address[1]))

    def listen(self, backlog: int = 128) -> None:
        self._open()
        self._listener = self._port.listen_now(*self._bound, backlog)

    async def accept(self) -> tuple[trio.socket.SocketType, Any]:
        self._open()
        if self._listener is None:
            raise OSError(errno.EINVAL, "this socket does not listen")
        endpoint = await self._listener.accept()
        return SimSocket(self._process, self._network, endpoint), _split(endpoint.remote)

    async def connect(self, address: Any) -> None:
        self._open()
        endpoint = await self._port.connect(str(address[0]), int(address[1]))
        if self._closed:
            endpoint.close()
        self._open()
        self._endpoint = endpoint

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        if self._closed:
            await trio.lowlevel.checkpoint()
        return await self._connected().receive(index(buflen))

    async def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        with memoryview(buffer) as view:
            data = await self.recv(nbytes or len(view))
            view[: len(data)] = data
        return len(data)

    async def send(self, data: Any, flags: int = 0, /) -> int:
        endpoint = self._connected()
        await trio.lowlevel.checkpoint()
        while True:
            sent = self._connected().try_send(bytes(data))
            if sent or not data:
                return sent
            await endpoint.wait_writable()

    async def wait_writable(self) -> None:
        await self._connected().wait_writable()

    def is_readable(self) -> bool:
        endpoint = self._connected()
        return bool(endpoint.readable)

    def shutdown(self, flag: int) -> None:
        endpoint = self._connected()
        if flag in (stdlib_socket.SHUT_WR, stdlib_socket.SHUT_RDWR) and not self._shutdown:
            self._shutdown = True
            endpoint.close_sending()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._endpoint is not None:
            self._endpoint.close()
        if self._listener is not None:
            self._listener.close()

    def _open(self) -> None:
        self._process.check()
        if self._closed:
            raise OSError(errno.EBADF, "Bad file descriptor")

    def _connected(self) -> Endpoint:
        self._open()
        if self._endpoint is None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return self._endpoint


class ConnectionStream(trio.abc.HalfCloseableStream):
    """A connection of the ``Network`` port as a Trio stream."""

    def __init__(self, connection: Endpoint) -> None:
        self._connection = connection
        self._sending = False
        self._sent_eof = False
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._one_sender():
            self._check_sending()
            await self._translated(self._connection.send_all(bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        with self._one_sender():
            self._check_sending()
            await self._translated(self._connection.wait_writable())

    async def send_eof(self) -> None:
        with self._one_sender():
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            if not self._sent_eof:
                self._sent_eof = True
                try:
                    self._connection.close_sending()
                except OSError as error:
                    raise trio.BrokenResourceError(str(error)) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and index(max_bytes) < 1:
            await trio.lowlevel.checkpoint()
            raise ValueError("max_bytes must be >= 1")
        try:
            return await self._connection.receive(max_bytes or _RECEIVE)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        self._closed = True
        self._connection.close()
        await trio.lowlevel.checkpoint()

    def _check_sending(self) -> None:
        if self._closed or self._sent_eof:
            raise trio.ClosedResourceError("this stream was closed for sending")

    def _one_sender(self) -> _OneSender:
        return _OneSender(self)

    async def _translated(self, sending: Any) -> None:
        try:
            await sending
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error


class _OneSender:
    """Raise ``trio.BusyResourceError`` when two tasks send at once."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ConnectionStream) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        if self._stream._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._stream._sending = True

    def __exit__(self, *_: object) -> None:
        self._stream._sending = False


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
