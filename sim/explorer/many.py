"""Random exploration in several processes.

The seeds are dealt out in blocks and the results taken in their order, so what comes of it does not depend on
the number of processes: the same schedules, the same digest, the same first failure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from .random import Exploration, explore

__all__ = ["explore_in_processes"]

_BLOCK = 100  # seeds
_AHEAD = 3  # blocks in hand for each process


def explore_in_processes(
    jobs: int,
    *,
    first_seed: int = 0,
    schedules: int | None = None,
    cpu_seconds: float | None = None,
    nodes: int = 5,
    seconds: float = 8.0,
    strict: bool = True,
    progress: Callable[[int, float], None] | None = None,
) -> Exploration:
    """As ``explore``, in ``jobs`` processes (>= 1); a planted bug is planted in all of them.

    Args:
        cpu_seconds: of all processes together at most, looked at after each block; None: no limit.
        progress: called after each block with the number done and the CPU seconds used.
    """
    work = partial(_explore_block, nodes=nodes, seconds=seconds, strict=strict)
    blocks = _blocks(first_seed, schedules)
    waiting: deque[Future[Exploration]] = deque()
    found = Exploration(first_seed, 0, 0.0, 0.0, 0, "0" * 16, None)
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        try:
            while True:
                while len(waiting) < jobs * _AHEAD and (block := next(blocks, None)) is not None:
                    waiting.append(pool.submit(work, block))
                if not waiting:
                    return found
                found = _added(found, waiting.popleft().result())
                if progress is not None:
                    progress(found.schedules, found.cpu_seconds)
                if found.failure is not None or (
                    cpu_seconds is not None and found.cpu_seconds >= cpu_seconds
                ):
                    return found
        finally:
            pool.shutdown(cancel_futures=True)


def _blocks(first_seed: int, schedules: int | None) -> Iterator[tuple[int, int]]:
    """First seed and number of seeds of each block."""
    done = 0
    while schedules is None or done < schedules:
        size = _BLOCK if schedules is None else min(_BLOCK, schedules - done)
        yield first_seed + done, size
        done += size


def _explore_block(block: tuple[int, int], nodes: int, seconds: float, strict: bool) -> Exploration:
    return explore(first_seed=block[0], schedules=block[1], nodes=nodes, seconds=seconds, strict=strict)


def _added(one: Exploration, other: Exploration) -> Exploration:
    digest = (int(one.digest, 16) + int(other.digest, 16)) & (1 << 64) - 1
    return Exploration(
        one.first_seed,
        one.schedules + other.schedules,
        one.cpu_seconds + other.cpu_seconds,
        one.virtual_seconds + other.virtual_seconds,
        one.steps + other.steps,
        f"{digest:016x}",
        other.failure,
    )
