"""Send byte streams to members, many at once, while well-behaved clients work; then look what is left.

A stream passes when the member lets go of it: it answers, if at all, in whole HTTP/2 frames, whole peer
frames or HTTP/1.1, and it ends the connection once the sender has ended its side. A witness per member writes
and reads all the time; none of its calls may fail, and all its acknowledged writes must be there at the end.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.http2_frames import PREFACE
from tercet.core.wire.peer import FRAME_BYTES_MAX, MAGIC
from tercet.net.client import Client
from tercet.net.real import real_world
from tercet.net.world import World

from .fuzz_every import PLAIN
from .fuzz_peer import PeerTarget
from .fuzz_streams import ByteStream, stream_of
from .fuzz_vault import Vault

__all__ = ["Endpoint", "Tally", "fuzz", "legible"]

#: A member must let go of a stream so soon after its sender has ended it.
END_SECONDS: Final = 20.0
#: How long a stream that waits for the member waits.
WAIT_SECONDS: Final = 0.05
WITNESS_SECONDS: Final = 0.02  # between two rounds of a witness
WITNESS_KEYS: Final = 100
FINDINGS_MAX: Final = 50
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A member's two addresses as (host, port), and what is known of it as a peer."""

    client: tuple[str, int]
    peer: tuple[str, int] | None = None
    target: PeerTarget | None = None


