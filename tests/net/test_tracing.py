"""A running member writes a trace that replays; a disk that refuses ends the trace and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tercet.core.machine import Command
from tercet.core.raft import NO_EFFECTS, Config, HardState, RaftState, Tick, restart, step
from tercet.core.trace import Header, Start, Step, read_trace, verify
from tercet.core.wire.proto import rpc_pb2
from tercet.net.config import MemberConfig
from tercet.net.member import Running, run_member
from tercet.net.real import RealDisk, RealFile, real_world
from tercet.net.tracing import Tracer
from tercet.net.world import World


@pytest.fixture
def world() -> World:
    return real_world("n1", seed=1, log_level="fatal", environment={})


def feed(tracer: Tracer, state: RaftState, ticks: int) -> RaftState:
    """A lone node's life: its beginning and some ticks."""
    record = tracer.world.probe.step
    assert record is not None
    record(None, NO_EFFECTS, state)
    for _ in range(ticks):
        state, effects = step(state, Tick())
        record(Tick(), effects, state)
    return state


def lone_node() -> RaftState:
    return restart(Config(node_id=1, voters=(1, 2)), HardState())


def test_a_tick_brings_everything_to_the_file(world: World, tmp_path: Path) -> None:
    path = tmp_path / "member.trace"
    tracer = Tracer(world, str(path), Header(members=((1, "n1"),)))
    feed(tracer, lone_node(), 30)
    trace = read_trace(path.read_bytes())  # not closed: as after kill -9
    assert (len(trace.records), trace.truncated) == (31, False)
    assert verify(trace.records).verdict == "valid"
    tracer.close()


def test_an_older_trace_is_kept_aside(world: World, tmp_path: Path) -> None:
    path = tmp_path / "member.trace"
    for ticks in (1, 2, 3):
        tracer = Tracer(world, str(path), Header())
        feed(tracer, lone_node(), ticks)
        tracer.close()
    lengths = [len(read_trace(file.read_bytes()).records) for file in sorted(tmp_path.iterdir())]
    assert lengths == [4, 2, 3]


def test_the_traced_world_is_the_same_but_for_the_hook(world: World, tmp_path: Path) -> None:
    tracer = Tracer(world, str(tmp_path / "t"), Header())
    tracer.world.probe.count("calls", 2)
    assert tracer.world.probe.metrics is world.probe.metrics  # type: ignore[attr-defined]
    assert world.probe.step is None
    assert tracer.world.clock is world.clock
    tracer.close()


class _Refusing(RealFile):
    __slots__ = ()

    def write_at(self, offset: int, data: bytes) -> None:
        if offset:
            raise OSError(28, "No space left on device")
        super().write_at(offset, data)


class _RefusingDisk(RealDisk):
    def open(self, path: str, *, create: bool = False) -> RealFile:
        file = super().open(path, create=create)
        file.__class__ = _Refusing
        return file


def test_a_disk_that_refuses_ends_the_trace_only(world: World, tmp_path: Path) -> None:
    path = tmp_path / "t"
    tracer = Tracer(replace(world, disk=_RefusingDisk()), str(path), Header())
    feed(tracer, lone_node(), 5)
    tracer.close()
    assert read_trace(path.read_bytes()).records == ()


async def test_a_real_member_records_a_trace_that_replays(world: World, tmp_path: Path) -> None:
    path = tmp_path / "member.trace"
    config = MemberConfig(
        name="n1", data_dir=str(tmp_path / "data"), listen_client_urls=("http://127.0.0.1:0",),
        listen_peer_urls=("http://127.0.0.1:0",), trace_file=str(path), wal_segment_bytes=1 << 20,
        election_timeout_ms=40_000,  # and as much time for a write, whatever the disk is at; it leads at once
    )  # fmt: skip
    for _ in range(2):
        with trio.fail_after(90):
            async with trio.open_nursery() as nursery:
                running: Running = await nursery.start(run_member, world, config)
                put = rpc_pb2.PutRequest(key=b"k", value=b"v").SerializeToString()
                await running.node.propose_and_wait(Command.PUT, put)
                nursery.cancel_scope.cancel()
    lives = [read_trace(file.read_bytes()) for file in (tmp_path / "member.trace.1", path)]
    for trace in lives:
        result = verify(trace.records)
        assert result.verdict == "valid"
        assert result.skipped == 0
        assert sum(isinstance(record, Step) for record in trace.records) == result.steps > 3
    starts = [record for record in lives[1].records if isinstance(record, Start)]
    assert [b"k" in entry.data for entry in starts[0].entries].count(True) == 1
