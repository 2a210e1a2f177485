"""What happens to a cluster of real processes while clients write to it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..ports import HOST
from .load import Load, Report
from .processes import Fleet, FleetFailed

__all__ = ["catch_up", "grow", "move_leaders", "replace"]

#: Under load, and while another leader is found, its own two and five seconds can be too little.
_PATIENT = ("--dial-timeout", "20s", "--command-timeout", "20s")
_STRICT = "etcdserver: unhealthy cluster"
#: A snapshot after little, and no other leader because a busy machine stood still for a second.
_SMALL_SCENE = ("--snapshot-count", "100", "--snapshot-catchup-entries", "50", "--election-timeout", "5000")
#: The learner has not caught up, or is itself whom etcdctl has asked.
_NOT_YET = ("in sync with leader", "not supported for learner")


async def grow(folder: Path, *, largest: int = 5, etcdctl: str = "etcdctl") -> Report:
    """From one member to ``largest`` and back to three, by etcdctl, with etcd's strict checks on.

    Raises:
        FleetFailed: a member did not start, catch up, or stop when it was removed.
    """
    with Fleet(folder, largest) as fleet:
        names = fleet.names
        fleet.start(names[0], names[:1])
        await fleet.healthy(names[0])
        load = Load(fleet)
        async with load:
            for number in range(1, largest):
                name = names[number]
                await _etcdctl(fleet, etcdctl, "member", "add", name, f"--peer-urls={fleet.peer_url(name)}")
                fleet.start(name, names[: number + 1], existing=True)
                await fleet.healthy(name)
            stopped = []
            for name in names[: max(0, largest - 3)]:  # the oldest go, the leader among them
                await _etcdctl(fleet, etcdctl, "member", "remove", await _member_id(fleet, name))
                stopped.append(await fleet.ended(name))
        await fleet.agree()
        return load.report("grow", {"members": len(fleet.running()), "exit_statuses": sum(stopped)})


async def move_leaders(
    folder: Path, *, seconds: float = 60.0, every: float = 1.0, wanted: int | None = None
) -> Report:
    """Three members, and every second another one leads.

    Args:
        folder: For the members.
        seconds: How long.
        every: How many seconds a member leads at least.
        wanted: So many moves instead, however long they take.
    """
    moves, longest = 0, 0.0
    with Fleet(folder, 3) as fleet:
        await _start_all(fleet)
        load = Load(fleet)
        async with load:
            end = time.monotonic() + seconds
            while moves < wanted if wanted is not None else time.monotonic() < end:
                await trio.sleep(every)
                leader = await fleet.leader()
                target = fleet.names[(fleet.names.index(leader) + 1) % 3]
                started = time.monotonic()
                await _move(fleet, leader, target)
                moves, longest = moves + 1, max(longest, time.monotonic() - started)
        await fleet.agree()
        return load.report("moves", {"moves": moves, "slowest_move_ms": round(longest * 1000, 1)})


async def replace(folder: Path, *, etcdctl: str = "etcdctl") -> Report:
    """Three members; a follower, then the leader, is killed and its disk is lost.

    Each time a learner with a new id takes its place, at the same address, and is promoted as soon as the
    leader lets it, with etcd's strict checks on. The second time only the first newcomer's vote makes a
    majority.

    Raises:
        FleetFailed: a member did not start or catch up, or a change was refused for good.
    """
    numbers: dict[str, float] = {}
    with Fleet(folder, 3) as fleet:
        await _start_all(fleet)
        load = Load(fleet)
        async with load:
            for role in ("follower", "leader"):
                leader = await fleet.leader()
                dead = leader if role == "leader" else next(name for name in fleet.names if name != leader)
                begun = time.monotonic_ns()
                await trio.sleep(1)
                refused = await _replace(fleet, etcdctl, dead)
                numbers |= {
                    f"{role}_unavailable_ms": load.unavailable_ms(begun),
                    f"{role}_replaced_seconds": round((time.monotonic_ns() - begun) / 1e9 - 1, 2),
                    f"{role}_promotions_refused": refused,
                }
                await trio.sleep(1)
        await fleet.agree()
        return load.report("replace", numbers)


async def _replace(fleet: Fleet, etcdctl: str, dead: str) -> int:
    """Kill a member, and have a voter in its place that knows nothing of it; how often it came too early."""
    old_id = await _member_id(fleet, dead)
    fleet.kill(dead)
    await fleet.ended(dead)
    fleet.wipe(dead)
    await fleet.leader()
    await _etcdctl(fleet, etcdctl, "member", "remove", old_id)
    added = ("member", "add", dead, f"--peer-urls={fleet.peer_url(dead)}", "--learner")
    await _etcdctl(fleet, etcdctl, *added)
    fleet.start(dead, fleet.names, existing=True)
    new_id = await _learner_id(fleet)
    if new_id == old_id:
        raise FleetFailed(f"{dead} was to have a new id, and has {old_id} again")
    refused = await _etcdctl(fleet, etcdctl, "member", "promote", new_id, later=_NOT_YET)
    await fleet.healthy(dead)
    return refused


async def catch_up(folder: Path, *, megabytes: int = 100, cut: bool = True) -> Report:
    """A follower is away while so much is written that it needs a snapshot, which is cut in the middle."""
    numbers: dict[str, float] = {}
    flags = _SMALL_SCENE if megabytes < 64 else ()
    with Fleet(folder, 3, flags) as fleet:
        away = fleet.names[2]
        load = Load(fleet)
        async with trio.open_nursery() as nursery:
            cutter = _Cutter(fleet.peer_ports[away], megabytes * 300_000 if cut else 0)
            fleet.advertised[away] = await nursery.start(cutter.run)
            await _start_all(fleet)
            if await fleet.leader() == away:
                await _move(fleet, away, fleet.names[0])
            fleet.kill(away)
            await fleet.ended(away)
            await _fill(fleet, load, megabytes)
            before = {name: fleet.memory_bytes(name) for name in fleet.running()}
            peaks: dict[str, int] = {}
            async with load:
                started = time.monotonic()
                cutter.armed = True
                fleet.start(away, fleet.names)
                nursery.start_soon(_watch_memory, fleet, peaks)
                await fleet.healthy(away, 120)
                took = time.monotonic() - started
                await trio.sleep(1)
            await fleet.agree()
            leader = next(name for name in fleet.running() if fleet.said(name, "sent database snapshot"))
            other = next(name for name in fleet.names if name not in (leader, away))
            numbers = {
                "snapshot_megabytes": megabytes,
                "caught_up_seconds": round(took, 2),
                "cuts": cutter.cuts,
                "snapshots_begun": fleet.said(away, "receiving database snapshot"),
                "snapshots_received": fleet.said(away, "received and saved database snapshot"),
                "interruptions": sum(
                    fleet.said(name, "sending a snapshot was interrupted") for name in (leader, other)
                ),
                "leader_memory_grew_megabytes": _megabytes(peaks[leader] - before[leader]),
                "other_follower_memory_grew_megabytes": _megabytes(peaks[other] - before[other]),
                "follower_memory_peak_megabytes": _megabytes(peaks[away]),
            }
            nursery.cancel_scope.cancel()
    return load.report("catch-up", numbers)


async def _watch_memory(fleet: Fleet, peaks: dict[str, int]) -> None:
    """Note the most memory that each member has had, until cancelled."""
    while True:
        for name in fleet.running():
            peaks[name] = max(peaks.get(name, 0), fleet.memory_bytes(name))
        await trio.sleep(0.02)


def _megabytes(size: int) -> float:
    return round(size / 1e6, 1)


async def _start_all(fleet: Fleet) -> None:
    for name in fleet.names:
        fleet.start(name, fleet.names)
    for name in fleet.names:
        await fleet.healthy(name)


async def _fill(fleet: Fleet, load: Load, megabytes: int) -> None:
    """Write that much, in values of 50 kB of which no two are alike."""
    async with fleet.client(await fleet.leader()) as client, trio.open_nursery() as nursery:

        async def write(part: int) -> None:
            for number in range(part, megabytes * 20, 4):
                data = (b"%08d" % number) * 6250
                await load.put_bulk(client, 1000 + part, f"fill/{number:06d}", data)

        for part in range(4):
            nursery.start_soon(write, part)


async def _member_id(fleet: Fleet, name: str) -> str:
    async with fleet.client() as client:
        members = await client.members(linearizable=True)
    return next(f"{member.id:x}" for member in members if member.name == name)


async def _learner_id(fleet: Fleet) -> str:
    async with fleet.client(await fleet.leader()) as client:  # the learner itself would refuse
        members = await client.members(linearizable=True)
    return next(f"{member.id:x}" for member in members if member.is_learner)


async def _move(fleet: Fleet, leader: str, target: str, seconds: float = 30.0) -> None:
    """Hand over; a transfer that the leader gave up, because the target was late, is asked for again."""
    wanted = int(await _member_id(fleet, target), 16)
    path, answer = "/etcdserverpb.Maintenance/MoveLeader", rpc.MoveLeaderResponse.FromString
    end = time.monotonic() + seconds
    while True:
        try:
            async with fleet.client(leader) as client:
                await client.call(path, rpc.MoveLeaderRequest(targetID=wanted), answer, timeout=10)
            return
        except TercetError as error:
            if await fleet.leader() != leader:
                return
            if time.monotonic() > end:
                raise FleetFailed(f"leadership did not move from {leader} to {target}: {error}") from error


async def _etcdctl(
    fleet: Fleet, program: str, *arguments: str, later: tuple[str, ...] = (), seconds: float = 30.0
) -> int:
    """Run etcdctl against whoever runs; how often it was refused before.

    While the cluster does not count as healthy, or for a reason in ``later``, try again.
    """
    if shutil.which(program) is None:
        raise FleetFailed(f"{program} is not installed")
    endpoints = ",".join(f"{HOST}:{fleet.client_ports[name]}" for name in fleet.running())
    argv = [program, "--endpoints", endpoints, *_PATIENT, *arguments]
    end = time.monotonic() + seconds
    refused = 0
    while True:
        run = await trio.run_process(
            argv, capture_stdout=True, capture_stderr=True, check=False, env={"ETCDCTL_API": "3"}
        )
        if run.returncode == 0:
            return refused
        said = run.stderr.decode()
        if not any(reason in said for reason in (_STRICT, *later)) or time.monotonic() > end:
            raise FleetFailed(f"{subprocess.list2cmdline(argv)}: {said}")
        refused += 1
        await trio.sleep(0.1 if later else 0.5)


class _Cutter:
    """Stands before a member's peer port, and once cuts the connection that has carried so many bytes."""

    def __init__(self, port: int, after_bytes: int) -> None:
        self._port = port
        self._after_bytes = after_bytes
        self.armed = False
        self.cuts = 0

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self._serve, 0)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream(HOST, self._port)
            async with client, server, trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, client, server, nursery.cancel_scope)
                await self._carry(server, client, nursery.cancel_scope)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _carry(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        carried = 0
        try:
            async for data in source:
                await target.send_all(data)
                carried += len(data)
                if self.armed and not self.cuts and 0 < self._after_bytes <= carried:
                    self.cuts += 1
                    break
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()
