"""``check perf`` and ``check datascale``: put a load on a cluster and judge what it does with it."""

from __future__ import annotations

import math
import secrets
import ssl
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import Client
from ..client.prefix import prefix_end
from .calls import ask, error_text
from .context import Context, Settings, write
from .failures import BAD_FEATURE, ERROR, INVALID_INPUT, Failure
from .progress import ProgressBar
from .session import connect
from .text import quoted

__all__ = ["datascale", "perf"]

KV: Final = "/etcdserverpb.KV/"
PERF_SECONDS: Final = 60
VALUE_BYTES: Final = 1024
#: Of a key and its value in ``datascale``, in equal parts.
PAIR_BYTES: Final = 1024
RESIDENT: Final = "process_resident_memory_bytes"
#: What is big may take long.
CLEAN_SECONDS: Final = 600.0
KEY_BYTES: Final = 256
TICK_SECONDS: Final = 0.01
SHOW_SECONDS: Final = 0.2
SLOWEST_SECONDS: Final = 0.5
DEVIATION_SECONDS: Final = 0.1
#: Spellings of each load, writes a second and clients.
_PERF: Final = {
    ("s", "small"): (150, 50),
    ("m", "medium"): (1000, 200),
    ("l", "large"): (8000, 500),
    ("xl", "xLarge"): (15000, 1000),
}
#: ... keys and clients.
_SCALE: Final = {
    ("s", "small"): (10_000, 50),
    ("m", "medium"): (100_000, 200),
    ("l", "large"): (1_000_000, 500),
    ("xl", "xLarge"): (3_000_000, 1000),
}


def _load(context: Context, loads: dict[tuple[str, str], tuple[int, int]]) -> tuple[int, int]:
    wanted = context.text("load")
    for names, load in loads.items():
        if wanted in names:
            return load
    raise Failure(BAD_FEATURE, f"unknown load option {wanted}")


@dataclass(slots=True)
class _Report:
    """What the writes took, in seconds, and what went wrong."""

    took: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Writes a second."""
        return len(self.took) / self.seconds if self.seconds else 0.0

    @property
    def deviation(self) -> float:
        mean = sum(self.took) / len(self.took) if self.took else 0.0
        return math.sqrt(sum((one - mean) ** 2 for one in self.took) / max(1, len(self.took)))


async def _clients(stack: AsyncExitStack, settings: Settings, count: int) -> list[Client]:
    return [await stack.enter_async_context(connect(settings)) for _ in range(count)]


async def _prefix_is_free(client: Client, prefix: bytes) -> None:
    request = rpc.RangeRequest(key=prefix, range_end=prefix_end(prefix), limit=1)
    answer = await ask(client, KV + "Range", request, rpc.RangeResponse)
    if answer.kvs:
        shown = prefix.decode()
        raise Failure(
            INVALID_INPUT,
            f"prefix {quoted(prefix)} has keys. Delete with etcdctl del --prefix {shown} first",
        )


async def _put(client: Client, key: bytes, value: bytes, report: _Report) -> None:
    started = time.monotonic()
    try:
        await ask(client, KV + "Put", rpc.PutRequest(key=key, value=value), rpc.PutResponse)
    except TercetError as error:
        report.errors[error_text(error)] += 1
    else:
        report.took.append(time.monotonic() - started)


async def _keep_showing(bar: ProgressBar, done: Callable[[], int]) -> None:
    while True:
        bar.done = done()
        bar.show()
        await trio.sleep(SHOW_SECONDS)


async def _clean_up(context: Context, settings: Settings, client: Client, prefix: bytes) -> None:
    """Delete what was written, and compact and defragment if asked to."""
    request = rpc.DeleteRangeRequest(key=prefix, range_end=prefix_end(prefix))
    answer = await ask(client, KV + "DeleteRange", request, rpc.DeleteRangeResponse, timeout=CLEAN_SECONDS)
    if context.yes("auto-compact"):
        revision = answer.header.revision
        write(f"Compacting with revision {revision}\n")
        compaction = rpc.CompactionRequest(revision=revision, physical=True)
        await ask(client, KV + "Compact", compaction, rpc.CompactionResponse, timeout=CLEAN_SECONDS)
        write(f"Compacted with revision {revision}\n")
    if context.yes("auto-defrag"):
        for endpoint in settings.endpoints:
            write(f"Defragmenting {quoted(endpoint)}\n")
            async with connect(settings, (endpoint,)) as member:
                path, empty = "/etcdserverpb.Maintenance/Defragment", rpc.DefragmentRequest()
                await ask(member, path, empty, rpc.DefragmentResponse, timeout=CLEAN_SECONDS)
            write(f"Defragmented {quoted(endpoint)}\n")


def perf(context: Context) -> None:
    """``check perf``: writes at a given rate for a minute; the exit status tells whether it went well."""
    rate, clients = _load(context, _PERF)
    report = context.run(_perf, context, context.settings(), rate, clients)
    fine = _judge(report, rate)
    write("PASS\n" if fine else "FAIL\n")
    if not fine:
        raise Failure(ERROR, "")


def _judge(report: _Report, rate: int) -> bool:
    fine = True
    if report.errors:
        write("FAIL: too many errors\n")
        for text, count in sorted(report.errors.items()):
            write(f"FAIL: ERROR({text}) -> {count}\n")
        fine = False
    slowest = max(report.took, default=0.0)
    for good, passed, failed in (
        (
            report.rate / rate > 0.9,
            f"PASS: Throughput is {int(report.rate) + 1} writes/s\n",
            f"FAIL: Throughput too low: {int(report.rate) + 1} writes/s\n",
        ),
        (
            slowest <= SLOWEST_SECONDS,
            f"PASS: Slowest request took {slowest:f}s\n",
            f"Slowest request took too long: {slowest:f}s\n",
        ),
        (
            report.deviation <= DEVIATION_SECONDS,
            f"PASS: Stddev is {report.deviation:f}s\n",
            f"Stddev too high: {report.deviation:f}s\n",
        ),
    ):
        write(passed if good else failed)
        fine = fine and good
    return fine


async def _perf(context: Context, settings: Settings, rate: int, count: int) -> _Report:
    prefix = context.text("prefix").encode()
    value, report = secrets.token_bytes(VALUE_BYTES), _Report()
    async with AsyncExitStack() as stack:
        clients = await _clients(stack, settings, count)
        await _prefix_is_free(clients[0], prefix)
        bar = ProgressBar(PERF_SECONDS)
        started = time.monotonic()
        permits, waiting = trio.open_memory_channel[None](rate)

        async def work(client: Client) -> None:
            async for _ in waiting.clone():
                key = prefix + secrets.token_bytes(KEY_BYTES // 2).hex().encode()
                await _put(client, key, value, report)

        async with trio.open_nursery() as nursery:
            showing = await nursery.start(_shown_until_cancelled, bar, _seconds_since(started))
            await _in_workers(work, clients, lambda: _release(permits, rate, started))
            report.seconds = time.monotonic() - started
            showing.cancel()
        bar.finish()
        await _clean_up(context, settings, clients[0], prefix)
    return report


def _seconds_since(started: float) -> Callable[[], int]:
    return lambda: min(PERF_SECONDS, int(time.monotonic() - started))


async def _shown_until_cancelled(
    bar: ProgressBar,
    done: Callable[[], int],
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await _keep_showing(bar, done)


async def _in_workers(
    work: Callable[[Client], Awaitable[None]], clients: list[Client], feed: Callable[[], Awaitable[None]]
) -> None:
    """Feed the workers, one for each client, until they have done everything."""
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(work, client)
        await feed()


async def _release(permits: trio.MemorySendChannel[None], rate: int, started: float) -> None:
    """Allow so many writes a second; what the cluster cannot take waits."""
    released = 0
    async with permits:
        with trio.move_on_after(PERF_SECONDS):
            while True:
                due = int((time.monotonic() - started) * rate) - released
                for _ in range(due):
                    await permits.send(None)
                released += due
                await trio.sleep(TICK_SECONDS)


def datascale(context: Context) -> None:
    """``check datascale``: writes many keys, and tells by how much the member's memory has grown."""
    keys, clients = _load(context, _SCALE)
    report = _Report()
    grown = context.run(_datascale, context, context.settings(), keys, clients, report)
    if report.errors:
        write("FAIL: too many errors\n")
        for text, count in sorted(report.errors.items()):
            write(f"FAIL: ERROR({text}) -> {count}\n")
        raise Failure(ERROR, "")
    write(f"PASS: Approximate system memory used : {grown / (1 << 20):.2f} MB.\n")


