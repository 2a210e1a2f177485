"""What the process tells of its runtime, under the names that etcd's dashboards read.

Those names are Go's. Where this runtime has the same thing it is told under them: tasks are goroutines,
threads are threads, the private memory that is resident is the heap, blocks of the interpreter's allocator
are its objects, and pauses of the garbage collector are measured as they happen. What has no counterpart is
left out (docs/operations.md lists it).
"""

from __future__ import annotations

import gc
import os
import platform
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import trio
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .metrics import Sample

__all__ = ["CollectorPauses", "runtime_samples"]

_PAUSES_KEPT: Final = 512
_QUANTILES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Lines of /proc/self/status, in KiB -> the metrics that they stand for.
_STATUS: Final = {
    "RssAnon": ("go_memstats_alloc_bytes", "go_memstats_heap_alloc_bytes", "go_memstats_heap_inuse_bytes"),
    "VmData": ("go_memstats_heap_sys_bytes", "go_memstats_sys_bytes"),
    "VmStk": ("go_memstats_stack_inuse_bytes", "go_memstats_stack_sys_bytes"),
}


class CollectorPauses(Collector):
    """The garbage collector's pauses, from now on: how many, how long, when the last one ended."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._count = 0
        self._seconds = 0.0
        self._last = 0.0  # Unix seconds; 0: there was none
        self._newest: deque[float] = deque(maxlen=_PAUSES_KEPT)
        gc.callbacks.append(self._note)

    def close(self) -> None:
        """Stop measuring."""
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._begun = time.perf_counter()
            return
        taken = time.perf_counter() - self._begun
        self._count += 1
        self._seconds += taken
        self._last = time.time()
        self._newest.append(taken)

    def collect(self) -> Iterator[Metric]:
        """Count, sum and quantiles of the newest pauses, and the end of the last one."""
        name = "go_gc_duration_seconds"
        pauses = Metric(name, "Pauses of the garbage collector.", "summary")
        newest = sorted(self._newest) or [0.0]
        for quantile in _QUANTILES:
            place = round(quantile * (len(newest) - 1))
            pauses.add_sample(name, {"quantile": f"{quantile:g}"}, newest[place])
        pauses.add_sample(f"{name}_sum", {}, self._seconds)
        pauses.add_sample(f"{name}_count", {}, self._count)
        yield pauses
        last = "When the last collection of garbage ended, in Unix seconds; 0: there was none."
        yield GaugeMetricFamily("go_memstats_last_gc_time_seconds", last, value=self._last)


def runtime_samples() -> Iterator[Sample]:
    """Version, tasks, threads, memory, open files; to be asked inside of ``trio.run``."""
    version = f"python{platform.python_version()}"
    yield Sample("go_info", 1.0, (("version", version),))
    yield Sample("etcd_server_go_version", 1.0, (("server_go_version", version),))
    yield Sample("go_goroutines", float(trio.lowlevel.current_statistics().tasks_living))
    yield Sample("go_threads", float(threading.active_count()))
    yield Sample("go_memstats_heap_objects", float(sys.getallocatedblocks()))
    yield from _memory()
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    unlimited = address_space == resource.RLIM_INFINITY
    yield Sample("process_virtual_memory_max_bytes", float(2**64 - 1 if unlimited else address_space))
    yield Sample("os_fd_limit", float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    with suppress(OSError):  # there is no such folder everywhere
        yield Sample("os_fd_used", float(len(os.listdir("/proc/self/fd")) - 1))


def _memory() -> Iterator[Sample]:
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            for metric in _STATUS.get(name, ()):
                yield Sample(metric, float(rest.split()[0]) * 1024)
