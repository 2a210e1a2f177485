"""Threads for what blocks: results and errors come back, few run at once, cancelling waits for the end."""

from __future__ import annotations

import threading

import pytest
import trio

from tercet.net import real_threads
from tercet.net.real_threads import DiskThreads


def test_results_and_errors_come_back_and_one_thread_serves_one_job_after_the_other() -> None:
    async def main() -> None:
        threads = DiskThreads(2)
        first = await threads.run(threading.get_ident)
        assert first != threading.get_ident()
        with pytest.raises(OSError, match="no such disk"):
            await threads.run(_fail)
        assert await threads.run(threading.get_ident) == first

    trio.run(main)


def _fail() -> None:
    raise OSError("no such disk")


def test_so_many_jobs_run_at_once_and_no_more() -> None:
    async def main() -> None:
        threads = DiskThreads(2)
        gate, lock, running, most = threading.Event(), threading.Lock(), 0, 0

        def job() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            if most == 2:
                gate.set()
            assert gate.wait(90), "a second one runs beside this one"
            with lock:
                running -= 1

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(threads.run, job)
        assert most == 2

    trio.run(main)


def test_a_job_that_has_begun_is_waited_for_though_its_task_is_cancelled() -> None:
    async def main() -> None:
        threads = DiskThreads(1)
        begun, gate, done = trio.Event(), threading.Event(), []
        token = trio.lowlevel.current_trio_token()

        def job() -> None:
            token.run_sync_soon(begun.set)
            assert gate.wait(90)
            done.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(threads.run, job)
            await begun.wait()
            nursery.cancel_scope.cancel()
            gate.set()
        assert done == [True]
        with trio.CancelScope() as scope:
            scope.cancel()
            await threads.run(lambda: done.append(False))
        assert done == [True], "it was not begun any more"

    trio.run(main)


def test_an_idle_thread_ends_and_another_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_threads, "_IDLE_SECONDS", 0.0)

    async def main() -> None:
        threads = DiskThreads(1)
        for _ in range(50):
            first = await threads.run(threading.current_thread)
            await trio.to_thread.run_sync(first.join, 90)
            assert not first.is_alive()
            assert not threads._idle

    trio.run(main)


def test_the_threads_of_an_ended_run_serve_the_next_one() -> None:
    threads = DiskThreads(1)
    assert trio.run(threads.run, lambda: 1) == 1
    assert trio.run(threads.run, lambda: 2) == 2