async def _datascale(context: Context, settings: Settings, keys: int, count: int, report: _Report) -> float:
    """Write, and clean up; by how many bytes the member has grown in between."""
    prefix = context.text("prefix").encode()
    value = secrets.token_bytes(PAIR_BYTES // 2)
    async with AsyncExitStack() as stack:
        clients = await _clients(stack, settings, count)
        await _prefix_is_free(clients[0], prefix)
        before = _memory(settings, "before")
        write(
            f"Start data scale check for work load [{keys} key-value pairs, {PAIR_BYTES} bytes per"
            f" key-value, {count} concurrent clients].\n"
        )
        bar = ProgressBar(keys)
        numbers = iter(range(keys))

        async def work(client: Client) -> None:
            for number in numbers:
                key = prefix + (b"%d" % number).zfill(PAIR_BYTES // 2)
                await _put(client, key, value, report)

        async with trio.open_nursery() as nursery:
            showing = await nursery.start(
                _shown_until_cancelled, bar, lambda: len(report.took) + sum(report.errors.values())
            )
            await _in_workers(work, clients, trio.lowlevel.checkpoint)
            showing.cancel()
        bar.finish()
        grown = _memory(settings, "after") - before
        await _clean_up(context, settings, clients[0], prefix)
    return grown


def _memory(settings: Settings, when: str) -> float:
    """Resident bytes of the first endpoint's member, as its metrics tell; ends the command without them."""
    try:
        return _resident(settings, settings.endpoints[0].strip())
    except (OSError, ValueError) as error:
        write(f"fetch error: {error}\n")
    write(f"FAIL: Could not read {RESIDENT} {when} the put operations.\n")
    raise Failure(ERROR, "")


def _resident(settings: Settings, url: str) -> float:
    if "://" not in url:
        url = ("https://" if settings.tls else "http://") + url
    with urllib.request.urlopen(url + "/metrics", timeout=10, context=_context(settings, url)) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(RESIDENT + " "):
                return float(line.split()[1])
    raise ValueError(f"could not find: {RESIDENT}")


def _context(settings: Settings, url: str) -> ssl.SSLContext | None:
    if not url.startswith("https://"):
        return None
    from ..tls_settings import ClientTls
    from .tls import tls_context

    return tls_context(settings.tls or ClientTls())
