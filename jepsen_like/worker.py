"""A process that carries out plans: jobs in on standard input, outcomes out on standard output, JSON lines.

A process of its own, so that campaigns use every core, and so that the same plan can run under another hash
seed: ``PYTHONHASHSEED`` is fixed when a process starts.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec

from .experiment import Outcome, Plan, carry_out
from .store import save_run

__all__ = ["Job", "Pool", "main"]


class Job(msgspec.Struct, frozen=True):
    """A plan, and the folder to keep the run in with a trace; "" for none."""

    plan: Plan
    keep: str = ""


def do(job: Job) -> Outcome:
    """Carry out one job. An error of the harness itself is an invalid outcome that names it."""
    try:
        parts: list[bytes] = []
        outcome, record = carry_out(job.plan, parts.append if job.keep else None)
        if job.keep:
            save_run(Path(job.keep), outcome, record, b"".join(parts))
    except Exception:  # whatever it is, the campaign goes on and reports this seed
        return _broken(job.plan, traceback.format_exc())
    return outcome


def _broken(plan: Plan, story: str) -> Outcome:
    return Outcome(
        seed=plan.seed,
        digest="",
        verdict="invalid",
        checker="harness",
        reason=story,
        virtual_seconds=0.0,
        cpu_seconds=0.0,
        check_seconds=0.0,
        faults_fired={},
        operations=0,
        unknown_operations=0,
        problems=[story.strip().splitlines()[-1]],
        plan=plan,
    )


def main() -> None:
    """Serve jobs until the input ends."""
    gc.freeze()  # what is loaded now stays: no collection between two runs looks at it again
    decoder, encoder = msgspec.json.Decoder(Job), msgspec.json.Encoder()
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    for line in sys.stdin.buffer:
        answers.write(encoder.encode(do(decoder.decode(line))) + b"\n")
        answers.flush()


class Pool:
    """``jobs`` worker processes, each with the same hash seed."""

    def __init__(self, jobs: int, hash_seed: int = 0) -> None:
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="campaign")
        self._local = threading.local()
        self._closed = False
        self._workers: list[subprocess.Popen[bytes]] = []
        self._environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # what runs now is not wanted any more
            self._closed = True
            for worker in self._workers:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            assert worker.stdin is not None and worker.stdout is not None
            with suppress(OSError):  # a job it never read
                worker.stdin.close()
            worker.wait()
            worker.stdout.close()

    def submit(self, job: Job) -> Future[Outcome]:
        """Have a worker do a job; the future ends in its outcome, or RuntimeError when the worker died."""
        return self._threads.submit(self._ask, job)

    def _ask(self, job: Job) -> Outcome:
        if self._closed:
            raise RuntimeError("the pool is closed")
        worker = self._worker()
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(msgspec.json.encode(job) + b"\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = b""
        if not line:
            self._local.worker = None
            raise RuntimeError(f"the worker with seed {job.plan.seed} died with status {worker.wait()}")
        return msgspec.json.decode(line, type=Outcome)

    def _worker(self) -> subprocess.Popen[bytes]:
        worker: subprocess.Popen[bytes] | None = getattr(self._local, "worker", None)
        if worker is None:
            command = [sys.executable, "-c", "from tercet.jepsen_like.worker import main; main()"]
            worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment
            )
            self._local.worker = worker
            self._workers.append(worker)
        return worker
