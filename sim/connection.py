"""Simulated TCP connections: two endpoints and a pipe in each direction.

The kernel's half lives in ``Pipe`` and goes on while the process is paused: what was sent arrives, is
acknowledged and waits. Closing sends FIN after the data, or resets the other side when unread data are
left, as Linux does. A packet for an endpoint that nobody holds any more is answered with a reset. When
the other side cannot be reached, the sender retransmits with doubling pauses and gives up with ETIMEDOUT.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from zlib import crc32

import trio

from .engine import SECOND, Engine
from .host import Process, Waiter
from .link import RTO_MAX, RTO_MIN, Link

__all__ = ["GIVE_UP", "Endpoint", "connected_pair"]

CAPACITY = 262_144  # bytes under way and unread, per direction
GIVE_UP = 15 * SECOND  # without an answer for so long a connection times out
_NOTE_DELIVERY = 0x20
_NOTE_FAILURE = 0x21
_CHUNK_GAP = 50_000  # ns between the two pieces of a cut delivery


class _Segment:
    __slots__ = ("arrival", "data", "fin", "sent")

    def __init__(self, sent: int, arrival: int, data: bytes, fin: bool) -> None:
        self.sent = sent
        self.arrival = arrival
        self.data = data
        self.fin = fin


class Pipe:
    """One direction: from the sender's kernel to the receiver's buffer."""

    __slots__ = (
        "back", "blocked", "blocked_since", "buffer", "buffered", "dead", "engine", "eof", "flight", "last",
        "link", "orphaned", "outstanding", "reader", "receiver", "rto", "sender", "starved", "writer",
    )  # fmt: skip

    def __init__(self, engine: Engine, link: Link, back: Link, sender: Endpoint, receiver: Endpoint) -> None:
        self.engine = engine
        self.link = link
        self.back = back
        self.sender = sender
        self.receiver = receiver
        self.flight: deque[_Segment] = deque()
        self.last = 0  # arrival of the newest segment: order is kept
        self.outstanding = 0
        self.starved = False
        self.blocked = False
        self.blocked_since = 0
        self.rto = RTO_MIN
        self.dead = False
        self.orphaned = False
        self.buffer: deque[bytes] = deque()
        self.buffered = 0
        self.eof = False
        self.reader = Waiter(receiver.process)
        self.writer = Waiter(sender.process)

    def send(self, data: bytes, fin: bool = False) -> None:
        engine = self.engine
        now = max(engine.now, self.link.source.stalled_until)
        flight = self.flight
        self.outstanding += len(data)
        if flight and not fin and flight[-1].sent == now and not flight[-1].fin:
            flight[-1].data += data  # written in one turn: one packet train
            return
        arrival = self.link.arrival(len(data))
        if arrival < self.last:
            arrival = self.last
        self.last = arrival
        flight.append(_Segment(now, arrival, data, fin))
        engine.at(arrival, self._arrive)

    def read(self, limit: int) -> bytes:
        """Take at most ``limit`` bytes off the receiver's buffer and open the window."""
        buffer = self.buffer
        if len(buffer[0]) <= limit and len(buffer) == 1:
            found = buffer.popleft()
        else:
            joined = b"".join(buffer)
            buffer.clear()
            found = joined[:limit]
            if len(joined) > limit:
                buffer.append(joined[limit:])
        self.buffered -= len(found)
        self.outstanding -= len(found)
        if self.starved:
            self.starved = False
            self.engine.after(self.back.delay(), self._window)
        return found

    def kill(self) -> None:
        """Nothing goes through any more; both ends are told elsewhere."""
        self.dead = True
        self.flight.clear()

    def take_back(self, now: int) -> bool:
        """The sender died at ``now``: what it would have sent later stays unsent; True if a FIN was in it."""
        fin = False
        while self.flight and self.flight[-1].sent > now:
            segment = self.flight.pop()
            self.outstanding -= len(segment.data)
            fin = fin or segment.fin
        return fin

    def orphan(self) -> None:
        """The sender has lost its power: what is on the wire arrives, nothing is ever sent again."""
        self.take_back(self.engine.now)
        self.orphaned = True
        if self.blocked:
            self.kill()

    # -- events -----------------------------------------------------------------------------------

    def _arrive(self, _: object) -> bool:
        if self.dead or self.blocked or not self.flight:
            return False
        link = self.link
        if link.clogged:
            self.blocked = True
            link.wait_for_release(self)
            return False
        if link.cut or not link.target.up:
            if self.orphaned:
                self.kill()
                return False
            self.blocked = True
            self.blocked_since = self.engine.now
            self.rto = RTO_MIN
            self.engine.after(self.rto, self._retransmit)
            return False
        return self._deliver()

    def released(self, _: object) -> bool:
        """The link's clog is gone."""
        self.blocked = False
        return self._arrive(None)

    def _retransmit(self, _: object) -> bool:
        if self.dead:
            return False
        if self.link.dead:
            if self.engine.now - self.blocked_since >= GIVE_UP:
                return self.sender.fail(errno.ETIMEDOUT)
            self.rto = min(2 * self.rto, RTO_MAX)
            self.engine.after(self.rto, self._retransmit)
            return False
        self.blocked = False
        return self._arrive(None)

    def _deliver(self) -> bool:
        now = self.engine.now
        flight = self.flight
        receiver = self.receiver
        while flight and flight[0].arrival <= now:
            segment = flight[0]
            if receiver.gone:
                flight.clear()
                receiver.reset_peer()
                return False
            data = segment.data
            cut = self.link.cut_point(len(data)) if self.link.chunk_rate else 0
            if cut:
                segment.data, data = data[cut:], data[:cut]
                segment.arrival = now + _CHUNK_GAP
                segment.sent = -1
                self.last = max(self.last, segment.arrival)
                self.engine.at(segment.arrival, self._arrive)
            else:
                flight.popleft()
            if data:
                self.buffer.append(data)
                self.buffered += len(data)
                self.engine.note(_NOTE_DELIVERY, self.link.target.index, crc32(data))
            if segment.fin and not cut:
                self.eof = True
        if self.buffer or self.eof:
            return self.reader.fire()
        return False

    def _window(self, _: object) -> bool:
        if self.dead:
            return False
        if self.back.dead or self.back.clogged:
            self.engine.after(RTO_MIN, self._window)
            return False
        return self.writer.fire()