@dataclass(slots=True)
class Tally:
    """What a run has seen so far."""

    streams: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)  # how connections ended
    witness_writes: int = 0
    witness_reads: int = 0
    slowest_seconds: float = 0.0  # of the witnesses' calls
    findings: list[str] = field(default_factory=list)

    def find(self, text: str) -> None:
        """Note something that must not happen."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)


def _whole_frames(data: bytes, prefix: int, longest: int, size_of: Callable[[bytes], int]) -> bool:
    at = 0
    while at < len(data):
        if len(data) - at < prefix:
            return False
        size = size_of(data[at : at + prefix])
        if size > longest:
            return False
        at += prefix + size
    return at == len(data)


def legible(port: str, sent: bytes, received: bytes) -> bool:
    """Whether an answer that ended in order is one its client can read: whole frames, or HTTP/1.1."""
    if not received or received.startswith(b"HTTP/1.1 "):
        return True
    if port == "peer":
        return sent.startswith(MAGIC) and _whole_frames(
            received, 8, FRAME_BYTES_MAX, lambda head: int.from_bytes(head[:4], "big")
        )
    return sent.startswith(PREFACE[:14]) and _whole_frames(
        received, 9, 1 << 24, lambda head: int.from_bytes(head[:3], "big")
    )


class _Sender:
    """Sends streams until there are none left."""

    def __init__(self, endpoints: Sequence[Endpoint], tally: Tally, vault: Vault | None) -> None:
        self._endpoints = endpoints
        self._tally = tally
        self._vault = vault

    async def send(self, stream: ByteStream) -> None:
        """One connection from its beginning to its end; what is wrong with it becomes a finding."""
        endpoint = self._endpoints[stream.member]
        address = endpoint.peer if stream.port == "peer" else endpoint.client
        assert address is not None
        received: list[bytes] = []
        end = "member"
        try:
            with trio.fail_after(END_SECONDS):
                end = await self._converse(stream, address, received)
        except trio.TooSlowError:
            self._tally.find(f"stream {stream.number} ({stream.kind}): still open after its end")
        except OSError as problem:
            end = "reset"
            if isinstance(problem, ConnectionRefusedError):
                end = "port closed"
            elif not isinstance(problem, ConnectionError):
                self._tally.find(f"stream {stream.number} ({stream.kind}): {problem}")
        answer = b"".join(received)
        sent = b"".join(stream.chunks)
        if end == "member" and not legible(stream.port, sent, answer):
            self._tally.find(f"stream {stream.number} ({stream.kind}): illegible answer {answer[:80]!r}")
        if self._vault is not None and self._vault.leaks(answer):
            self._tally.find(f"stream {stream.number} ({stream.kind}): leaked {answer[:200]!r}")
        tally = self._tally
        tally.streams += 1
        tally.sent_bytes += len(sent)
        tally.received_bytes += len(answer)
        tally.kinds[stream.kind] += 1
        tally.ends[end] += 1

    async def _converse(self, stream: ByteStream, address: tuple[str, int], received: list[bytes]) -> str:
        """Send, then end as the stream says; how the connection ended."""
        with trio.socket.socket() as sock:
            await sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with trio.open_nursery() as nursery:
                ended = trio.Event()
                nursery.start_soon(_receive, sock, received, ended)
                whole = await _send(sock, stream.chunks)
                if stream.ending == "half" and whole:
                    with contextlib.suppress(OSError):  # the member was faster
                        sock.shutdown(socket.SHUT_WR)
                    await ended.wait()
                elif stream.ending == "wait" or not whole:
                    with trio.move_on_after(WAIT_SECONDS):
                        await ended.wait()
                elif stream.ending == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                nursery.cancel_scope.cancel()
            if not whole:
                return "refused"
            return "member" if stream.ending == "half" else "sender"


async def _send(sock: trio.socket.SocketType, chunks: Sequence[bytes]) -> bool:
    """Send all; False when the member did not want to hear it all."""
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            try:
                at += await sock.send(chunk[at:])
            except ConnectionError:
                return False
    return True


async def _receive(sock: trio.socket.SocketType, received: list[bytes], ended: trio.Event) -> None:
    try:
        while data := await sock.recv(65536):
            received.append(data)
    except OSError:
        received.clear()  # a reset: what came before need not be whole
    ended.set()


class _Witness:
    """A client of one member that behaves."""

    def __init__(
        self, world: World, endpoint: Endpoint, number: int, tally: Tally, login: tuple[str, str] | None
    ) -> None:
        self._world = world
        self._login = login
        self._url = f"http://{endpoint.client[0]}:{endpoint.client[1]}"
        self._prefix = b"witness/%d/" % number
        self._tally = tally
        self._number = number
        self._acknowledged: dict[bytes, bytes] = {}
        self.finished = False

    def client(self) -> Client:
        """A new client of this member."""
        return Client(self._world, [self._url], request_timeout=10.0, login=self._login)

    async def work(self) -> None:
        """Write and read until ``finished``; the call under way then is finished, too."""
        round_number = 0
        async with self.client() as client:
            if not await self.logged_in(client):
                return
            while not self.finished:
                round_number += 1
                key = self._prefix + b"%d" % (round_number % WITNESS_KEYS)
                await self._round(client, key, b"%d" % round_number)
                await trio.sleep(WITNESS_SECONDS)

    async def _round(self, client: Client, key: bytes, value: bytes) -> None:
        tally = self._tally
        begun = trio.current_time()
        try:
            await client.put(key, value)
            self._acknowledged[key] = value
            tally.witness_writes += 1
            found = await client.get(key)
            tally.witness_reads += 1
        except (TercetError, OSError) as problem:
            self._acknowledged.pop(key, None)  # which value it has is unknown now
            tally.find(f"the well-behaved client of member {self._number} failed: {problem!r}")
            await trio.sleep(0.2)
            return
        if [kv.value for kv in found.kvs] != [value]:
            tally.find(f"{key!r} should be {value!r} at member {self._number}, is {found.kvs!r}")
        tally.slowest_seconds = max(tally.slowest_seconds, trio.current_time() - begun)

    async def check(self) -> None:
        """At the end: everything acknowledged is there."""
        async with self.client() as client:
            if not await self.logged_in(client):
                return
            for key, value in self._acknowledged.items():
                try:
                    found = await client.get(key)
                except (TercetError, OSError) as problem:
                    self._tally.find(f"member {self._number} cannot be read at the end: {problem!r}")
                    return
                if [kv.value for kv in found.kvs] != [value]:
                    self._tally.find(f"lost: {key!r} was acknowledged as {value!r}, is {found.kvs!r}")

    async def logged_in(self, client: Client) -> bool:
        """Log in; whether that was possible, as it is while nobody else changes anything."""
        try:
            await client.log_in()
        except (TercetError, OSError) as problem:
            self._tally.find(f"member {self._number} lets nobody log in: {problem!r}")
            return False
        return True


async def fuzz(
    endpoints: Sequence[Endpoint],
    *,
    seed: int,
    numbers: range,
    jobs: int,
    tally: Tally,
    progress: Callable[[int], None],
    alive: Callable[[], str],
    vault: Vault | None = None,
) -> None:
    """Send the streams ``numbers`` of ``seed``, ``jobs`` at once; fills ``tally``.

    Args:
        progress: told after each stream how many are done.
        vault: secrets to keep; the cluster is an open one when the run begins. None: it stays open.
        alive: asked now and then; what is wrong with the members, which ends the run, or "".
    """
    targets = tuple(e.target for e in endpoints if e.target is not None and e.peer is not None)
    if len(targets) != len(endpoints):
        targets = ()
    sender = _Sender(endpoints, tally, vault)
    world = real_world("fuzz", write_log=lambda line: None, environment={})
    if vault is not None:
        urls = [f"http://{e.client[0]}:{e.client[1]}" for e in endpoints]
        await vault.fill(partial(Client, world, urls, request_timeout=10.0))
    guise, login = (PLAIN, None) if vault is None else (vault.guise, vault.login)
    witnesses = [_Witness(world, endpoint, number, tally, login) for number, endpoint in enumerate(endpoints)]
    todo = iter(numbers)

    async def worker() -> None:
        for number in todo:
            stream = stream_of(seed, number, targets, guise)
            if not targets:
                stream = _anywhere(stream, len(endpoints))
            await sender.send(stream)
            progress(tally.streams)
            if (tally.streams % 50 == 0 or tally.ends["port closed"]) and (problem := alive()):
                if not workers.cancel_scope.cancel_called:
                    tally.find(f"near stream {number}: {problem}")
                workers.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for witness in witnesses:
            nursery.start_soon(witness.work)
        async with trio.open_nursery() as workers:
            for _ in range(jobs):
                workers.start_soon(worker)
        stopped = workers.cancel_scope.cancel_called
        for witness in witnesses:
            witness.finished = True
    if problem := alive():
        if not stopped:
            tally.find(problem)
        return
    if tally.ends["port closed"]:
        tally.find(f"a port refused {tally.ends['port closed']} connections")
    for witness in witnesses:
        await witness.check()
        if vault is not None:
            async with witness.client() as client:
                changes = await vault.changes(client) if await witness.logged_in(client) else []
                for change in changes:
                    tally.find(change)


def _anywhere(stream: ByteStream, members: int) -> ByteStream:
    """Without peers to speak to, clients' streams go to the members in turn."""
    return ByteStream(
        number=stream.number,
        port=stream.port,
        member=stream.number % members,
        kind=stream.kind,
        chunks=stream.chunks,
        ending=stream.ending,
    )
