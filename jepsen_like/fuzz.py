"""``tercet fuzz``: damaged byte streams against the client and the peer ports of real members.

Without endpoints it starts three members of its own, so that it can also look at their logs, their memory and
whether they are still there. The exit status is 0 when nothing was found, 1 with findings, 2 when the run
could not be made.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .bench.targets import Target, TargetFailed
from .fuzz_peer import PeerTarget
from .fuzz_run import Endpoint, Tally, fuzz
from .fuzz_vault import FLAGS, Vault

__all__ = ["fuzz_command"]

#: What a member's memory may grow by: for connections and caches, and for each entry that was committed.
GROWTH_BYTES: Final = 96 << 20
GROWTH_BYTES_PER_ENTRY: Final = 4096
_HOST: Final = "127.0.0.1"
_CALM: Final = "--election-timeout=5000"
_LOUD: Final = re.compile(r'"level":\s*"(error|fatal|panic)"|^Traceback ', re.MULTILINE)


class _NotRun(click.ClickException):
    exit_code = 2


class _Members:
    """The members under fire, seen from outside; of our own ones also the inside."""

    def __init__(self, endpoints: list[Endpoint], own: Target | None = None) -> None:
        self.endpoints = endpoints
        self._own = own

    def rss_bytes(self) -> list[int]:
        """Resident memory of each member; of foreign ones nothing."""
        sizes = []
        for process in self._own.processes if self._own else ():
            found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            sizes.append(int(found[1]) * 1024 if found else 0)
        return sizes

    def trouble(self) -> str:
        """What is wrong with the processes; "" when all run."""
        for number, process in enumerate(self._own.processes if self._own else ()):
            if process.poll() is not None:
                return f"member {number} ended with exit status {process.returncode}\n{self._tail(number)}"
        return ""

    def _tail(self, number: int) -> str:
        """The end of a member's log."""
        assert self._own is not None
        lines = (self._own.folder / f"m{number}.log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines[-60:] if '"level":"warn"' not in line)

    def loud_lines(self, vault: Vault | None) -> list[str]:
        """The different error lines of the members' logs, and those that tell a secret."""
        found: Counter[str] = Counter()
        for number in range(len(self._own.processes) if self._own else 0):
            assert self._own is not None
            text = (self._own.folder / f"m{number}.log").read_text(errors="replace")
            for line in text.splitlines():
                if _LOUD.search(line) or (vault is not None and vault.leaks(line.encode())):
                    found[re.sub(r"\d+", "#", line)[:300]] += 1
        return [f"{count} times in the log: {line}" for line, count in sorted(found.items())]

    def entries(self) -> int:
        """Committed log entries."""
        host, port = self.endpoints[0].client
        return int(_ask(host, port, "POST", "/v3/maintenance/status", b"{}").get("raftIndex", 0))


def _ask(host: str, port: int, method: str, path: str, body: bytes | None = None) -> Any:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if isinstance(found, list):
            return found, int(answer.getheader("X-Etcd-Cluster-Id") or "0", 16)
        return found
    finally:
        connection.close()


def _target(peer: tuple[str, int]) -> PeerTarget:
    """What the peer port tells of its member and the others."""
    rows, cluster_id = _ask(*peer, "GET", "/members")
    address = f"{peer[0]}:{peer[1]}"
    ids = [int(row["id"]) for row in rows]
    here = (int(row["id"]) for row in rows if any(url.endswith(address) for url in row["peerURLs"]))
    mine = next(here, ids[0])
    return PeerTarget(cluster_id=cluster_id, member_id=mine, others=tuple(i for i in ids if i != mine))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter(f"need host:port, got {text!r}")
    return host, int(port)


@contextmanager
def _members(clients: Sequence[str], peers: Sequence[str], flags: Sequence[str]) -> Iterator[_Members]:
    """The given members, or three of our own for the length of the run.

    Ours take a busy machine's pauses for no leader's death: a call that fails is then a stream's doing.
    """
    if clients:
        addresses: list[tuple[str, int] | None] = [_address(text) for text in peers]
        addresses = addresses or [None] * len(clients)
        yield _Members([
            Endpoint(_address(client), peer, _target(peer) if peer else None)
            for client, peer in zip(clients, addresses, strict=True)
        ])  # fmt: skip
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tercet-fuzz-")))
        own = stack.enter_context(Target("tercet", 3, folder, (*flags, _CALM)))
        ports = zip(own.client_ports, own.peer_ports, strict=True)
        yield _Members(
            [Endpoint((_HOST, client), (_HOST, peer), _target((_HOST, peer))) for client, peer in ports], own
        )


@click.command("fuzz")
@click.option("--streams", default=100_000, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--seed", type=int, help="Default: a drawn one, which is printed.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="Start at this.")
@click.option("--jobs", default=32, show_default=True, type=click.IntRange(1, 1000), help="Connections.")
@click.option("--client-endpoint", "clients", multiple=True, help="host:port of a member; may be repeated.")
@click.option("--peer-endpoint", "peers", multiple=True, help="The members' peer ports, in the same order.")
@click.option(
    "--auth", is_flag=True, help="With authentication on, as users without rights: nothing may leak."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def fuzz_command(
    streams: int, seed: int | None, first: int, jobs: int, clients: tuple[str, ...], peers: tuple[str, ...],
    auth: bool, as_json: bool,
) -> None:  # fmt: skip
    """Send damaged byte streams to the client and peer ports while well-behaved clients work.

    Members must survive, answer clearly or close, stay small, lose nothing and go on serving. A stream is
    a function of seed and number: --first N --streams 1 sends stream N again.
    """
    if peers and len(peers) != len(clients):
        raise click.UsageError("need one --peer-endpoint for each --client-endpoint, or none")
    if auth and clients:
        raise click.UsageError("--auth fills and guards members of its own: leave --client-endpoint out")
    vault = Vault(f"{SystemRandom().getrandbits(96):024x}") if auth else None
    seed = SystemRandom().getrandbits(32) if seed is None else seed
    tally = Tally()
    try:
        with _members(clients, peers, FLAGS if auth else ()) as members, _bar(streams) as bar:
            numbers = range(first, first + streams)
            report = _run(members, tally, seed=seed, numbers=numbers, jobs=jobs, bar=bar, vault=vault)
    except (TargetFailed, OSError, http.client.HTTPException, json.JSONDecodeError) as problem:
        raise _NotRun(f"seed {seed}: {problem}") from problem
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)
    sys.exit(1 if tally.findings else 0)


@contextmanager
def _bar(total: int) -> Iterator[Progress]:
    columns = (TextColumn("streams"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar.add_task("streams", total=total)
        yield bar


def _run(
    members: _Members,
    tally: Tally,
    *,
    seed: int,
    numbers: range,
    jobs: int,
    bar: Progress,
    vault: Vault | None,
) -> dict[str, Any]:
    """Everything but the printing; the report as plain values."""
    before, entries_before, begun = members.rss_bytes(), members.entries(), time.monotonic()
    task = bar.tasks[0].id

    async def main() -> None:
        await fuzz(
            members.endpoints, seed=seed, numbers=numbers, jobs=jobs, tally=tally,
            progress=lambda done: bar.update(task, completed=done), alive=members.trouble, vault=vault,
        )  # fmt: skip

    trio.run(main)
    seconds = time.monotonic() - begun
    for line in members.loud_lines(vault):
        tally.find(line)
    dead = members.trouble()
    after = [] if dead else members.rss_bytes()
    entries = 0 if dead else members.entries() - entries_before
    allowed = GROWTH_BYTES + GROWTH_BYTES_PER_ENTRY * entries
    for number, (small, large) in enumerate(zip(before, after, strict=False)):
        if large - small > allowed:
            tally.find(f"member {number} grew by {_mb(large - small)} MB, at most {_mb(allowed)} are allowed")
    return {
        "seed": seed,
        "auth": vault is not None,
        "streams": tally.streams,
        "seconds": round(seconds, 1),
        "streams_per_second": round(tally.streams / seconds),
        "sent_mb": _mb(tally.sent_bytes),
        "received_mb": _mb(tally.received_bytes),
        "ends": dict(sorted(tally.ends.items())),
        "kinds": dict(sorted(tally.kinds.items())),
        "witness_writes": tally.witness_writes,
        "witness_reads": tally.witness_reads,
        "witness_slowest_seconds": round(tally.slowest_seconds, 3),
        "committed_entries": entries,
        "rss_mb_before": [_mb(size) for size in before],
        "rss_mb_after": [_mb(size) for size in after],
        "rss_mb_growth_allowed": _mb(allowed),
        "findings": tally.findings,
    }


def _mb(size: int) -> float:
    return round(size / (1 << 20), 1)


def _print(report: dict[str, Any]) -> None:
    kinds: Counter[str] = Counter()
    for kind, count in report["kinds"].items():
        kinds["/".join(kind.split("/")[:2]).split("-")[0]] += count
    click.echo(
        f"seed {report['seed']}: {report['streams']} streams in {report['seconds']} s"
        f" ({report['streams_per_second']} a second), {report['sent_mb']} MB sent\n"
        f"kinds: {', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))}\n"
        f"ended by: {', '.join(f'{end} {count}' for end, count in report['ends'].items())}\n"
        f"well-behaved clients: {report['witness_writes']} writes and {report['witness_reads']} reads,"
        f" slowest pair {report['witness_slowest_seconds']} s\n"
        f"memory of the members in MB: {report['rss_mb_before']} before, {report['rss_mb_after']} after"
        f" {report['committed_entries']} committed entries"
    )
    for finding in report["findings"]:
        click.echo(f"FOUND {finding}")
    click.echo("found nothing" if not report["findings"] else f"{len(report['findings'])} findings")