class Endpoint:
    """One end: the ``Connection`` port of a process."""

    def __init__(self, process: Process, address: str, remote: str) -> None:
        self.process = process
        self.address = address
        self._remote = remote
        self._error = 0
        self._closed = False
        self._sending_closed = False
        self.gone = False  # the kernel does not know this connection any more
        self._receiving = False
        self._sending = False
        self._in: Pipe
        self._out: Pipe
        self._handle = process.next_handle()
        process.sockets[self._handle] = self

    @property
    def remote(self) -> str:
        return self._remote

    @property
    def readable(self) -> bool:
        """``receive`` would return or raise at once."""
        return bool(self._in.buffer) or self._in.eof or bool(self._error)

    # -- the port ---------------------------------------------------------------------------------

    def try_send(self, data: bytes) -> int:
        self._may_send()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        out = self._out
        room = CAPACITY - out.outstanding
        if room >= len(data):
            if data:
                out.send(bytes(data))
            return len(data)
        out.starved = True
        if room <= 0:
            return 0
        out.send(bytes(data[:room]))
        return room

    async def send_all(self, data: bytes) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        await trio.lowlevel.checkpoint()
        sent = self.try_send(data)
        while sent < len(data):
            self._sending = True
            try:
                await self._out.writer.wait()
            finally:
                self._sending = False
            sent += self.try_send(data[sent:])

    async def wait_writable(self) -> None:
        """Wait until ``try_send`` would take something, or fail."""
        await trio.lowlevel.checkpoint()
        out = self._out
        while out.outstanding >= CAPACITY and not (self._closed or self._error):
            out.starved = True
            await out.writer.wait()
        self._may_send()

    async def receive(self, max_bytes: int) -> bytes:
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this connection")
        pipe = self._in
        if pipe.buffer and not self._closed:
            await trio.lowlevel.checkpoint()
        self._receiving = True
        try:
            while True:
                self.process.check()
                if self._closed:
                    raise trio.ClosedResourceError("this connection was closed")
                if pipe.buffer:
                    self.process.network_operation()
                    return pipe.read(max_bytes)
                if self._error:
                    raise OSError(self._error, os.strerror(self._error))
                if pipe.eof:
                    await trio.lowlevel.checkpoint()
                    return b""
                await pipe.reader.wait()
        finally:
            self._receiving = False

    def close_sending(self) -> None:
        self._may_send()
        self._sending_closed = True
        self._out.send(b"", fin=True)

    def close(self) -> None:
        if self._closed or not self.process.alive:
            return
        self.cut(reset=self._in.buffered > 0)

    # -- the kernel -------------------------------------------------------------------------------

    def attach(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._in = incoming
        self._out = outgoing

    def cut(self, reset: bool, silent: bool = False) -> None:
        """Close this end for good.

        Args:
            reset: the other side gets a reset instead of the rest of the data and FIN.
            silent: the other side hears nothing until it sends (a power cut).
        """
        self._forget()
        if self._error:
            return
        if silent:
            self._out.orphan()
        elif reset:
            self._out.kill()
            self.reset_peer()
        else:
            killed = self.process.ended
            if killed is not None and self._out.take_back(killed):
                self._sending_closed = False
            if not self._sending_closed:
                self._sending_closed = True
                self._out.send(b"", fin=True)

    def fail(self, code: int) -> bool:
        """The connection broke with errno ``code``; True when that woke a task."""
        if self._error or self._closed:
            return False
        self._error = code
        self.gone = True  # what was received before stays readable, as on Linux
        self._out.kill()
        self.process.host.engine.note(_NOTE_FAILURE, self.process.host.index, code)
        self.process.sockets.pop(self._handle, None)
        woke = self._in.reader.fire()
        return self._out.writer.fire() or woke

    def reset_peer(self) -> None:
        """Send a reset to the other side; it gets lost when the link is cut."""
        link = self._out.link
        if not link.source.up:
            return
        peer = self._out.receiver

        def arrives(_: object) -> bool:
            return False if link.dead else peer.fail(errno.ECONNRESET)

        link_engine = self._out.engine
        link_engine.after(link.delay(), arrives)

    def _forget(self) -> None:
        self._closed = True
        self.gone = True
        self.process.sockets.pop(self._handle, None)
        self._in.buffer.clear()
        self._in.buffered = 0
        self._in.reader.fire()
        self._out.writer.fire()

    def _may_send(self) -> None:
        self.process.network_operation()
        if self._closed or self._sending_closed:
            raise trio.ClosedResourceError("this connection was closed for sending")
        if self._error:
            raise OSError(self._error, os.strerror(self._error))


def connected_pair(
    engine: Engine, forth: Link, back: Link, client: Process, server: Process, addresses: tuple[str, str]
) -> tuple[Endpoint, Endpoint]:
    """A connection between two processes, established in both kernels."""
    near = Endpoint(client, addresses[0], addresses[1])
    far = Endpoint(server, addresses[1], addresses[0])
    out = Pipe(engine, forth, back, near, far)
    home = Pipe(engine, back, forth, far, near)
    near.attach(home, out)
    far.attach(out, home)
    return near, far
