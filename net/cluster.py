"""``tercet cluster``: a three-member cluster on this machine, each member a process of its own.

The launcher only starts, watches and stops: members are ordinary ``tercet`` processes with ordinary flags, so
that one may be killed by hand to see what happens. Data lies in one folder and survives a restart. Ctrl-C
stops the members in order; a member that ends by itself is reported, and the others go on.
"""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import click
import trio

__all__ = ["MemberProcess", "Plan", "cluster", "plan_members"]

HOST: Final = "127.0.0.1"
STOP_SECONDS: Final = 5.0
READY_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """One member to be: its name, ports, folder and command line."""

    name: str
    client_port: int
    peer_port: int
    data_dir: Path
    arguments: tuple[str, ...]

    @property
    def client_url(self) -> str:
        return f"http://{HOST}:{self.client_port}"


def plan_members(
    data_dir: Path,
    *,
    size: int = 3,
    first_client_port: int = 2379,
    step: int = 10_000,
    extra: Sequence[str] = (),
) -> list[Plan]:
    """Lay out a cluster.

    Args:
        data_dir: holds one folder per member.
        size: number of members.
        first_client_port: of the first member; 2379 gives 2379, 12379 and so on with the step, but the
            customary ports 2379, 22379 and 32379 for three members. Peers listen one port higher.
        step: between two members' ports, from the second on.
        extra: flags for every member.
    """
    ports = [first_client_port] + [first_client_port + step * (number + 1) for number in range(1, size)]
    names = [f"n{number + 1}" for number in range(size)]
    members = ",".join(f"{name}=http://{HOST}:{port + 1}" for name, port in zip(names, ports, strict=True))
    plans = []
    for name, port in zip(names, ports, strict=True):
        client, peer = f"http://{HOST}:{port}", f"http://{HOST}:{port + 1}"
        folder = data_dir / name
        arguments = (
            "--name", name, "--data-dir", str(folder),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", members, "--initial-cluster-token", "tercet-cluster",
            *extra,
        )  # fmt: skip
        plans.append(Plan(name, port, port + 1, folder, arguments))
    return plans


class MemberProcess:
    """A running member and its log file."""

    def __init__(self, plan: Plan) -> None:
        plan.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.plan = plan
        self.log_path = plan.data_dir / "log"
        self._log: IO[bytes] = open(self.log_path, "ab")  # noqa: SIM115 (closed by stop)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tercet", *plan.arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )

    def last_words(self) -> str:
        """The last line of its log that is for people."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "(no log)"

    def stop(self) -> None:
        """Ask it to stop; ``wait`` waits for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for the end after ``stop``; a member that does not end is killed."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def _occupied(plans: Sequence[Plan]) -> list[int]:
    """The ports among the plans' that somebody listens on."""
    taken = []
    for plan in plans:
        for port in (plan.client_port, plan.peer_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    taken.append(port)
    return taken


def _ask(plan: Plan, path: str) -> dict[str, Any] | None:
    """One gateway call; None when the member does not answer."""
    request = urllib.request.Request(f"{plan.client_url}{path}", data=b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=1.0) as response:
            found = json.load(response)
    except (OSError, urllib.error.URLError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _picture(plans: Sequence[Plan]) -> str | None:
    """Members and leader as they see themselves; None while there is no leader or a member is missing."""
    states = [_ask(plan, "/v3/maintenance/status") for plan in plans]
    if any(state is None or not state.get("leader") for state in states):
        return None
    leaders = {state["leader"] for state in states if state}
    if len(leaders) != 1:
        return None
    lines = ["  member  id                client                  peer                    "]
    for plan, state in zip(plans, states, strict=True):
        assert state is not None
        own = state["header"]["member_id"]
        mark = "leader" if own in leaders else ""
        lines.append(
            f"  {plan.name:<6}  {int(own):016x}  {plan.client_url:<22}  "
            f"http://{HOST}:{plan.peer_port:<7}  {mark}".rstrip()
        )
    return "\n".join(lines)


async def _greet(members: list[MemberProcess], say: Callable[[str], None]) -> None:
    """Say the first picture, whenever it comes, and once that it is late; after a member's end nothing."""
    plans = [member.plan for member in members]
    late = trio.current_time() + READY_SECONDS
    while all(member.process.poll() is None for member in members):
        picture = await trio.to_thread.run_sync(partial(_picture, plans))
        if picture is not None:
            say(_greeting(plans, picture))
            return
        if trio.current_time() > late:
            late = math.inf
            say(f"no leader within {READY_SECONDS:.0f} s; the logs are in {plans[0].data_dir.parent}")
        await trio.sleep(POLL_SECONDS)


async def _report_ends(
    members: list[MemberProcess], ended: list[MemberProcess], say: Callable[[str], None]
) -> None:
    """Say which members end, and put them into ``ended``, until none is left."""
    while len(ended) < len(members):
        for member in members:
            if member not in ended and member.process.poll() is not None:
                ended.append(member)
                say(f"{member.plan.name} ended with {member.process.returncode}: {member.last_words()}")
        await trio.sleep(POLL_SECONDS)


async def _watch(members: list[MemberProcess], say: Callable[[str], None]) -> int:
    """Run until a signal or until no member is left; the exit status, which is 1 when a member has ended."""
    ended: list[MemberProcess] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    say("\nstopping ...")
                    nursery.cancel_scope.cancel()
                    return

            nursery.start_soon(stop_on_signal)
            nursery.start_soon(_greet, members, say)
            await _report_ends(members, ended, say)
            nursery.cancel_scope.cancel()
    return 1 if ended else 0


def _greeting(plans: Sequence[Plan], picture: str) -> str:
    every = ",".join(f"{HOST}:{plan.client_port}" for plan in plans)
    return (
        f"{picture}\n\nTry:\n"
        f"  etcdctl --endpoints {every} put hello world\n"
        f"  etcdctl --endpoints {every} get hello\n"
        f"  etcdctl --endpoints {every} endpoint status -w table\n\n"
        f"Data and logs are in {plans[0].data_dir.parent}. Ctrl-C stops the cluster."
    )


@click.command()
@click.option("--data-dir", default="tercet-data", show_default=True, type=click.Path(path_type=Path),
              help="Folder of the members' data; kept over restarts.")  # fmt: skip
@click.option("--port", default=2379, show_default=True, type=click.IntRange(1, 65000),
              help="Client port of the first member.")  # fmt: skip
@click.option("--port-step", default=10_000, show_default=True, type=click.IntRange(2, 10_000),
              help="Distance of the next members' ports, which start two steps up.")  # fmt: skip
def cluster(data_dir: Path, port: int, port_step: int) -> None:
    """Run three members on this machine: clients 2379, 22379, 32379; peers one port higher."""
    plans = plan_members(data_dir, first_client_port=port, step=port_step)
    if max(plan.peer_port for plan in plans) > 65535:
        raise click.ClickException("these ports do not exist; choose a lower --port or --port-step")
    taken = _occupied(plans)
    if taken:
        ports = ", ".join(str(number) for number in taken)
        raise click.ClickException(f"port {ports} on {HOST} is in use: is a cluster running already?")
    members: list[MemberProcess] = []
    try:
        for plan in plans:
            members.append(MemberProcess(plan))
        status = trio.run(_watch, members, partial(click.echo, err=False))
    finally:
        for member in members:
            member.stop()
        for member in members:
            member.wait()
    click.echo("stopped")
    sys.exit(status)
