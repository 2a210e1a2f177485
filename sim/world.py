"""A simulated world: hosts with programs on them, made from one seed.

``SimWorld`` owns the engine, the network and the hosts. A program is an async function of its ``World``;
the supervisor starts it, keeps what it raises, and swallows what a program throws that is already dead.

A crash goes in this order: make every handle of the incarnation inert, cut its sockets, then its disk, and
only then cancel its tasks; so its last words reach nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import trio

from tercet.net.world import World

from .clock import HostClock, SimClock
from .disk import SimDisk
from .disk_port import DiskPort
from .engine import Engine
from .host import CURRENT_PROCESS, Host, Process
from .network import NetworkPort, SimNetwork
from .probe import SimProbe
from .rng import SimRng
from .sockets import install_sockets

__all__ = ["Program", "SimWorld"]

T = TypeVar("T")
Program: TypeAlias = Callable[[World], Awaitable[object]]
StepRecorder: TypeAlias = Callable[[object, object, object], None]

_NOTE_LIFE = 0x30


class SimWorld:
    """One world. ``run`` it once; everything else is to be called while it runs (or before).

    Args:
        seed: everything that happens is a function of it.
        nodes: names of hosts to make at once; more may be added with ``host``.
        full_log: keep every engine record in ``engine.log``.
        seeded_entropy: see ``Engine``.
    """

    def __init__(
        self, seed: int, nodes: tuple[str, ...] = (), *, full_log: bool = False, seeded_entropy: bool = False
    ) -> None:
        self.seed = seed
        self.engine = Engine(seed, full_log=full_log, seeded_entropy=seeded_entropy)
        self.network = SimNetwork(self.engine)
        self.programs: dict[str, Program] = {}
        #: (virtual ns, host, what it ended with) of programs that ended without being killed.
        self.failures: list[tuple[int, str, BaseException]] = []
        #: Called when a program starts on a host; gives its ``probe.step``, or None.
        self.step_recorder: Callable[[str], StepRecorder | None] | None = None
        #: Called with the host and why, when an armed crash point killed its program.
        self.on_crash_point: Callable[[str, str], None] | None = None
        self._worlds: dict[str, World] = {}
        self._nursery: trio.Nursery | None = None
        for name in nodes:
            self.host(name)

    # -- hosts ------------------------------------------------------------------------------------

    @property
    def hosts(self) -> dict[str, Host]:
        return self.network.hosts

    def host(self, name: str) -> Host:
        """The host of that name; made when it is new."""
        found = self.hosts.get(name)
        if found is None:
            found = Host(self.engine, name, len(self.hosts))
            found.disk = SimDisk(self.engine, found)
            found.clock = HostClock(self.engine, found)
            found.on_crash_point = self._crash_point
            self.hosts[name] = found
        return found

    def world_for(self, name: str) -> World:
        """The ``World`` of the present process of a host; a first process is made when there is none."""
        host = self.host(name)
        if host.process is None:
            self._new_process(host)
        return self._worlds[name]

    def _new_process(self, host: Host) -> Process:
        host.incarnations += 1
        process = Process(host, host.incarnations)
        step = self.step_recorder(host.name) if self.step_recorder is not None else None
        process.probe = SimProbe(process, step)
        host.process = process
        self._worlds[host.name] = World(
            name=host.name,
            clock=SimClock(process),
            net=NetworkPort(process, self.network),
            disk=DiskPort(process),
            rng=SimRng(process),
            probe=process.probe,
            environment={},
        )
        return process

    # -- running ----------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """True virtual time in seconds."""
        return self.engine.now / 1e9

    async def sleep(self, seconds: float) -> None:
        """Sleep in true virtual time."""
        await self.engine.sleep(seconds)

    def run(self, main: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run ``await main(*args)`` in this world; when it returns, all programs are cancelled."""
        result: T = self.engine.run(self._main, main, args)
        return result

    async def _main(self, main: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        install_sockets(self.network)
        outcome: list[T] = []
        error: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                outcome.append(await main(*args))
            except Exception as raised:  # raised again below, outside the nursery, which would wrap it
                error = raised
            finally:
                self._nursery = None
                for host in self.hosts.values():
                    if host.process is not None:
                        host.process.die()
                nursery.cancel_scope.cancel()
        if error is not None:
            raise error
        return outcome[0]

    def start(self, name: str, program: Program) -> Process:
        """Start ``program`` on a host whose last program is gone; it is also what ``restart`` starts."""
        host = self.host(name)
        if self._nursery is None:
            raise RuntimeError("the world does not run")
        if host.process is not None and host.process.alive and name in self.programs:
            raise RuntimeError(f"{name} already runs a program")
        self.programs[name] = program
        host.up = True
        process = self._new_process(host)
        self.engine.note(_NOTE_LIFE, host.index, process.number << 8)
        self._nursery.start_soon(self._supervise, process, program, name=f"{name}#{process.number}")
        return process

    async def _supervise(self, process: Process, program: Program) -> None:
        host = process.host
        CURRENT_PROCESS.set(process)
        try:
            with process.scope:
                await program(self._worlds[host.name])
        except BaseException as error:
            if self.engine.ending or _asks_to_stop(error):
                raise
            if process.alive:
                process.error = error
                self.failures.append((self.engine.now, host.name, error))
        finally:
            if process.alive:
                process.alive = False
                self._cut_sockets(process, silent=False)
            process.done.set()

    # -- life and death ---------------------------------------------------------------------------

    def running(self, name: str) -> bool:
        process = self.host(name).process
        return process is not None and process.alive

    def kill(self, name: str) -> bool:
        """Kill the program (``kill -9``): what it wrote stays, the kernel closes its connections."""
        return self._end(self.host(name), power=False)

    def crash(self, name: str, mode: str | None = None) -> bool:
        """Cut the host's power: unsynced writes are lost, kept or torn (``mode``, see ``SimDisk.power_cut``).

        Returns False when the host was off already.
        """
        return self._end(self.host(name), power=True, mode=mode)

    def restart(self, name: str) -> Process | None:
        """Power on and start the program again; None when it runs."""
        host = self.host(name)
        if host.process is not None and host.process.alive:
            return None
        return self.start(name, self.programs[name])

    def pause(self, name: str) -> None:
        """Stop the program (as SIGSTOP); the kernel goes on receiving."""
        self.host(name).pause()

    def resume(self, name: str) -> None:
        self.host(name).resume()

    def _end(self, host: Host, power: bool, mode: str | None = None, died_at: int | None = None) -> bool:
        process = host.process
        alive = process is not None and process.alive
        if not alive and (not power or not host.up):
            return False
        if process is not None:
            if process.alive:
                process.ended = self.engine.now if died_at is None else died_at
                host.stalled_until = 0  # it is not ahead of time any more
            process.alive = False
            self._cut_sockets(process, silent=power)
            if process.ended is not None:
                host.disk.die_at(process.ended)
        if power:
            host.up = False
            host.disk.power_cut(mode)
        self.engine.note(_NOTE_LIFE, host.index, 1 + power)
        host.disarm()
        host.forget_held()
        if process is not None:
            process.die()
            process.scope.cancel()
        return True

    def _cut_sockets(self, process: Process, silent: bool) -> None:
        for socket in list(process.sockets.values()):
            socket.cut(reset=False, silent=silent)
        process.sockets.clear()
        process.locks.clear()

    def _crash_point(self, host: Host, operation: str) -> None:
        died_at = max(self.engine.now, host.stalled_until)  # the program is simulated ahead while it blocks
        if self._end(host, power=True, died_at=died_at) and self.on_crash_point is not None:
            self.on_crash_point(host.name, operation)


def _asks_to_stop(error: BaseException) -> bool:
    """A cancellation or an interrupt from outside is not a dead program's last words."""
    if isinstance(error, BaseExceptionGroup):
        return any(_asks_to_stop(inner) for inner in error.exceptions)
    return isinstance(error, KeyboardInterrupt | SystemExit)
