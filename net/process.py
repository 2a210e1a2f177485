"""One member as a process of its own: from the command line to an exit status.

Everything that belongs to a process and not to a member is here: signals, the garbage collector, standard
error, exit statuses. SIGTERM and SIGINT stop the member in order and end with 0; a second one ends at once.
Whatever keeps a member from starting is one clear line and status 1.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import trio
from prometheus_client import ProcessCollector

from tercet.core.errors import Corruption, Rejected

from .address import read_url
from .config import MemberConfig
from .dial import listen
from .exception_groups import only_leaf
from .flags import FlagError, Startup, UsageError, help_text, parse
from .log_outputs import open_outputs
from .member import Running, run_member
from .metrics import Metrics
from .real import RealProbe, real_world
from .runtime_metrics import CollectorPauses, runtime_samples
from .world import World

__all__ = ["describe", "run_command_line", "version_text"]

#: Allocations between two collections of the youngest generation: a request makes no cycles, so rarely.
GC_THRESHOLDS: Final = (50_000, 20, 50)

#: How long a thread that wants the interpreter waits for it, in seconds.
SWITCH_SECONDS: Final = 0.0002


def version_text(reported: str) -> str:
    """The lines of ``--version``; tools read the first one."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    from tercet import __version__

    return (
        f"etcd Version: {reported}\nTercet Version: {__version__}\n"
        f"Python Version: {python}\nOS/Arch: {sys.platform}/{os.uname().machine}\n"
    )


def run_command_line(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what a member's command line asks for; the exit status."""
    try:
        startup = parse(arguments, environment)
    except UsageError as problem:
        sys.stderr.write(f"{problem}\n{help_text()}")
        return 2
    except FlagError as problem:
        sys.stderr.write(f"error verifying flags, {problem}. See 'tercet --help'.\n")
        return 1
    if startup.show:
        version = version_text(startup.config.reported_version)
        sys.stdout.write(help_text() if startup.show == "help" else version)
        return 0
    return _run(startup, environment)


def _run(startup: Startup, environment: Mapping[str, str]) -> int:
    config = startup.config
    if config.seed == 0:
        config = replace(config, seed=int.from_bytes(os.urandom(7), "big") | 1)
    try:
        write_log = open_outputs(config.log_outputs, config.log_rotation)
    except OSError as problem:
        sys.stderr.write(f"error verifying flags, {describe(problem)}. See 'tercet --help'.\n")
        return 1
    world = real_world(
        config.name,
        log_level=config.log_level,
        log_format=config.log_format,
        durable=not config.unsafe_no_fsync,
        write_log=write_log,
        environment=environment,
        reuse_port=config.socket_reuse_port,
    )
    metrics = getattr(world.probe, "metrics", None)
    if isinstance(metrics, Metrics):
        ProcessCollector(registry=metrics.registry)
        metrics.registry.register(CollectorPauses())
        metrics.add_source(runtime_samples)
    if config.unsafe_no_fsync:
        world.probe.log("warn", "the log is never synced (--unsafe-no-fsync): a power cut may lose data")
    for warning in startup.warnings:
        world.probe.log("warn", warning)
    try:
        return trio.run(_serve, world, config, strict_exception_groups=True)
    except KeyboardInterrupt:
        return 130
    except (OSError, Rejected, Corruption, ValueError) as problem:
        world.probe.log("error", "failed to start or had to stop", error=describe(problem))
        sys.stderr.write(f"tercet: {describe(problem)}\n")
        return 1


def describe(problem: BaseException) -> str:
    """What is wrong, for a person; never a traceback."""
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return str(problem) or type(problem).__name__


async def _serve(world: World, config: MemberConfig) -> int:
    """Run the member until a signal."""
    serve_points = _fail_points(world)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, signals, world, nursery.cancel_scope)
                if serve_points is not None:
                    await nursery.start(serve_points)
                running: Running = await nursery.start(_run_and_end, world, config, nursery.cancel_scope)
                _settle_collector()
                _wake_disk_threads_soon()
                _tell_supervisor(world.environment.get("NOTIFY_SOCKET", ""))
                world.probe.log(
                    "info",
                    "serving",
                    clients=list(running.client_addresses),
                    peers=list(running.peer_addresses),
                    member_id=f"{running.node.member_id:x}",
                    cluster_id=f"{running.node.cluster_id:x}",
                )
        except BaseExceptionGroup as group:
            raise only_leaf(group) from None
    return 0


def _fail_points(world: World) -> Callable[..., Awaitable[None]] | None:
    """What serves the port for fail points; None: nobody asks for one."""
    address, probe = world.environment.get("GOFAIL_HTTP", ""), world.probe
    if not address or not isinstance(probe, RealProbe):
        return None
    from .fail_points import FailPoints
    from .server.http import make_site_handler

    points = FailPoints(world.environment.get("GOFAIL_FAILPOINTS", ""))
    probe.point = points.reach
    handler = make_site_handler(points)

    async def serve(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listener = await listen(world, read_url(address))
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(handler, world, await listener.accept(), b"")

    return serve


async def _run_and_end(
    world: World,
    config: MemberConfig,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the member; when it stops by itself, having been removed, the process ends."""
    await run_member(world, config, task_status=task_status)
    scope.cancel()


async def _stop_on_signal(signals: AsyncIterator[int], world: World, scope: trio.CancelScope) -> None:
    async for number in signals:
        world.probe.log("info", "received signal; shutting down", signal=signal.Signals(number).name)
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_DFL)  # a second signal does not ask
        scope.cancel()
        return


def _tell_supervisor(address: str) -> None:
    """Tell systemd that requests are taken: ``Type=notify``. "": nobody wants to know."""
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.send(b"READY=1")


def _wake_disk_threads_soon() -> None:
    """Let a thread that comes back from a sync have the interpreter soon: it has only to say so.

    With Python's 5 ms a finished sync of 0.3 ms was heard of 2.6 ms after it began, with this 1.5 ms, and
    16x16 Puts rose by a tenth.
    """
    sys.setswitchinterval(SWITCH_SECONDS)


def _settle_collector() -> None:
    """What start-up has made stays: take it out of the collector's sight."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
